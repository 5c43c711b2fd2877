//! How things look: tables, sizes, times for people; JSON for scripts.

use std::io::{self, BufWriter, Stdout, Write};
use std::time::{Duration, UNIX_EPOCH};

use pagestore::Keep;
use serde::Serialize;

/// Where results go.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    stdout: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json, stdout: BufWriter::new(io::stdout()) }
    }

    /// True when scripts read it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One JSON document on a line of its own.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, document)?;
        self.stdout.write_all(b"\n")?;
        self.stdout.flush()
    }

    /// One line for people.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        self.stdout.write_all(line.as_ref().as_bytes())?;
        self.stdout.write_all(b"\n")?;
        self.stdout.flush()
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)
    }

    /// After the last of [`Output::bytes`].
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// A table.
    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        for line in table.lines() {
            self.stdout.write_all(line.as_bytes())?;
            self.stdout.write_all(b"\n")?;
        }
        self.stdout.flush()
    }
}

/// Rows with aligned columns; a column whose name begins with `>` is of numbers.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Table {
        let names = columns.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
        let right = columns.iter().map(|name| name.starts_with('>')).collect();
        Table { rows: vec![names], right }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let width_of = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width_of).collect();
        self.rows.iter().map(move |row| {
            let cells =
                row.iter().zip(&widths).zip(&self.right).map(
                    |((cell, width), right)| match right {
                        true => format!("{cell:>width$}"),
                        false => format!("{cell:<width$}"),
                    },
                );
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
    }
}

/// Names and values, one a line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> Vec<String> {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect()
}

/// `1.5 MiB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // What would be shown as 1024 of a unit is one of the next.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `2025-01-31T12:00:00.123Z`.
pub(crate) fn time(ms: u64) -> String {
    // Past the year 9999 there is no such form, and no such commit either.
    const LAST_MS: u64 = 253_402_300_799_999;
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms.min(LAST_MS)))
        .to_string()
}

/// `87.5 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `1h`, `none`, `forever`: as `--keep` takes it.
pub(crate) fn keep(keep: Keep) -> String {
    match keep {
        Keep::Nothing => "none".to_owned(),
        Keep::For(duration) => humantime::format_duration(duration).to_string().replace(' ', ""),
        Keep::Forever => "forever".to_owned(),
    }
}

/// `1 page`, `2 pages`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(&["name", ">bytes"]);
        table.row(["a".into(), "7".into()]);
        table.row(["bcdef".into(), "12345".into()]);
        let lines: Vec<String> = table.lines().collect();
        assert_eq!(lines, ["name   bytes", "a          7", "bcdef  12345"]);
    }

    #[test]
    fn sizes_use_binary_units() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
        assert_eq!(size(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(time(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn retentions_read_as_they_are_given() {
        assert_eq!(keep(Keep::For(Duration::from_secs(5400))), "1h30m");
        assert_eq!(keep(Keep::DEFAULT), "1h");
    }
}
