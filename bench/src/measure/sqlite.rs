//! SQLite by way of its shell, so that nothing of it is linked in.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Result;

/// What the shell says when it has done all it was told.
const DONE: &str = "-- done --";

/// A shell with one database open.
pub(super) struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// Starts one on the database at `path`.
    pub(super) fn open(path: &Path) -> Result<Shell> {
        let mut child = Command::new("sqlite3")
            .args(["-batch", "-bail"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start sqlite3; run ./dev.sh setup: {error}"))?;
        let input = child.stdin.take().ok_or("a shell without input")?;
        let output = BufReader::new(child.stdout.take().ok_or("a shell without output")?);
        Ok(Shell { child, input, output })
    }

    /// Runs statements to their end.
    pub(super) fn run(&mut self, sql: &str) -> Result<()> {
        writeln!(self.input, "{sql}\n.print {DONE}")?;
        self.input.flush()?;
        let mut line = String::new();
        while line.trim_end() != DONE {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                return Err("sqlite3 has ended".into());
            }
        }
        Ok(())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a table of `rows` rows with three indexes.
pub(super) fn make_table(shell: &mut Shell, rows: usize) -> Result<()> {
    shell.run(&format!(
        "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, kind INTEGER, price REAL, note TEXT);
         CREATE INDEX item_name ON item(name);
         CREATE INDEX item_kind ON item(kind, price);
         CREATE INDEX item_price ON item(price);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO item(name, kind, price, note)
         SELECT 'item ' || abs(random() % 1000000), i % 37, abs(random() % 100000) / 100.0,
                'from shelf ' || (i % 911) || ', box ' || abs(random() % 5000) || ', as good as new'
         FROM n;"
    ))
}
