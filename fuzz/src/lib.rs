//! Feeds every decoder of pagestore what nobody would write: what was written, changed at random, under
//! checksums that are right again, so that it gets past them.
//!
//! A decoder answers with a value or an error. It never panics, never takes more memory than what it was given
//! justifies, and what it takes for good is written again as the same bytes, or at least means the same.
//!
//! One seed gives one run; a finding prints the target and the bytes, and both can be run again.
#![allow(clippy::indexing_slicing, reason = "offsets are of bytes that this crate made itself")]

pub mod flip;
pub mod memory;
mod mutate;
mod target;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

pub use target::{Target, targets};

/// Memory that a decoder may take beside what its input justifies: contexts and tables of its libraries.
const FREE_BYTES: usize = 1 << 20;
/// Bytes of memory that a byte of input justifies: four of zstd's may stand for a block of 128 KiB.
const BYTES_PER_BYTE: usize = 128 * 1024 / 4;

/// What a target did that it must not.
#[derive(Debug)]
pub struct Finding {
    /// The target.
    pub target: &'static str,
    /// What it was given.
    pub input: Vec<u8>,
    /// What it did.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\ninput: {}", self.target, self.what, hex(&self.input))
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs `target` on `input`.
///
/// # Errors
/// What it did that it must not.
pub fn run_once(target: &Target, input: &[u8]) -> Result<(), Box<Finding>> {
    memory::begin();
    let done = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let most = memory::end();
    let found =
        |what: String| Box::new(Finding { target: target.name, input: input.to_vec(), what });
    if let Err(panic) = done {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        return Err(found(format!("panicked: {}", text.unwrap_or("no message"))));
    }
    let justified = FREE_BYTES + input.len() * BYTES_PER_BYTE;
    if most > justified {
        return Err(found(format!("took {most} bytes of memory for {} of input", input.len())));
    }
    Ok(())
}

/// Runs `target` on its corpus, and on `executions` changed pieces of it.
///
/// # Errors
/// The first finding.
pub fn run(
    target: &Target,
    seed: u64,
    executions: u64,
    mut done: impl FnMut(u64),
) -> Result<(), Box<Finding>> {
    let corpus = (target.corpus)();
    assert!(!corpus.is_empty(), "BUG: a corpus is empty");
    for input in &corpus {
        run_once(target, input)?;
    }
    let mut random = SmallRng::seed_from_u64(seed);
    let mut input = Vec::new();
    for execution in 0..executions {
        input.clear();
        input.extend_from_slice(&corpus[random.random_range(0..corpus.len())]);
        for _ in 0..=random.random_range(0..4) {
            let other = &corpus[random.random_range(0..corpus.len())];
            mutate::mutate(&mut input, other, &mut random);
        }
        run_once(target, &input)?;
        done(execution);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static COUNTING: memory::Counting = memory::Counting;

    /// `cargo run --release -p pagestore-fuzz` goes on for as long as one likes.
    #[test]
    fn no_decoder_panics_or_takes_memory_for_nothing() {
        let runs = targets().into_iter().map(|target| run(&target, 7, 20_000, |_| {}));
        let findings: Vec<String> =
            runs.filter_map(Result::err).map(|found| found.to_string()).collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn a_panic_and_a_large_allocation_are_found() {
        let corpus = || vec![vec![1]];
        let panics = Target {
            name: "panics",
            corpus,
            run: |input| {
                assert_ne!(input.first(), Some(&2));
                true
            },
        };
        assert!(run(&panics, 1, 10_000, |_| {}).unwrap_err().what.starts_with("panicked"));
        let takes = Target { name: "takes", corpus, run: |_| vec![1u8; 2 << 20].len() > 1 };
        assert!(run_once(&takes, &[]).unwrap_err().what.starts_with("took"));
        let holds = Target { name: "holds", corpus, run: |_| vec![1u8; 2 << 10].len() > 1 };
        assert!(run_once(&holds, &[]).is_ok());
    }

    #[test]
    fn what_is_in_the_corpus_gets_through() {
        let corpora = targets().into_iter().map(|target| (target, (target.corpus)()));
        let refused: Vec<String> = corpora
            .flat_map(|(target, corpus)| corpus.into_iter().map(move |input| (target, input)))
            .filter(|(target, input)| !(target.run)(input))
            .map(|(target, input)| format!("{}: {}", target.name, hex(&input)))
            .collect();
        assert_eq!(refused, Vec::<String>::new());
    }
}
