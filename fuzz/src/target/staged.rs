use pagestore::internal::codec::{Base, Expected, PageCodec, StagedValue};
use pagestore::internal::types::{HashSecret, SECRET_BYTES};
use pagestore::{PageNo, PageSize};

const PAGE: PageNo = PageNo(5);
const PAGE_BYTES: usize = 512;

fn secret() -> HashSecret {
    HashSecret::new([1; SECRET_BYTES])
}

fn base() -> Vec<u8> {
    (0..PAGE_BYTES).map(|at| (at / 7 % 251).to_le_bytes()[0]).collect()
}

fn contents() -> Vec<Vec<u8>> {
    let mut changed = base();
    changed[100..120].fill(9);
    let mut shifted = base();
    shifted.rotate_right(3);
    let mut state = 1u32;
    let noise = (0..PAGE_BYTES).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    vec![changed, shifted, noise.collect(), base()]
}

fn size() -> PageSize {
    PageSize::new(PAGE_BYTES as u64).expect("BUG: 512 is a page size")
}

pub(super) fn corpus() -> Vec<Vec<u8>> {
    let (secret, base) = (secret(), base());
    let base = Base { hash: secret.hash(PAGE, &base), content: &base };
    let mut corpus = Vec::new();
    for content in contents() {
        for base in [None, Some(base)] {
            let staged = PageCodec::new().encode(&content, secret.hash(PAGE, &content), base);
            corpus.push(staged.value(PAGE).to_vec());
        }
    }
    corpus
}

/// Whatever comes out has the hash that was expected.
pub(super) fn staged(input: &[u8]) -> bool {
    let Ok(StagedValue { page, .. }) = StagedValue::decode(input) else { return false };
    let (secret, base) = (secret(), base());
    let mut decoded = false;
    for content in contents() {
        let hash = secret.hash(PAGE, &content);
        let expected = Expected { page: PAGE, hash, secret: &secret, page_size: size() };
        for base in [None, Some(base.as_slice())] {
            if let Ok(found) = PageCodec::with(|codec| codec.decode(input, &expected, base)) {
                assert_eq!(found, content);
                assert_eq!(page, PAGE);
                decoded = true;
            }
        }
    }
    decoded
}
