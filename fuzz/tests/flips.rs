//! Bytes of a whole store are flipped; `./dev.sh fuzz --flips 1000000` goes on for longer.

use pagestore_fuzz::flip::{count_panics, frozen, run};
use pagestore_fuzz::memory::Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Flips of a run of the tests.
const FLIPS: u64 = 500;

#[test]
fn a_flipped_byte_anywhere_gives_the_right_page_or_names_the_place() {
    count_panics();
    let flipped = run(&frozen(), 7, FLIPS, |_| {}).unwrap_or_else(|found| {
        // The hook prints no panic.
        eprintln!("{found}");
        panic!("{found}")
    });
    println!("{flipped:?}");
    assert_eq!(flipped.flips, FLIPS);
    assert!(flipped.noticed > FLIPS / 4, "{flipped:?}");
}
