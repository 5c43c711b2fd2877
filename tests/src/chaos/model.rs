//! What a volume holds, at every revision, when nothing goes wrong.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Tag;
use super::content::digest;
use super::journal::Intent;

/// A volume's pages now, and a digest of what they were at every revision before.
#[derive(Debug)]
pub struct Model {
    seed: u64,
    zeros: Bytes,
    pages: Vec<Bytes>,
    versions: BTreeMap<u64, Vec<(u64, u64)>>,
    counts: Vec<(u64, u64)>,
}

impl Model {
    /// A volume that was empty, and at `revision` became `pages`.
    #[must_use]
    pub fn new(seed: u64, page_size: usize, revision: u64, pages: Vec<Bytes>) -> Model {
        let zeros = Bytes::from(vec![0; page_size]);
        let counts = vec![(0, 0), (revision, pages.len() as u64)];
        let first = |(page, content): (u64, &Bytes)| (page, vec![(revision, digest(content))]);
        let versions = (0..).zip(&pages).map(first).collect();
        Model { seed, pages, zeros, versions, counts }
    }

    /// The pages now.
    #[must_use]
    pub fn pages(&self) -> &[Bytes] {
        &self.pages
    }

    /// The page count as of `revision`.
    #[must_use]
    pub fn count_at(&self, revision: u64) -> u64 {
        let index = self.counts.partition_point(|(at, _)| *at <= revision);
        self.counts[index - 1].1
    }

    /// A digest of `page` as of `revision`.
    #[must_use]
    pub fn digest_at(&self, page: u64, revision: u64) -> u64 {
        let versions = self.versions.get(&page).map_or(&[][..], Vec::as_slice);
        let index = versions.partition_point(|(at, _)| *at <= revision);
        index.checked_sub(1).map_or_else(|| digest(&self.zeros), |index| versions[index].1)
    }

    /// Why a transaction cannot have been committed now: something that it depends on has changed.
    #[must_use]
    pub fn objection(&self, intent: &Intent) -> Option<String> {
        let count = self.pages.len() as u64;
        let past_end = intent.writes.iter().any(|(page, _)| *page >= intent.page_count);
        let resizes = past_end || intent.truncate.is_some_and(|to| to != intent.page_count);
        if (intent.asks_count || resizes) && intent.page_count != count {
            return Some(format!("it depends on {} pages; there are {count}", intent.page_count));
        }
        let changed = intent.reads.iter().find(|(page, seen)| {
            self.pages.get(*page as usize).is_none_or(|now| digest(now) != *seen)
        });
        changed.map(|(page, _)| format!("page {page} is not what it read"))
    }

    /// Applies a transaction that was committed at `revision`.
    pub fn apply(&mut self, revision: u64, tag: Tag, intent: &Intent) {
        if let Some(count) = intent.truncate {
            for page in count..self.pages.len() as u64 {
                self.versions.entry(page).or_default().push((revision, digest(&self.zeros)));
            }
            self.pages.resize(count as usize, self.zeros.clone());
        }
        for (page, content) in &intent.writes {
            let before = self.pages.get(*page as usize).unwrap_or(&self.zeros);
            let bytes = content.bytes(self.seed, tag, *page, before);
            let versions = self.versions.entry(*page).or_default();
            versions.push((revision, digest(&bytes)));
            let index = *page as usize;
            if index >= self.pages.len() {
                self.pages.resize(index + 1, self.zeros.clone());
            }
            self.pages[index] = bytes;
        }
        self.counts.push((revision, self.pages.len() as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::content::Content;

    fn intent(truncate: Option<u64>, writes: &[u64]) -> Intent {
        Intent {
            number: 1,
            after: 0,
            base: 0,
            page_count: 4,
            asks_count: false,
            reads: Vec::new(),
            truncate,
            writes: writes.iter().map(|page| (*page, Content::Noise)).collect(),
        }
    }

    #[test]
    fn the_past_stays_as_it_was() {
        let tag = Tag { writer: 1, number: 1 };
        let mut model = Model::new(7, 512, 1, vec![vec![0; 512].into(); 4]);
        model.apply(10, tag, &intent(None, &[2, 3]));
        model.apply(20, tag, &intent(Some(3), &[5]));
        let zeros = digest(&[0; 512]);
        let written = digest(&Content::Noise.bytes(7, tag, 3, &[0; 512]));
        let seen = [9, 10, 19, 20].map(|revision| model.digest_at(3, revision));
        assert_eq!(seen, [zeros, written, written, zeros]);
        assert_eq!([0, 1, 19, 20].map(|revision| model.count_at(revision)), [0, 4, 4, 6]);
        assert_eq!(model.pages().len(), 6);
        assert_eq!(model.pages()[4], [0; 512][..]);
    }

    #[test]
    fn what_a_transaction_depends_on_may_not_change() {
        let tag = Tag { writer: 1, number: 1 };
        let mut model = Model::new(7, 512, 1, vec![vec![0; 512].into(); 4]);
        let mut reads = intent(None, &[0]);
        reads.reads.push((2, digest(&[0; 512])));
        let grows = intent(None, &[4]);
        assert_eq!(model.objection(&reads), None);
        assert_eq!(model.objection(&grows), None);
        model.apply(10, tag, &intent(None, &[2, 7]));
        assert!(model.objection(&reads).is_some());
        assert!(model.objection(&grows).is_some());
    }
}
