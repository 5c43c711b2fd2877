//! Changes bytes as damage and malice would.

use rand::RngExt;
use rand::rngs::SmallRng;

/// Inputs grow no longer.
const MAX_BYTES: usize = 1 << 16;

/// Numbers that stand at the edge of something.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Makes one change to `input`; `other` is another input, to take parts of.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut SmallRng) {
    let at = random.random_range(0..=input.len());
    let until = (at + random.random_range(0..=16)).min(input.len());
    match random.random_range(0..9) {
        0 | 1 => flip(input, at, random),
        2 => edge(input, at, random),
        3 => varint(input, at, random),
        4 => drop(input.drain(at..until)),
        5 => {
            let again = input[at..until].to_vec();
            input.splice(at..at, again);
        }
        6 => input.truncate(at),
        7 => {
            let from = random.random_range(0..=other.len());
            let part = &other[from..(from + random.random_range(0..=32)).min(other.len())];
            input.splice(at..until, part.iter().copied());
        }
        _ => {
            let bytes: Vec<u8> = (0..random.random_range(0..12)).map(|_| random.random()).collect();
            input.splice(at..until, bytes);
        }
    }
    input.truncate(MAX_BYTES);
}

fn flip(input: &mut [u8], at: usize, random: &mut SmallRng) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.random_range(0..8);
    }
}

/// Puts a number of 1, 2, 4 or 8 bytes, of either order, over what is there.
fn edge(input: &mut [u8], at: usize, random: &mut SmallRng) {
    let number = EDGES[random.random_range(0..EDGES.len())]
        .wrapping_add(random.random_range(0..3))
        .wrapping_sub(1);
    let width = 1usize << random.random_range(0..4);
    let mut bytes = number.to_le_bytes()[..width].to_vec();
    if random.random() {
        bytes.reverse();
    }
    if let Some(over) = input.get_mut(at..at + width) {
        over.copy_from_slice(&bytes);
    }
}

/// Puts a variable-length number in.
fn varint(input: &mut Vec<u8>, at: usize, random: &mut SmallRng) {
    let mut bytes = Vec::new();
    pagestore::internal::wire::put_varint(&mut bytes, EDGES[random.random_range(0..EDGES.len())]);
    let until = if random.random() { at } else { (at + 1).min(input.len()) };
    input.splice(at..until, bytes);
}
