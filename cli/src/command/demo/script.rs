//! The steps of the demo, each explained and checked.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use pagestore::inspect::verify;
use pagestore::{ErrorKind, PageCount, PageNo, Revision, Snapshot, Store, VolumeOptions};
use pagestore_compactor::Effort;

use super::model::{Change, Model, Replay, are_equal};
use super::source::{Source, integrity};
use super::writer::{Patch, Random, Work, Written, elsewhere, here};
use super::{Demo, Figures, Imported, without_password};
use crate::command::compact::compactor;
use crate::command::export::export;
use crate::command::import::import;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::image::Image;
use crate::progress::Bar;
use crate::render::{count, pairs, size};

/// Processes that write at once, this one among them.
const PROCESSES: u64 = 3;
/// Tasks in each.
const TASKS: u64 = 4;
/// Commits of each task in each of the two rounds.
const COMMITS: u64 = 25;
/// Most revisions that are compared byte for byte, besides the first and the last.
const SAMPLES: u64 = 6;
/// Bytes that these come to, at most: a large image is compared at fewer revisions.
const SAMPLE_BYTES: u64 = 1 << 30;
/// Pages by which the volume grows for a while.
const GROWTH: u64 = 16;

impl<'a> Demo<'a> {
    /// Makes the volume of the file.
    pub(super) async fn begin(
        context: &'a mut Context,
        scratch: &'a Path,
        source: Source,
        url: String,
    ) -> Outcome<Demo<'a>> {
        let image = Image::open(&source.path)?;
        let store = Store::open(&url).await?;
        let seed = store.env().random_u64();
        let name = format!("demo-{seed:016x}");
        let figures = Figures { seed, image_bytes: image.bytes(), ..Figures::default() };
        let started = store.env().now();
        let done = import(&store, &name, image, None, VolumeOptions::default()).await?;
        let took = started.elapsed();
        let volume = store.open_volume(&name).await?;
        let snapshot = volume.snapshot_at(Revision(done.revision)).await?;
        let imported = Imported { revision: done.revision, snapshot };
        let model = Model::default();
        let mut demo = Demo {
            context,
            scratch,
            url,
            source,
            store,
            volume,
            imported,
            model,
            checks: Vec::new(),
            figures,
        };
        demo.say(format!(
            "A store at {}: commits go to its meta tier, compacted pages to files.",
            without_password(&demo.url)
        ))?;
        demo.step("Import")?;
        demo.say(format!(
            "   Source: {}. It becomes the volume {name}, in one commit.",
            demo.source.what
        ))?;
        demo.say(format!(
            "   {} of {} bytes ({}) in {:.2} s, revision {}",
            count(done.page_count, "page"),
            done.page_size,
            size(done.bytes),
            took.as_secs_f64(),
            done.revision
        ))?;
        let source = demo.source.path.clone();
        demo.check_export(
            &demo.imported.snapshot.clone(),
            &source,
            "the import exports byte for byte",
        )
        .await?;
        Ok(demo)
    }

    /// Two transactions that change one page: one commits.
    pub(super) async fn show_conflict(&mut self) -> Outcome {
        self.step("Conflict")?;
        self.say("   Two transactions read page 0 and change it. The first to commit wins; the other is told so.")?;
        let mut random = Random(self.figures.seed);
        let mut patch = || Patch { page: 0, offset: 0, seed: random.next() };
        let (first, second) = (patch(), patch());
        let (mut winner, mut loser) = (self.volume.begin().await?, self.volume.begin().await?);
        for (transaction, patch) in [(&mut winner, first), (&mut loser, second)] {
            let content = transaction.read(PageNo(0)).await?;
            transaction.write(PageNo(0), patch.apply(&content))?;
        }
        let committed = winner.commit().await?;
        self.model.add(committed.revision.0, [Change::Patch(first)]);
        let refused = loser.commit().await;
        let is_right = refused.is_err_and(|error| {
            error.kind() == ErrorKind::Conflict && error.conflicting_pages() == [PageNo(0)]
        });
        self.check("the second got a conflict that names page 0", is_right)
    }

    /// Many commits, by tasks and processes.
    pub(super) async fn write(&mut self) -> Outcome {
        self.step("Commits")?;
        self.say(format!(
            "   {PROCESSES} processes of {TASKS} tasks change random pages at once, {} commits in all; who is overtaken tries again.",
            PROCESSES * TASKS * COMMITS
        ))?;
        let rate = self.run_writers().await?;
        self.figures.commits_per_second = rate;
        let stat = self.volume.inspect().stat().await?;
        self.figures.staged_bytes_before_compaction = stat.staged.bytes;
        self.figures.meta_keys_before_compaction = stat.staged.keys;
        self.say(format!(
            "   {rate:.0} commits a second, {}; {} staged in {}",
            count(self.figures.conflicts, "conflict"),
            size(stat.staged.bytes),
            count(stat.staged.page_count, "page")
        ))
    }

    /// Runs a round of writers and returns commits a second.
    async fn run_writers(&mut self) -> Outcome<f64> {
        let mut random = Random(self.figures.seed ^ self.figures.commits);
        let mut work = || Work { commits: COMMITS, tasks: TASKS, seed: random.next() };
        let started = self.store.env().now();
        let name = self.volume.name().to_string();
        let others = (1..PROCESSES).map(|_| elsewhere(self.url.clone(), name.clone(), work()));
        let others = try_join_all(others.collect::<Vec<_>>());
        let (mine, others) = tokio::try_join!(here(&self.volume, work()), others)?;
        let seconds = started.elapsed().as_secs_f64();
        let written: Vec<Written> = mine.into_iter().chain(others.into_iter().flatten()).collect();
        written.iter().for_each(|written| self.model.add_written(written));
        self.figures.commits += written.len() as u64;
        self.figures.conflicts += written.iter().map(|written| written.conflicts).sum::<u64>();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        Ok(written.len() as f64 / seconds.max(1e-9))
    }

    /// The volume grows, and shrinks again.
    pub(super) async fn resize(&mut self) -> Outcome {
        let before = self.volume.snapshot().await?.page_count().0;
        let content = Bytes::from(vec![0xa5; self.volume.page_size().bytes()]);
        let mut transaction = self.volume.begin().await?;
        let last = before + GROWTH - 1;
        transaction.write(PageNo(last), content.clone())?;
        let grown = transaction.commit().await?.revision;
        self.model.add(grown.0, [Change::Write(last, content)]);
        let mut transaction = self.volume.begin().await?;
        transaction.truncate(PageCount(before));
        let shrunk = transaction.commit().await?.revision;
        self.model.add(shrunk.0, [Change::Truncate(before)]);
        self.say(format!(
            "   One more commit makes the volume {} longer, another cuts them off again.",
            count(GROWTH, "page")
        ))
    }

    /// Earlier revisions are what the acknowledged commits made them.
    pub(super) async fn compare(&mut self, when: &str) -> Outcome {
        self.step(format!("Time travel, {when}"))?;
        self.say("   Any revision can be opened. Each is exported and compared with what the acknowledged commits make of the file.")?;
        let samples = self.samples();
        let page_bytes = self.volume.page_size().bytes();
        let model = std::mem::take(&mut self.model);
        let (path, source) = (self.path("model"), self.source.path.clone());
        let mut replay = Replay::new(&model, &source, path.clone(), page_bytes)
            .map_err(|error| Failure::file(&path, &error))?;
        for revision in samples {
            replay.advance(revision).map_err(|error| Failure::file(&path, &error))?;
            let snapshot = self.volume.snapshot_at(Revision(revision)).await?;
            let what = format!(
                "revision {revision}: {} as they were",
                count(snapshot.page_count().0, "page")
            );
            self.check_export(&snapshot, replay.path(), &what).await?;
            self.figures.revisions_compared += 1;
        }
        drop(replay);
        self.model = model;
        Ok(())
    }

    /// The import, the head, and some revisions in between.
    fn samples(&self) -> Vec<u64> {
        let revisions = self.model.revisions();
        let mut random = Random(self.figures.seed);
        let mut samples = vec![self.imported.revision];
        for _ in 0..(SAMPLE_BYTES / self.figures.image_bytes.max(1)).clamp(1, SAMPLES) {
            let at = usize::try_from(random.below(revisions.len() as u64)).unwrap_or(0);
            samples.extend(revisions.get(at));
        }
        samples.extend(revisions.last());
        samples.sort_unstable();
        samples.dedup();
        samples
    }

    async fn check_export(&mut self, snapshot: &Snapshot, expected: &Path, what: &str) -> Outcome {
        let path = self.path("export");
        let bytes = snapshot.page_count().0 * self.volume.page_size().bytes() as u64;
        export(snapshot, bytes, &path).await?;
        let is_equal = are_equal(&path, expected).map_err(|error| Failure::file(&path, &error))?;
        self.check(what, is_equal)
    }

    /// Writers and a compactor at once.
    pub(super) async fn write_while_compacting(&mut self) -> Outcome {
        self.step("Compaction beside writers")?;
        self.say("   The writers go on while what is staged is flushed into files and merged.")?;
        let compactor = compactor(&self.store, Arc::new(Bar::things("compacting", 0)));
        let (volume, compacting) = (self.volume.id(), compactor);
        let (rate, compacted) =
            tokio::join!(self.run_writers(), compacting.compact(volume, Effort::Thorough));
        compacted?;
        self.figures.commits_per_second_while_compacting = rate?;
        self.say(format!(
            "   {:.0} commits a second meanwhile",
            self.figures.commits_per_second_while_compacting
        ))
    }

    /// Nothing stays staged.
    pub(super) async fn compact(&mut self) -> Outcome {
        self.step("Compaction")?;
        self.say("   Until nothing is staged and nothing to be merged.")?;
        let bar = Arc::new(Bar::things("compacting", 0));
        compactor(&self.store, bar).compact(self.volume.id(), Effort::Thorough).await?;
        let after = self.volume.inspect().stat().await?;
        self.figures.staged_bytes_after_compaction = after.staged.bytes;
        self.figures.meta_keys_after_compaction = after.staged.keys;
        self.figures.file_bytes_after_compaction = after.file_bytes + after.dropped_bytes;
        self.say(format!(
            "   meta tier: {} staged in {} before the first compaction, {} in {} now; files: {}",
            size(self.figures.staged_bytes_before_compaction),
            count(self.figures.meta_keys_before_compaction, "key"),
            size(after.staged.bytes),
            count(after.staged.keys, "key"),
            size(self.figures.file_bytes_after_compaction)
        ))?;
        self.check("nothing is staged any more", after.staged.commit_count == 0)
    }

    /// The log, the history of a page, and what differs.
    pub(super) async fn look(&mut self) -> Outcome {
        self.step("Looking into it")?;
        let inspector = self.volume.inspect();
        let log = inspector.log(usize::MAX).await?;
        self.say(format!(
            "   log: {}, the newest of revision {}",
            count(log.len() as u64, "commit"),
            log.first().map_or(0, |commit| commit.revision.0)
        ))?;
        // The writers', and: the import, the conflict's winner, growing and shrinking.
        self.check(
            "the log has every acknowledged commit",
            log.len() as u64 == self.figures.commits + 4,
        )?;
        let history = inspector.page_history(PageNo(0)).await?;
        self.say(format!("   history of page 0: {}", count(history.len() as u64, "version")))?;
        let versions = self.model.pages_since(self.imported.revision).contains(&0);
        self.check("page 0 has more than one version", versions && history.len() > 1)?;
        let head = self.volume.snapshot().await?.revision();
        let diff = inspector.diff(Revision(self.imported.revision), head).await?;
        let differing: Vec<u64> =
            diff.pages.iter().flat_map(|range| range.first.0..=range.last.0).collect();
        let page_count = diff.page_count_to.0;
        let changed = self.model.pages_since(self.imported.revision);
        let expected: Vec<u64> = changed.into_iter().filter(|page| *page < page_count).collect();
        self.say(format!(
            "   {} differ between the import and now",
            count(differing.len() as u64, "page")
        ))?;
        self.check("those are the pages that the writers changed", differing == expected)
    }

    /// The snapshot that was opened first shows what it showed then.
    pub(super) async fn check_snapshot(&mut self) -> Outcome {
        self.step("An old snapshot")?;
        self.say("   One snapshot was open all the time, while the pages under it were overwritten, flushed and merged.")?;
        let (snapshot, source) = (self.imported.snapshot.clone(), self.source.path.clone());
        self.check_export(&snapshot, &source, "it still shows the import, byte for byte").await?;
        match integrity(&self.path("export")).filter(|_| is_sqlite(&source)) {
            Some(answer) => {
                self.check("SQLite's own integrity check of that export says ok", answer == "ok")
            }
            None => Ok(()),
        }
    }

    /// Everything is there.
    pub(super) async fn verify(&mut self) -> Outcome {
        self.step("Verification")?;
        let report = verify(&self.store, self.volume.name().as_str(), None, &|_| {}).await?;
        for finding in &report.findings {
            self.say(format!("   {}", finding.message))?;
        }
        self.say(format!(
            "   read {}, {} of {}, {}",
            count(report.keys_read, "key"),
            size(report.file_bytes_read),
            count(report.files_read, "file"),
            count(report.pages_read, "page")
        ))?;
        self.check("nothing is broken", report.is_clean())
    }
}

fn is_sqlite(path: &Path) -> bool {
    Image::open(path).is_ok_and(|image| image.is_sqlite())
}

/// What was measured, for people.
pub(super) fn figures(context: &mut Context, figures: &Figures) -> Outcome {
    context.out.line("\n== Figures")?;
    let lines = pairs(&[
        ("image", size(figures.image_bytes)),
        ("commits", format!("{}, {}", figures.commits, count(figures.conflicts, "conflict"))),
        ("commits a second", format!("{:.0}", figures.commits_per_second)),
        ("while compacting", format!("{:.0}", figures.commits_per_second_while_compacting)),
        (
            "in the meta tier",
            format!(
                "{} before the first compaction, {} at the end",
                size(figures.staged_bytes_before_compaction),
                size(figures.staged_bytes_after_compaction)
            ),
        ),
        ("in files", size(figures.file_bytes_after_compaction)),
        ("revisions compared", figures.revisions_compared.to_string()),
        ("seed", figures.seed.to_string()),
    ]);
    for line in lines {
        context.out.line(format!("   {line}"))?;
    }
    Ok(())
}
