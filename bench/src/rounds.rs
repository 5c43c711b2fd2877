//! Rounds: ours and the other by turns in one run, with the disk's mood before and after each.
//!
//! Absolute times mean little on a shared machine; the ratio within one round does, as long as the
//! disk did not change its mood in it.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::Result;
use crate::figure::{Figure, Pair, Target, median};

/// A round during which an append of 4 KiB with its sync took longer is noisy.
const NOISY: Duration = Duration::from_micros(300);
/// Appends timed before and after each round; the median counts.
const PROBES: usize = 5;
/// Without so many quiet rounds the noisy ones count too.
const LEAST_QUIET: usize = 5;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Quiet rounds wanted.
    pub(crate) wanted: usize,
    /// Rounds made at most to get them.
    pub(crate) most: usize,
    /// About how long each side runs in a round.
    pub(crate) span: Duration,
}

/// What one round measured: `N` figures of each side.
#[derive(Clone, Copy, Debug)]
struct Round<const N: usize> {
    ours: [f64; N],
    other: [f64; N],
    quiet: bool,
}

/// All the rounds of a measure that count.
#[derive(Debug)]
pub(crate) struct Rounds<const N: usize> {
    rounds: Vec<Round<N>>,
}

impl Plan {
    /// Runs `ours` and `other` by turns until there are enough quiet rounds. The first of each, which
    /// warms up, does not count.
    pub(crate) async fn run<const N: usize>(
        &self,
        mut ours: impl AsyncFnMut() -> Result<[f64; N]>,
        mut other: impl AsyncFnMut() -> Result<[f64; N]>,
    ) -> Result<Rounds<N>> {
        let mut probe = Probe::new()?;
        ours().await?;
        other().await?;
        let mut rounds: Vec<Round<N>> = Vec::with_capacity(self.most);
        while rounds.len() < self.most
            && rounds.iter().filter(|round| round.quiet).count() < self.wanted
        {
            let before = probe.take()?;
            // Who goes first changes, for what one leaves behind may cost the other.
            let (ours, other) = if rounds.len().is_multiple_of(2) {
                let ours = ours().await?;
                (ours, other().await?)
            } else {
                let other = other().await?;
                (ours().await?, other)
            };
            let quiet = before.max(probe.take()?) <= NOISY;
            rounds.push(Round { ours, other, quiet });
        }
        if rounds.iter().filter(|round| round.quiet).count() >= LEAST_QUIET.min(self.wanted) {
            rounds.retain(|round| round.quiet);
        }
        Ok(Rounds { rounds })
    }
}

impl<const N: usize> Rounds<N> {
    /// The figure at `index` of each round.
    pub(crate) fn figure(
        &self,
        index: usize,
        name: impl Into<String>,
        unit: &'static str,
        target: Target,
    ) -> Figure {
        let at = |values: &[f64; N]| values.get(index).copied().unwrap_or_default();
        let pairs = self
            .rounds
            .iter()
            .map(|round| Pair { ours: at(&round.ours), other: at(&round.other) })
            .collect();
        let noisy_rounds = self.rounds.iter().filter(|round| !round.quiet).count();
        Figure { name: name.into(), unit, target, pairs, noisy_rounds }
    }
}

/// Times appends to a file.
struct Probe {
    file: File,
}

impl Probe {
    fn new() -> Result<Probe> {
        Ok(Probe { file: tempfile::tempfile()? })
    }

    fn take(&mut self) -> Result<Duration> {
        let mut seconds = Vec::with_capacity(PROBES);
        for _ in 0..PROBES {
            let start = Instant::now();
            self.file.write_all(&[7; 4096])?;
            self.file.sync_data()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(Duration::from_secs_f64(median(seconds)))
    }
}

/// Latencies of single operations, taken one after the other or side by side.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    seconds: Vec<f64>,
}

impl Latencies {
    /// Adds one that began at `start` and is over now.
    pub(crate) fn add(&mut self, start: Instant) {
        self.seconds.push(start.elapsed().as_secs_f64());
    }

    /// Takes over another's.
    pub(crate) fn extend(&mut self, other: Latencies) {
        self.seconds.extend(other.seconds);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.seconds.len()
    }

    /// The median in milliseconds.
    pub(crate) fn p50_ms(self) -> f64 {
        median(self.seconds) * 1e3
    }
}
