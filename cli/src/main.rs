//! `pagestore-cli`: looks into stores, and moves databases in and out of them.
//!
//! Owns the grammar of the command line, what is printed, and the exit codes. Everything it does goes
//! through the doors that every user of the library has.

mod args;
mod command;
mod context;
mod failure;
mod image;
mod interrupt;
mod progress;
mod render;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::failure::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    start_log();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start the threads of the process", &error))
        .and_then(|runtime| runtime.block_on(command::run(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What the library logs goes to stderr: nothing but errors, unless `PAGESTORE_LOG` asks for more.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PAGESTORE_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
