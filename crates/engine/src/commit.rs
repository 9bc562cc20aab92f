//! Writing: one batch after the other takes its place in the log, the memtables and the sequence of what is visible.
//!
//! ```text
//! wait for room ─> [ commit lock: seal if full, number, log, insert, publish ] ─> (Sync) wait for a group sync
//! ```
//! A write on [`Terms`] has them [checked](crate::validation) when it takes the lock.
//!
//! Under the lock nothing waits for a device, but when the first write after a rest has the engine begin: bytes go to the kernel, and a sync is awaited outside, together with
//! whoever else came.
//!
//! Invariants
//! - The log's order is the order of sequence numbers, and both are the order in which writes become visible.
//! - What is visible has its place in the log. What failed to get one is not inserted.
//! - After a failed write or sync of the log, or of the manifest, nothing more is acknowledged until `resume`: see [`Health`].

use crate::batch::WriteBatch;
use crate::core::{Core, KeyspaceCore, LogFile};
use crate::error::{Error, ErrorKind, Result};
use crate::exclusive::TurnOf;
use crate::expiry::{self, Times};
use crate::listener::Event;
use crate::memory::CountedTable;
use crate::options::{Durability, WriteOptions};
use crate::publish::PutInPlace;
use crate::read::ReadState;
use crate::validation::{Terms, Watch};
use esker_format::batch::with_first_seq;
use esker_format::{FileNo, InternalKey, KeyspaceId, SeqNo, ValueKind, WriteBatch as EncodedBatch};
use esker_iterator::{InternalIterator, RangeTombstone, is_before_end};
use esker_manifest::{ManifestError, VersionEdit, VersionSet};
use esker_wal::{GroupSync, LogHeader, Lsn, Prepared, RecordKind, Reserve, WalError, Writer};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Sequence numbers are reserved in the manifest this many at a time; a million writes a second use one block in 16 seconds.
const SEQ_BLOCK: u64 = 1 << 24;

/// A range that is deleted covers fewer entries of the memtable that its tombstone goes into.
const COVERED_MAX: usize = 512;

/// What the commit lock guards.
pub(crate) struct Commit {
    /// The log being written; `None` before recovery has made it, while the engine rests, in one opened for reading only, and after close.
    pub(crate) writer: Option<Writer>,
    /// The file of the next log, made ahead.
    pub(crate) spare: Option<SpareLog>,
    pub(crate) group: Arc<GroupSync>,
    /// The last sequence number given out.
    pub(crate) last_seq: SeqNo,
    /// How far they are reserved.
    pub(crate) reserved: SeqNo,
    /// Those that exist.
    pub(crate) keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceCore>>,
    /// The largest durable position that some record in the log tells of.
    pub(crate) vouched: Lsn,
    /// `last_seq` when upkeep last looked.
    pub(crate) seq_at_last_look: SeqNo,
    /// When upkeep last saw that something had been written; `None` once logs made ahead were given back, until it does.
    pub(crate) written_at: Option<Duration>,
    /// Whether nothing was written yet since an open after a close in order, and so there is no log: see [`crate::begin`].
    pub(crate) resting: bool,
    /// Logs that nobody needs, and that stay until there is a log to write to: while an engine rests, is closed, or has failed.
    pub(crate) stray_logs: Vec<FileNo>,
    /// What is written while somebody looks whether what he has read still stands.
    pub(crate) watch: Watch,
    /// Who alone may write.
    pub(crate) turn: Option<TurnOf>,
    /// How often somebody had the turn.
    pub(crate) turns: u64,
}

/// A log's file that has no place in the line yet.
pub(crate) struct SpareLog {
    pub(crate) number: FileNo,
    pub(crate) prepared: Prepared,
}

/// Whether the engine writes.
#[derive(Debug, Default)]
pub(crate) struct Health {
    stopped: AtomicBool,
    cause: Mutex<Option<Error>>,
}

impl Health {
    /// # Errors
    /// `ReadOnly`, with the cause, if writing has stopped.
    pub(crate) fn check(&self) -> Result<()> {
        // Acquire: pairs with the Release in `stop`, so that the cause is there.
        if !self.stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        match &*self.cause.lock() {
            Some(cause) => Err(Error::read_only_because(cause)),
            None => Ok(()),
        }
    }

    pub(crate) fn cause(&self) -> Option<Error> {
        self.cause.lock().clone()
    }

    /// Whether this is the first cause.
    fn stop(&self, error: &Error) -> bool {
        let mut cause = self.cause.lock();
        let first = cause.is_none();
        cause.get_or_insert_with(|| error.clone());
        self.stopped.store(true, Ordering::Release);
        first
    }

    pub(crate) fn resume(&self) {
        *self.cause.lock() = None;
        self.stopped.store(false, Ordering::Release);
    }
}

impl Core {
    /// Commits a batch.
    pub(crate) fn write(&self, batch: &WriteBatch, options: &WriteOptions) -> Result<()> {
        self.write_on(&Terms::NONE, batch, options)
    }

    /// Commits a batch if its terms hold.
    pub(crate) fn write_on(&self, terms: &Terms<'_>, batch: &WriteBatch, options: &WriteOptions) -> Result<()> {
        self.check_writable()?;
        batch.check(self.number)?;
        let ttl_ms = options.ttl.map(expiry::ttl_ms).transpose()?;
        if ttl_ms.is_some() && batch.has_operands() {
            return Err(Error::invalid("a merge operand has no time to live"));
        }
        if batch.has_unchecked_merges() {
            self.check_merges(batch)?;
        }
        let durability = self.durability_of(options);
        if batch.is_empty() {
            return self.wrote_nothing(durability);
        }
        // Asked first: that writing has stopped says more than what failed in the background on the way there.
        self.health.check()?;
        let mut times = Times { of_write_ms: ttl_ms, made: None };
        if self.may_expire(terms, batch, ttl_ms) {
            self.make_times(batch, &mut times)?;
        }
        self.wait_for_room(batch, options.no_stall)?;
        let result =
            self.commit_batch(terms, batch, durability, options.no_stall, &mut times).and_then(|owed| match owed {
                Some((group, end)) => self.sync_log(&group, end),
                None => Ok(()),
            });
        if result.is_err() {
            self.deliver();
        }
        result
    }

    /// The level of a write: its own, or else the engine's.
    pub(crate) fn durability_of(&self, options: &WriteOptions) -> Durability {
        match options.durability {
            Durability::EngineDefault => self.options.durability,
            level => level,
        }
    }

    /// Does what a write owes that turned out to change nothing: at `Sync` all that was committed before, and so whatever it has found, is on stable storage when it returns. If that is so already it waits for nothing.
    pub(crate) fn wrote_nothing(&self, durability: Durability) -> Result<()> {
        if durability == Durability::Sync { self.sync() } else { Ok(()) }
    }

    /// Checks that each keyspace takes the operands that are for it. Once is enough: a keyspace never gets another operator, and a number never another keyspace.
    #[cold]
    fn check_merges(&self, batch: &WriteBatch) -> Result<()> {
        let mut here: Option<(KeyspaceId, Option<Arc<KeyspaceCore>>)> = None;
        for op in batch.encoded().ops().filter(|op| op.kind == ValueKind::Merge) {
            let keyspace = match &here {
                Some((id, keyspace)) if *id == op.keyspace => keyspace,
                _ => &here.insert((op.keyspace, self.state.lock().keyspaces.get(&op.keyspace).map(Arc::clone))).1,
            };
            // Of one that was dropped the commit says so.
            if let Some(keyspace) = keyspace {
                keyspace.check_operand(op.value)?;
            }
        }
        Ok(())
    }

    /// Logs, inserts and publishes `batch`. Returns the sync that is still owed to make it as durable as asked, if any.
    fn commit_batch(
        &self,
        terms: &Terms<'_>,
        batch: &WriteBatch,
        durability: Durability,
        no_stall: bool,
        times: &mut Times,
    ) -> Result<Option<(Arc<GroupSync>, Lsn)>> {
        let mut commit = self.lock_to_write(terms, no_stall)?;
        let commit = &mut *commit;
        self.health.check()?;
        self.begin_if_resting(commit)?;
        if commit.writer.is_none() {
            // Nothing must be written behind the edit that closes the manifest, no reservation either.
            return Err(Error::closed());
        }
        let mut here = None;
        let mut expires = batch.expires() || times.of_write_ms.is_some();
        for id in batch.keyspaces() {
            let Some(keyspace) = commit.keyspaces.get(id) else {
                return Err(Error::new(ErrorKind::NotFound, format!("the keyspace with id {id} was dropped")));
            };
            expires |= keyspace.ttl_ms.is_some();
            let read = keyspace.read.load();
            let is_full = read.active.table.memory_bytes() >= keyspace.memtable_bytes();
            let seals = is_full || batch.has_ranges() && covers_many(batch, *id, &read.active);
            here = if seals {
                drop(read);
                let keyspace = Arc::clone(keyspace);
                self.seal(commit, &keyspace)?;
                None
            } else {
                Some((*id, read))
            };
        }
        let stamped = match expires {
            true => Some(self.timed_now(times, batch, &commit.keyspaces)?),
            false => None,
        };
        let encoded = stamped.as_ref().unwrap_or(batch.encoded());
        let count = u64::from(encoded.count());
        if commit.last_seq.0 + count > commit.reserved.0 {
            self.reserve_seqs(commit, count)?;
        }

        let first = commit.last_seq.next();
        let (header, ops) = with_first_seq(encoded.as_bytes(), first);
        let last = SeqNo(commit.last_seq.0 + count);
        let writer = commit.writer.as_mut().ok_or_else(Error::closed)?;
        let reserve = if batch.only_deletes() { Reserve::Use } else { Reserve::Keep };
        let durable = commit.group.durable();
        let logged = writer.append(RecordKind::Data, &[&header, ops], reserve).map_err(Error::from);
        let end = match logged {
            Ok(end) => end,
            // The log is as it was, and takes what fits again once there is space.
            Err(error) if error.kind() == ErrorKind::NoSpace && writer.failed().is_none() => return Err(error),
            Err(error) => {
                // The log may hold these numbers now, so that nothing else must get them.
                commit.last_seq = last;
                return Err(self.stop_writing(error.with_outcome_unknown()));
            }
        };
        if durability != Durability::Memory
            && let Err(error) = writer.push()
        {
            commit.last_seq = last;
            return Err(self.stop_writing(Error::from(error).with_outcome_unknown()));
        }
        if writer.asks_for_room() {
            self.changed.notify_all();
        }
        commit.vouched = durable;
        self.visible.publish(last, Logged { core: self, commit, batch, encoded, first, last, here });
        self.counters.writes.add(1);
        Ok((durability == Durability::Sync).then(|| (Arc::clone(&commit.group), end)))
    }

    /// Puts the active memtable of `keyspace` among the sealed ones and, if the log has grown enough, begins a new log. The latter may fail; the
    /// log then just goes on growing.
    pub(crate) fn seal(&self, commit: &mut Commit, keyspace: &KeyspaceCore) -> Result<()> {
        self.seal_memtable(keyspace);
        let log_bytes = commit.writer.as_ref().map_or(0, Writer::bytes);
        if log_bytes >= (self.options.memtable_bytes() / 2) as u64 {
            self.rotate(commit)?;
        }
        Ok(())
    }

    /// Puts the active memtable of `keyspace`, unless it is empty, among the sealed ones. Under the commit lock, or when nobody commits.
    pub(crate) fn seal_memtable(&self, keyspace: &KeyspaceCore) {
        if keyspace.read.load().active.table.is_empty() {
            return;
        }
        let active = self.new_memtable();
        {
            let _state = self.state.lock();
            keyspace.swap(|now| {
                let sealed = std::iter::once(&now.active).chain(&now.sealed).map(Arc::clone).collect();
                ReadState::new(active, sealed, Arc::clone(&now.view))
            });
        }
        self.changed.notify_all();
    }

    /// Begins a new log. If its file can't be made, the old one goes on; if the old one can't be completed, writing stops.
    pub(crate) fn rotate(&self, commit: &mut Commit) -> Result<()> {
        if commit.writer.is_none() {
            return Ok(());
        }
        let spare = match commit.spare.take() {
            Some(spare) => spare,
            None => match self.prepare_log() {
                Ok(spare) => spare,
                Err(error) => {
                    self.tell_of_log("the next log can't be made, so the one there is goes on", error);
                    return Ok(());
                }
            },
        };
        let old = commit.writer.take().expect("checked above");
        let bytes = old.bytes();
        let sealed = if self.is_to_be_used_again() { old.seal() } else { old.seal_trimmed() };
        let begun = sealed.and_then(|start| self.begin_log(spare, start, &commit.group));
        let new = begun.map_err(|error| self.stop_writing(error.into()))?;
        let (number, start) = (new.number(), new.start());
        commit.writer = Some(new);
        self.counters.log_bytes.add(bytes);
        let mut state = self.state.lock();
        if let Some(log) = state.logs.last_mut() {
            (log.last_seq, log.bytes) = (Some(commit.last_seq), bytes);
        }
        state.logs.push(LogFile { number, last_seq: None, bytes: 0, start });
        Ok(())
    }

    pub(crate) fn begin_log(&self, spare: SpareLog, start: Lsn, group: &Arc<GroupSync>) -> Result<Writer, WalError> {
        let durable = group.durable();
        let header = LogHeader { file_id: self.new_file_id(), number: spare.number, start, durable };
        let mut writer = spare.prepared.begin(header, group)?;
        writer.push()?;
        Ok(writer)
    }

    /// Reserves more sequence numbers, at least `count`.
    pub(crate) fn reserve_seqs(&self, commit: &mut Commit, count: u64) -> Result<()> {
        let reserved = self.seqs_to_reserve(commit.last_seq, count)?;
        self.commit_edit(VersionEdit { reserve_seq: Some(reserved), ..VersionEdit::default() })?;
        commit.reserved = reserved;
        Ok(())
    }

    /// How far to reserve when `count` more are needed at once.
    pub(crate) fn seqs_to_reserve(&self, last_seq: SeqNo, count: u64) -> Result<SeqNo> {
        match last_seq.0 + count {
            needed if needed > SeqNo::MAX.0 => {
                Err(Error::new(ErrorKind::Unsupported, "the sequence numbers of this engine are used up"))
            }
            needed => Ok(SeqNo((needed + SEQ_BLOCK).min(SeqNo::MAX.0))),
        }
    }

    /// Whether it is time to reserve more.
    pub(crate) fn seqs_run_low(commit: &Commit) -> bool {
        commit.reserved.0 - commit.last_seq.0 < SEQ_BLOCK / 2
    }

    /// Commits an edit that changes no tables. A manifest that failed stops writing.
    pub(crate) fn commit_edit(&self, edit: VersionEdit) -> Result<()> {
        self.with_manifest(|manifest| self.manifest_did(manifest, |manifest| manifest.commit(edit)).map(drop))
    }

    /// The same, of an edit that a caller has asked for. Whether it is found later is not known where writing stops.
    pub(crate) fn commit_edit_asked_for(&self, edit: VersionEdit) -> Result<()> {
        self.commit_edit(edit).map_err(|error| match self.health.check() {
            Ok(()) => error,
            Err(_) => error.with_outcome_unknown(),
        })
    }

    /// A file number, which may have to be reserved in the manifest first. A manifest that failed stops writing.
    pub(crate) fn new_file_no(&self) -> Result<FileNo> {
        self.with_manifest(|manifest| self.manifest_did(manifest, VersionSet::new_file_no))
    }

    /// Does what may write the manifest. If that fails writing stops, unless the disk is full and the manifest as it was.
    pub(crate) fn manifest_did<T>(
        &self,
        manifest: &mut VersionSet,
        what: impl FnOnce(&mut VersionSet) -> Result<T, ManifestError>,
    ) -> Result<T> {
        what(manifest).map_err(|error| {
            let full = error.is_no_space() && manifest.poison().is_none();
            let error = Error::from(error);
            if full { error } else { self.stop_writing(error) }
        })
    }

    /// Makes everything acknowledged before the call durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_writable()?;
        let (group, end) = self.push_log()?;
        self.sync_log(&group, end)
    }

    /// Hands all that is logged to the kernel, and tells how far that is.
    pub(crate) fn push_log(&self) -> Result<(Arc<GroupSync>, Lsn)> {
        let mut commit = self.commit.lock();
        self.health.check()?;
        let end = match &mut commit.writer {
            Some(writer) => {
                writer.push().map_err(|error| self.stop_writing(error.into()))?;
                writer.end()
            }
            // Nothing was written yet, or closing has synced the log before it took it away.
            None => commit.group.durable(),
        };
        Ok((Arc::clone(&commit.group), end))
    }

    /// Waits until the log is on stable storage up to `end`, together with others. A failed sync stops writing.
    pub(crate) fn sync_log(&self, group: &Arc<GroupSync>, end: Lsn) -> Result<()> {
        group.sync_to(end).map_err(|error| {
            let error = Error::from(error).with_outcome_unknown();
            // Who comes late with the failure of a log that `resume` has given up says nothing about the new one.
            let commit = self.commit.lock();
            if Arc::ptr_eq(&commit.group, group) {
                self.note_failed_log_sync();
                self.stop_writing(error.clone());
            }
            error
        })
    }

    /// Remembers why nothing more is acknowledged, and returns the cause.
    pub(crate) fn stop_writing(&self, error: Error) -> Error {
        if self.health.stop(&error) {
            self.counters.background_errors.add(1);
            self.tell(Event::WritingStopped(error.clone()));
        }
        self.changed.notify_all();
        error
    }
}

/// Whether a range that the batch deletes holds many entries of the memtable. They are then left to a memtable of their own: scans pass what a newer source has deleted in one leap, but go
/// entry by entry over what lies in the same.
#[cold]
fn covers_many(batch: &WriteBatch, keyspace: KeyspaceId, active: &CountedTable) -> bool {
    let ops = batch.encoded().ops();
    let mut ranges = ops.filter(|op| op.kind == ValueKind::RangeDelete && op.keyspace == keyspace);
    ranges.any(|range| hides_many(active, RangeTombstone { begin: range.key, end: range.value, seq: SeqNo::MAX }))
}

/// Whether a range tombstone covers many entries of a memtable that are older.
pub(crate) fn hides_many(memtable: &CountedTable, range: RangeTombstone<'_>) -> bool {
    let mut iter = memtable.iter();
    let Ok(()) = iter.seek(InternalKey::before_all(range.begin));
    let mut count = 0;
    while count < COVERED_MAX && iter.valid() && is_before_end(iter.key().user_key, range.end) {
        count += usize::from(iter.key().trailer.seq() < range.seq);
        let Ok(()) = iter.next();
    }
    count == COVERED_MAX
}

/// The read state of a keyspace, whose active memtable stays the same while the commit lock is held and nothing is sealed.
type Here = Option<(KeyspaceId, arc_swap::Guard<Arc<ReadState>>)>;

/// A batch that has its place in the log.
struct Logged<'a> {
    core: &'a Core,
    commit: &'a mut Commit,
    batch: &'a WriteBatch,
    /// The batch as it is logged.
    encoded: &'a EncodedBatch,
    first: SeqNo,
    last: SeqNo,
    here: Here,
}

impl PutInPlace for Logged<'_> {
    #[inline(always)]
    fn put_in_place(self) {
        let Self { core, commit, batch, encoded, first, last, here } = self;
        insert(commit, batch.keyspaces(), encoded, first, last, here);
        if commit.watch.is_on() {
            commit.watch.note(encoded);
        }
        if core.edges.is_on() {
            core.edges.note(encoded, last);
        }
        commit.last_seq = last;
    }
}

/// Inserts a batch into the memtables; its operations are numbered from `first` to `last`.
///
/// A read state is loaded once for a run of operations on one keyspace: for most batches it is the one that is at hand already.
fn insert(
    commit: &Commit,
    keyspaces: &[KeyspaceId],
    encoded: &EncodedBatch,
    first: SeqNo,
    last: SeqNo,
    mut here: Here,
) {
    for (i, op) in encoded.ops().enumerate() {
        let state = match &here {
            Some((id, state)) if *id == op.keyspace => state,
            _ => &here.insert((op.keyspace, commit.keyspaces[&op.keyspace].read.load())).1,
        };
        let key = InternalKey::new(op.key, SeqNo(first.0 + i as u64), op.kind);
        state.active.table.insert(key, op.value);
    }
    match (keyspaces, &here) {
        ([_], Some((_, state))) => state.active.count(last),
        (several, _) => several.iter().for_each(|id| commit.keyspaces[id].read.load().active.count(last)),
    }
}
