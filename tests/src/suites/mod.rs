//! SQLite's own test tools, which nobody here wrote, run on the extension: how they are built and started
//! (`sqlite/suites` has the scripts), and what they say is read.

mod exclusions;
mod tcl;
mod tools;

pub use exclusions::{Exclusions, Kind};
pub use tcl::{Outcome, TclSuite};
pub use tools::{Ended, Tools, run};
