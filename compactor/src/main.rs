//! The sidecar: compacts the volumes of a store until it is told to stop.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use pagestore::{Error, Result, Store, StoreOptions, VolumeInfo, VolumeName};
use pagestore_compactor::{Compactor, CompactorOptions, Effort, Tiers};

/// Moves pages of a pagestore out of etcd into files, and keeps the files few and small.
///
/// Any number may run beside one another; for each volume one of them works. SIGTERM and SIGINT end it
/// cleanly. RUST_LOG sets what is logged, `info` by default. Exits with 0 when it was told to stop or
/// when `--once` did everything, with 1 when something failed, with 2 when the arguments make no sense.
#[derive(Parser, Debug)]
#[command(name = "pagestore-compactor", version)]
struct Args {
    /// The store: a directory, or etcd://HOST:PORT[,...]/ROOT?blobs=URL.
    #[arg(long, env = "PAGESTORE_STORE", value_name = "URL", hide_env_values = true)]
    store: String,
    /// Flush what is staged, merge until nothing is due, and end.
    #[arg(long)]
    once: bool,
    /// Look after these volumes only, not after all.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    volume: Vec<String>,
    /// Staged bytes at which a volume is flushed.
    #[arg(long, value_name = "BYTES", default_value_t = CompactorOptions::default().flush_bytes)]
    flush_bytes: u64,
    /// Age of the oldest staged commit at which a volume is flushed.
    #[arg(long, value_name = "DURATION", default_value_t = CompactorOptions::default().flush_age.into())]
    flush_age: humantime::Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let names: std::result::Result<BTreeSet<VolumeName>, String> =
        args.volume.iter().map(|name| VolumeName::new(name)).collect();
    let names = names.map_err(|why| Error::new(pagestore::ErrorKind::Invalid, why))?;
    let only = (!names.is_empty()).then_some(names);
    let stop = stop_signal()?;
    let store = Store::open_with(&args.store, StoreOptions::default()).await?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let options = CompactorOptions {
        flush_bytes: args.flush_bytes,
        flush_age: args.flush_age.into(),
        owner: format!("{} process {}", host.trim(), std::process::id()),
        ..CompactorOptions::default()
    };
    let tiers = Tiers {
        meta: store.meta().clone(),
        blobs: store.blobs().clone(),
        keys: store.keys().clone(),
        env: store.env().clone(),
    };
    tiers.blobs.probe_create_only().await?;
    let compactor = Compactor::new(tiers, options);
    if args.once {
        return once(&store, &compactor, only.as_ref(), stop).await;
    }
    tracing::info!("compacting until told to stop");
    compactor.run(only.as_ref(), &stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Compacts every volume, however others fare; the first failure is the outcome.
async fn once(
    store: &Store,
    compactor: &Compactor,
    only: Option<&BTreeSet<VolumeName>>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let volumes = store.volumes().await?;
    if let Some(missing) = only.and_then(|only| only.iter().find(|name| !is_among(&volumes, name)))
    {
        let message = format!("no volume of this name: {missing}");
        return Err(Error::new(pagestore::ErrorKind::NotFound, message));
    }
    let mut outcome = Ok(());
    for volume in
        volumes.iter().filter(|volume| only.is_none_or(|only| only.contains(&volume.name)))
    {
        let compacted = compactor.compact_until(volume.id, Effort::Thorough, &stop).await;
        if *stop.borrow() {
            // What was being done was abandoned, which is safe at any point.
            return outcome.and(compacted);
        }
        match compacted {
            Ok(()) => tracing::info!(volume = %volume.name, "compacted"),
            Err(error) => {
                tracing::error!(volume = %volume.name, %error, "not compacted");
                outcome = outcome.and(Err(error.context(&volume.name)));
            }
        }
    }
    outcome
}

fn is_among(volumes: &[VolumeInfo], name: &VolumeName) -> bool {
    volumes.iter().any(|volume| volume.name == *name)
}

/// Becomes true with the first SIGTERM or SIGINT; a second one ends the process at once.
fn stop_signal() -> Result<watch::Receiver<bool>> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Error::new(pagestore::ErrorKind::Unavailable, "cannot listen for signals")
                .with_source(error)
        })
    };
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.send_replace(true) {
                std::process::exit(1);
            }
        }
    });
    Ok(stopped)
}
