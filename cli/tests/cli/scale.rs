//! A large image goes in by the tool, and comes back.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pagestore_tests::harness::{Process, TestStore, seed};
use pagestore_tests::image::Image;

use crate::harness::Cli;

const MIB: u64 = 1 << 20;
const PAGE_BYTES: usize = 4096;
const BYTES: u64 = 1024 * MIB;
/// Memory that the tool may use.
const MEMORY: u64 = 512 * MIB;
/// Far beyond what anything here takes unless it hangs.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn a_gib_is_imported_at_once_and_exported_the_same() {
    let image =
        Image { seed: seed().0, page_bytes: PAGE_BYTES, page_count: BYTES / PAGE_BYTES as u64 };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image");
    image.pages().write_to(BufWriter::with_capacity(1 << 20, File::create(&file).unwrap()));
    let (file, dir) = (&file, dir.path());
    std::thread::scope(|scope| {
        for place in [TestStore::embedded, TestStore::servers] {
            scope.spawn(move || goes_in_and_out(&Cli::on(place()), image, file, dir));
        }
    });
}

fn goes_in_and_out(cli: &Cli, image: Image, file: &Path, dir: &Path) {
    let log = tempfile::NamedTempFile::new_in(dir).unwrap();
    let import = cli.command(&["import", "v", file.to_str().unwrap(), "--json"]);
    let mut import = Process::spawn(import, log.path()).unwrap();
    let (status, peak) = import.wait_for_peak(PATIENCE).expect("it comes to an end");
    assert!(status.success(), "{status}: {}", import.last_words());
    println!("{} MiB of memory", peak / MIB);
    assert!(peak < MEMORY, "{} MiB of memory", peak / MIB);
    let commits = cli.json(&["log", "v"]);
    assert_eq!(commits.as_array().unwrap().len(), 1, "one commit, of everything: {commits}");

    let mut export = cli.command(&["export", "v", "-"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = export.stdout.take().unwrap();
    let (pages, mut content) = (image.pages(), [0; PAGE_BYTES]);
    for page in 0..image.page_count {
        out.read_exact(&mut content).unwrap();
        assert!(pages.page(page) == content[..], "page {page}");
    }
    assert_eq!(out.read(&mut content).unwrap(), 0, "nothing comes after the last page");
    assert!(export.wait().unwrap().success());
}
