//! `pagestore-fuzz`: feeds every decoder, for as long as one likes.

use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use pagestore_fuzz::{flip, memory::Counting, run, run_once, targets};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Feeds every decoder of pagestore what was written, changed at random.
#[derive(Debug, Parser)]
struct Args {
    /// Executions in all, over all targets
    #[arg(long, default_value_t = 10_000_000)]
    executions: u64,
    /// One seed gives one run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Feed no decoder, but flip so many bytes of a whole store, one at a time, and read it
    #[arg(long, conflicts_with_all = ["target", "input"])]
    flips: Option<u64>,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
    /// Only this input, in hexadecimal digits, as a finding prints it
    #[arg(long, requires = "target")]
    input: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(count) = args.flips {
        return flip_bytes(args.seed, count);
    }
    let mut chosen = targets();
    chosen.retain(|target| args.target.as_deref().is_none_or(|name| name == target.name));
    if chosen.is_empty() {
        let names: Vec<&str> = targets().iter().map(|target| target.name).collect();
        eprintln!("no such target; there are: {}", names.join(", "));
        return ExitCode::from(2);
    }
    std::panic::set_hook(Box::new(|_| {}));
    let executions = args.executions / chosen.len() as u64;
    for target in &chosen {
        let outcome = match args.input.as_deref().map(parse) {
            Some(None) => {
                eprintln!("the input is not of pairs of hexadecimal digits");
                return ExitCode::from(2);
            }
            Some(Some(input)) => run_once(target, &input),
            None => {
                let style = ProgressStyle::with_template(
                    "{prefix:14} {bar:40} {human_pos}/{human_len} {per_sec}",
                );
                let bar = ProgressBar::new(executions).with_prefix(target.name);
                bar.set_style(style.expect("BUG: the template is wrong"));
                let outcome = run(target, args.seed, executions, |done| {
                    if done % 10_000 == 0 {
                        bar.set_position(done);
                    }
                });
                bar.finish_and_clear();
                outcome
            }
        };
        if let Err(finding) = outcome {
            println!("{finding}");
            println!("again: pagestore-fuzz --target '{}' --input DIGITS", finding.target);
            return ExitCode::FAILURE;
        }
        println!("{:14} {executions} executions, no finding (seed {})", target.name, args.seed);
    }
    ExitCode::SUCCESS
}

fn flip_bytes(seed: u64, count: u64) -> ExitCode {
    flip::count_panics();
    let style = ProgressStyle::with_template("flips {bar:40} {human_pos}/{human_len} {per_sec}");
    let bar = ProgressBar::new(count).with_style(style.expect("BUG: the template is wrong"));
    let outcome = flip::run(&flip::frozen(), seed, count, |done| {
        if done % 1_000 == 0 {
            bar.set_position(done);
        }
    });
    bar.finish_and_clear();
    match outcome {
        Err(found) => {
            println!("{found}");
            println!("again: pagestore-fuzz --flips {count} --seed {seed}");
            ExitCode::FAILURE
        }
        Ok(flip::Flipped { flips, noticed, bytes, pages }) => {
            println!(
                "{flips} flips of {bytes} bytes, {noticed} noticed, {pages} pages read, none wrong (seed {seed})"
            );
            ExitCode::SUCCESS
        }
    }
}

fn parse(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
