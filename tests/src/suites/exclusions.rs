//! What of the Tcl suite is known to fail on a volume, each with its reason.
//!
//! One line each: file, check (`*` stands for anything), kind, reason. The list only shrinks: a line that
//! nothing needs any more is an error, as is a failure without a line.

use std::collections::BTreeMap;

/// Why something is excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It tests what a volume is not: journal files, WAL, the unix VFS.
    Volume,
    /// It fails on a plain file too, on some machines or for some users (root), or tests nothing.
    Plain,
    /// It leaves out most of its checks, because it asks for what a volume has not.
    Skips,
}

#[derive(Debug)]
struct Line {
    check: String,
    kind: Kind,
    used: bool,
}

impl Line {
    fn covers(&self, check: &str) -> bool {
        let mut parts = self.check.split('*');
        let Some(mut rest) = check.strip_prefix(parts.next().unwrap_or_default()) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let Some(end) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(end)
    }
}

/// The list, and which of its lines were needed.
#[derive(Debug, Default)]
pub struct Exclusions {
    lines: BTreeMap<String, Vec<Line>>,
}

impl Exclusions {
    /// Reads the list.
    #[must_use]
    pub fn parse(text: &str) -> Exclusions {
        let mut lines: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let mut word = || words.next().unwrap_or_else(|| panic!("line {}: {line}", number + 1));
            let (file, check, kind) = (word().to_owned(), word().to_owned(), word());
            let kind = match kind {
                "volume" => Kind::Volume,
                "plain" => Kind::Plain,
                "skips" => Kind::Skips,
                other => panic!("line {}: no kind {other}", number + 1),
            };
            assert!(words.next().is_some(), "line {} gives no reason", number + 1);
            lines.entry(file).or_default().push(Line { check, kind, used: false });
        }
        Exclusions { lines }
    }

    /// The failures that no line covers; remembers which lines were needed.
    pub fn uncovered(&mut self, file: &str, failures: &[String]) -> Vec<String> {
        let Some(lines) = self.lines.get_mut(file) else { return failures.to_vec() };
        let mut uncovered = Vec::new();
        for failure in failures {
            let mut covered = false;
            for line in lines.iter_mut().filter(|line| line.covers(failure)) {
                line.used = true;
                covered = true;
            }
            if !covered {
                uncovered.push(failure.clone());
            }
        }
        uncovered
    }

    /// True when some line on the file is of this kind.
    #[must_use]
    pub fn has(&self, file: &str, kind: Kind) -> bool {
        self.lines.get(file).is_some_and(|lines| lines.iter().any(|line| line.kind == kind))
    }

    /// The lines on these files that nothing needed.
    #[must_use]
    pub fn unused(&self, ran: impl Fn(&str) -> bool) -> Vec<String> {
        let mut unused = Vec::new();
        for (file, lines) in self.lines.iter().filter(|(file, _)| ran(file)) {
            let idle = lines
                .iter()
                .filter(|line| !line.used && matches!(line.kind, Kind::Volume | Kind::Skips));
            unused.extend(idle.map(|line| format!("{file} {}", line.check)));
        }
        unused
    }

    /// Files that are named, and not among `known`.
    #[must_use]
    pub fn unknown(&self, known: impl Fn(&str) -> bool) -> Vec<String> {
        self.lines.keys().filter(|file| !known(file)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# comment\n\nwal.test * volume needs WAL\na.test a-1.* volume journal\n\
                        a.test a-2 volume journal\nroot.test root-1 plain as root\n";

    fn failures(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn what_no_line_covers_is_a_failure() {
        let mut list = Exclusions::parse(LIST);
        assert_eq!(list.uncovered("wal.test", &failures(&["x", "crash"])), failures(&[]));
        let found = list.uncovered("a.test", &failures(&["a-1.7", "a-2", "a-2.1", "a-10"]));
        assert_eq!(found, failures(&["a-2.1", "a-10"]));
        assert_eq!(list.uncovered("b.test", &failures(&["b-1"])), failures(&["b-1"]));
    }

    #[test]
    fn a_line_that_nothing_needs_is_named() {
        let mut list = Exclusions::parse(LIST);
        assert!(list.uncovered("a.test", &failures(&["a-2"])).is_empty());
        assert_eq!(list.unused(|file| file != "wal.test"), failures(&["a.test a-1.*"]));
        assert_eq!(list.unused(|_| true), failures(&["a.test a-1.*", "wal.test *"]));
        assert_eq!(list.unknown(|file| file != "root.test"), failures(&["root.test"]));
        assert!(list.has("root.test", Kind::Plain) && !list.has("a.test", Kind::Plain));
    }

    #[test]
    fn stars_stand_for_anything() {
        let covers = |pattern: &str, check: &str| {
            let line = Line { check: pattern.to_owned(), kind: Kind::Volume, used: false };
            line.covers(check)
        };
        assert!(covers("*", "a-1") && covers("a-1", "a-1") && covers("a-*", "a-1"));
        assert!(covers("a-*.4-*", "a-9.2.4-1024") && covers("a*1", "a-1"));
        assert!(
            !covers("a-1", "a-11") && !covers("a-*.4-*", "a-9.2.5-1024") && !covers("a*1", "a-12")
        );
    }

    #[test]
    #[should_panic(expected = "gives no reason")]
    fn a_line_without_a_reason_is_refused() {
        let _ = Exclusions::parse("a.test * volume");
    }
}
