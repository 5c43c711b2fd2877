//! The crash sweep: one thing that a process does, prepared until it is due, with a mishap at one of the
//! calls that it takes.
//!
//! Owns what is prepared and who does it. Whatever the mishap was, the others go on afterwards: everything
//! is tidied up in bounded time, and the last look finds what the model says.

mod act;
mod prepare;
mod stage;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use crate::chaos::{Crew, Plan, Victim};
use crate::client::UnderWay;
use crate::link::Mishap;
use crate::process::Site;
use crate::run::{drain, run_for, scrub};
use stage::Stage;

/// Virtual time that one thing may take, mishaps included.
const LIMIT: Duration = Duration::from_secs(900);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A commit of a few pages.
    Commit,
    /// A commit of more changes than one transaction has operations.
    NestedCommit,
    /// A commit by files.
    BulkCommit,
    /// One commit of two volumes.
    JointCommit,
    /// A commit that another one has overtaken, on other pages.
    OvertakenCommit,
    /// A volume is made.
    CreateVolume,
    /// A volume is deleted.
    DeleteVolume,
    /// What is staged goes into files.
    Flush,
    /// Files are merged, and what nobody can read any more is left out.
    Merge,
    /// Files are merged while a staged delta is against a version that only they hold, and that nobody can
    /// read any more.
    MergeBelowDelta,
    /// Objects of dropped files are deleted.
    Delete,
    /// Objects that were never published are deleted.
    Sweep,
    /// A compactor died in the midst of a flush; another one goes on.
    Resume,
    /// A compactor stands still in the midst of a flush; another one goes on, and then the first.
    Takeover,
    /// A deleted volume is erased.
    Erase,
    /// A commit by files, beside somebody who deletes what nobody names, by a clock that is hours ahead.
    SweptCommit,
    /// A look at what was, just before it can be read no longer.
    LookBack,
    /// What was can be read no longer, just after somebody looked at it.
    Raise,
    /// A client does a little of everything, beside another one and compactors.
    ClientsDay,
    /// A compactor does what is due, beside another one and clients.
    CompactorsDay,
}

/// All there are.
pub const SCENARIOS: [Scenario; 20] = [
    Scenario::Commit,
    Scenario::NestedCommit,
    Scenario::BulkCommit,
    Scenario::JointCommit,
    Scenario::OvertakenCommit,
    Scenario::CreateVolume,
    Scenario::DeleteVolume,
    Scenario::Flush,
    Scenario::Merge,
    Scenario::MergeBelowDelta,
    Scenario::Delete,
    Scenario::Sweep,
    Scenario::Resume,
    Scenario::Takeover,
    Scenario::Erase,
    Scenario::SweptCommit,
    Scenario::LookBack,
    Scenario::Raise,
    Scenario::ClientsDay,
    Scenario::CompactorsDay,
];

/// What one run of a crash sweep came to.
#[derive(Clone, Debug)]
pub struct Swept {
    /// Calls to the tiers that the victim made while it did what the scenario is about.
    pub calls: u64,
    /// What is wrong.
    pub violations: Vec<String>,
}

/// Runs a scenario in a world of its own; `at` says at which call of the victim, from 1 on, it meets with
/// which mishap. Without one the scenario has to come about.
#[must_use]
pub fn run_scenario(seed: u64, scenario: Scenario, at: Option<(u64, Mishap)>) -> Swept {
    run_scenario_prepared(seed, scenario, at, || {})
}

/// As [`run_scenario`], after something was done on the run's thread.
#[must_use]
pub fn run_scenario_prepared(
    seed: u64,
    scenario: Scenario,
    at: Option<(u64, Mishap)>,
    prepare: impl FnOnce() + Send + 'static,
) -> Swept {
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(move || {
        prepare();
        crate::entropy::set(seed);
        let site = Site::new(seed, false);
        let play = || match scenario {
            Scenario::ClientsDay => spend_a_day(&site, Victim::Client, at),
            Scenario::CompactorsDay => spend_a_day(&site, Victim::Compactor, at),
            _ => Stage::new(&site, scenario).play(at),
        };
        let calls = std::panic::catch_unwind(AssertUnwindSafe(play));
        let violations = site.model().violations().to_vec();
        site.world.end();
        let panicked = calls.is_err().then(|| "panicked".to_owned());
        Swept {
            calls: calls.unwrap_or_default(),
            violations: violations.into_iter().chain(panicked).collect(),
        }
    });
    thread.expect("a thread").join().expect("BUG: panics are caught")
}

fn spend_a_day(site: &Site, victim: Victim, at: Option<(u64, Mishap)>) -> u64 {
    let (plan, under_way) = (Plan::calm(), UnderWay::default());
    let mut crew = Crew::start(&plan, site, &under_way);
    let link = crew.first(victim).link.clone();
    if let Some((call, mishap)) = at {
        link.set_mishap(call, mishap);
    }
    let is_wrong = || !site.model().violations().is_empty();
    if !run_for(site, 2 * LIMIT, || is_wrong() || under_way.count() == 0) {
        let what = format!("{} tasks of clients have not ended", under_way.count());
        site.model().violate(what);
    }
    let calls = link.calls();
    crew.end_clients(site);
    if !is_wrong() {
        drain(site);
    }
    if !is_wrong() {
        scrub(site, &plan);
    }
    calls
}
