//! Flush on demand, resume, close.

use crate::commit::Commit;
use crate::core::{Core, KeyspaceCore, LogFile, Retry};
use crate::error::{ErrorKind, Result};
use crate::flush;
use crate::install::{Opened, Outputs};
use crate::listener::Event;
use crate::memory::CountedTable;
use crate::read::{LevelView, ReadState};
use esker_format::{FileKind, FileNo, SeqNo};
use esker_manifest::{Version, VersionEdit, VersionSet};
use esker_wal::{GroupSync, Writer};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A full disk is tried again when it has this much space, in bytes, or room for what is in memory if that is more.
const SPACE_TO_RESUME: u64 = 4 << 20;

impl Core {
    /// Seals the memtables of `keyspaces` and returns when they, and all sealed before, are tables.
    pub(crate) fn flush_keyspaces(&self, keyspaces: &[Arc<KeyspaceCore>]) -> Result<()> {
        self.health.check()?;
        {
            let mut commit = self.commit.lock();
            for keyspace in keyspaces {
                self.seal(&mut commit, keyspace)?;
            }
            // A log that the flush makes superfluous can only go once another is begun.
            if commit.writer.as_ref().is_some_and(|writer| writer.bytes() > Self::LOG_KEPT_BYTES_MAX) {
                self.rotate(&mut commit)?;
            }
        }
        let waiting: Vec<(Arc<KeyspaceCore>, Vec<Arc<CountedTable>>)> =
            keyspaces.iter().map(|keyspace| (Arc::clone(keyspace), keyspace.read.load().sealed.clone())).collect();
        let flushed = |(keyspace, sealed): &(Arc<KeyspaceCore>, Vec<Arc<CountedTable>>)| {
            let read = keyspace.read.load();
            keyspace.dropped.load(Ordering::Acquire)
                || !sealed.iter().any(|memtable| read.sealed.iter().any(|left| Arc::ptr_eq(left, memtable)))
        };
        // Asked for by name, so it is tried now even if it failed a moment ago.
        self.state.lock().flush_retry = Retry::default();
        while !waiting.iter().all(flushed) {
            self.health.check()?;
            if self.step_flush() {
                continue;
            }
            let mut state = self.state.lock();
            if let Some(error) = &state.flush_retry.error {
                return Err(error.clone());
            }
            if !waiting.iter().all(flushed) {
                self.changed.wait_for(&mut state, Duration::from_millis(100));
            }
        }
        let mut commit = self.commit.lock();
        let written_on = self.keyspaces().iter().any(|keyspace| !keyspace.read.load().active.table.is_empty());
        if !written_on {
            // A load has come to its end.
            commit.written_at.get_or_insert(Duration::ZERO);
            self.give_back_logs(&mut commit);
        }
        Ok(())
    }

    /// A log this short is kept by a flush on demand.
    const LOG_KEPT_BYTES_MAX: u64 = 4 << 10;

    /// See [`crate::Engine::resume`].
    pub(crate) fn resume(&self) -> Result<()> {
        let _ddl = self.ddl.lock();
        {
            let mut state = self.state.lock();
            (state.flush_retry, state.compact_retry) = (Retry::default(), Retry::default());
            // Whoever calls this has heard of it, and of what is under way and fails yet.
            state.unseen_error = None;
            self.resumes.fetch_add(1, Ordering::Relaxed);
        }
        self.changed.notify_all();
        self.restart_if_stopped()
    }

    fn restart_if_stopped(&self) -> Result<()> {
        if self.health.check().is_ok() {
            return Ok(());
        }
        self.pause_jobs();
        let result = self.restart_writing();
        self.state.lock().paused -= 1;
        self.changed.notify_all();
        result?;
        self.tell(Event::WritingResumed);
        Ok(())
    }

    /// Waits for running jobs to end, and lets none start until `paused` is counted down again.
    fn pause_jobs(&self) {
        let mut state = self.state.lock();
        state.paused += 1;
        while !state.flushing.is_empty() || state.keyspaces.keys().any(|id| state.busy.plans(*id) > 0) {
            self.changed.wait_for(&mut state, Duration::from_millis(100));
        }
    }

    /// Writes all memtables as tables, and begins a new log and a new manifest, in one edit.
    fn restart_writing(&self) -> Result<()> {
        let mut commit = self.commit.lock();
        let commit = &mut *commit;
        self.with_manifest(|manifest| match manifest.poison() {
            // What is to be written takes file numbers, and one that failed reserves no more.
            Some(_) => Ok(manifest.restart(VersionEdit::default()).map(drop)?),
            None => Ok(()),
        })?;
        let (mut edit, written) = self.write_all_memtables(commit.last_seq)?;

        // Behind all that the old log holds, and claiming no more to be durable than was: until the edit below is, the old log counts.
        let known = self.with_manifest(|manifest| Ok(manifest.current().log_durable))?;
        let start = commit.writer.as_ref().map_or(commit.group.durable(), Writer::end).max(known);
        let group = GroupSync::new(commit.group.durable());
        let begun = self.prepare_log().and_then(|spare| {
            let number = spare.number;
            self.begin_log(spare, start, &group).map_err(|error| {
                self.removals.owe(FileKind::Wal(number));
                error.into()
            })
        });
        // Nothing names the tables yet; left behind, they would fill the disk that may be full already.
        let writer = begun.inspect_err(|_| self.discard_files(edit_files(&edit)))?;
        let number = writer.number();
        (edit.oldest_log, edit.log_start, edit.log_durable) = (Some(number), Some(start), Some(start));
        // Not below what a batch that then failed had reserved.
        edit.reserve_seq = Some(self.seqs_to_reserve(commit.last_seq, 0)?.max(commit.reserved));
        edit.written_bytes = Some(self.counters.written_bytes());
        // The old log may hold what was refused, and lack what was not.
        edit.changes_from = Some((commit.last_seq, number));
        let reserved = edit.reserve_seq.unwrap_or_default();
        let version = self.with_manifest(|manifest| Ok(manifest.restart(edit)?))?;

        self.show_written(written, &version)?;
        let old: Vec<LogFile> =
            std::mem::replace(&mut self.state.lock().logs, vec![LogFile { number, last_seq: None, bytes: 0, start }]);
        self.cut_feed(commit.last_seq);
        self.give_up_kept_log();
        let old_spare = commit.spare.take().map(|spare| spare.number);
        let stray = std::mem::take(&mut commit.stray_logs);
        for log in old.iter().map(|log| log.number).chain(old_spare).chain(stray) {
            self.removals.owe(FileKind::Wal(log));
        }
        self.counters.log_bytes.add(commit.writer.as_ref().map_or(0, Writer::bytes));
        self.counters.log_syncs.add(commit.group.syncs());
        *commit = Commit {
            writer: Some(writer),
            vouched: group.durable(),
            group,
            reserved,
            spare: None,
            last_seq: commit.last_seq,
            keyspaces: std::mem::take(&mut commit.keyspaces),
            seq_at_last_look: commit.seq_at_last_look,
            written_at: commit.written_at,
            resting: false,
            stray_logs: Vec::new(),
            watch: std::mem::take(&mut commit.watch),
            turn: commit.turn.take(),
            turns: commit.turns,
        };
        self.forget_failed_log_sync();
        self.health.resume();
        Ok(())
    }

    /// Writes every memtable of every keyspace as a table: the edit that names the tables and says that no log is needed up to `last_seq`, and what to show once
    /// it is committed. Nobody may commit or flush meanwhile.
    fn write_all_memtables(&self, last_seq: SeqNo) -> Result<(VersionEdit, Written)> {
        let mut outputs = Outputs::default();
        let keyspaces = self.keyspaces();
        let result = self
            .write_memtables_of(&keyspaces, last_seq, &mut outputs)
            .and_then(|edit| Ok((edit, self.publish_tables(&outputs)?)))
            .inspect_err(|_| self.discard_files(outputs.numbers()));
        let (edit, open) = result?;
        self.counters.flushes.add(outputs.tables.len() as u64);
        Ok((edit, Written { keyspaces, open }))
    }

    fn write_memtables_of(
        &self,
        keyspaces: &[Arc<KeyspaceCore>],
        last_seq: SeqNo,
        outputs: &mut Outputs,
    ) -> Result<VersionEdit> {
        let mut edit = VersionEdit::default();
        for keyspace in keyspaces {
            let read = keyspace.read.load();
            let memtables: Vec<_> =
                read.memtables().filter(|memtable| !memtable.table.is_empty()).map(Arc::clone).collect();
            edit.flushed.push((keyspace.id, last_seq));
            if !memtables.is_empty() {
                let made = self.write_memtables(keyspace, &memtables, &[])?;
                outputs.extend(&made);
                let VersionEdit { add, add_blobs, .. } = flush::flush_edit(keyspace, &made, last_seq);
                edit.add.extend(add);
                edit.add_blobs.extend(add_blobs);
            }
        }
        Ok(edit)
    }

    /// Puts the tables that `write_all_memtables` wrote before the readers, in the place of the memtables.
    fn show_written(&self, written: Written, version: &Version) -> Result<()> {
        let Written { keyspaces, open } = written;
        for keyspace in &keyspaces {
            let view = LevelView::open(&version.keyspaces[&keyspace.id], &self.tables, &self.picker, None)?;
            let active = self.new_memtable();
            {
                let _state = self.state.lock();
                keyspace.swap(|_| ReadState::new(active, Vec::new(), view));
            }
            self.update_pressure(keyspace);
        }
        drop(open);
        Ok(())
    }

    /// Resumes if writing stopped for want of space and there is some again; whether it did.
    pub(crate) fn resume_if_space_is_back(&self) -> bool {
        let lacks_space = || self.health.cause().is_some_and(|cause| cause.kind() == ErrorKind::NoSpace);
        if !lacks_space() {
            return false;
        }
        let now = self.vfs.clock().now();
        if self.state.lock().flush_retry.not_before > now {
            return false;
        }
        let needed = SPACE_TO_RESUME.max(2 * self.memory.bytes() as u64);
        if self.vfs.free_space(&self.dir).is_ok_and(|free| free < needed) {
            return false;
        }
        let began = self.begin_background();
        let result = {
            let _ddl = self.ddl.lock();
            // Another may have resumed, and something else have stopped it since.
            if !lacks_space() {
                return false;
            }
            self.restart_if_stopped()
        };
        if result.is_ok() {
            let mut state = self.state.lock();
            state.compact_retry = Retry::default();
            self.own_resumes.fetch_add(1, Ordering::Relaxed);
            // What else has failed the next write is still to hear.
            state.unseen_error.take_if(|error| error.kind() == ErrorKind::NoSpace);
        }
        self.finish_background(began, |state| &mut state.flush_retry, result)
    }

    /// See [`crate::Engine::close`].
    pub(crate) fn close(&self) -> Result<()> {
        // Held throughout: a second closer waits for the first and returns the same.
        let mut closed = self.closed.lock();
        if let Some(result) = &*closed {
            return result.clone();
        }
        // Release: pairs with `closing`.
        self.closing.store(true, Ordering::Release);
        self.wait_for_calls();
        let result = if self.read_only { Ok(()) } else { self.close_files() };
        self.removals.close();
        *self.manifest.lock() = None;
        *self.lock.lock() = None;
        if let Err(error) = &result {
            self.tell(Event::BackgroundError(error.clone()));
        }
        *closed = Some(result.clone());
        drop(closed);
        self.deliver();
        result
    }

    /// Ends the threads, and waits for calls in flight.
    fn wait_for_calls(&self) {
        // A worker that has looked whether we close, and not begun to wait, holds this lock: it must not miss the call, and wait for a tick.
        drop(self.state.lock());
        self.changed.notify_all();
        self.wake_for_close();
        for worker in std::mem::take(&mut *self.workers.lock()) {
            worker.join();
        }
        let mut state = self.state.lock();
        while state.calls > 0 {
            self.changed.wait_for(&mut state, Duration::from_millis(100));
        }
    }

    fn close_files(&self) -> Result<()> {
        // From here on a write that was under way finds no log and gets `Closed`.
        let (writer, group, spare, last_seq) = {
            let mut commit = self.commit.lock();
            commit.resting = false;
            (commit.writer.take(), Arc::clone(&commit.group), commit.spare.take(), commit.last_seq)
        };
        self.give_up_kept_log();
        if let Some(spare) = spare {
            self.removals.owe(FileKind::Wal(spare.number));
        }
        self.health.check()?;
        // Without a log nothing was written since the last close in order.
        let Some(mut writer) = writer else { return self.close_refused(last_seq) };
        let log_bytes = writer.bytes();
        writer.sync().map_err(|error| {
            self.note_failed_log_sync();
            self.stop_writing(error.into())
        })?;
        let end = writer.end();
        if !self.options.flush_on_close {
            writer.trim().map_err(|error| self.stop_writing(error.into()))?;
        }
        drop(writer);

        self.counters.log_bytes.add(log_bytes);
        let flushed = if self.options.flush_on_close {
            self.write_all_memtables(last_seq).map(Some)
        } else {
            let empty = |keyspace: &Arc<KeyspaceCore>| keyspace.read.load().memtables().all(|m| m.table.is_empty());
            let nothing = self.keyspaces().iter().all(empty);
            Ok(nothing.then(|| (self.all_flushed(last_seq), Written::default())))
        };
        let (flushed, error) = match flushed {
            Ok(flushed) => (flushed, None),
            // The log has it all, and the next open replays it.
            Err(error) => (None, Some(error)),
        };
        let no_log_needed = flushed.is_some();
        let (mut edit, written) = flushed.unwrap_or_default();
        edit.log_durable = Some(end.max(group.durable()));
        edit.written_bytes = Some(self.counters.written_bytes());
        let logs = std::mem::take(&mut self.state.lock().logs);
        let (obsolete, base) = if no_log_needed { self.close_feed(logs, last_seq) } else { (Vec::new(), SeqNo::ZERO) };
        let version = self.with_manifest(|manifest| {
            edit.clock_ms = self.time_to_keep_ms(manifest.current().clock_ms);
            if no_log_needed {
                // No file of this number is ever made.
                edit.oldest_log = Some(manifest.new_file_no()?);
                let version = manifest.current();
                if version.ingests.first().is_some_and(|ingest| ingest.seq <= base) {
                    edit.changes_from = Some((base.max(version.changes_from), version.changes_log));
                }
            }
            self.close_manifest(manifest, edit, last_seq)
        })?;
        if no_log_needed {
            self.show_written(written, &version)?;
            obsolete.iter().for_each(|log| self.removals.owe(FileKind::Wal(log.number)));
        }
        self.removals.pay(&*self.vfs, &self.dir);
        error.map_or(Ok(()), Err)
    }

    fn close_manifest(&self, manifest: &mut VersionSet, edit: VersionEdit, last_seq: SeqNo) -> Result<Arc<Version>> {
        let closed = manifest.close(edit, last_seq);
        if closed.is_err() && manifest.poison().is_some() {
            // The next open may be shown the edit, and must not rest on it.
            self.note_failed_log_sync();
        }
        Ok(closed?)
    }

    /// Closes the manifest of an engine that rests: it has one open only if the engine was to begin, and was refused the space for it. Then the next open rests too, and needs no space.
    fn close_refused(&self, last_seq: SeqNo) -> Result<()> {
        self.with_manifest(|manifest| {
            if manifest.manifest_bytes() > 0 {
                self.close_manifest(manifest, VersionEdit::default(), last_seq)?;
            }
            Ok(())
        })?;
        self.removals.pay(&*self.vfs, &self.dir);
        Ok(())
    }

    /// Says that the tables hold everything up to `last_seq`.
    fn all_flushed(&self, last_seq: SeqNo) -> VersionEdit {
        let flushed = self.keyspaces().iter().map(|keyspace| (keyspace.id, last_seq)).collect();
        VersionEdit { flushed, ..VersionEdit::default() }
    }
}

/// Tables written and not yet shown.
#[derive(Default)]
struct Written {
    keyspaces: Vec<Arc<KeyspaceCore>>,
    /// Kept until the read states hold them.
    open: Opened,
}

/// The files that an edit adds.
fn edit_files(edit: &VersionEdit) -> impl Iterator<Item = FileNo> {
    let blobs = edit.add_blobs.iter().map(|(_, blob)| blob.number);
    edit.add.iter().map(|(_, _, table)| table.number).chain(blobs)
}
