use std::time::Duration;

/// How long superseded versions of pages stay readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Only what a snapshot, a named snapshot or a branch holds.
    Nothing,
    /// For this long after they were superseded.
    For(Duration),
    /// Always.
    Forever,
}

impl Keep {
    /// One hour.
    pub const DEFAULT: Keep = Keep::For(Duration::from_secs(3600));
}

impl Default for Keep {
    fn default() -> Self {
        Self::DEFAULT
    }
}
