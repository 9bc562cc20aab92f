//! [`Snapshot`]: one instant, over all keyspaces, for as long as it is held.

use crate::core::Core;
use crate::engine::Handle;
use crate::error::{Error, Result};
use crate::expiry::AsOf;
use crate::keyspace::Keyspace;
use crate::reads::{Reads, read_methods};
use esker_compaction::Times;
use esker_format::SeqNo;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The snapshots that are held, so that flush and compaction keep what they see.
///
/// Taking one and listing them are ordered by this lock: a list taken before a snapshot has a horizon at or below that snapshot's number, so the newest version
/// at the horizon, which every job keeps, is there for the snapshot to see.
#[derive(Debug, Default)]
pub(crate) struct SnapshotList {
    /// By the instant that each sees: in one order of both, since time goes on as the numbers do.
    held: Mutex<BTreeMap<(SeqNo, u64), Held>>,
}

#[derive(Debug)]
struct Held {
    count: usize,
    since: Duration,
}

/// What a job must keep versions for.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotView {
    /// Ascending.
    pub(crate) snapshots: Vec<SeqNo>,
    /// When each was taken; of several at one number the earliest.
    pub(crate) times_ms: Vec<u64>,
    /// What time it was when the list was made.
    pub(crate) now_ms: u64,
    /// What was visible when the list was made; everything a job reads is at or below it.
    pub(crate) horizon: SeqNo,
}

impl SnapshotView {
    pub(crate) fn times(&self) -> Times<'_> {
        Times { snapshots_ms: &self.times_ms, now_ms: self.now_ms }
    }
}

impl SnapshotList {
    pub(crate) fn take(&self, core: &Core) -> AsOf {
        let mut held = self.held.lock();
        let at = AsOf { seq: core.visible(), unix_ms: core.now_ms_if_used() };
        held.entry((at.seq, at.unix_ms)).or_insert_with(|| Held { count: 0, since: core.vfs.clock().now() }).count += 1;
        at
    }

    pub(crate) fn release(&self, at: AsOf) {
        let mut held = self.held.lock();
        let entry = held.get_mut(&(at.seq, at.unix_ms)).expect("a snapshot is in the list until it is released");
        entry.count -= 1;
        if entry.count == 0 {
            held.remove(&(at.seq, at.unix_ms));
        }
    }

    pub(crate) fn view(&self, core: &Core) -> SnapshotView {
        let held = self.held.lock();
        let mut instants: Vec<(SeqNo, u64)> = held.keys().copied().collect();
        instants.dedup_by_key(|(seq, _)| *seq);
        let (snapshots, times_ms) = instants.into_iter().unzip();
        SnapshotView { snapshots, times_ms, horizon: core.visible(), now_ms: core.now_ms_if_used() }
    }

    /// How many snapshots are held, and since when the oldest of them.
    pub(crate) fn oldest(&self) -> (usize, Option<Duration>) {
        let held = self.held.lock();
        (held.values().map(|held| held.count).sum(), held.values().map(|held| held.since).min())
    }
}

/// One instant of an engine, over all its keyspaces. Cheap to clone.
///
/// It sees every write that returned before it was taken and none that began after; a batch whole or not at all. A keyspace made later reads as empty through it.
/// What it sees is kept on disk for as long as it lives: [`crate::Metrics::oldest_snapshot_age`] shows forgotten ones.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let engine = esker::Engine::open(dir.path())?;
/// engine.put("k", "old")?;
/// let snapshot = engine.snapshot();
/// engine.put("k", "new")?;
/// assert_eq!(snapshot.get("k")?.unwrap(), b"old");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    held: Arc<HeldSnapshot>,
}

#[derive(Debug)]
struct HeldSnapshot {
    handle: Arc<Handle>,
    at: AsOf,
    default: Keyspace,
}

impl Drop for HeldSnapshot {
    fn drop(&mut self) {
        self.handle.core.snapshots.release(self.at);
    }
}

impl Snapshot {
    pub(crate) fn new(handle: &Arc<Handle>, default: Keyspace) -> Self {
        Self::of_taken(handle, default, handle.core.snapshots.take(&handle.core))
    }

    /// Of an instant that was taken in the list; it is released with this.
    pub(crate) fn of_taken(handle: &Arc<Handle>, default: Keyspace, at: AsOf) -> Self {
        Self { held: Arc::new(HeldSnapshot { handle: Arc::clone(handle), at, default }) }
    }

    fn reads(&self) -> Result<Reads<'_>> {
        Ok(Reads { keyspace: &self.held.default, at: Some(self.held.at) })
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.held.handle
    }

    pub(crate) fn default_keyspace(&self) -> &Keyspace {
        &self.held.default
    }

    pub(crate) fn seq_no(&self) -> SeqNo {
        self.held.at.seq
    }

    pub(crate) fn at(&self) -> AsOf {
        self.held.at
    }

    /// The same instant in another keyspace, also in one that was dropped since.
    ///
    /// # Errors
    /// Reads of a keyspace of another engine are refused as `InvalidArgument`.
    pub fn of<'a>(&'a self, keyspace: &'a Keyspace) -> SnapshotOf<'a> {
        SnapshotOf { snapshot: self, keyspace }
    }

    /// The sequence number of the last write it sees.
    pub fn seq(&self) -> u64 {
        self.held.at.seq.0
    }

    read_methods!();
}

/// A [`Snapshot`] of one keyspace.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotOf<'a> {
    snapshot: &'a Snapshot,
    keyspace: &'a Keyspace,
}

impl SnapshotOf<'_> {
    pub(crate) fn reads(&self) -> Result<Reads<'_>> {
        if self.keyspace.engine_number() != self.snapshot.held.handle.core.number {
            return Err(Error::invalid("the keyspace belongs to another engine than the snapshot"));
        }
        Ok(Reads { keyspace: self.keyspace, at: Some(self.snapshot.held.at) })
    }

    read_methods!();
}
