//! How fast, how small and how cheap pagestore is beside the thing that it could not do without: each
//! figure is a ratio of ours over the other, both measured in one run, round by round.
//!
//! `./dev.sh bench --help` lists what can be told; `README.md` beside this has figures.

mod bare;
mod figure;
mod measure;
mod pages;
mod proxy;
mod report;
mod rounds;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use figure::Summary;
use measure::{MEASURES, Measure};
use rounds::Plan;

/// What can go wrong here is for a person to read.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// Measures pagestore beside what it is built on. Servers are started on free ports and stopped
/// again; files go to the directory for temporary ones (TMPDIR).
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    /// Fewer and shorter rounds: to see whether it runs, not to quote
    #[arg(long)]
    quick: bool,
    /// One JSON object a figure and line, in place of a table
    #[arg(long)]
    json: bool,
    /// Only the measures whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Names of the measures
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let chosen: Vec<&Measure> = MEASURES
        .iter()
        .filter(|measure| {
            args.only.is_empty() || args.only.iter().any(|only| measure.name.contains(only))
        })
        .collect();
    if args.list {
        chosen.iter().for_each(|measure| println!("{:<16} {}", measure.name, measure.what));
        return ExitCode::SUCCESS;
    }
    match run(&args, &chosen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, chosen: &[&Measure]) -> Result<()> {
    if chosen.is_empty() {
        return Err("no measure of such a name; --list shows them".into());
    }
    let plan = if args.quick {
        Plan { wanted: 3, most: 3, span: Duration::from_millis(100) }
    } else {
        Plan { wanted: 9, most: 21, span: Duration::from_millis(400) }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut summaries: Vec<Summary> = Vec::new();
    for measure in chosen {
        eprintln!("{}: {}", measure.name, measure.what);
        let figures = runtime
            .block_on((measure.run)(plan))
            .map_err(|error| format!("{}: {error}", measure.name))?;
        summaries.extend(figures.iter().map(|figure| figure.summary(measure.name)));
    }
    if args.json {
        report::print_json(&summaries)?
    } else {
        report::print_table(&summaries)
    }
    Ok(())
}
