//! Compaction: `pick` (pure, under the state lock), `run` (no lock), `install`.

use crate::core::{Core, KeyspaceCore};
use crate::error::{Error, Result};
use crate::filter::{Above, AtWork, ByHand};
use crate::install::{Change, Opened, Outputs};
use crate::listener::Event;
use esker_compaction::{Cause, HasNewer, JobConfig, Outcome, Plan};
use esker_format::SeqNo;
use esker_iterator::Bounds;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

struct CompactJob {
    keyspace: Arc<KeyspaceCore>,
    plan: Plan,
    /// Whether reads have paid for it, and nothing else asks for it.
    for_reads: bool,
}

impl CompactJob {
    fn new(keyspace: &Arc<KeyspaceCore>, plan: Plan) -> Self {
        Self { keyspace: Arc::clone(keyspace), plan, for_reads: false }
    }
}

impl Core {
    /// Compacts once, if there is need; whether it did.
    pub(crate) fn step_compact(&self) -> bool {
        if self.health.check().is_err() {
            return false;
        }
        let began = self.begin_background();
        let Some(job) = self.pick_compaction() else { return false };
        let result = self.run_compaction(&job);
        self.end_compaction(&job);
        self.finish_background(began, |state| &mut state.compact_retry, result)
    }

    fn pick_compaction(&self) -> Option<CompactJob> {
        let now = self.vfs.clock().now();
        let (droppable, gone_ms) = self.droppable();
        let mut state = self.state.lock();
        if state.paused > 0 || state.compact_retry.not_before > now {
            return None;
        }
        // The keyspace with the most tables in L0 first: its writers are the next to be slowed.
        let mut keyspaces: Vec<_> = state.keyspaces.values().map(|keyspace| (keyspace, keyspace.read.load())).collect();
        keyspaces.sort_by_key(|(_, read)| std::cmp::Reverse(read.view.levels[0].len()));
        let pressing = keyspaces.iter().find_map(|(keyspace, read)| {
            let plan = self.picker.pick(&read.view.version, &state.busy)?;
            Some(CompactJob::new(keyspace, plan))
        });
        let garbage = || {
            keyspaces.iter().find_map(|(keyspace, read)| {
                let plan = self.picker.pick_garbage(&read.view.version, &state.busy)?;
                Some(CompactJob::new(keyspace, plan))
            })
        };
        let for_reads = || {
            keyspaces.iter().filter(|(_, read)| read.view.toll.is_paid()).find_map(|(keyspace, read)| {
                let plan = self.picker.pick_for_reads(&read.view.version, &state.busy)?;
                Some(CompactJob { for_reads: true, ..CompactJob::new(keyspace, plan) })
            })
        };
        let job = pressing.or_else(garbage).or_else(for_reads).or_else(|| {
            keyspaces.iter().find_map(|(keyspace, read)| {
                let plan = self.picker.pick_idle(&read.view.version, &state.busy, droppable, gone_ms)?;
                Some(CompactJob::new(keyspace, plan))
            })
        })?;
        drop(keyspaces);
        state.busy.add(&job.plan);
        Some(job)
    }

    /// Up to where deletions are needed by nobody: the oldest snapshot, or what is visible; and what expires up to which time is: when that was taken, or now.
    fn droppable(&self) -> (SeqNo, u64) {
        let view = self.snapshots.view(self);
        let oldest = view.snapshots.first().zip(view.times_ms.first()).map(|(seq, time)| (*seq, *time));
        oldest.unwrap_or((view.horizon, view.now_ms))
    }

    fn end_compaction(&self, job: &CompactJob) {
        self.state.lock().busy.remove(&job.plan);
        self.changed.notify_all();
    }

    fn run_compaction(&self, job: &CompactJob) -> Result<()> {
        self.wake()?;
        let begin = self.vfs.clock().now();
        // To the end, when what it has changed is put before the readers.
        let filter = self.begin_filtering(&job.keyspace);
        let Outcome { outputs, blobs, moved, read_bytes, written_bytes, .. } = self.run_plan(job, filter.as_ref())?;
        let outputs = Outputs { tables: outputs, blobs };
        let open = if moved { Ok(Opened::default()) } else { self.publish_tables(&outputs) };
        let result = open.and_then(|_open| {
            let mut edit = job.plan.edit(&outputs.tables);
            edit.add_blobs = outputs.blobs.iter().map(|blob| (job.keyspace.id, blob.clone())).collect();
            self.install(Change { keyspace: &job.keyspace, edit, flushed: &[] })
        });
        if !moved && !matches!(result, Ok(true)) {
            self.discard_unless_named(&outputs);
        }
        if result? {
            self.counters.compactions.add(1);
            self.counters.compactions_for_reads.add(job.for_reads.into());
            self.tell(Event::Compacted {
                keyspace: job.keyspace.name.to_string(),
                level: job.plan.output_level.0,
                read_bytes,
                written_bytes,
                took: self.vfs.clock().now().saturating_sub(begin),
            });
        }
        Ok(())
    }

    /// Writes the outputs under their temporary names, unless the inputs just move.
    fn run_plan(&self, job: &CompactJob, filter: Option<&AtWork<'_>>) -> Result<Outcome> {
        // Keeps the blob files that the inputs refer to.
        let read = job.keyspace.read.load_full();
        let collect = self.picker.collectable(&read.view.version, &self.state.lock().busy);
        // Taken after the inputs were picked, all of whose entries are visible: so the horizon lies above them.
        let view = self.snapshots.view(self);
        let should_stop = || self.closing() || job.keyspace.dropped.load(Ordering::Relaxed);
        let config = self.job_config(&job.keyspace, job.plan.output_level, &view, &collect, &should_stop);
        let above = filter.and_then(|_| Above::of(&job.keyspace, &job.plan));
        let has_newer = above.as_ref().map(|above| |user_key: &[u8]| above.holds(user_key));
        let has_newer = has_newer.as_ref().map(|has_newer| has_newer as HasNewer<'_>);
        let filter = filter.map(|filter| filter.filtering(self, job.plan.output_level, has_newer));
        let config = JobConfig { filter, ..config };
        match esker_compaction::run(&job.plan, self, &config) {
            Ok(outcome) => {
                if filter.is_some() && outcome.counts.entries_in > 0 {
                    self.filter_did(&job.keyspace, false);
                }
                self.counters.expired.add(outcome.counts.expired);
                self.counters.filtered.add(outcome.counts.filtered);
                self.counters.compaction_read_bytes.add(outcome.read_bytes);
                self.counters.compaction_written_bytes.add(outcome.written_bytes);
                self.counters.merge_failures.add(outcome.counts.not_folded);
                Ok(outcome)
            }
            Err(error) => {
                if matches!(error.cause(), Cause::Filter { .. }) {
                    self.filter_did(&job.keyspace, true);
                }
                let (stopped, damaged) = (error.is_stopped(), error.damaged_input());
                let error = self.failed_job(error);
                if stopped {
                    return Err(Error::closed());
                }
                if let Some(table) = damaged {
                    self.quarantine(table, &error);
                }
                Err(error)
            }
        }
    }

    /// Flushes the keyspace and brings all that lies in `bounds` to the lowest level that holds any of it.
    pub(crate) fn compact_range(&self, keyspace: &Arc<KeyspaceCore>, bounds: &Bounds) -> Result<()> {
        let _call = self.enter()?;
        self.flush_keyspaces(std::slice::from_ref(keyspace))?;
        let lower = as_deref(&bounds.lower);
        let upper = as_deref(&bounds.upper);
        let _by_hand = ByHand::begin(keyspace);
        // What is written from here on has been seen by the filter: jobs that run already may not have shown it what a snapshot held when they began, nor asked it at all while it rested.
        let written_from = match self.filter_of(keyspace) {
            Some(_) => {
                self.wake()?;
                let mut state = self.state.lock();
                while state.busy.plans(keyspace.id) > 0 {
                    self.changed.wait_for(&mut state, Duration::from_millis(100));
                    self.check_open()?;
                }
                drop(state);
                Some(self.new_file_no()?)
            }
            None => None,
        };
        // By one time, so that it ends though time goes on.
        let (_, gone_ms) = self.droppable();
        loop {
            self.check_open()?;
            self.health.check()?;
            let (droppable, _) = self.droppable();
            let job = {
                let mut state = self.state.lock();
                let read = keyspace.read.load();
                let version = &read.view.version;
                let plan = match state.paused {
                    0 => self
                        .picker
                        .pick_range(version, &state.busy, lower, upper)
                        .or_else(|| self.picker.pick_rewrite(version, &state.busy, lower, upper, droppable, gone_ms))
                        .or_else(|| self.picker.pick_to_filter(version, &state.busy, lower, upper, written_from?)),
                    _ => None,
                };
                match plan {
                    Some(plan) => {
                        state.busy.add(&plan);
                        CompactJob::new(keyspace, plan)
                    }
                    None if state.paused > 0 || state.busy.plans(keyspace.id) > 0 => {
                        // What is under way may have to end before the range can go on.
                        self.changed.wait_for(&mut state, Duration::from_millis(100));
                        continue;
                    }
                    None => return Ok(()),
                }
            };
            let result = self.run_compaction(&job);
            self.end_compaction(&job);
            result?;
            if keyspace.dropped.load(Ordering::Acquire) {
                return Ok(());
            }
        }
    }
}

fn as_deref(bound: &Bound<Box<[u8]>>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| &**key)
}
