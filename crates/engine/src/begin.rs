//! Beginning to write: a log that takes writes, and the edit that takes it into use.
//!
//! ```text
//!            closed in order, nothing left in a log                   anything else
//! open ────────────────> resting ──first write, keyspace,──> begun <──────────────── open
//!                           │      compaction, checkpoint
//!                           └──close: nothing to do
//! ```
//! Beginning takes half a dozen syncs: a new manifest, CURRENT, the names of both and of the log, the edit. After a close in order none of them is needed to read: the manifest on
//! disk says all that there is to say, and as long as nothing is written it stays true. So an engine that was closed in order rests, and begins when somebody first needs it to; one
//! that only reads leaves the directory as it found it, unless a compaction is due, reads [ask](crate::toll) for one, or the feed has kept logs too long.
//!
//! Invariants
//! - While it rests the engine makes no file and commits no edit: it takes no number, of file or sequence. It may remove files that no version names, but no logs: if the close
//!   failed in its last sync, what a power cut leaves needs them. So a crash finds what the close left.
//! - What is not so simple begins at once: logs to be replayed or set aside, a manifest that was not closed, options that have changed, a failed sync of a former life.

use crate::commit::Commit;
use crate::core::{Core, LogFile};
use crate::error::{Error, Result};
use crate::flush;
use crate::install::Outputs;
use crate::open::{Pending, holds_everything};
use crate::options_text;
use crate::recovery::Replayed;
use esker_format::{FileKind, FileNo, SeqNo};
use esker_manifest::{Version, VersionEdit};
use esker_wal::{GroupSync, Lsn, Writer};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many logs that nobody needs may lie in the directory behind a close in order.
const STRAY_LOGS_MAX: usize = 2;

/// Whether there was nothing to replay, nor to set aside.
fn nothing_replayed(replayed: &Replayed) -> bool {
    replayed.logs.is_empty() && replayed.set_aside.is_empty()
}

impl Core {
    /// Whether an engine that was opened has nothing to write before somebody else has.
    pub(crate) fn may_rest(&self, version: &Version, replayed: &Replayed, pending: &[Pending]) -> Result<bool> {
        let nothing_replayed = nothing_replayed(replayed) && pending.is_empty();
        Ok(version.clean_close
            && holds_everything(version)
            && nothing_replayed
            && !self.log_sync_failed_before()?
            && options_text::are_stored(self))
    }

    /// Leaves everything to [`Core::wake`].
    pub(crate) fn rest(&self, last_seq: SeqNo, durable: Lsn) {
        let mut commit = self.commit.lock();
        // There is no log, so whoever asks how far it is durable is told: all of it.
        commit.group = GroupSync::new(durable);
        commit.vouched = durable;
        (commit.last_seq, commit.reserved) = (last_seq, last_seq);
        commit.resting = true;
        let mut state = self.state.lock();
        if state.feed.retained.is_empty() {
            state.feed.base = Some(last_seq);
        }
    }

    /// Has an engine that rests begin to write. To be called before anything that makes a file or commits an edit.
    ///
    /// # Errors
    /// It then rests on, and may be asked again; unless the manifest failed, which stops writing.
    pub(crate) fn wake(&self) -> Result<()> {
        self.begin_if_resting(&mut self.commit.lock())
    }

    /// As [`Core::wake`], for who has the commit lock.
    #[inline]
    pub(crate) fn begin_if_resting(&self, commit: &mut Commit) -> Result<()> {
        if commit.resting { self.begin_after_rest(commit) } else { Ok(()) }
    }

    /// Has an engine that rests begin where more logs than two stay for that alone: else one that is only read would never give their space back. If it can't, they stay.
    pub(crate) fn begin_for_stray_logs(&self) {
        let mut commit = self.commit.lock();
        if commit.stray_logs.len() > STRAY_LOGS_MAX {
            let begun = self.begin_if_resting(&mut commit);
            begun.unwrap_or_else(|error| self.tell_of_log("logs that nobody needs stay", error));
        }
    }

    #[cold]
    fn begin_after_rest(&self, commit: &mut Commit) -> Result<()> {
        self.health.check()?;
        let version = self.with_manifest(|manifest| Ok(Arc::clone(manifest.current())))?;
        // The line of logs goes on where it ended: all that it held is in tables.
        let (writer, group) = self.make_log(version.log_durable, version.log_durable)?;
        let number = writer.number();
        let edit = self.first_edit(&version, number, writer.start(), commit.last_seq)?;
        let reserved = edit.reserve_seq.unwrap_or_default();
        if let Err(error) = self.commit_edit(edit) {
            // Whether an edit that failed names the log is not known. One that was refused does not.
            if self.health.check().is_ok() {
                self.removals.owe(FileKind::Wal(number));
            }
            return Err(error);
        }
        self.take_log(commit, writer, group, reserved);
        commit.resting = false;
        commit.stray_logs.drain(..).for_each(|log| self.removals.owe(FileKind::Wal(log)));
        Ok(())
    }

    /// Begins to write right after replaying.
    pub(crate) fn begin(
        &self,
        version: &Version,
        replayed: &Replayed,
        last_seq: SeqNo,
        pending: Vec<Pending>,
    ) -> Result<()> {
        match replayed.unbroken_end {
            Some(end) if pending.is_empty() && self.memory.bytes() > 0 && !self.log_sync_failed_before()? => {
                self.continue_logs(version, replayed, last_seq, end)?;
            }
            _ => self.begin_anew(version, replayed, last_seq, pending)?,
        }
        options_text::write(self)
    }

    /// Leaves what was replayed in the memtables, and the logs it came from in use: a new log continues their line. The next flush writes it as ever, and until then the
    /// next open replays it again.
    fn continue_logs(&self, version: &Version, replayed: &Replayed, last_seq: SeqNo, end: Lsn) -> Result<()> {
        let group = GroupSync::new(replayed.durable.min(end));
        for log in &replayed.logs {
            // What another process left with the operating system is not yet on stable storage: whoever syncs behind it syncs it too.
            let path = FileKind::Wal(log.number).path(&self.dir);
            let syncer = self.vfs.open_sync(&path).map_err(|error| Error::io("open", &path, error))?;
            group.adopt(&FileKind::Wal(log.number).name(), log.start, log.end, syncer)?;
        }
        let spare = self.prepare_log()?;
        let writer = self.begin_log(spare, end, &group)?;

        let mut commit = self.commit.lock();
        commit.last_seq = last_seq;
        let reserved = self.seqs_to_reserve(last_seq, 0)?;
        self.commit_edit(VersionEdit {
            reserve_seq: Some(reserved),
            clock_ms: self.time_to_keep_ms(version.clock_ms),
            written_bytes: Some(self.counters.written_bytes()),
            ..VersionEdit::default()
        })?;
        self.state.lock().logs = replayed.logs.iter().map(LogFile::from).collect();
        self.take_log(&mut commit, writer, group, reserved);
        Ok(())
    }

    /// Writes what was replayed as tables, makes a new log, and commits the edit that takes both into use.
    fn begin_anew(
        &self,
        version: &Version,
        replayed: &Replayed,
        last_seq: SeqNo,
        mut pending: Vec<Pending>,
    ) -> Result<()> {
        for keyspace in self.keyspaces() {
            self.write_recovered(&keyspace, &mut pending)?;
        }
        let mut outputs = Outputs::default();
        pending.iter().for_each(|pending| outputs.extend(&pending.outputs));
        let open = self.publish_tables(&outputs)?;

        // Whether the feed of changes goes on over what was replayed: the line does, and all of it can be made durable.
        let goes_on = self.retains_logs()
            && (replayed.unbroken_end == Some(replayed.next_position) || nothing_replayed(replayed))
            && !self.log_sync_failed_before()?;
        if goes_on {
            for log in &replayed.logs {
                let path = FileKind::Wal(log.number).path(&self.dir);
                let synced = self.vfs.open_sync(&path).and_then(|file| file.sync());
                synced.map_err(|error| {
                    self.note_failed_log_sync();
                    Error::io("sync", &path, error)
                })?;
            }
        }

        // The new log claims no more to be durable than is, until the edit makes the old ones superfluous: a crash before it must
        // find them as they were.
        let (writer, group) = self.make_log(replayed.next_position, replayed.durable)?;
        let mut commit = self.commit.lock();
        commit.last_seq = last_seq;
        let mut edit = self.first_edit(version, writer.number(), writer.start(), last_seq)?;
        if goes_on {
            let logs: Vec<LogFile> = replayed.logs.iter().map(LogFile::from).collect();
            let released = self.retire_logs(&mut self.state.lock(), logs);
            released.iter().for_each(|log| self.removals.owe(FileKind::Wal(log.number)));
        } else {
            if last_seq > SeqNo::ZERO {
                edit.changes_from = Some((last_seq, writer.number()));
            }
            self.cut_feed(last_seq);
        }
        for Pending { keyspace, outputs } in &pending {
            let VersionEdit { add, add_blobs, .. } = flush::flush_edit(keyspace, outputs, last_seq);
            edit.add.extend(add);
            edit.add_blobs.extend(add_blobs);
        }
        let reserved = edit.reserve_seq.unwrap_or_default();
        self.commit_edit(edit)?;
        self.take_log(&mut commit, writer, group, reserved);
        drop(commit);

        let version = self.with_manifest(|manifest| Ok(Arc::clone(manifest.current())))?;
        for keyspace in self.keyspaces() {
            self.show_version(&keyspace, &version)?;
        }
        drop(open);
        Ok(())
    }

    /// A log that starts at `start`, on a line of its own of which everything below `durable` is on stable storage.
    fn make_log(&self, start: Lsn, durable: Lsn) -> Result<(Writer, Arc<GroupSync>)> {
        let group = GroupSync::new(durable.min(start));
        let spare = self.prepare_log()?;
        let number = spare.number;
        match self.begin_log(spare, start, &group) {
            Ok(writer) => Ok((writer, group)),
            Err(error) => {
                self.removals.owe(FileKind::Wal(number));
                Err(error.into())
            }
        }
    }

    /// The edit that takes log `number` into use, and says that no older one is needed.
    fn first_edit(&self, version: &Version, number: FileNo, start: Lsn, last_seq: SeqNo) -> Result<VersionEdit> {
        Ok(VersionEdit {
            oldest_log: Some(number),
            log_start: Some(start),
            log_durable: Some(start),
            flushed: version.keyspaces.keys().map(|id| (*id, last_seq)).collect(),
            reserve_seq: Some(self.seqs_to_reserve(last_seq, 0)?),
            clock_ms: self.time_to_keep_ms(version.clock_ms),
            written_bytes: Some(self.counters.written_bytes()),
            ..VersionEdit::default()
        })
    }

    /// Has writes go to a log that the manifest allows for.
    fn take_log(&self, commit: &mut Commit, writer: Writer, group: Arc<GroupSync>, reserved: SeqNo) {
        let log = LogFile { number: writer.number(), last_seq: None, bytes: 0, start: writer.start() };
        self.state.lock().logs.push(log);
        commit.vouched = group.durable();
        // What was replayed says nothing of what will be written.
        self.visible_at_last_look.store(self.visible().0, Ordering::Relaxed);
        commit.writer = Some(writer);
        commit.group = group;
        commit.reserved = reserved;
    }
}
