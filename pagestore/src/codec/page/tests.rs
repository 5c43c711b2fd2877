use super::*;
use crate::types::SECRET_BYTES;

fn secret() -> HashSecret {
    HashSecret::new([7; SECRET_BYTES])
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn noise(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Looks like rows: text and small numbers.
    fn rows(&mut self, n: usize) -> Vec<u8> {
        let mut page = Vec::new();
        while page.len() < n {
            let (id, amount) = (self.next() % 100_000, self.next() % 1000);
            page.extend_from_slice(format!("customer {id} owes {amount}; ").as_bytes());
        }
        page.truncate(n);
        page
    }
}

fn round_trip(content: &[u8], base: Option<&[u8]>) -> Staged {
    let page_size = PageSize::new(content.len() as u64).unwrap();
    let (secret, page) = (secret(), PageNo(5));
    let hash = secret.hash(page, content);
    let mut codec = PageCodec::new();
    let with_hash = base.map(|content| Base { hash: secret.hash(page, content), content });
    let staged = codec.encode(content, hash, with_hash);
    assert_eq!(staged.base.is_some(), staged.encoding.is_delta());
    assert!(staged.body.len() <= content.len());
    let expected = Expected { page, hash, secret: &secret, page_size };
    let decoded = codec.decode(&staged.value(page), &expected, base).unwrap();
    assert_eq!(decoded, content);
    staged
}

#[test]
fn the_smallest_form_is_kept() {
    let mut random = Random(1);
    let base = random.rows(4096);
    assert_eq!(round_trip(&base, None).encoding, Encoding::Whole);
    assert_eq!(round_trip(&random.noise(4096), None).encoding, Encoding::Raw);

    let mut updated = base.clone();
    updated[2000..2040].copy_from_slice(&random.noise(40));
    let delta = round_trip(&updated, Some(&base));
    assert_eq!(delta.encoding, Encoding::Prefix);
    assert!(delta.body.len() < 80, "{}", delta.body.len());

    let mut shifted = base.clone();
    shifted.splice(100..100, random.noise(30));
    shifted.truncate(4096);
    let delta = round_trip(&shifted, Some(&base));
    assert_eq!(delta.encoding, Encoding::Prefix);
    assert!(delta.body.len() < 80, "{}", delta.body.len());

    let mut scattered = random.noise(4096);
    let before = scattered.clone();
    scattered.iter_mut().step_by(7).for_each(|byte| *byte ^= 1);
    assert_eq!(round_trip(&scattered, Some(&before)).encoding, Encoding::Xor);

    let unrelated = random.noise(4096);
    assert_eq!(round_trip(&base, Some(&unrelated)).encoding, Encoding::Whole);
}

#[test]
fn every_page_size_round_trips() {
    let mut random = Random(2);
    for log2 in 9..=16 {
        let size = 1 << log2;
        for _ in 0..20 {
            let base = if random.below(2) == 0 { random.rows(size) } else { random.noise(size) };
            let mut content = base.clone();
            for _ in 0..random.below(5) {
                let at = random.below(size);
                let len = random.below(200).min(size - at);
                content[at..at + len].copy_from_slice(&random.noise(len));
            }
            round_trip(&content, Some(&base));
            round_trip(&content, None);
        }
    }
}

#[test]
fn a_base_of_the_same_hash_is_no_base() {
    let page = Random(3).rows(4096);
    assert_eq!(round_trip(&page, Some(&page)).encoding, Encoding::Whole);
}

#[test]
fn a_base_that_looks_like_a_dictionary_is_no_prefix() {
    let mut base = Random(4).rows(4096);
    base[..4].copy_from_slice(&[0x37, 0xa4, 0x30, 0xec]);
    let mut content = base.clone();
    content[100] ^= 1;
    assert_eq!(round_trip(&content, Some(&base)).encoding, Encoding::Xor);
}

#[test]
fn every_flipped_bit_is_an_error_or_harmless() {
    let mut random = Random(5);
    let base = random.rows(512);
    let mut rows = base.clone();
    rows[50..60].copy_from_slice(&random.noise(10));
    let mut scattered = random.noise(512);
    let noise = scattered.clone();
    scattered.iter_mut().step_by(9).for_each(|byte| *byte ^= 1);
    let (secret, page) = (secret(), PageNo(300));
    let mut codec = PageCodec::new();
    for (content, base) in
        [(&rows, Some(&base)), (&rows, None), (&noise, None), (&scattered, Some(&noise))]
    {
        let hash = secret.hash(page, content);
        let with_hash = base.map(|base| Base { hash: secret.hash(page, base), content: base });
        let value = codec.encode(content, hash, with_hash).value(page);
        let expected =
            Expected { page, hash, secret: &secret, page_size: PageSize::new(512).unwrap() };
        let base = base.map(Vec::as_slice);
        for bit in 0..value.len() * 8 {
            let mut broken = value.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            if let Ok(decoded) = codec.decode(&broken, &expected, base) {
                assert_eq!(decoded, content, "bit {bit}");
            }
        }
        for len in 0..value.len() {
            if let Ok(decoded) = codec.decode(&value[..len], &expected, base) {
                assert_eq!(decoded, content, "length {len}");
            }
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let (secret, page) = (secret(), PageNo(3));
    let mut random = Random(6);
    let base = random.rows(4096);
    let mut content = base.clone();
    content[9] ^= 0xff;
    let mut codec = PageCodec::new();
    let hash = secret.hash(page, &content);
    let base_hash = secret.hash(page, &base);
    let staged = codec.encode(&content, hash, Some(Base { hash: base_hash, content: &base }));
    assert_eq!(staged.base, Some(base_hash));
    let value = staged.value(page);
    let expected = Expected { page, hash, secret: &secret, page_size: PageSize::DEFAULT };

    assert_eq!(codec.decode(&value, &expected, None), Err(CodecError::NoBase));
    assert_eq!(codec.decode(&value, &expected, Some(&base[1..])), Err(CodecError::NoBase));
    let other = Expected { page: PageNo(4), ..expected };
    assert_eq!(
        codec.decode(&value, &other, Some(&base)),
        Err(CodecError::WrongPage { found: PageNo(3), expected: PageNo(4) })
    );
    let wrong = Expected { hash: base_hash, ..expected };
    let error = codec.decode(&value, &wrong, Some(&base)).unwrap_err();
    assert_eq!(error, CodecError::WrongHash { page, found: hash, expected: base_hash });
    assert_eq!(error.at("key c").kind(), crate::ErrorKind::Corrupt);
    let truncated = &value[..value.len() - 1];
    assert_eq!(codec.decode(truncated, &expected, Some(&base)), Err(CodecError::BrokenBody));
}

/// Values written by the first release; they are read for ever.
#[test]
fn frozen_values_are_read() {
    let base: Vec<u8> = (0..512u32).map(|i| ((i % 37) * (i % 5)).to_le_bytes()[0]).collect();
    let mut content = base.clone();
    content[100..104].copy_from_slice(b"page");
    let (secret, page) = (secret(), PageNo(300));
    let hash = secret.hash(page, &content);
    let expected = Expected { page, hash, secret: &secret, page_size: PageSize::new(512).unwrap() };
    for (encoding, hex) in FROZEN {
        let value: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect();
        assert_eq!(StagedValue::decode(&value).unwrap().encoding, *encoding);
        let decoded = PageCodec::new().decode(&value, &expected, Some(&base)).unwrap();
        assert_eq!(decoded, content, "{encoding:?}");
    }
}

const FROZEN: &[(Encoding, &str)] = &[
    (
        Encoding::Whole,
        "0102ac02050600820b2c29d016d91a80391cc11c7220c0b3e9a198168a3181065a52488809942c62e3eb5ab5f1754d9fb79a750a1d1ef198949039cbc7c4380a467ab04865e8fe388c046fc8ceda6ed634f5bab0cb8882bcc4c1411804a4f15e23ca6dce05b1cb2f0b18c60454be5272225222591fc037246ec1aa26cc46454e602fab009e7471de12a2264cd280b07b54a0068752523b35bdebb1c3a8ade9fbcbc847611551277c64b1f9cee89cdc9e063bf0b55a357751990303005ca0c8083c938c7b041505",
    ),
    (Encoding::Xor, "0103ac02850000380000707a5f320002009440d53f012c"),
    (Encoding::Prefix, "0104ac02750000207061676502009540a530201540"),
];
