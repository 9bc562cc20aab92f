//! [`Changes`]: what was committed, in order, read back from the logs.
//!
//! ```text
//! retained and needed logs, each once:   | 5..7 | 8 | 9..12 |   | 14 | 15..16 |
//! ingests, told of by the manifest:                           13
//! ```
//! A call holds what it will read, has the log handed to the kernel (and synced), and notes up to which position and sequence number it will read. All that follows takes no lock: the logs are read like any file.
//!
//! Invariants
//! - Nothing is told that is not visible, nor anything twice, nor out of order. A batch is told whole.
//! - Logs follow each other without a gap in the line of positions, or the feed ends with an error. So does a log that is damaged.
//! - A sequence number from which on nothing is told for certain is an error ([`crate::ErrorKind::Gap`]), never a shorter feed.

use crate::change::{Change, ChangedBatch, IngestedChange, Named, Names};
use crate::core::Core;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::feed::Hold;
use crate::gap;
use crate::recovery::bad_record;
use esker_format::batch;
use esker_format::{FileKind, FileNo, SeqNo};
use esker_manifest::IngestMeta;
use esker_wal::{LogEnd, Lsn, Reader, RecordKind, WalError};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;

/// How changes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeOptions {
    /// Sync the log first, so that what is told is on stable storage and no crash undoes it. Without, it may be lost by power loss after it was told; the next call then says so, as a gap. Default: true.
    pub durable: bool,
}

impl Default for ChangeOptions {
    fn default() -> Self {
        Self { durable: true }
    }
}

/// Keeps the logs that hold what is newer than a sequence number, for as long as it lives. Made by [`Engine::hold_changes`].
///
/// It does not outlast the engine: for that there are [`Options::wal_retain_bytes`](crate::Options::wal_retain_bytes) and [`wal_retain_age`](crate::Options::wal_retain_age).
pub struct ChangesHold {
    hold: Hold,
    /// Keeps the engine open.
    _engine: Engine,
}

impl ChangesHold {
    /// What is at or below `seq` is needed no more.
    pub fn release_up_to(&self, seq: u64) {
        let core = &self.hold.core;
        let released = {
            let mut state = core.state.lock();
            state.feed.move_hold(self.hold.number, SeqNo(seq));
            core.trim_feed(&mut state)
        };
        core.let_go_of_retained(released);
    }
}

impl fmt::Debug for ChangesHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChangesHold({})", self.hold.number)
    }
}

/// A log that is still to be read.
#[derive(Debug, Clone, Copy)]
struct Log {
    number: FileNo,
    /// The last sequence number in it, where it is known and the log complete.
    last_seq: Option<SeqNo>,
}

/// Up to where a feed goes for now.
#[derive(Debug, Clone, Copy)]
struct Until {
    seq: SeqNo,
    /// Behind the last record that there was.
    position: Lsn,
}

/// What was committed, in order. Made by [`Engine::changes_since`].
///
/// It ends at what was visible when it was made; called again then, [`next`](Iterator::next) looks whether there is more since. After an error it ends; called again then, it returns the error again, and so on.
///
/// It holds the logs it has not read yet, but does not keep the engine open; once that is closed it ends with `Closed`. It holds one batch in memory at a time, and what it has not told yet of ingests.
pub struct Changes {
    hold: Hold,
    options: ChangeOptions,
    /// The last number that was told, or asked to be left out.
    seen: SeqNo,
    /// What of the line is known to be whole up to `seen`: the last number before it, until the place of `seen` in the line is found.
    before: Option<SeqNo>,
    until: Until,
    /// The first is being read.
    logs: VecDeque<Log>,
    reader: Option<Reader>,
    /// Where the next record starts, once one was read.
    position: Option<Lsn>,
    ingests: VecDeque<IngestMeta>,
    /// A record that comes behind an ingest.
    waiting: Option<ChangedBatch>,
    /// The manifest's mark: nothing at or below is told.
    from: SeqNo,
    /// The greatest number in any table when the engine was opened: what is told has it, or something is missing.
    in_tables: SeqNo,
    /// The last number when the engine was opened.
    at_open: SeqNo,
    /// Whether an ingest has the number `seen`.
    ends_with_ingest: bool,
    names: Names,
    /// Whether all up to `until` was told.
    at_end: bool,
    /// What went wrong, and whether that was the last thing told.
    failed: Option<(Error, bool)>,
}

impl Changes {
    fn new(core: &Arc<Core>, since: u64, options: ChangeOptions) -> Result<Self> {
        Self::begin(core, since, options).map_err(|error| gap::located(core, error))
    }

    /// As [`Changes::new`]; behind a gap that it finds there may be another at once.
    pub(crate) fn begin(core: &Arc<Core>, since: u64, options: ChangeOptions) -> Result<Self> {
        core.check_open()?;
        let seen = SeqNo(since.min(SeqNo::MAX.0));
        // First of all, so that nothing goes that is still there.
        let hold = Hold { core: Arc::clone(core), number: core.state.lock().feed.hold(seen) };
        let mut changes = Self {
            hold,
            options,
            seen,
            before: None,
            until: Until { seq: SeqNo::ZERO, position: Lsn::ZERO },
            logs: VecDeque::new(),
            reader: None,
            position: None,
            ingests: VecDeque::new(),
            waiting: None,
            from: SeqNo::ZERO,
            in_tables: SeqNo::ZERO,
            at_open: SeqNo::ZERO,
            ends_with_ingest: false,
            names: Arc::default(),
            at_end: false,
            failed: None,
        };
        changes.look()?;
        changes.find_place()?;
        Ok(changes)
    }

    /// Notes what there is now, behind what was told.
    fn look(&mut self) -> Result<()> {
        let core = Arc::clone(&self.hold.core);
        core.check_open()?;
        let (group, base);
        {
            let mut commit = core.commit.lock();
            let position = match &mut commit.writer {
                // Nothing more can be told once it is not known what the log holds; what was told stays.
                Some(writer) => {
                    core.health.check()?;
                    writer.push().map_err(|error| core.stop_writing(error.into()))?;
                    writer.end()
                }
                // Who opened it for reading only knows the logs by their ends.
                None if core.read_only => Lsn(u64::MAX),
                None => commit.group.durable(),
            };
            self.until = Until { seq: core.visible(), position };
            group = Arc::clone(&commit.group);
            let mut names: BTreeMap<_, _> =
                commit.keyspaces.iter().map(|(id, keyspace)| (*id, Named::of(keyspace))).collect();
            let state = core.state.lock();
            names.extend(state.feed.dropped.iter().map(|(id, named)| (*id, named.clone())));
            if *self.names != names {
                self.names = Arc::new(names);
            }
            base = state.feed.base;
            self.in_tables = state.feed.in_tables;
            self.at_open = state.feed.at_open;
            let first = self.logs.front().map(|log| log.number);
            let retained = state.feed.retained.iter().map(|log| Log { number: log.number, last_seq: log.last_seq });
            let needed = state.logs.iter().map(|log| Log { number: log.number, last_seq: log.newest_seq() });
            self.logs = retained.chain(needed).filter(|log| first.is_none_or(|first| log.number >= first)).collect();
            if first.is_some() && self.logs.front().map(|log| log.number) != first {
                // `resume` has given up what was being read.
                let from = base.unwrap_or(self.until.seq);
                if self.seen < from {
                    return Err(Error::gap(self.seen.0, from.0, "the log was given up after a failure"));
                }
                (self.reader, self.position) = (None, None);
            }
        }
        let first_log = self.logs.front().map(|log| log.number);
        self.pass_over_read_logs();
        if self.options.durable && !core.read_only {
            core.sync_log(&group, self.until.position)?;
        }
        // Below what is visible all are there already.
        let known = |ingest: &&IngestMeta| ingest.seq > self.seen && ingest.seq <= self.until.seq;
        let version = match &*core.manifest.lock() {
            Some(manifest) => Arc::clone(manifest.current()),
            None => Arc::clone(core.read_only_version.get().ok_or_else(Error::closed)?),
        };
        self.ingests = version.ingests.iter().filter(known).cloned().collect();
        self.ends_with_ingest = version.ingests.iter().any(|ingest| ingest.seq == self.seen);
        self.from = version.changes_from;
        self.at_end = false;
        if self.position.is_none() {
            // Behind the mark all is there if the log is that begins with it. Else logs may have gone since.
            let is_whole = first_log == Some(version.changes_log);
            let whole = base.map(|base| base.max(self.from)).or(is_whole.then_some(self.from));
            self.before = self.before.max(whole);
        }
        Ok(())
    }

    /// Leaves out logs of which nothing is needed any more. They may go at any time, since nobody holds them.
    fn pass_over_read_logs(&mut self) {
        while self.logs.len() > 1
            && let Some(last) = self.logs.front().and_then(|log| log.last_seq).filter(|last| *last <= self.seen)
        {
            self.before = Some(self.before.map_or(last, |before| before.max(last)));
            self.logs.pop_front();
            (self.reader, self.position) = (None, None);
        }
    }

    /// Finds where in the line the number lies that was asked for, and refuses one that has no place there.
    fn find_place(&mut self) -> Result<()> {
        let (since, newest) = (self.seen, self.until.seq);
        if since > newest {
            let why = format!(
                "this engine has not come so far: its newest sequence number is {newest}; it was restored from a copy, or has lost by a crash what was never durable"
            );
            return Err(Error::gap(since.0, newest.0, &why));
        }
        if since == newest {
            // Whatever it is, nothing is missing behind it. What was read before is passed over when there is more.
            self.before = Some(since);
            self.position = Some(self.until.position).filter(|_| !self.hold.core.read_only);
            let last = self.logs.pop_back();
            self.logs = last.into_iter().collect();
            return Ok(());
        }
        if let Some(base) = self.before
            && since < base
        {
            return Err(Error::gap(since.0, base.0, "what held it is not kept any more"));
        }
        self.waiting = self.next_batch()?;
        if self.before.is_none() {
            // Nobody knows what came before the first log that is there, so ingests count only where they join on to it.
            // Behind the greatest there may be none: a number is made of it nevertheless, to compare with.
            let mut begin = self.waiting.as_ref().map_or(SeqNo(newest.0 + 1), |batch| batch.first);
            let mut earlier = self.ingests.partition_point(|ingest| ingest.seq < begin);
            while earlier > 0 && self.ingests[earlier - 1].seq.0 + 1 == begin.0 {
                earlier -= 1;
                begin = self.ingests[earlier].seq;
            }
            self.ingests.drain(..earlier);
            self.before = Some(SeqNo(begin.0 - 1).max(self.from));
        }
        // What came last before the next change in the line.
        let begins = [self.ingests.front().map(|ingest| ingest.seq), self.waiting.as_ref().map(|batch| batch.first)];
        let next = begins.into_iter().flatten().min().map_or(newest, |begin| SeqNo(begin.0 - 1));
        let before = self.before.unwrap_or(next).max(self.from);
        if since >= before {
            self.lacks_nothing_up_to(next)?;
        }
        // What the manifest has forgotten may lie between batches that are in logs still.
        let is_known = since >= self.from;
        if is_known && since >= next || since == before || since > before && self.ends_with_ingest {
            return Ok(());
        }
        let why = match since < before {
            true => "what held it is not kept any more",
            // Told before a crash that has undone it, or made up.
            false => "no change ends with it: it was lost by a crash before it was durable",
        };
        Err(Error::gap(since.0, if since < before { before.0 } else { next.0 }, why))
    }

    /// Whether nothing is in tables that came between what was told and `next`: a flush need not sync the log of what it has written, so a power cut may take that from the log alone.
    fn lacks_nothing_up_to(&self, next: SeqNo) -> Result<()> {
        if self.seen < self.in_tables && self.in_tables <= next {
            return Err(Error::gap(self.seen.0, next.0, "a crash has taken it from the log, and tables alone have it"));
        }
        Ok(())
    }

    /// The next change up to `until`.
    fn next_change(&mut self) -> Result<Option<Change>> {
        if self.waiting.is_none() {
            self.waiting = self.next_batch()?;
        }
        let comes_first = |ingest: &IngestMeta| self.waiting.as_ref().is_none_or(|batch| ingest.seq < batch.first);
        let change = match self.ingests.front().is_some_and(comes_first).then(|| self.ingests.pop_front()).flatten() {
            Some(ingest) => {
                let name = self.names.get(&ingest.keyspace);
                Some(Change::Ingest(IngestedChange {
                    seq: ingest.seq.0,
                    keyspace: ingest.keyspace,
                    keyspace_name: name.map(|named| named.name.to_string()),
                    tables: ingest.tables,
                    entries: ingest.entries,
                    smallest: ingest.smallest.into(),
                    largest: ingest.largest.into(),
                }))
            }
            None => self.waiting.take().map(Change::Batch),
        };
        let before_next = match &change {
            Some(Change::Batch(batch)) => SeqNo(batch.first.0 - 1),
            Some(Change::Ingest(ingest)) => SeqNo(ingest.seq - 1),
            None => self.until.seq,
        };
        self.lacks_nothing_up_to(before_next)?;
        if let Some(change) = &change {
            self.seen = SeqNo(change.seq());
        }
        Ok(change)
    }

    /// The next batch in the logs that is not known yet, up to `until`.
    fn next_batch(&mut self) -> Result<Option<ChangedBatch>> {
        loop {
            if self.position.is_some_and(|position| position >= self.until.position) {
                // What is read of the log being written is looked at anew when there is more.
                self.reader = None;
                return Ok(None);
            }
            let Some(log) = self.logs.front().copied() else { return Ok(None) };
            if self.reader.is_none() {
                self.open(log)?;
            }
            let Some(reader) = &mut self.reader else { continue };
            let name = FileKind::Wal(log.number).name();
            match reader.next()? {
                Some(record) => {
                    self.position = Some(record.end);
                    if record.kind != RecordKind::Data {
                        continue;
                    }
                    let damaged = |error| bad_record(&name, record.position, error);
                    let (first, ops) = batch::decode(record.payload).map_err(damaged)?;
                    if first == SeqNo::ZERO {
                        let position = record.position;
                        return Err(Error::corruption(format!(
                            "log {name}: the record at position {position} starts with sequence number 0"
                        )));
                    }
                    let last = SeqNo((first.0 + u64::from(ops.count_left())).saturating_sub(1));
                    if last > self.until.seq {
                        // It was refused, and is not part of the line.
                        self.reader = None;
                        self.position = Some(self.until.position);
                        return Ok(None);
                    }
                    if last <= self.seen {
                        self.before = Some(self.before.map_or(last, |before| before.max(last)));
                        continue;
                    }
                    ops.clone().try_for_each(|op| op.map(drop)).map_err(damaged)?;
                    let (encoded, names) = (record.payload.into(), Arc::clone(&self.names));
                    return Ok(Some(ChangedBatch { first, last, encoded, names }));
                }
                None => {
                    let end = reader.end().copied().expect("a reader that returns no record is at its end");
                    self.reader = None;
                    self.position = Some(end.position);
                    if self.logs.len() == 1 {
                        // It stays, to be gone on with. Behind its end somebody may be writing.
                        return self.is_last(end).map(|()| None);
                    }
                    self.logs.pop_front();
                    self.follows(&name, end)?;
                    if self.waiting.is_some() {
                        return Ok(self.waiting.take());
                    }
                }
            }
        }
    }

    /// Whether the last log may end there: what was there when it was looked at reaches no farther.
    fn is_last(&self, end: LogEnd) -> Result<()> {
        // Who only reads knows what the manifest says.
        let version = self.hold.core.read_only_version.get();
        let until = version.map_or(self.until.position, |version| version.log_durable);
        if end.position >= until {
            return Ok(());
        }
        if version.is_some() && !end.leftover && end.vouched <= end.position {
            if self.seen >= self.until.seq {
                return Ok(());
            }
            // It was flushed, which need not sync it, or logs that are not needed are gone.
            return Err(Error::gap(self.seen.0, self.until.seq.0, "no log has it, and tables alone may"));
        }
        let position = end.position;
        Err(Error::corruption(format!(
            "the logs that the feed of changes reads end at position {position}, but went on up to {until}"
        )))
    }

    /// Begins to read a log, or goes on where it was left.
    fn open(&mut self, log: Log) -> Result<()> {
        let core = &self.hold.core;
        let name = FileKind::Wal(log.number).name();
        let path = core.dir.join(&name);
        let file = match core.vfs.open_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It may have gone with the engine.
                core.check_open()?;
                let from = core.state.lock().feed.base.unwrap_or(self.until.seq).0;
                return Err(Error::gap(self.seen.0, from, &format!("log {name} is gone")));
            }
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        let mut reader = match Reader::open(file, &name) {
            Err(error @ WalError::NoHeader { .. }) => {
                return Err(Error::corruption(format!("{error}, and the feed of changes needs it")));
            }
            reader => reader?,
        };
        let (header, start) = (reader.header().number, reader.header().start);
        if header != log.number {
            return Err(Error::corruption(format!("log {name} says that it is number {header}")));
        }
        if let Some(position) = self.position.filter(|position| *position > start) {
            reader.skip_to(position)?;
        }
        self.reader = Some(reader);
        Ok(())
    }

    /// Whether the next log goes on where one ends.
    fn follows(&mut self, name: &str, end: LogEnd) -> Result<()> {
        let Some(next) = self.logs.front().copied() else { return Ok(()) };
        self.open_next(next)?;
        let start = self.reader.as_ref().map_or(end.position, |reader| reader.header().start);
        if start == end.position {
            return Ok(());
        }
        if end.leftover || end.vouched > end.position {
            return Err(Error::corruption(format!(
                "log {name} breaks at position {}, and the next one goes on at {start}: {}",
                end.position, end.cause
            )));
        }
        // Whole files are missing. The feed begins behind them.
        self.position = None;
        self.before = None;
        let since = self.seen;
        let from = match self.next_batch()? {
            Some(batch) => {
                let from = SeqNo(batch.first.0 - 1);
                self.waiting = Some(batch);
                from
            }
            None => self.until.seq,
        };
        // What has come since the engine was opened is in none of them.
        let from = from.min(self.at_open.max(self.from));
        if since >= from {
            return Ok(());
        }
        Err(Error::gap(since.0, from.0, &format!("what came behind log {name} is missing")))
    }

    fn open_next(&mut self, next: Log) -> Result<()> {
        let position = self.position.take();
        let opened = self.open(next);
        self.position = position;
        opened
    }

    fn advance(&mut self) -> Result<Option<Change>> {
        let log = |changes: &Self| changes.logs.front().map(|log| log.number);
        let before = log(self);
        if self.at_end {
            self.look()?;
        }
        let change = self.next_change()?;
        match &change {
            Some(_) if log(self) == before => {}
            Some(change) => {
                let needed_behind = match change {
                    // The log that it is in is still read, be it to its end: that must not be used again meanwhile.
                    Change::Batch(batch) => SeqNo(batch.first.0 - 1),
                    Change::Ingest(_) => self.seen,
                };
                let mut state = self.hold.core.state.lock();
                state.feed.move_hold(self.hold.number, needed_behind);
                let released = self.hold.core.trim_feed(&mut state);
                drop(state);
                self.hold.core.let_go_of_retained(released);
            }
            None => self.at_end = true,
        }
        Ok(change)
    }
}

impl Iterator for Changes {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Result<Change>> {
        if let Some((error, was_told)) = &mut self.failed {
            // By turns, so that a loop over it ends.
            *was_told = !*was_told;
            return was_told.then(|| Err(error.clone()));
        }
        let result = self.advance().map_err(|error| {
            if error.changes_from().is_some() {
                // It tells no more, and what it alone keeps must not be where somebody is sent to.
                self.hold.release();
            }
            gap::located(&self.hold.core, error)
        });
        if let Err(error) = &result {
            self.failed = Some((error.clone(), true));
        }
        result.transpose()
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Changes(behind {}, up to {})", self.seen, self.until.seq)
    }
}

impl Engine {
    /// What was committed with sequence numbers above `seq`, in order, up to what is visible now: batches as they were written, over all keyspaces, and ingests. 0 asks for all there ever was; then [`Change::seq`] of
    /// the last one that was dealt with, or [`Metrics::last_seq`](crate::Metrics::last_seq) of the moment from which on changes are wanted. A number within a batch has the whole batch told.
    ///
    /// It is read from the logs: from those that recovery needs anyway, and from older ones as long as they are kept, by [`Options::wal_retain_bytes`](crate::Options::wal_retain_bytes), by
    /// [`wal_retain_age`](crate::Options::wal_retain_age), or by [`hold_changes`](Self::hold_changes).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// use esker::{Change, Operation};
    /// let from = engine.metrics().last_seq;
    /// let _hold = engine.hold_changes(from)?;
    /// engine.put("a", "1")?;
    /// engine.delete_range("b", "c")?;
    /// engine.flush()?;
    /// let mut changes = engine.changes_since(from)?;
    /// for change in &mut changes {
    ///     let Change::Batch(batch) = change? else { continue };
    ///     for operation in batch.operations() {
    ///         if let Operation::Put { key, value, .. } = operation {
    ///             assert_eq!((key, value), (&b"a"[..], &b"1"[..]));
    ///         }
    ///     }
    /// }
    /// engine.put("d", "4")?;
    /// assert_eq!(changes.next().unwrap()?.seq(), from + 3, "asked again, it tells what came since");
    /// assert!(changes.next().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// The log is synced first, so no crash undoes what is told: see [`ChangeOptions::durable`].
    ///
    /// # Errors
    /// `Gap` if it is not certain that all that came behind `seq` can be told: [`Error::changes_from`] says from where on it can. `Corruption` if a log is damaged, `Io`; `Closed`; `ReadOnly` if writing has stopped, since then
    /// nobody knows what the log holds.
    pub fn changes_since(&self, seq: u64) -> Result<Changes> {
        self.changes_since_with(seq, &ChangeOptions::default())
    }

    /// As [`changes_since`](Self::changes_since), with settings.
    ///
    /// # Errors
    /// As [`changes_since`](Self::changes_since).
    pub fn changes_since_with(&self, seq: u64, options: &ChangeOptions) -> Result<Changes> {
        Changes::new(&self.handle.core, seq, *options)
    }

    /// Has the logs kept that hold what is newer than `seq`, for as long as the guard lives, whatever the options say: a flush then syncs the log. To have changes kept from now on, hold [`Metrics::last_seq`](crate::Metrics::last_seq).
    ///
    /// # Errors
    /// `Gap` if changes since `seq` can't be told already; as [`changes_since`](Self::changes_since) else.
    pub fn hold_changes(&self, seq: u64) -> Result<ChangesHold> {
        // Which finds out, and holds meanwhile.
        let changes = Changes::new(&self.handle.core, seq, ChangeOptions { durable: false })?;
        Ok(ChangesHold { hold: changes.hold, _engine: self.clone() })
    }
}
