//! The logs' files: made ahead, grown ahead, used again.
//!
//! ```text
//! begun ─> sealed ─> in tables, kept ─(rename, sync of the directory)─> spare ─> begun
//!                        └─ one is kept already, or it is too long ─> unlinked
//! ```
//! A log's file is small at first and grows as it is written. One that no recovery needs any more becomes the next: to unlink a long file holds up
//! others who sync, and one that was written before is quicker to write and to sync than a new one. At most one waits, beside the spare.
//!
//! Logs are made ahead while something is written: after a flush on demand that leaves nothing in memory, or some seconds without a write, all that was made ahead is given back, so
//! that a store at rest takes no more space than it needs.
//!
//! A few sealed logs keep their room until they are used again; those that pile up behind a flush that is late are cut to what they hold.
//!
//! Room is made by background work, before the writer comes to it; see [`Fill`] for how. The writer that is faster makes its own.

use crate::commit::{Commit, SpareLog};
use crate::core::{Core, LogFile};
use crate::error::{Error, Result};
use crate::options::{Durability, LogBackend};
use esker_format::files::temp_path;
use esker_format::{FileKind, FileNo};
use esker_wal::{Ahead, Backend, Fill, GroupSync, Prepared};
use parking_lot::Mutex;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Sealed logs that keep the room that was made in them. One becomes the next log, and while it is flushed the other fills.
const ROOMY_LOGS_MAX: usize = 2;

/// What is known of the logs' files beside those that are needed.
#[derive(Debug, Default)]
pub(crate) struct LogFiles {
    /// A log that is not needed any more and will be used again. Below the manifest's oldest log, so a crash leaves it to the sweep.
    kept: Mutex<Option<FileNo>>,
    /// Whether logs are mapped, and so may live twice.
    mapped: AtomicBool,
    /// How many syncs there had been when room was last made.
    syncs_seen: AtomicU64,
}

impl Core {
    /// Makes the file of a log to come; its name is durable on return.
    pub(crate) fn prepare_log(&self) -> Result<SpareLog> {
        // Let go of at once: a writer that needs a log must not wait for a rename of another's.
        let kept = self.log_files.kept.lock().take();
        if let Some(old) = kept {
            let number = self.new_file_no()?;
            let (from, to) = (FileKind::Wal(old), FileKind::Wal(number));
            match Prepared::reuse(&*self.vfs, &from.path(&self.dir), &to.path(&self.dir)) {
                Ok(prepared) => return Ok(SpareLog { number, prepared }),
                // A new one may be had all the same. It has one of these names.
                Err(error) => {
                    [from, to].into_iter().for_each(|file| self.removals.owe(file));
                    self.tell_of_log("the file of a log can't be used again, so another is made", error.into());
                }
            }
        }
        let number = self.new_file_no()?;
        let backend = match self.options.log_backend {
            LogBackend::Mapped => Backend::Mapped,
            LogBackend::Write => Backend::Write,
        };
        let prepared = Prepared::create(&*self.vfs, &FileKind::Wal(number).path(&self.dir), backend)?;
        // Relaxed: a log retired meanwhile is unlinked instead of kept.
        self.log_files.mapped.store(prepared.is_mapped(), Ordering::Relaxed);
        Ok(SpareLog { number, prepared })
    }

    /// Tells the listener, and no write, of what has failed and is made up for.
    pub(crate) fn tell_of_log(&self, what_it_means: &str, error: Error) {
        self.tell_of_error(Error::from_source_with(error.kind(), what_it_means.into(), error));
    }

    /// As [`Core::prepare_log`], with room for what a memtable takes: by background work.
    pub(crate) fn prepare_roomy_log(&self) -> Result<SpareLog> {
        let spare = self.prepare_log()?;
        let Some(ahead) = spare.prepared.ahead(self.log_bytes_ahead()) else { return Ok(spare) };
        let group = std::sync::Arc::clone(&self.commit.lock().group);
        let fill = self.fill(&group);
        // Another log is begun on it as it is, however little room it has.
        let made = self.make_ahead(&ahead, fill).and_then(|()| match fill {
            Fill::Written => Ok(spare.prepared.sync()?),
            Fill::Populated => Ok(()),
        });
        match made {
            Ok(()) => Ok(spare),
            Err(error) => {
                self.removals.owe(FileKind::Wal(spare.number));
                Err(error)
            }
        }
    }

    /// Makes room in the log being written, if it is time.
    pub(crate) fn make_room_ahead(&self) -> Result<bool> {
        let (ahead, group) = {
            let commit = self.commit.lock();
            let ahead = commit.writer.as_ref().and_then(|writer| writer.ahead(self.log_bytes_ahead()));
            (ahead, std::sync::Arc::clone(&commit.group))
        };
        let Some(ahead) = ahead else { return Ok(false) };
        self.make_ahead(&ahead, self.fill(&group))?;
        Ok(true)
    }

    /// How long a log is made ahead: about what a memtable's writes take.
    fn log_bytes_ahead(&self) -> u64 {
        (self.options.memtable_bytes() / 4 * 3) as u64
    }

    fn fill(&self, group: &GroupSync) -> Fill {
        let syncs = group.syncs();
        let before = self.log_files.syncs_seen.swap(syncs, Ordering::Relaxed);
        if self.options.durability == Durability::Sync || syncs != before { Fill::Written } else { Fill::Populated }
    }

    fn make_ahead(&self, ahead: &Ahead, fill: Fill) -> Result<()> {
        match ahead.make(fill, self.vfs.clock()) {
            Ok(written) => {
                self.counters.log_bytes.add(written);
                Ok(())
            }
            // The writer finds out when it needs the space, if it is still missing then.
            Err(error) if esker_wal::is_no_space(&error) => Ok(()),
            Err(error) => Err(Error::io("make room for a log in", &self.dir, error)),
        }
    }

    /// Whether the log that is now sealed keeps its room for the one that will take its file. Where flush is behind, or logs are kept for the feed, that is long hence: many small logs with the room of large ones
    /// fill a disk on which there is little data.
    pub(crate) fn is_to_be_used_again(&self) -> bool {
        let state = self.state.lock();
        // The one that is sealed is among them.
        state.logs.len() + state.feed.retained.len() <= ROOMY_LOGS_MAX
    }

    /// A log is not needed any more: keeps its file for another, or has it unlinked.
    pub(crate) fn let_go_of_log(&self, log: &LogFile) {
        let fits = log.bytes <= 2 * self.options.memtable_bytes() as u64;
        let mut kept = self.log_files.kept.lock();
        if self.log_files.mapped.load(Ordering::Relaxed) && fits && kept.is_none() {
            *kept = Some(log.number);
        } else {
            self.removals.owe(FileKind::Wal(log.number));
        }
    }

    /// Leaves word for the next open that a sync of a log failed, or of the manifest as it was closed. The kernel may then take for clean what never got to the device, and shows it to readers all the
    /// same: a sync that succeeds later, in another process too, proves nothing. So the next open must not leave what it replays to the logs.
    ///
    /// The note need not be durable, for what the kernel holds is not either. Its name is that of a temporary file, so the sweep takes it away.
    pub(crate) fn note_failed_log_sync(&self) {
        let note = self.failed_log_sync();
        if self.vfs.create_new(&note).is_err() {
            // A second name of a file that is there takes neither a descriptor nor a block. If that can't be had either, only this process knows.
            let _ = self.vfs.hard_link(&FileKind::Lock.path(&self.dir), &note);
        }
    }

    /// Nothing is left to the logs of which a sync failed.
    pub(crate) fn forget_failed_log_sync(&self) {
        // If it stays, the next open writes tables that it need not write.
        let _ = self.vfs.remove_file(&self.failed_log_sync());
    }

    /// Whether an earlier process, or an earlier life in this one, left that word.
    ///
    /// # Errors
    /// It can't be looked: either guess could be wrong.
    pub(crate) fn log_sync_failed_before(&self) -> Result<bool> {
        let path = self.failed_log_sync();
        match self.vfs.metadata(&path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look for", &path, error)),
        }
    }

    fn failed_log_sync(&self) -> PathBuf {
        // No log has this number.
        temp_path(&FileKind::Wal(FileNo(0)).path(&self.dir))
    }

    /// Gives back what was made ahead of writes that do not come: the file that is kept, the spare, and the room in the log being written but for its reserve.
    pub(crate) fn give_back_logs(&self, commit: &mut Commit) {
        self.give_up_kept_log();
        if commit.written_at.take().is_none() {
            return;
        }
        // What was written before counts no more.
        commit.seq_at_last_look = commit.last_seq;
        if let Some(spare) = commit.spare.take() {
            self.removals.owe(FileKind::Wal(spare.number));
        }
        if let Some(writer) = &mut commit.writer {
            // The log is as good with more room.
            let _ = writer.give_back_room();
        }
        self.changed.notify_all();
    }

    /// Has the file that is kept unlinked: nobody writes, the engine closes, or the disk is full.
    pub(crate) fn give_up_kept_log(&self) {
        if let Some(log) = self.log_files.kept.lock().take() {
            self.removals.owe(FileKind::Wal(log));
        }
    }
}
