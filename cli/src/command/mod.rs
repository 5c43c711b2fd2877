//! The subcommands, one a file: each gathers through the library and prints.

mod compact;
mod completions;
mod demo;
mod diff;
mod export;
mod file;
mod history;
mod import;
mod levels;
mod log;
mod page;
mod sql;
mod store;
mod verify;
mod volume;
mod watch;

use crate::args::{Args, Command};
use crate::context::Context;
use crate::failure::Outcome;

/// Runs the command of `args`.
pub(crate) async fn run(args: Args) -> Outcome {
    let Args { store, json, command } = args;
    let mut context = Context::new(store, json);
    let outcome = dispatch(&mut context, command).await;
    context.close().await;
    outcome
}

async fn dispatch(context: &mut Context, command: Command) -> Outcome {
    match command {
        Command::Volume(args) => volume::run(context, args).await,
        Command::Store(args) => store::run(context, args).await,
        Command::Import(args) => import::run(context, args).await,
        Command::Export(args) => export::run(context, args).await,
        Command::Page(args) => page::run(context, args).await,
        Command::History(args) => history::run(context, args).await,
        Command::Log(args) => log::run(context, args).await,
        Command::Diff(args) => diff::run(context, args).await,
        Command::Levels(args) => levels::run(context, args).await,
        Command::File(args) => file::run(context, args).await,
        Command::Verify(args) => verify::run(context, args).await,
        Command::Compact(args) => compact::run(context, args).await,
        Command::Sql(args) => sql::run(context, &args),
        Command::Watch(args) => watch::run(context, args).await,
        Command::Demo(args) => demo::run(context, args).await,
        Command::DemoWriter(args) => demo::writer::run(context, args).await,
        Command::Completions(args) => completions::run(args),
    }
}
