//! Filling memtables with what the logs hold.
//!
//! ```text
//! this thread    read ─> check ─> decode ─> gather ──┐         ┌─ gather the next ..
//!                                             window ▼         ▲ window, empty again
//! beside it                                          insert loose ─> when full, and at the end: tie, seal, write tables
//! ```
//! Nobody looks at a memtable while it is filled, so entries are inserted loose: stored and indexed in the order of the log, put in order all at once. Windows are small, so that they stay
//! in the processor's caches. Of the two threads the one that reads has less to do; where the other is behind, it faults in the memory that entries will take. With
//! [`Background::Manual`](crate::Background), or for a log shorter than a window, all is done by one thread: that is the plain form of the same.
//!
//! Invariants
//! - Windows are filled, and taken in, in the order of the log. So of each key the versions are inserted in the order of their numbers, as the memtable's index likes it, and no
//!   memtable holds an operation older than one that is in a memtable sealed before it.
//! - An operation is judged (its keyspace, whether it is in a table already) when it is gathered: of two errors the one further to the front of the log is returned.
//! - A memtable is tied before it is sealed or written, and when all is replayed: none is loose once the engine is open.

use crate::background;
use crate::commit::hides_many;
use crate::core::{Core, KeyspaceCore};
use crate::error::{Error, Result};
use crate::memory::CountedTable;
use crate::open::Pending;
use crate::recovery::{self, Numbered, Replayed, Told};
use esker_format::batch::BatchOp;
use esker_format::{FileNo, InternalKey, KeyHash, KeyspaceId, SeqNo, ValueKind};
use esker_manifest::Version;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// How large a window is, by what it will take in memtables: this, unless there is little memory. Those on their way are to lie in the caches; each costs two threads a hand-over.
const WINDOW_BYTES_MAX: usize = 256 << 10;
const WINDOW_BYTES_MIN: usize = 32 << 10;
/// All memtables together have room for no fewer windows.
const WINDOWS_MIN: usize = 12;

/// How many windows there are beside the one that is gathered.
const WINDOWS_BESIDE: usize = 3;

/// How much memory for memtables the thread that reads has ready when the other is behind.
const PREPARED_BYTES: usize = 3 << 20;

/// What an entry takes in a memtable beside key and value: about so much.
const ENTRY_BYTES: usize = 80;

/// An operation, its key and value in the window's bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: KeyHash,
    seq: SeqNo,
    keyspace: KeyspaceId,
    key_at: u32,
    value_at: u32,
    value_bytes: u32,
    /// How many operations of its batch come behind it.
    batch_left: u32,
    key_bytes: u16,
    kind: ValueKind,
}

/// Operations in the order of the log.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Whether any of them is a range tombstone.
    has_ranges: bool,
    /// Whether any of them expires.
    expires: bool,
}

impl Window {
    /// About what it will weigh in memtables.
    fn weight(&self) -> usize {
        self.bytes.len() + self.entries.len() * ENTRY_BYTES
    }

    /// Whether there is room for an operation; for the first there always is. So each place has 32 bits: those of the first, however long, and of what else goes into a window.
    fn takes(&self, op: &BatchOp<'_>, bytes_max: usize) -> bool {
        self.entries.is_empty() || self.weight() + weight_of(op.key.len(), op.value.len()) <= bytes_max
    }

    fn add(&mut self, Numbered { op, seq, batch_end }: &Numbered<'_>) {
        let at = self.bytes.len();
        self.has_ranges |= op.kind == ValueKind::RangeDelete;
        self.expires |= op.kind.expires();
        self.bytes.extend_from_slice(op.key);
        self.bytes.extend_from_slice(op.value);
        self.entries.push(Entry {
            hash: KeyHash::of(op.key),
            seq: *seq,
            keyspace: op.keyspace,
            key_at: at as u32,
            value_at: (at + op.key.len()) as u32,
            value_bytes: op.value.len() as u32,
            batch_left: (batch_end.0 - seq.0) as u32,
            key_bytes: op.key.len() as u16,
            kind: op.kind,
        });
    }

    fn key_of(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.key_at as usize..][..usize::from(entry.key_bytes)]
    }

    fn value_of(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.value_at as usize..][..entry.value_bytes as usize]
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(2 * WINDOW_BYTES_MAX);
        self.entries.clear();
        self.has_ranges = false;
        self.expires = false;
    }
}

fn weight_of(key_bytes: usize, value_bytes: usize) -> usize {
    key_bytes + value_bytes + ENTRY_BYTES
}

/// The active memtable of a keyspace, which takes in what was replayed; not put in order yet.
struct Filling {
    keyspace: Arc<KeyspaceCore>,
    active: Arc<CountedTable>,
}

impl Filling {
    fn of(keyspace: &Arc<KeyspaceCore>) -> Self {
        Self { keyspace: Arc::clone(keyspace), active: Arc::clone(&keyspace.read.load().active) }
    }

    /// Inserts the first of `entries` in the memtable, as many as there is room for, or one; how many, and whether it is full.
    fn insert(&self, window: &Window, entries: &[Entry]) -> (usize, bool) {
        if window.expires {
            // Relaxed: nobody reads yet.
            self.keyspace.expires.store(true, Ordering::Relaxed);
        }
        let table = &self.active.table;
        let bytes_max = self.keyspace.memtable_bytes();
        let room = bytes_max.saturating_sub(table.memory_bytes());
        let mut bytes = 0;
        let fit = entries.iter().take_while(|entry| {
            let has_room = bytes <= room;
            bytes += weight_of(usize::from(entry.key_bytes), entry.value_bytes as usize);
            has_room
        });
        let count = fit.count();
        let entry = |entry: &'_ Entry| {
            (InternalKey::new(window.key_of(entry), entry.seq, entry.kind), entry.hash, window.value_of(entry))
        };
        let mut rest = &entries[..count];
        loop {
            let is_range = |entry: &Entry| entry.kind == ValueKind::RangeDelete;
            let range = if window.has_ranges { rest.iter().position(is_range) } else { None };
            let (loose, behind) = rest.split_at(range.unwrap_or(rest.len()));
            if !loose.is_empty() {
                table.insert_loose(loose.iter().map(entry));
            }
            // Range tombstones have nothing to be put in order with.
            let Some((range, behind)) = behind.split_first() else { break };
            let (key, _, end) = entry(range);
            table.insert(key, end);
            rest = behind;
        }
        let last = entries[count - 1];
        self.active.count(SeqNo(last.seq.0 + u64::from(last.batch_left)));
        (count, table.memory_bytes() >= bytes_max)
    }

    /// Puts in order what was inserted.
    fn tie(&self) {
        if !self.active.table.is_empty() {
            self.active.table.tie();
            self.active.count(self.active.batch_end());
        }
    }
}

/// The end that takes windows in.
struct Filler<'a> {
    core: &'a Core,
    fillings: BTreeMap<KeyspaceId, Filling>,
    pending: &'a mut Vec<Pending>,
}

impl Filler<'_> {
    fn take_in(&mut self, window: &Window) -> Result<()> {
        window.entries.chunk_by(|a, b| a.keyspace == b.keyspace).try_for_each(|run| self.insert(window, run))
    }

    /// Inserts entries of one keyspace.
    fn insert(&mut self, window: &Window, run: &[Entry]) -> Result<()> {
        let core = self.core;
        let mut rest = run;
        while let Some(first) = rest.first() {
            let filling = self.fillings.get_mut(&first.keyspace).expect("an operation is judged before it is gathered");
            let (count, is_full) = filling.insert(window, rest);
            // The numbers replayed so far are what a flush may look at.
            core.visible.raise(rest[count - 1].seq);
            rest = &rest[count..];
            if core.read_only {
                continue;
            }
            if is_full {
                filling.tie();
                core.seal_memtable(&filling.keyspace);
                *filling = Filling::of(&filling.keyspace);
            }
            // What lies in the pool does not count: it gives way, and how much there is depends on which thread was faster.
            if core.memory.tables_bytes() >= core.options.memtables_bytes_max() / 4 * 3 {
                self.write_largest()?;
            }
        }
        Ok(())
    }

    /// Writes the memtables of the keyspace that holds most.
    fn write_largest(&mut self) -> Result<()> {
        let held = |filling: &&mut Filling| -> usize {
            filling.keyspace.read.load().memtables().map(|memtable| memtable.table.memory_bytes()).sum()
        };
        let largest = self.fillings.values_mut().max_by_key(held).expect("one was just written to");
        largest.tie();
        self.core.write_recovered(&largest.keyspace, self.pending)?;
        *largest = Filling::of(&largest.keyspace);
        Ok(())
    }

    /// Puts in order what was taken in.
    fn finish(&self) {
        self.fillings.values().for_each(Filling::tie);
    }
}

/// Who takes windows in.
enum Taker<'env> {
    /// The thread that reads.
    Here(Filler<'env>),
    Beside(Beside),
}

/// Windows on their way to a thread that takes them in, and back.
struct Beside {
    full: SyncSender<Window>,
    empty: Receiver<(Window, Result<()>)>,
    /// How many are there.
    lent: usize,
}

impl Beside {
    fn start<'scope, 'env>(scope: &'scope Scope<'scope, 'env>, mut filler: Filler<'env>) -> io::Result<Self> {
        let (full, windows) = sync_channel::<Window>(WINDOWS_BESIDE);
        let (back, empty) = sync_channel(WINDOWS_BESIDE);
        background::beside(scope, "esker-refill", move || {
            for mut window in windows {
                let result = filler.take_in(&window);
                window.clear();
                let is_last = result.is_err();
                if back.send((window, result)).is_err() || is_last {
                    return;
                }
            }
            filler.finish();
        })?;
        Ok(Self { full, empty, lent: 0 })
    }

    /// Hands `window` over for an empty one. If there is none yet, does something else meanwhile.
    fn exchange(&mut self, window: &mut Window, meanwhile: impl FnOnce()) -> Result<()> {
        let next = if self.lent < WINDOWS_BESIDE {
            Window::default()
        } else if let Ok(back) = self.empty.try_recv() {
            self.is_back(back)?
        } else {
            meanwhile();
            self.get_back()?
        };
        match self.full.send(std::mem::replace(window, next)) {
            Ok(()) => {
                self.lent += 1;
                Ok(())
            }
            // It has ended, and has said why.
            Err(_) => self.drain().and(Err(Error::closed())),
        }
    }

    fn get_back(&mut self) -> Result<Window> {
        // It ends without a word only if it panics, and the scope passes that on.
        let back = self.empty.recv().map_err(|_| Error::closed())?;
        self.is_back(back)
    }

    fn is_back(&mut self, (window, result): (Window, Result<()>)) -> Result<Window> {
        self.lent -= 1;
        result.map(|()| window)
    }

    /// Waits until all is taken in.
    fn drain(&mut self) -> Result<()> {
        while self.lent > 0 {
            self.get_back()?;
        }
        Ok(())
    }
}

/// Takes operations in the order of the log, and has them inserted.
struct Gatherer<'scope, 'env> {
    core: &'env Core,
    scope: &'scope Scope<'scope, 'env>,
    next_keyspace: KeyspaceId,
    /// What of each keyspace is in tables already.
    flushed: BTreeMap<KeyspaceId, SeqNo>,
    window: Window,
    window_bytes: usize,
    /// `None` once an error was returned.
    taker: Option<Taker<'env>>,
}

impl<'scope, 'env> Gatherer<'scope, 'env> {
    fn new(scope: &'scope Scope<'scope, 'env>, filler: Filler<'env>, version: &Version) -> Self {
        let core = filler.core;
        Self {
            core,
            scope,
            next_keyspace: version.next_keyspace,
            flushed: filler.fillings.keys().map(|id| (*id, version.keyspaces[id].flushed_seq)).collect(),
            window: Window::default(),
            window_bytes: (core.options.memtables_bytes_max() / WINDOWS_MIN).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX),
            taker: Some(Taker::Here(filler)),
        }
    }

    #[inline]
    fn add(&mut self, numbered: &Numbered<'_>) -> Result<()> {
        let op = &numbered.op;
        let Some(flushed) = self.flushed.get(&op.keyspace) else {
            if op.keyspace < self.next_keyspace {
                // Dropped since: its number is never used again.
                return Ok(());
            }
            return Err(Error::corruption(format!("a log names keyspace {}, which never was", op.keyspace)));
        };
        if numbered.seq <= *flushed {
            return Ok(());
        }
        if !self.window.takes(op, self.window_bytes) {
            // There is more than one window: a thread for them is worth its while.
            if let Some(Taker::Here(filler)) =
                self.taker.take_if(|taker| matches!(taker, Taker::Here(_)) && !self.core.manual)
            {
                let started = Beside::start(self.scope, filler);
                self.taker = Some(Taker::Beside(
                    started.map_err(|error| Error::io("start threads for", &self.core.dir, error))?,
                ));
            }
            self.hand_over()?;
        }
        self.window.add(numbered);
        Ok(())
    }

    fn hand_over(&mut self) -> Result<()> {
        let result = match &mut self.taker {
            Some(Taker::Here(filler)) => filler.take_in(&self.window).map(|()| self.window.clear()),
            Some(Taker::Beside(beside)) => {
                // Where the other is behind, part of its work is done here: else it faults in what it writes to itself.
                let memory = &self.core.memory;
                beside.exchange(&mut self.window, || memory.prepare(PREPARED_BYTES))
            }
            None => Ok(()),
        };
        if result.is_err() {
            self.taker = None;
        }
        result
    }

    /// Has everything taken in that was gathered.
    fn finish(&mut self) -> Result<()> {
        self.hand_over()?;
        match self.taker.take() {
            Some(Taker::Here(filler)) => filler.finish(),
            // Which then does the same: nothing more will come.
            Some(Taker::Beside(mut beside)) => beside.drain()?,
            None => {}
        }
        Ok(())
    }

    /// Waits until what was handed over is taken in.
    fn wait(&mut self) -> Result<()> {
        match &mut self.taker {
            Some(Taker::Beside(beside)) => beside.drain(),
            _ => Ok(()),
        }
    }
}

impl Core {
    /// Seals the active memtable of a keyspace if ranges deleted in it hide much of what else is in it: of that the flush leaves nothing, where scans would go over it entry by entry. When it was written
    /// the tombstone went into a memtable of its own, but replay puts together what has room.
    fn seal_what_it_hides(&self, keyspace: &KeyspaceCore) {
        let active = Arc::clone(&keyspace.read.load().active);
        let ranges = active.table.range_tombstones(SeqNo::MAX).filter(|_| !self.read_only);
        if ranges.is_some_and(|ranges| ranges.iter().any(|range| hides_many(&active, range))) {
            self.seal_memtable(keyspace);
        }
    }

    /// Replays the logs into the memtables; what does not fit in memory is written as tables, which are added to `pending`.
    pub(crate) fn replay(
        &self,
        version: &Version,
        told: Told,
        logs: &[FileNo],
        pending: &mut Vec<Pending>,
    ) -> Result<Replayed> {
        let keyspaces = self.commit.lock().keyspaces.clone();
        let fillings = keyspaces.iter().map(|(id, keyspace)| (*id, Filling::of(keyspace))).collect();
        let filler = Filler { core: self, fillings, pending };
        background::helped(|scope| {
            let mut gatherer = Gatherer::new(scope, filler, version);
            let mode = self.options.recovery;
            let replayed = recovery::replay(&*self.vfs, &self.dir, logs, told, mode, |op| gatherer.add(&op));
            match replayed {
                Ok(replayed) => {
                    gatherer.finish()?;
                    keyspaces.values().for_each(|keyspace| self.seal_what_it_hides(keyspace));
                    Ok(replayed)
                }
                // What went wrong in taking in what lies before that comes first.
                Err(error) => gatherer.wait().and(Err(error)),
            }
        })
    }
}
