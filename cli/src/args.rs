//! The grammar.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use pagestore::{FileId, Keep, PageSize, Revision};

use crate::failure::EXIT_CODES;

/// Looks into a page store, and moves databases in and out of it.
#[derive(Debug, Parser)]
#[command(name = "pagestore-cli", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Args {
    /// The store: a path or file:///PATH for an embedded one, or
    /// etcd://HOST:PORT[,HOST:PORT...]/ROOT?blobs=URL with blobs in s3://BUCKET/PREFIX or file:///PATH.
    #[arg(
        long,
        global = true,
        env = "PAGESTORE_STORE",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) store: Option<String>,

    /// Prints JSON: one document, or one a line where there is no end to it.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes, lists, shows and deletes volumes.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Looks after the store itself.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Brings a SQLite file or any other image into a new or an existing volume, atomically.
    Import(ImportArgs),
    /// Writes a volume to a file.
    Export(ExportArgs),
    /// Shows one page.
    Page(PageArgs),
    /// Shows the versions of a page: revision, commit, encoding, and where each is stored.
    History(HistoryArgs),
    /// Shows the commits, newest first.
    Log(LogArgs),
    /// Shows the pages that differ between two revisions.
    Diff(DiffArgs),
    /// Shows what is in etcd and in each level: sizes, and what share is live.
    Levels(LevelsArgs),
    /// Shows what is in a file.
    File(FileArgs),
    /// Reads and checks everything, and names what is broken.
    Verify(VerifyArgs),
    /// Flushes what is staged and merges until nothing is due.
    Compact(CompactArgs),
    /// Runs SQL on a volume, which is made if there is none: a script, or a small prompt.
    Sql(SqlArgs),
    /// Shows commits as they come, until it is interrupted.
    Watch(WatchArgs),
    /// Does the main job, start to end, and explains it.
    Demo(DemoArgs),
    /// Makes random commits, for the demo.
    #[command(hide = true)]
    DemoWriter(DemoWriterArgs),
    /// Prints the completions of a shell.
    Completions(CompletionsArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Makes a volume of no pages.
    Create(CreateArgs),
    /// Lists the volumes.
    List,
    /// Shows a volume in figures.
    Stat(NameArgs),
    /// Deletes a volume; the compactor removes what it held.
    Delete(NameArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Shows what is lost with an etcd that was restored from a backup, and goes on with it if told to.
    ///
    /// A store is refused on another etcd than the one it was made on, because an etcd that was restored has
    /// forgotten every commit since its backup. Files of such commits are listed here as far as they are in
    /// the blob tier; commits that were in etcd only leave no trace. With --yes the store's record names the
    /// restored etcd from then on, and nothing else is changed. What was committed after the backup stays
    /// lost, also if the etcd of before comes back: the compactor deletes its files some time later.
    ///
    /// Before: end every process that uses the store. If the newest file is ahead of etcd's revision, the
    /// restored etcd gives revisions anew that were given before; restore it again with `etcdutl snapshot
    /// restore --bump-revision 1000000000 --mark-compacted`, if your etcd has that. After: `verify` each
    /// volume. What became of a commit with an unknown outcome from before cannot be asked any more.
    AcceptRestore(AcceptRestoreArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct AcceptRestoreArgs {
    /// Accepts the restored etcd; without it nothing is changed.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// What to call it: 1 to 255 bytes without `/`.
    pub(crate) name: String,
    /// Bytes a page, for ever: a power of two from 512 to 65536, such as 4096 or 4k.
    #[arg(long, value_name = "N", value_parser = parse_page_size, default_value_t = PageSize::DEFAULT)]
    pub(crate) page_size: PageSize,
    /// How long superseded versions stay readable: a duration such as 30m, 1h or 7d, none, or forever.
    #[arg(long, value_name = "DURATION", value_parser = parse_keep, default_value = "1h")]
    pub(crate) keep: Keep,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    /// The volume.
    pub(crate) name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The volume; it is made if there is none, and becomes exactly the file if there is one.
    pub(crate) name: String,
    /// A SQLite file, whose header says the page size, or any image of whole pages.
    pub(crate) file: PathBuf,
    /// Bytes a page, of an image that is no SQLite file; 4096 or the existing volume's by default.
    #[arg(long, value_name = "N", value_parser = parse_page_size)]
    pub(crate) page_size: Option<PageSize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The volume.
    pub(crate) name: String,
    /// Where to; replaced at once when all is written. `-` is stdout.
    pub(crate) file: PathBuf,
    /// The revision; the newest by default.
    #[arg(long, value_name = "REVISION", value_parser = parse_revision)]
    pub(crate) at: Option<Revision>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PageArgs {
    /// The volume.
    pub(crate) name: String,
    /// The page, from 0.
    pub(crate) number: u64,
    /// The revision; the newest by default.
    #[arg(long, value_name = "REVISION", value_parser = parse_revision)]
    pub(crate) at: Option<Revision>,
    /// Writes the bytes themselves.
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// The volume.
    pub(crate) name: String,
    /// The page, from 0.
    pub(crate) number: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// The volume.
    pub(crate) name: String,
    /// At most so many commits; all by default.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SqlArgs {
    /// The volume.
    pub(crate) name: String,
    /// A file of SQL statements; `-` is standard input. Without one a prompt, if there is a terminal.
    pub(crate) file: Option<PathBuf>,
    /// Reads the database as it was at this revision.
    #[arg(long, value_name = "REVISION", value_parser = parse_revision)]
    pub(crate) at: Option<Revision>,
    /// Changes nothing.
    #[arg(long)]
    pub(crate) read_only: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// The volume.
    pub(crate) name: String,
    /// The one revision.
    #[arg(value_name = "REVISION", value_parser = parse_revision)]
    pub(crate) from: Revision,
    /// The other revision.
    #[arg(value_name = "REVISION", value_parser = parse_revision)]
    pub(crate) to: Revision,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LevelsArgs {
    /// The volume.
    pub(crate) name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// The volume.
    pub(crate) name: String,
    /// The file, as `levels` shows it.
    #[arg(value_name = "FILE-ID")]
    pub(crate) file: FileId,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The volume.
    pub(crate) name: String,
    /// Checks every page of this revision, and of the files only what finds them.
    #[arg(long, value_name = "REVISION", value_parser = parse_revision)]
    pub(crate) at: Option<Revision>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompactArgs {
    /// The volume.
    pub(crate) name: String,
    /// Prints the plan and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// The volume.
    pub(crate) name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// A SQLite file or any image; by default a SQLite database that the demo makes.
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoWriterArgs {
    /// The volume.
    pub(crate) name: String,
    /// Commits to make.
    #[arg(long)]
    pub(crate) commits: u64,
    /// Tasks that make them.
    #[arg(long)]
    pub(crate) tasks: u64,
    /// Where the random choices begin.
    #[arg(long)]
    pub(crate) seed: u64,
}

/// `4096`, `4k`, `4K`, `4KiB`.
fn parse_page_size(text: &str) -> Result<PageSize, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = match lower.strip_suffix("kib").or_else(|| lower.strip_suffix('k')) {
        Some(digits) => (digits, 1024),
        None => (lower.as_str(), 1),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let bytes = bytes.ok_or("not a number of bytes such as 4096, 4k or 4KiB")?;
    PageSize::new(bytes).map_err(|error| error.to_string())
}

/// `30m`, `1h`, `7d`, `none`, `forever`.
fn parse_keep(text: &str) -> Result<Keep, String> {
    match text {
        "none" => Ok(Keep::Nothing),
        "forever" => Ok(Keep::Forever),
        _ => humantime::parse_duration(text)
            .map(|duration| if duration.is_zero() { Keep::Nothing } else { Keep::For(duration) })
            .map_err(|_| "not a duration such as 30m, 1h or 7d, nor none or forever".to_owned()),
    }
}

fn parse_revision(text: &str) -> Result<Revision, String> {
    text.parse().map_err(|_| "not a revision, which is a number".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn page_sizes_are_read_with_and_without_units() {
        for text in ["4096", "4k", "4K", "4KiB", "4kib"] {
            assert_eq!(parse_page_size(text).unwrap(), PageSize::DEFAULT, "{text}");
        }
        for text in ["", "k", "4097", "4 k", "4m", "-4096", "256", "128k", "99999999999999999k"] {
            assert!(parse_page_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn retentions_are_durations_or_words() {
        assert_eq!(parse_keep("30m"), Ok(Keep::For(Duration::from_secs(1800))));
        assert_eq!(parse_keep("7d"), Ok(Keep::For(Duration::from_secs(7 * 86_400))));
        assert_eq!(parse_keep("none"), Ok(Keep::Nothing));
        assert_eq!(parse_keep("0s"), Ok(Keep::Nothing));
        assert_eq!(parse_keep("forever"), Ok(Keep::Forever));
        for text in ["", "never", "1", "-1h"] {
            assert!(parse_keep(text).is_err(), "{text}");
        }
    }
}
