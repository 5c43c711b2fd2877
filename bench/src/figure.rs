//! Figures: what was measured of ours and of the other in the same rounds, and how they compare. Pure.

use serde::Serialize;

/// What a ratio of ours over the other is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Nothing: it is only reported.
    None,
}

impl Target {
    fn is_met(self, ratio: f64) -> Option<bool> {
        match self {
            Target::AtMost(most) => Some(ratio <= most),
            Target::AtLeast(least) => Some(ratio >= least),
            Target::None => None,
        }
    }

    /// As people write it.
    pub(crate) fn shown(self) -> String {
        match self {
            Target::AtMost(most) => format!("<= {most}"),
            Target::AtLeast(least) => format!(">= {least}"),
            Target::None => String::new(),
        }
    }
}

/// What one round measured of one figure.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Pair {
    pub(crate) ours: f64,
    pub(crate) other: f64,
}

/// A figure with all the rounds that count.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What was measured, and against what.
    pub(crate) name: String,
    /// Of ours and the other.
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
    pub(crate) pairs: Vec<Pair>,
    /// Rounds among `pairs` during which the disk was slow.
    pub(crate) noisy_rounds: usize,
}

/// A figure as it is reported.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) measure: String,
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Median of the rounds.
    pub(crate) ours: f64,
    /// Median of the rounds.
    pub(crate) other: f64,
    /// Median of the rounds' ratios.
    pub(crate) ratio: f64,
    pub(crate) ratio_min: f64,
    pub(crate) ratio_max: f64,
    pub(crate) target: String,
    /// `None` without a target.
    pub(crate) met: Option<bool>,
    pub(crate) rounds: usize,
    pub(crate) noisy_rounds: usize,
}

impl Figure {
    /// A figure of one pair that no noise can change: a size, or a count.
    pub(crate) fn exact(
        name: impl Into<String>,
        unit: &'static str,
        target: Target,
        pair: Pair,
    ) -> Figure {
        Figure { name: name.into(), unit, target, pairs: vec![pair], noisy_rounds: 0 }
    }

    /// Medians and spread.
    pub(crate) fn summary(&self, measure: &str) -> Summary {
        let of = |value: fn(&Pair) -> f64| self.pairs.iter().map(value).collect::<Vec<f64>>();
        let ratios = of(|pair| pair.ours / pair.other);
        let ratio = median(ratios.clone());
        Summary {
            measure: measure.to_owned(),
            name: self.name.clone(),
            unit: self.unit,
            ours: median(of(|pair| pair.ours)),
            other: median(of(|pair| pair.other)),
            ratio,
            ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratio_max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            target: self.target.shown(),
            met: self.target.is_met(ratio),
            rounds: self.pairs.len(),
            noisy_rounds: self.noisy_rounds,
        }
    }
}

/// The median; of an even number of values the lower of the two in the middle, 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_the_ratios_not_the_ratio_of_the_medians() {
        let pairs = [(1.0, 1.0), (2.0, 4.0), (9.0, 3.0)].map(|(ours, other)| Pair { ours, other });
        let figure = Figure {
            name: "x".into(),
            unit: "ms",
            target: Target::AtMost(1.0),
            pairs: pairs.to_vec(),
            noisy_rounds: 1,
        };
        let summary = figure.summary("m");
        assert_eq!((summary.ours, summary.other, summary.ratio), (2.0, 3.0, 1.0));
        assert_eq!((summary.ratio_min, summary.ratio_max), (0.5, 3.0));
        assert_eq!(summary.met, Some(true));
    }

    #[test]
    fn a_target_may_be_a_floor_or_a_ceiling() {
        assert_eq!(Target::AtLeast(2.0).is_met(1.9), Some(false));
        assert_eq!(Target::AtMost(2.0).is_met(1.9), Some(true));
        assert_eq!(Target::None.is_met(1.9), None);
    }

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![4.0, 1.0]), 1.0);
    }
}
