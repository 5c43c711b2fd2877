//! Bytes of values and files: LEB128 varints, little-endian integers, and the seal of a value.
//!
//! Owns how primitive values are laid out. Decoding never panics and never allocates more than the
//! input justifies: every length is held against the bytes that are left before it is used.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes are not in the form that the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where, from the start of the value or section.
    pub offset: usize,
    /// What is wrong.
    pub why: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.why, self.offset)
    }
}

impl std::error::Error for Malformed {}

/// Reads primitives off a byte slice.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> Cursor<'a> {
    /// From the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes, total: bytes.len() }
    }

    /// How far it has come.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.total - self.rest.len()
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The failure `why` at the present place.
    #[must_use]
    pub fn malformed(&self, why: &'static str) -> Malformed {
        Malformed { offset: self.offset(), why }
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) =
            self.rest.split_at_checked(n).ok_or(self.malformed("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or(self.malformed("ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// An unsigned LEB128 integer of at most ten bytes, in its shortest form.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let start = self.offset();
        let mut value = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                let shortest = byte != 0 || shift == 0;
                return if shortest {
                    Ok(value)
                } else {
                    Err(Malformed { offset: start, why: "varint is padded" })
                };
            }
        }
        Err(Malformed { offset: start, why: "varint is over 64 bits" })
    }

    /// A varint that counts items of at least `min_bytes` each, held against what is left.
    pub fn count(&mut self, min_bytes: usize) -> Result<usize, Malformed> {
        let at = self.offset();
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count.saturating_mul(min_bytes.max(1)) > self.remaining() {
            return Err(Malformed {
                offset: at,
                why: "counts more items than there are bytes for",
            });
        }
        Ok(count)
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("has bytes after its end")) }
    }
}

/// Appends `value` as LEB128.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Bytes of a seal's check.
const CHECK_BYTES: usize = 4;

/// The value `version`, `body`, check: the check covers the key too, so that a value found under
/// another's key is noticed.
#[must_use]
pub fn seal(key: &[u8], version: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + body.len() + CHECK_BYTES);
    out.push(version);
    out.extend_from_slice(body);
    let check = check_of(key, &out);
    out.extend_from_slice(&check);
    out
}

/// A value whose seal holds: its version and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsealed<'a> {
    /// The version it was written in.
    pub version: u8,
    /// What follows the version.
    pub body: &'a [u8],
}

/// Checks the seal of a value found under `key`.
pub fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<Unsealed<'a>, Malformed> {
    let too_short = Malformed { offset: value.len(), why: "is shorter than its seal" };
    let (sealed, check) = value.split_last_chunk::<CHECK_BYTES>().ok_or(too_short)?;
    let (version, body) = sealed.split_first().ok_or(too_short)?;
    if check_of(key, sealed) != *check {
        return Err(Malformed { offset: sealed.len(), why: "fails its checksum" });
    }
    Ok(Unsealed { version: *version, body })
}

fn check_of(key: &[u8], sealed: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = xxh3_64_with_seed(sealed, xxh3_64_with_seed(key, 0));
    let [a, b, c, d, ..] = hash.to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_in_their_shortest_form() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.varint(), Ok(value));
            assert_eq!(cursor.finish(), Ok(()));
        }
    }

    #[test]
    fn bad_varints_are_refused() {
        assert!(Cursor::new(&[0x80]).varint().is_err());
        assert!(Cursor::new(&[0x80, 0x00]).varint().is_err());
        assert!(Cursor::new(&[0xff; 11]).varint().is_err());
        let mut eleven_bits_too_many = [0xff; 10];
        eleven_bits_too_many[9] = 0x02;
        assert!(Cursor::new(&eleven_bits_too_many).varint().is_err());
    }

    #[test]
    fn counts_are_held_against_the_input() {
        assert_eq!(Cursor::new(&[2, 0, 0]).count(1), Ok(2));
        assert!(Cursor::new(&[3, 0, 0]).count(1).is_err());
        assert!(Cursor::new(&[2, 0, 0]).count(2).is_err());
    }

    #[test]
    fn every_flipped_bit_breaks_the_seal() {
        let sealed = seal(b"key", 1, b"body");
        assert_eq!(unseal(b"key", &sealed), Ok(Unsealed { version: 1, body: b"body" }));
        assert!(unseal(b"kez", &sealed).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut broken = sealed.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(b"key", &broken).is_err(), "bit {bit}");
        }
        for len in 0..5 {
            assert!(unseal(b"key", &sealed[..len]).is_err());
        }
    }
}
