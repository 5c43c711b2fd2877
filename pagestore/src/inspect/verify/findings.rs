use std::collections::HashMap;

use crate::types::{FileId, PageNo};

/// Findings that a report has room for; of the others it says how many there are.
const MAX_FINDINGS: usize = 10_000;

/// What kind of thing is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Damage {
    /// A value in the meta tier, or a key that is none of ours.
    Key,
    /// The list of files contradicts itself.
    Levels,
    /// A staged page.
    Staged,
    /// A pointer.
    Pointer,
    /// A section or frame of a file.
    File,
    /// An object that is not there, or of the wrong length.
    Object,
    /// Pages that cannot be read.
    Page,
}

impl Damage {
    /// The name that people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Damage::Key => "key",
            Damage::Levels => "levels",
            Damage::Staged => "staged page",
            Damage::Pointer => "pointer",
            Damage::File => "file",
            Damage::Object => "object",
            Damage::Page => "page",
        }
    }
}

/// One thing that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub damage: Damage,
    /// What is wrong with it, and where.
    pub message: String,
    /// The key in the meta tier, after the volume's prefix, bytes that are no text escaped.
    pub key: Option<String>,
    /// The file.
    pub file: Option<FileId>,
    /// Where in the file.
    pub offset: Option<u64>,
    /// First and last page of each range that cannot be read because of it, as far as is known.
    pub pages: Vec<(PageNo, PageNo)>,
}

impl Finding {
    pub(super) fn new(damage: Damage, message: impl ToString) -> Finding {
        Finding {
            damage,
            message: message.to_string(),
            key: None,
            file: None,
            offset: None,
            pages: Vec::new(),
        }
    }

    pub(super) fn at_key(self, suffix: &[u8]) -> Finding {
        Finding { key: Some(suffix.escape_ascii().to_string()), ..self }
    }

    pub(super) fn in_file(self, file: FileId, offset: Option<u64>) -> Finding {
        Finding { file: Some(file), offset, ..self }
    }

    pub(super) fn of_pages(mut self, first: PageNo, last: PageNo) -> Finding {
        self.add_pages(first, last);
        self
    }

    /// Adds a range; ranges that meet become one, and all stay in order.
    fn add_pages(&mut self, first: PageNo, last: PageNo) {
        let start = self.pages.partition_point(|(_, before)| before.0.saturating_add(1) < first.0);
        let end = self.pages.partition_point(|(after, _)| after.0 <= last.0.saturating_add(1));
        let met = self.pages.get(start..end.max(start)).unwrap_or_default();
        let first = met.first().map_or(first, |(known, _)| first.min(*known));
        let last = met.last().map_or(last, |(_, known)| last.max(*known));
        self.pages.splice(start..end.max(start), [(first, last)]);
    }
}

/// What was found so far. One message is one finding, however many pages it concerns.
#[derive(Debug, Default)]
pub(super) struct Findings {
    findings: Vec<Finding>,
    by_message: HashMap<String, usize>,
    more: u64,
}

impl Findings {
    pub(super) fn push(&mut self, finding: Finding) {
        if let Some(known) =
            self.by_message.get(&finding.message).and_then(|at| self.findings.get_mut(*at))
        {
            finding.pages.iter().for_each(|(first, last)| known.add_pages(*first, *last));
        } else if self.findings.len() < MAX_FINDINGS {
            self.by_message.insert(finding.message.clone(), self.findings.len());
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// True when something is broken in `file`.
    pub(super) fn has_file(&self, file: FileId) -> bool {
        self.findings.iter().any(|finding| finding.file == Some(file))
    }

    pub(super) fn count(&self) -> u64 {
        self.findings.len() as u64 + self.more
    }

    pub(super) fn into_parts(self) -> (Vec<Finding>, u64) {
        (self.findings, self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_one_message_are_gathered() {
        let mut findings = Findings::default();
        for page in [1, 3, 2, 7, 2, 3] {
            findings.push(
                Finding::new(Damage::Page, "frame is broken").of_pages(PageNo(page), PageNo(page)),
            );
        }
        findings.push(Finding::new(Damage::Page, "another").of_pages(PageNo(4), PageNo(4)));
        let (found, more) = findings.into_parts();
        assert_eq!((found.len(), more), (2, 0));
        assert_eq!(found[0].pages, [(PageNo(1), PageNo(3)), (PageNo(7), PageNo(7))]);
    }

    #[test]
    fn ranges_that_meet_become_one() {
        let mut finding = Finding::new(Damage::Page, "x");
        for (first, last) in
            [(10, 20), (40, 50), (22, 30), (21, 21), (0, 5), (45, 60), (u64::MAX, u64::MAX)]
        {
            finding.add_pages(PageNo(first), PageNo(last));
        }
        let ranges: Vec<_> = finding.pages.iter().map(|(first, last)| (first.0, last.0)).collect();
        assert_eq!(ranges, [(0, 5), (10, 30), (40, 60), (u64::MAX, u64::MAX)]);
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut findings = Findings::default();
        (0..MAX_FINDINGS + 3).for_each(|n| findings.push(Finding::new(Damage::Key, n)));
        let (found, more) = findings.into_parts();
        assert_eq!((found.len(), more), (MAX_FINDINGS, 3));
    }
}
