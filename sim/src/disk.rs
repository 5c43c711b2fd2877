//! The machines' local disks: what processes keep there outlives them, as far as a crash leaves it whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tempfile::TempDir;

use crate::exec::ProcessId;
use crate::random::Random;

/// As many as there are; processes share them.
const MACHINES: usize = 3;
/// Of so many files a crash spoils one.
const SPOILT: u64 = 3;

/// All disks; clone it freely. There is nothing before somebody looks for one.
#[derive(Clone, Debug, Default)]
pub struct Disks(Arc<OnceLock<TempDir>>);

impl Disks {
    /// The disk of the machine that a process runs on.
    #[must_use]
    pub fn of(&self, process: ProcessId) -> PathBuf {
        let root = self.0.get_or_init(|| tempfile::tempdir().expect("a directory"));
        root.path().join((process.0 % MACHINES).to_string())
    }

    /// The process's machine crashes: of what was not synced some is gone, short, zeros, garbled, or what
    /// another file was to be.
    pub fn tear(&self, process: ProcessId, random: &mut Random) -> usize {
        let mut files = Vec::new();
        // There may be no disk yet.
        list(&self.of(process), &mut files).ok();
        files.sort();
        let mut spoilt = 0;
        for file in &files {
            if random.one_in(SPOILT) {
                spoil(file, &files, random).expect("a file can be written");
                spoilt += 1;
            }
        }
        spoilt
    }
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => list(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}

fn spoil(file: &Path, all: &[PathBuf], random: &mut Random) -> io::Result<()> {
    let how = random.below(5);
    if how == 0 {
        return fs::remove_file(file);
    }
    // The one that would be read may have gone a moment ago.
    let Ok(mut bytes) = fs::read(file) else { return Ok(()) };
    let at = random.below(bytes.len().max(1) as u64) as usize;
    match how {
        1 => bytes.truncate(at),
        2 => bytes[at..].fill(0),
        3 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x40),
        _ => {
            let other = &all[random.below(all.len() as u64) as usize];
            let foreign = fs::read(other).unwrap_or_default();
            // Mostly of the right length, so that only a checksum tells.
            let length = if random.one_in(4) { foreign.len() } else { bytes.len() };
            bytes = foreign;
            bytes.resize(length, 0);
        }
    }
    fs::write(file, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_spoils_the_files_of_one_machine_alike_for_a_seed() {
        let torn = |seed| {
            let disks = Disks::default();
            for process in 0..2 {
                let folder = disks.of(ProcessId(process)).join("00");
                fs::create_dir_all(&folder).unwrap();
                for file in 0..20u8 {
                    fs::write(folder.join(file.to_string()), [file + 1; 50]).unwrap();
                }
            }
            let spoilt = disks.tear(ProcessId(MACHINES), &mut Random::new(seed));
            let read = |process, file: u8| {
                fs::read(disks.of(ProcessId(process)).join("00").join(file.to_string())).ok()
            };
            assert!((0..20).all(|file| read(1, file) == Some(vec![file + 1; 50])));
            let files: Vec<_> = (0..20).map(|file| read(0, file)).collect();
            let changed = (0..20).zip(&files).filter(|(n, bytes)| **bytes != Some(vec![n + 1; 50]));
            assert!(spoilt > 2 && changed.count() > 2);
            files
        };
        assert_eq!(torn(1), torn(1));
        assert_ne!(torn(1), torn(2));
    }

    #[test]
    fn there_may_be_nothing_to_spoil() {
        assert_eq!(Disks::default().tear(ProcessId(0), &mut Random::new(1)), 0);
    }
}
