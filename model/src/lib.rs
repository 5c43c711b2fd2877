//! Explicit-state models of pagestore's protocol: every state within small bounds is visited, and none breaks
//! a promise. For each rule of the protocol there is a model without it, in which one is broken: so a rule
//! that seems superfluous is not, and a model that could not fail would be noticed.
//!
//! A step is one transaction of the meta tier, one request to the blob tier, or one decision of a process;
//! between any two of them a process may stop for ever. Models say what the code does, not how: whoever
//! changes a rule in the code changes it here first.
#![allow(clippy::indexing_slicing, reason = "the bounds of a model are constants")]

mod erasing;
pub mod explore;
mod merging;
mod opening;
mod rebase;
mod several;

use std::fmt::Debug;

use explore::{Broken, Explored, Model, explore};

/// More states than this are a mistake in the bounds.
const MAX_STATES: usize = 60_000_000;

/// A model within its bounds, whole or with a rule left out.
pub struct Case {
    /// Which model.
    pub model: &'static str,
    /// Which bounds.
    pub scenario: &'static str,
    /// The rule left out.
    pub fault: Option<String>,
    run: Box<dyn Fn() -> Result<Explored, Box<Broken>>>,
}

impl Case {
    fn new<M: Model + 'static>(
        model: &'static str,
        scenario: &'static str,
        fault: Option<impl Debug>,
        bounded: M,
    ) -> Case {
        let fault = fault.map(|fault| format!("{fault:?}"));
        Case { model, scenario, fault, run: Box::new(move || explore(&bounded, MAX_STATES)) }
    }

    /// Visits every state.
    ///
    /// # Errors
    /// The promise that is broken, and how.
    pub fn explore(&self) -> Result<Explored, Box<Broken>> {
        (self.run)()
    }
}

impl Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.model, self.scenario)?;
        self.fault.as_ref().map_or(Ok(()), |fault| write!(f, " without {fault}"))
    }
}

/// Every model within its bounds, then each with each of its rules left out.
#[must_use]
pub fn cases(wide: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    opening::cases(wide, &mut cases);
    rebase::cases(wide, &mut cases);
    several::cases(wide, &mut cases);
    merging::cases(wide, &mut cases);
    erasing::cases(wide, &mut cases);
    cases.sort_by_key(|case| case.fault.is_some());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_breaks_a_promise_and_no_rule_is_superfluous() {
        for case in cases(false) {
            match (case.explore(), &case.fault) {
                (Ok(explored), None) => println!("{case:?}: {explored:?}"),
                (Err(broken), Some(_)) => {
                    println!("{case:?}: {} after {} steps", broken.promise, broken.trace.len() - 1);
                }
                (Ok(_), Some(_)) => panic!("{case:?}: no promise is broken"),
                (Err(broken), None) => {
                    panic!("{case:?}: {}\n{}", broken.promise, broken.trace.join("\n"))
                }
            }
        }
    }
}
