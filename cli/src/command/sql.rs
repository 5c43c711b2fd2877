//! `sql`: runs SQL on a volume, from a file, standard input or a small prompt.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode, OpenFlags, Statement};
use serde_json::{Value, json};

use crate::args::SqlArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::Table;

const PROMPT: &str = "sql> ";
const MORE: &str = "...> ";
/// How long a writer waits for its turn.
const BUSY: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) fn run(context: &mut Context, args: &SqlArgs) -> Outcome {
    let db = open(context, args)?;
    let stdin = std::io::stdin();
    match &args.file {
        Some(file) if file != Path::new("-") => {
            let script =
                std::fs::read_to_string(file).map_err(|error| Failure::file(file, &error))?;
            execute(context, &db, &script)
        }
        None if stdin.is_terminal() => prompt(context, &db),
        _ => {
            let mut script = String::new();
            stdin.lock().read_to_string(&mut script)?;
            execute(context, &db, &script)
        }
    }
}

fn open(context: &Context, args: &SqlArgs) -> Outcome<Connection> {
    pagestore_sqlite::register().map_err(Failure::invalid)?;
    let mut uri =
        format!("file:{}?vfs=pagestore&store={}", encode(&args.name), encode(context.given_url()?));
    if let Some(at) = args.at {
        uri.push_str(&format!("&at={at}"));
    }
    let access = match args.read_only || args.at.is_some() {
        true => OpenFlags::SQLITE_OPEN_READ_ONLY,
        false => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    };
    let db = Connection::open_with_flags(uri, access | OpenFlags::SQLITE_OPEN_URI)?;
    db.busy_timeout(BUSY)?;
    Ok(db)
}

/// What is special in a URI, by its number.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@,=".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// Runs statement after statement, until one fails.
fn execute(context: &mut Context, db: &Connection, script: &str) -> Outcome {
    let mut batch = Batch::new(db, script);
    while let Some(mut statement) = rusqlite::fallible_iterator::FallibleIterator::next(&mut batch)?
    {
        show(context, &mut statement)?;
    }
    Ok(())
}

/// Runs one statement; what it answers is shown as a table, or as JSON.
fn show(context: &mut Context, statement: &mut Statement<'_>) -> Outcome {
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = Vec::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let cells = (0..columns.len()).map(|index| row.get_ref(index).map(value));
        found.push(cells.collect::<rusqlite::Result<Vec<Value>>>()?);
    }
    if columns.is_empty() {
        return Ok(());
    }
    if context.out.is_json() {
        return Ok(context.out.json(&json!({ "columns": columns, "rows": found }))?);
    }
    let is_number = |index: usize| {
        let mut cells =
            found.iter().filter_map(|row| row.get(index)).filter(|cell| !cell.is_null());
        cells.next().is_some_and(Value::is_number) && cells.all(Value::is_number)
    };
    let titles: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, name)| if is_number(index) { format!(">{name}") } else { name.clone() })
        .collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut table = Table::new(&titles);
    found.iter().for_each(|row| table.row(row.iter().map(cell)));
    Ok(context.out.table(&table)?)
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{hex}'").into()
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => text.replace('\n', "\\n"),
        other => other.to_string(),
    }
}

/// Reads statements from a person until the end of the input; one that fails does not end it.
fn prompt(context: &mut Context, db: &Connection) -> Outcome {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    let mut statement = String::new();
    loop {
        write!(stderr, "{}", if statement.is_empty() { PROMPT } else { MORE })?;
        stderr.flush()?;
        let mut line = String::new();
        if stdin.lock().read_line(&mut line)? == 0 {
            writeln!(stderr)?;
            return Ok(());
        }
        if statement.is_empty() && ["exit", "quit", ".exit", ".quit", ".q"].contains(&line.trim()) {
            return Ok(());
        }
        statement.push_str(&line);
        if statement.trim().is_empty() || !pagestore_sqlite::is_complete(&statement) {
            continue;
        }
        if let Err(failure) = execute(context, db, &std::mem::take(&mut statement)) {
            writeln!(stderr, "{failure}")?;
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        let code = error.sqlite_error_code();
        let is_the_stores = matches!(
            code,
            Some(
                ErrorCode::DatabaseBusy
                    | ErrorCode::CannotOpen
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DiskFull
            )
        );
        let why = pagestore_sqlite::last_error().filter(|_| is_the_stores);
        let message = why.map_or_else(|| error.to_string(), |why| format!("{error}: {why}"));
        match code {
            Some(ErrorCode::DatabaseBusy) => Failure::overtaken(message),
            Some(ErrorCode::CannotOpen) => Failure::not_found(message),
            Some(ErrorCode::DatabaseCorrupt) => Failure::damaged(message),
            Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull) => Failure::refused(message),
            _ => Failure::invalid(message),
        }
    }
}
