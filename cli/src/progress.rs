//! Progress bars, for people at a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// How much is done of something long. Shows nothing when stderr is no terminal.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Of a number of bytes.
    pub(crate) fn bytes(what: &'static str, total: u64) -> Bar {
        Bar::new(what, total, "{msg:12} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    /// Of a number of things.
    pub(crate) fn things(what: &'static str, total: u64) -> Bar {
        Bar::new(what, total, "{msg:12} {wide_bar} {pos}/{len} {eta}")
    }

    fn new(what: &'static str, total: u64, template: &str) -> Bar {
        if !std::io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template(template).expect("BUG: the template is a literal");
        Bar(ProgressBar::new(total).with_style(style).with_message(what))
    }

    /// So much more is done.
    pub(crate) fn add(&self, more: u64) {
        self.0.inc(more);
    }

    /// So much is done, of so much.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// What is being done now.
    pub(crate) fn say(&self, what: &'static str) {
        self.0.set_message(what);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
