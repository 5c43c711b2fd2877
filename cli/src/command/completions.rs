//! `completions`

use clap::CommandFactory;

use crate::args::{Args, CompletionsArgs};
use crate::failure::Outcome;

pub(super) fn run(args: CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "pagestore-cli", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(())
}
