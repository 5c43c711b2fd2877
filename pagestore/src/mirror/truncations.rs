use imbl::Vector;

use crate::types::{PageCount, PageNo, Revision};

/// Truncations that can still hide something: a newer one hides all that an older one does, unless
/// the older went lower. So revisions rise, and lowest counts rise with them.
#[derive(Clone, Debug, Default)]
pub struct Truncations(Vector<(Revision, PageCount)>);

impl Truncations {
    /// Adds a truncation that is no older than those before it.
    pub fn push(&mut self, revision: Revision, lowest: PageCount) {
        while self.0.back().is_some_and(|(_, before)| *before >= lowest) {
            self.0.pop_back();
        }
        self.0.push_back((revision, lowest));
    }

    /// When `page` was last truncated away: its versions from before read as zeros.
    #[must_use]
    pub fn last_of(&self, page: PageNo) -> Option<Revision> {
        self.0
            .iter()
            .rev()
            .find(|(_, lowest)| !lowest.contains(page))
            .map(|(revision, _)| *revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_truncation_that_reached_the_page_counts() {
        let mut truncations = Truncations::default();
        assert_eq!(truncations.last_of(PageNo(0)), None);
        truncations.push(Revision(5), PageCount(10));
        truncations.push(Revision(7), PageCount(20));
        assert_eq!(truncations.last_of(PageNo(9)), None);
        assert_eq!(truncations.last_of(PageNo(10)), Some(Revision(5)));
        assert_eq!(truncations.last_of(PageNo(25)), Some(Revision(7)));
        truncations.push(Revision(9), PageCount(10));
        assert_eq!(truncations.last_of(PageNo(25)), Some(Revision(9)));
        assert_eq!(truncations.0.len(), 1);
    }
}
