//! The explorer: every state that a model can reach, breadth first, so that what it finds is found by the
//! fewest steps.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};

/// A protocol with bounds so small that all its states can be visited.
pub trait Model {
    /// Everything: the servers, what each process knows, and what the outside was told.
    type State: Clone + Eq + Hash + Debug;
    /// A step's name, for the trace.
    type Step: Copy + Debug;

    /// Where it begins.
    fn initial(&self) -> Self::State;
    /// Every step that may come next, with where it leads.
    fn steps(&self, state: &Self::State, found: &mut Vec<(Self::Step, Self::State)>);
    /// What must hold in every state.
    ///
    /// # Errors
    /// The promise that is broken.
    fn check(&self, state: &Self::State) -> Result<(), String>;
    /// What must hold, besides, in a state that nothing leads on from.
    ///
    /// # Errors
    /// The promise that is broken.
    fn check_end(&self, _state: &Self::State) -> Result<(), String> {
        Ok(())
    }
}

/// What an exploration came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explored {
    /// States visited.
    pub states: usize,
    /// States that nothing leads on from.
    pub ends: usize,
    /// Steps of the longest shortest way.
    pub depth: usize,
}

/// A broken promise, and the way there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The promise.
    pub promise: String,
    /// The steps that lead there, and the state at their end.
    pub trace: Vec<String>,
}

/// Visits every state of `model`.
///
/// # Errors
/// The first broken promise.
///
/// # Panics
/// When there are more than `max_states`: a model that is not finite proves nothing.
pub fn explore<M: Model>(model: &M, max_states: usize) -> Result<Explored, Box<Broken>> {
    let hasher = RandomState::new();
    let mut visited = HashSet::new();
    // How each state was reached first: the state before it, and the step.
    let mut ways: Vec<(usize, Option<M::Step>)> = vec![(0, None)];
    let mut layer = vec![(0, model.initial())];
    let mut explored = Explored { states: 1, ends: 0, depth: 0 };
    visited.extend(layer.iter().map(|(_, state)| hasher.hash_one(state)));
    let mut found = Vec::new();
    loop {
        let mut next = Vec::new();
        for (at, state) in layer {
            model.steps(&state, &mut found);
            let verdict = model.check(&state).and_then(|()| match found.is_empty() {
                true => model.check_end(&state),
                false => Ok(()),
            });
            if let Err(promise) = verdict {
                return Err(Box::new(Broken { promise, trace: trace(&ways, at, &state) }));
            }
            explored.ends += usize::from(found.is_empty());
            for (step, after) in found.drain(..) {
                if visited.insert(hasher.hash_one(&after)) {
                    ways.push((at, Some(step)));
                    next.push((ways.len() - 1, after));
                }
            }
            assert!(ways.len() <= max_states, "more than {max_states} states");
        }
        explored.states = ways.len();
        if next.is_empty() {
            return Ok(explored);
        }
        explored.depth += 1;
        layer = next;
    }
}

/// Puts ranks in the place of revisions, which are only ever compared: else no state would come again.
/// Nothing stays 0.
pub fn compress(mut revisions: Vec<&mut u8>) {
    revisions.sort_unstable();
    let (mut rank, mut last) = (0, 0);
    for revision in revisions {
        rank += u8::from(*revision != last);
        last = std::mem::replace(revision, rank);
    }
}

fn trace<Step: Copy + Debug, State: Debug>(
    ways: &[(usize, Option<Step>)],
    end: usize,
    state: &State,
) -> Vec<String> {
    let mut at = end;
    let mut trace = vec![format!("{state:#?}")];
    while let Some((before, Some(step))) = ways.get(at) {
        trace.push(format!("{step:?}"));
        at = *before;
    }
    trace.reverse();
    trace
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processes that each read a counter and then write what they read plus one.
    struct Counter {
        compares: bool,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    enum Process {
        Idle,
        Read(u8),
        Done,
    }

    impl Model for Counter {
        type State = (u8, [Process; 2]);
        type Step = (usize, &'static str);

        fn initial(&self) -> Self::State {
            (0, [Process::Idle; 2])
        }

        fn steps(
            &self,
            (count, processes): &Self::State,
            found: &mut Vec<(Self::Step, Self::State)>,
        ) {
            for at in 0..2 {
                let mut next = (*count, *processes);
                match processes[at] {
                    Process::Idle => {
                        next.1[at] = Process::Read(*count);
                        found.push(((at, "read"), next));
                    }
                    Process::Read(read) if self.compares && read != *count => {
                        next.1[at] = Process::Idle;
                        found.push(((at, "again"), next));
                    }
                    Process::Read(read) => {
                        next = (read + 1, next.1);
                        next.1[at] = Process::Done;
                        found.push(((at, "write"), next));
                    }
                    Process::Done => {}
                }
            }
        }

        fn check(&self, _state: &Self::State) -> Result<(), String> {
            Ok(())
        }

        fn check_end(&self, (count, _): &Self::State) -> Result<(), String> {
            if *count == 2 { Ok(()) } else { Err("an increment was lost".into()) }
        }
    }

    #[test]
    fn a_lost_update_is_found_by_the_fewest_steps() {
        let broken = explore(&Counter { compares: false }, 100).unwrap_err();
        assert_eq!(broken.promise, "an increment was lost");
        assert_eq!(broken.trace.len(), 4 + 1);
    }

    #[test]
    fn a_sound_model_is_explored_to_the_end() {
        let explored = explore(&Counter { compares: true }, 100).unwrap();
        assert_eq!(explored.ends, 1);
        assert!(explored.states > 8);
    }

    #[test]
    #[should_panic(expected = "more than 3 states")]
    fn a_bound_that_is_reached_is_no_proof() {
        let _ = explore(&Counter { compares: true }, 3);
    }
}
