//! Filling memtables with what the logs hold: gathered in windows, sorted, inserted.
//!
//! ```text
//! this thread    read ─> check ─> decode ─> gather ─> sort ─┐           ┌─ gather the next ..
//!                                                    window ▼           ▲ window, empty again
//! beside it                                                 insert, seal, write tables
//! ```
//! An insert at a random place waits for memory several times; one behind the last key inserted seldom does. So operations are sorted by key before they are inserted, as many at a
//! time as a window holds, and the memory that they will take is faulted in by the thread that reads. With [`Background::Manual`](crate::Background), or for a log shorter than a
//! window, all is done by one thread: that is the plain form of the same.
//!
//! Invariants
//! - Windows are filled, and taken in, in the order of the log. So of each key the versions are inserted in the order of their numbers, as the memtable's index likes it, and no
//!   memtable holds an operation older than one that is in a memtable sealed before it.
//! - An operation is judged (its keyspace, whether it is in a table already) when it is gathered: of two errors the one further to the front of the log is returned.

use crate::background;
use crate::core::{Core, KeyspaceCore};
use crate::error::{Error, Result};
use crate::open::Pending;
use crate::recovery::{self, Numbered, Replayed};
use esker_format::batch::BatchOp;
use esker_format::{FileNo, InternalKey, KeyHash, KeyspaceId, SeqNo, ValueKind, head_of};
use esker_manifest::Version;
use esker_vfs::prefetch_range;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// How large a window is, by what it will take in memtables: this, unless there is little memory. The larger, the more entries go into each leaf of a memtable at a time, and the
/// longer ago was its own memory last touched.
const WINDOW_BYTES_MAX: usize = 16 << 20;
const WINDOW_BYTES_MIN: usize = 32 << 10;
/// All memtables together have room for no fewer windows.
const WINDOWS_MIN: usize = 12;

/// How many windows there are beside the one that is gathered.
const WINDOWS_BESIDE: usize = 1;

/// How many entries ahead memory is asked for what an insert will touch: about as many as are inserted until it answers.
const AHEAD: usize = 6;
/// Of an entry's key and value, no more than this.
const AHEAD_BYTES: usize = 512;

/// What an entry takes in a memtable beside key and value: about so much.
const ENTRY_BYTES: usize = 80;

/// An operation, its key and value in the window's bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The key's first bytes behind what all keys that are sorted with it have in common.
    head: u64,
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

/// Entries of one keyspace, sorted, to be inserted together.
#[derive(Debug)]
struct Run {
    entries: Range<usize>,
    /// The last number of the last batch among them.
    batch_end: SeqNo,
    /// Whether they fill a memtable.
    fills: bool,
}

/// Operations in the order of the log, until they are sorted.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    runs: Vec<Run>,
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
        self.bytes.extend_from_slice(op.key);
        self.bytes.extend_from_slice(op.value);
        self.entries.push(Entry {
            head: 0,
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
        key_in(&self.bytes, entry)
    }

    fn value_of(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.value_at as usize..][..entry.value_bytes as usize]
    }

    /// Puts the entries of each keyspace together and sorts them, in runs that end where a memtable is full.
    fn sort(&mut self, memtables: &mut BTreeMap<KeyspaceId, Memtable>) {
        if self.entries.iter().any(|entry| entry.keyspace != self.entries[0].keyspace) {
            // Stable: by number within each.
            self.entries.sort_by_key(|entry| entry.keyspace);
        }
        let mut from = 0;
        while from < self.entries.len() {
            let keyspace = self.entries[from].keyspace;
            let memtable = memtables.get_mut(&keyspace).expect("an operation is judged before it is gathered");
            let same = self.entries[from..].iter().take_while(|entry| entry.keyspace == keyspace);
            let (count, fills) = memtable.fill(same);
            let entries = from..from + count;
            let last = self.entries[entries.end - 1];
            from = entries.end;
            sort_by_key(&mut self.entries[entries.clone()], &self.bytes);
            self.runs.push(Run { entries, batch_end: SeqNo(last.seq.0 + u64::from(last.batch_left)), fills });
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(2 * WINDOW_BYTES_MAX);
        self.entries.clear();
        self.runs.clear();
    }
}

fn weight_of(key_bytes: usize, value_bytes: usize) -> usize {
    key_bytes + value_bytes + ENTRY_BYTES
}

fn key_in<'a>(bytes: &'a [u8], entry: &Entry) -> &'a [u8] {
    &bytes[entry.key_at as usize..][..usize::from(entry.key_bytes)]
}

/// Sorts by user key, then number.
fn sort_by_key(entries: &mut [Entry], bytes: &[u8]) {
    let Some(first) = entries.first().map(|entry| key_in(bytes, entry)) else { return };
    let common = entries.iter().fold(first.len(), |common, entry| {
        let key = key_in(bytes, entry);
        if key.starts_with(&first[..common]) {
            return common;
        }
        key.iter().zip(first).take_while(|(a, b)| a == b).count()
    });
    for entry in entries.iter_mut() {
        entry.head = head_of(&key_in(bytes, entry)[common..]);
    }
    entries.sort_unstable_by(|a, b| {
        let by_key = || key_in(bytes, a).cmp(key_in(bytes, b));
        a.head.cmp(&b.head).then_with(by_key).then(a.seq.cmp(&b.seq))
    });
}

/// How much goes into the memtable of a keyspace, as the one who gathers reckons: what is inserted lags behind.
#[derive(Debug)]
struct Memtable {
    /// What is in tables already.
    flushed: SeqNo,
    bytes_max: usize,
    bytes: usize,
}

impl Memtable {
    /// Puts entries in until it is full; how many, at least one of one or more, and whether it is. Then it is another one, empty.
    fn fill<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> (usize, bool) {
        let mut count = 0;
        for entry in entries {
            count += 1;
            self.bytes += weight_of(usize::from(entry.key_bytes), entry.value_bytes as usize);
            if self.bytes >= self.bytes_max {
                self.bytes = 0;
                return (count, true);
            }
        }
        (count, false)
    }
}

/// The end that takes windows in.
struct Filler<'a> {
    core: &'a Core,
    keyspaces: &'a BTreeMap<KeyspaceId, Arc<KeyspaceCore>>,
    pending: &'a mut Vec<Pending>,
}

impl Filler<'_> {
    fn take_in(&mut self, window: &Window) -> Result<()> {
        window.runs.iter().try_for_each(|run| self.insert(window, run))
    }

    fn insert(&mut self, window: &Window, run: &Run) -> Result<()> {
        let core = self.core;
        let entries = &window.entries[run.entries.clone()];
        let keyspace = &self.keyspaces[&entries[0].keyspace];
        let active = Arc::clone(&keyspace.read.load().active);
        let mut newest = SeqNo::ZERO;
        for (i, entry) in entries.iter().enumerate() {
            if let Some(ahead) = entries.get(i + AHEAD) {
                active.table.prefetch(ahead.hash);
                let bytes = usize::from(ahead.key_bytes) + ahead.value_bytes as usize;
                prefetch_range(&window.bytes, ahead.key_at as usize, bytes.min(AHEAD_BYTES));
            }
            let key = InternalKey::new(window.key_of(entry), entry.seq, entry.kind);
            active.table.insert_hashed(key, entry.hash, window.value_of(entry));
            newest = newest.max(entry.seq);
        }
        active.count(run.batch_end);
        let full = run.fills || active.table.memory_bytes() >= keyspace.memtable_bytes();
        // The numbers replayed so far are what a flush may look at.
        core.visible.fetch_max(newest.0, Ordering::Release);
        if core.read_only {
            return Ok(());
        }
        if full {
            core.seal_memtable(keyspace);
        }
        if core.memory.bytes() < core.options.memtables_bytes_max() / 4 * 3 {
            return Ok(());
        }
        let held = |keyspace: &&Arc<KeyspaceCore>| -> usize {
            keyspace.read.load().memtables().map(|memtable| memtable.table.memory_bytes()).sum()
        };
        let largest = self.keyspaces.values().max_by_key(held).expect("one was just written to");
        core.write_recovered(largest, self.pending)
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
        })?;
        Ok(Self { full, empty, lent: 0 })
    }

    /// Hands `window` over for an empty one.
    fn exchange(&mut self, window: &mut Window) -> Result<()> {
        let next = if self.lent < WINDOWS_BESIDE { Window::default() } else { self.get_back()? };
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
        let (window, result) = self.empty.recv().map_err(|_| Error::closed())?;
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
    memtables: BTreeMap<KeyspaceId, Memtable>,
    window: Window,
    window_bytes: usize,
    /// `None` once an error was returned.
    taker: Option<Taker<'env>>,
}

impl<'scope, 'env> Gatherer<'scope, 'env> {
    fn new(scope: &'scope Scope<'scope, 'env>, filler: Filler<'env>, version: &Version) -> Self {
        let core = filler.core;
        let memtable = |keyspace: &Arc<KeyspaceCore>| Memtable {
            flushed: version.keyspaces[&keyspace.id].flushed_seq,
            bytes_max: keyspace.memtable_bytes(),
            bytes: 0,
        };
        Self {
            core,
            scope,
            next_keyspace: version.next_keyspace,
            memtables: filler.keyspaces.iter().map(|(id, keyspace)| (*id, memtable(keyspace))).collect(),
            window: Window::default(),
            window_bytes: (core.options.memtables_bytes_max() / WINDOWS_MIN).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX),
            taker: Some(Taker::Here(filler)),
        }
    }

    fn add(&mut self, numbered: &Numbered<'_>) -> Result<()> {
        let op = &numbered.op;
        let Some(memtable) = self.memtables.get(&op.keyspace) else {
            if op.keyspace < self.next_keyspace {
                // Dropped since: its number is never used again.
                return Ok(());
            }
            return Err(Error::corruption(format!("a log names keyspace {}, which never was", op.keyspace)));
        };
        if numbered.seq <= memtable.flushed {
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
        self.window.sort(&mut self.memtables);
        let result = match &mut self.taker {
            Some(Taker::Here(filler)) => filler.take_in(&self.window).map(|()| self.window.clear()),
            Some(Taker::Beside(beside)) => {
                // While the other is busy with what it got before.
                self.core.memory.prepare(self.window.weight());
                beside.exchange(&mut self.window)
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
        self.wait()
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
    /// Replays the logs into the memtables; what does not fit in memory is written as tables, which are added to `pending`.
    pub(crate) fn replay(&self, version: &Version, logs: &[FileNo], pending: &mut Vec<Pending>) -> Result<Replayed> {
        let keyspaces = self.commit.lock().keyspaces.clone();
        let filler = Filler { core: self, keyspaces: &keyspaces, pending };
        background::helped(|scope| {
            let mut gatherer = Gatherer::new(scope, filler, version);
            let (oldest, durable, mode) = (version.oldest_log, version.log_durable, self.options.recovery);
            let replayed = recovery::replay(&*self.vfs, &self.dir, logs, oldest, durable, mode, |op| gatherer.add(&op));
            match replayed {
                Ok(replayed) => gatherer.finish().map(|()| replayed),
                // What went wrong in taking in what lies before that comes first.
                Err(error) => gatherer.wait().and(Err(error)),
            }
        })
    }
}
