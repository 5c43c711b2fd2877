//! Works on one volume: takes the claim, carries out steps until nothing is due, gives the claim back.

use std::time::Duration;

use pagestore::Result;
use pagestore::internal::file::FileEntry;
use pagestore::internal::meta::records::{Job, Oldest};
use pagestore::internal::mirror::{Mirror, VolumeState};
use pagestore::internal::types::{Keep, Revision};

use crate::claim::Claim;
use crate::execute::bodies::OpenFiles;
use crate::execute::delete::{delete, read_level_lists};
use crate::execute::discard::discard;
use crate::execute::holds::read_points;
use crate::execute::merge::unflushed_bases;
use crate::execute::oldest::{raise, read_oldest_pin};
use crate::execute::{flush, merge, remove};
use crate::interrupt::{Interrupt, Work};
use crate::merge::bodies::DroppedBodies;
use crate::merge::pick::{Effort, Files, surplus};
use crate::options::CompactorOptions;
use crate::plan::oldest::{Holders, LOG_KEEP, decide_oldest};
use crate::plan::{self, Action, FlushLimits, Goal, Situation, Staged, Step};
use crate::progress::{Progress, Reporter};
use crate::timeline::read_settled;
use crate::volume::Volume;
use crate::worker::sweeps::Sweeps;
use crate::worker::{Stop, stopped};

/// Steps in one go: then the claim is given back, so that another compactor may have a turn.
const MAX_STEPS: usize = 10_000;
/// Plans in a row that were overtaken before they could be published.
const MAX_OVERTAKEN: usize = 8;

/// How a go at a volume ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is due any more.
    Done,
    /// Another compactor has the claim.
    Busy,
    /// The claim was lost on the way: another compactor may have it now.
    Lost,
}

/// One volume that is looked after.
#[derive(Debug)]
pub(crate) struct VolumeWorker {
    volume: Volume,
    mirror: Mirror,
    options: CompactorOptions,
    sweeps: Sweeps,
    /// Listed files that remember commits: how far the oldest revision may be raised is read out of them.
    open: OpenFiles,
    /// A removal that was begun.
    removal: Option<Revision>,
    /// What was flushed last: history before it serves nobody.
    flushed: Option<Revision>,
    stop: Stop,
}

impl VolumeWorker {
    pub(crate) async fn open(
        volume: Volume,
        options: CompactorOptions,
        stop: Stop,
    ) -> Result<VolumeWorker> {
        let (meta, keys, env) = (volume.meta.clone(), volume.keys.clone(), volume.env.clone());
        let mirror = Mirror::open(meta, keys, env).await?;
        Ok(VolumeWorker {
            volume,
            mirror,
            options,
            sweeps: Sweeps::new(),
            open: OpenFiles::default(),
            removal: None,
            flushed: None,
            stop,
        })
    }

    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    pub(crate) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Does everything that is due, unless another compactor is at it.
    pub(crate) async fn work(&mut self, effort: Effort) -> Result<Outcome> {
        let claim = match Claim::take(&self.volume, &self.options.owner).await {
            Ok(Some(claim)) => claim,
            Ok(None) | Err(Interrupt::ClaimLost | Interrupt::Overtaken) => {
                return Ok(Outcome::Busy);
            }
            Err(Interrupt::Failed(error)) => return Err(error),
        };
        let stop = self.stop.clone();
        let worked = tokio::select! {
            biased;
            () = claim.lost() => Err(Interrupt::ClaimLost),
            // Whatever is being written is abandoned; the next compactor throws it away.
            () = stopped(&stop) => Ok(()),
            worked = self.steps_and_sweeps(&claim, effort) => worked,
        };
        let worked = match worked {
            Err(Interrupt::Failed(error)) => Err(claim.explain(error).await),
            worked => worked,
        };
        claim.release().await;
        match worked {
            Ok(()) => Ok(Outcome::Done),
            Err(Interrupt::ClaimLost | Interrupt::Overtaken) => Ok(Outcome::Lost),
            Err(Interrupt::Failed(error)) => {
                Err(error.context(format!("volume {}", self.volume.id())))
            }
        }
    }

    async fn steps_and_sweeps(&mut self, claim: &Claim, effort: Effort) -> Work<()> {
        self.steps(claim, effort).await?;
        let floor = self.mirror.state()?.floor.up_to;
        if self.sweeps.run(claim, floor).await? {
            self.removal = self.removal.max(Some(floor));
            self.steps(claim, effort).await?;
        }
        Ok(())
    }

    async fn steps(&mut self, claim: &Claim, effort: Effort) -> Work<()> {
        self.resume(claim).await?;
        let mut state = self.mirror.fresh().await?;
        let mut goal = Goal::new(effort, state.revision);
        let mut overtaken = 0;
        for _ in 0..MAX_STEPS {
            let remembers =
                |file| state.levels.get(file).is_some_and(|entry| entry.commit_count > 0);
            self.open.retain(remembers);
            let situation = self.gather(&state, &mut goal).await?;
            let Some(step) = plan::next(&situation.as_situation(&state)) else { return Ok(()) };
            tracing::info!(volume = %self.volume.id(), "{step}");
            match self.carry_out(claim, &state, &step).await {
                Ok(revision) => {
                    overtaken = 0;
                    state = self.mirror.reach(revision).await?;
                }
                Err(Interrupt::Overtaken) if overtaken < MAX_OVERTAKEN => {
                    overtaken += 1;
                    state = self.mirror.fresh().await?;
                }
                Err(interrupt) => return Err(interrupt),
            }
        }
        Ok(())
    }

    /// Finishes what the compactor before began, or throws it away.
    async fn resume(&mut self, claim: &Claim) -> Work<()> {
        match claim.leftover().await? {
            None => {}
            Some(Job::Remove { up_to }) => self.removal = Some(up_to),
            Some(Job::Write { named_at, files }) => {
                discard(claim, named_at, &files).await?;
            }
        }
        Ok(())
    }

    /// Does one step; returns the revision that the mirror has to reach before the next is planned.
    async fn carry_out(
        &mut self,
        claim: &Claim,
        state: &VolumeState,
        step: &Step,
    ) -> Work<Revision> {
        let raised = match step.raise {
            None => None,
            Some(to) if planted!(OldestNotRaised) => {
                let mut pretended = state.clone();
                pretended.oldest.record = to;
                Some(pretended.into())
            }
            Some(to) => {
                let revision = raise(claim, &state.oldest, to).await?;
                Some(self.mirror.reach(revision).await?)
            }
        };
        let state = raised.as_deref().unwrap_or(state);
        let reporter = Reporter { volume: self.volume.id(), options: &self.options };
        match &step.action {
            Action::Remove(up_to) => {
                reporter.tell(Progress::Removing);
                let end = if planted!(RemovalBeyondFloor) { Revision::MAX } else { *up_to };
                let removed = remove::remove(claim, end).await?;
                tracing::debug!(volume = %self.volume.id(), ?removed, "removed what was flushed");
                if removed.hot_count > 0 {
                    self.sweeps.set_left_staged();
                }
                claim.end().await?;
                self.removal = None;
                Ok(state.revision)
            }
            Action::Flush(_) => {
                let up_to = state.revision;
                let revision = flush::flush(claim, state, &self.open, &reporter).await?;
                (self.removal, self.flushed) = (Some(up_to), Some(up_to));
                Ok(revision)
            }
            Action::Merge(plan) => merge::merge(claim, state, plan, &reporter).await,
            Action::Move(plan) => merge::relocate(claim, state, plan).await,
            Action::Delete(files) => {
                reporter.tell(Progress::Deleting { total: files.len() as u64 });
                delete(claim, state, files).await
            }
        }
    }

    /// Reads what a plan is made on.
    async fn gather(&self, state: &VolumeState, goal: &mut Goal) -> Work<Gathered> {
        let level_lists = if state.dropped.is_empty() {
            Vec::new()
        } else {
            read_level_lists(&self.volume).await?
        };
        Ok(Gathered {
            effort: goal.effort(state.floor.up_to),
            flush_to: goal.flush_to(),
            now_ms: self.volume.env.wall_ms(),
            limits: self.limits(),
            removal: self.removal,
            allowed: self.read_allowed(state).await?,
            level_lists,
            point_count: read_points(&self.volume, state).await?.len(),
        })
    }

    /// How far the oldest readable revision may be raised.
    async fn read_allowed(&self, state: &VolumeState) -> Work<Oldest> {
        let (volume, open) = (&self.volume, &self.open);
        let before = |keep: Duration| {
            let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
            volume.env.wall_ms().saturating_sub(keep_ms)
        };
        let keep = state.record.keep;
        let settled = match keep {
            Keep::For(keep) => read_settled(volume, state, open, before(keep)).await?,
            Keep::Nothing | Keep::Forever => Revision::ZERO,
        };
        let holders = Holders {
            keep,
            oldest_pin: read_oldest_pin(volume).await?,
            head: state.head,
            settled,
            log_settled: read_settled(volume, state, open, before(LOG_KEEP)).await?,
        };
        Ok(decide_oldest(state.oldest.record, &holders))
    }

    fn limits(&self) -> FlushLimits {
        FlushLimits {
            bytes: self.options.flush_bytes,
            count: self.options.flush_versions,
            age: self.options.flush_age,
        }
    }

    /// The revision before which history serves nobody any more, once after each flush.
    pub(crate) fn take_flushed(&mut self) -> Option<Revision> {
        self.flushed.take().filter(|_| self.volume.meta.owns_history())
    }

    /// The volume's sweeps.
    pub(crate) fn sweeps(&mut self) -> &mut Sweeps {
        &mut self.sweeps
    }

    /// What is due, without doing anything.
    pub(crate) async fn dry_run(&self, effort: Effort) -> Work<Vec<Step>> {
        let state = self.mirror.fresh().await?;
        let mut goal = Goal::new(effort, state.revision);
        let gathered = self.gather(&state, &mut goal).await?;
        Ok(plan::decide_all(&gathered.as_situation(&state)))
    }

    /// True when something may be due, by what the mirror says alone.
    pub(crate) fn may_be_due(&self, state: &VolumeState) -> bool {
        let gathered = Gathered {
            effort: Effort::Usual,
            flush_to: Revision::ZERO,
            now_ms: self.volume.env.wall_ms(),
            limits: self.limits(),
            removal: self.removal,
            allowed: state.oldest.record,
            level_lists: Vec::new(),
            point_count: state.points.len(),
        };
        !plan::decide_all(&gathered.as_situation(state)).is_empty()
    }

    /// When the oldest staged commit will be old enough to be flushed, from now.
    pub(crate) fn flush_in(&self, state: &VolumeState) -> Option<Duration> {
        let made_ms = staged(state).oldest_ms?;
        let age_ms = self.volume.env.wall_ms().saturating_sub(made_ms);
        Some(self.options.flush_age.saturating_sub(Duration::from_millis(age_ms)))
    }
}

/// What was read besides the mirror's state.
struct Gathered {
    effort: Effort,
    flush_to: Revision,
    now_ms: u64,
    limits: FlushLimits,
    removal: Option<Revision>,
    allowed: Oldest,
    level_lists: Vec<Revision>,
    point_count: usize,
}

impl Gathered {
    fn as_situation<'a>(&self, state: &'a VolumeState) -> Situation<'a> {
        let dropped = state.dropped.iter().map(|(file, dropped)| DroppedBodies {
            file: *file,
            dropped_at: dropped.modified,
            bytes: dropped.record.bytes,
            body_count: dropped.record.body_count,
        });
        let listed: Vec<&FileEntry> = state.levels.files().map(AsRef::as_ref).collect();
        // Counting the bases takes a look at all that is staged; mostly nothing depends on it.
        let has_surplus = listed.iter().any(|file| surplus(file, self.point_count) > 0);
        Situation {
            effort: self.effort,
            flush_to: self.flush_to,
            now_ms: self.now_ms,
            staged: staged(state),
            limits: self.limits,
            removal: self.removal,
            oldest: state.oldest.record,
            allowed: self.allowed,
            files: Files {
                listed,
                dropped: dropped.collect(),
                page_size: state.record.page_size,
                floor: state.floor.up_to,
                oldest: state.oldest.record.readable,
                log_from: state.oldest.record.log_from,
                point_count: self.point_count,
                base_count: if has_surplus { unflushed_bases(state).len() } else { 0 },
            },
            level_lists: self.level_lists.clone(),
        }
    }
}

fn staged(state: &VolumeState) -> Staged {
    let oldest = state.unflushed().next();
    let is_empty = oldest.is_none();
    Staged {
        commit_count: if is_empty { 0 } else { state.changelog.len() },
        bytes: state.staged_bytes,
        page_count: state.staged.len(),
        oldest_ms: oldest.map(|((_, id), _)| id.made_ms()),
    }
}
