//! Seeds: one gives one run.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// The variable that replays a run.
const VARIABLE: &str = "PAGESTORE_SEED";

/// The seed of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// Random numbers that depend on the seed alone.
    #[must_use]
    pub fn rng(self) -> SmallRng {
        SmallRng::seed_from_u64(self.0)
    }
}

/// The seed in `PAGESTORE_SEED`, or a new one; printed, so that a failure can be replayed.
#[must_use]
pub fn seed() -> Seed {
    let seed = match std::env::var(VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{VARIABLE} is no number: {text}")),
        Err(_) => rand::rng().random(),
    };
    println!("replay with {VARIABLE}={seed}");
    Seed(seed)
}
