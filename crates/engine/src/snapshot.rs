//! [`Snapshot`]: one instant, over all keyspaces, for as long as it is held.

use crate::core::{Core, KeyspaceCore};
use crate::engine::Handle;
use crate::error::{Error, Result};
use crate::expiry::AsOf;
use crate::instants::Instants;
pub(crate) use crate::instants::SnapshotView;
use crate::keyspace::Keyspace;
use crate::read::ReadState;
use crate::reads::{Reads, read_methods};
use arc_swap::Guard;
use esker_compaction::Times;
use esker_format::KeyspaceId;
use std::sync::Arc;
use std::time::Duration;

/// The snapshots that are held, so that flush and compaction keep what they see: see [`crate::instants`].
///
/// A compaction filter changes even that; so a snapshot that is taken while one is at work keeps the state that it finds, until it is released.
#[derive(Debug, Default)]
pub(crate) struct SnapshotList {
    /// And the keyspaces in which a filter is at work, once for each job.
    instants: Instants<Arc<KeyspaceCore>>,
}

/// A snapshot taken in the list, to be released.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) at: AsOf,
    /// The states of keyspaces in which a filter was at work: what it changes comes with the next state, and this snapshot is to see none of it.
    kept: Vec<(KeyspaceId, Arc<ReadState>)>,
}

impl Taken {
    /// What it reads in a keyspace. What a held snapshot sees is in every later state, also in the last one of a dropped keyspace.
    #[inline(never)]
    pub(crate) fn state_of(&self, keyspace: &KeyspaceCore) -> Guard<Arc<ReadState>> {
        match self.kept.iter().find(|(id, _)| *id == keyspace.id) {
            Some((_, state)) => Guard::from_inner(Arc::clone(state)),
            None => keyspace.read.load(),
        }
    }

    /// Whether a filter was at work in a keyspace when it was taken, so that it may see there what nobody else does.
    pub(crate) fn keeps_state_of(&self, keyspace: &KeyspaceCore) -> bool {
        self.kept.iter().any(|(id, _)| *id == keyspace.id)
    }
}

/// A job in which a filter works, for as long as this is there.
pub(crate) struct FilteringJob<'a> {
    list: &'a SnapshotList,
    keyspace: Arc<KeyspaceCore>,
}

impl Drop for FilteringJob<'_> {
    fn drop(&mut self) {
        self.list.instants.end_work(|other| Arc::ptr_eq(other, &self.keyspace));
    }
}

impl SnapshotView {
    pub(crate) fn times(&self) -> Times<'_> {
        Times { snapshots_ms: &self.times_ms, now_ms: self.now_ms }
    }
}

impl SnapshotList {
    pub(crate) fn take(&self, core: &Core) -> Taken {
        let state_of = |keyspace: &Arc<KeyspaceCore>| (keyspace.id, keyspace.read.load_full());
        let (at, kept) = self.instants.take(|| core.present(), || core.vfs.clock().now(), state_of);
        Taken { at, kept }
    }

    pub(crate) fn release(&self, taken: &Taken) {
        self.instants.release(taken.at);
    }

    /// Begins a job in which a filter works, before it takes its view.
    pub(crate) fn begin_filtering(&self, keyspace: &Arc<KeyspaceCore>) -> FilteringJob<'_> {
        self.instants.begin_work(Arc::clone(keyspace));
        FilteringJob { list: self, keyspace: Arc::clone(keyspace) }
    }

    pub(crate) fn view(&self, core: &Core) -> SnapshotView {
        self.instants.view(|| core.present())
    }

    /// How many snapshots are held, and since when the oldest of them.
    pub(crate) fn oldest(&self) -> (usize, Option<Duration>) {
        self.instants.oldest()
    }
}

impl Core {
    /// What is visible, as of now.
    fn present(&self) -> AsOf {
        AsOf { seq: self.visible(), unix_ms: self.now_ms_if_used() }
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
    taken: Taken,
    default: Keyspace,
}

impl Drop for HeldSnapshot {
    fn drop(&mut self) {
        self.handle.core.snapshots.release(&self.taken);
    }
}

impl Snapshot {
    pub(crate) fn new(handle: &Arc<Handle>, default: Keyspace) -> Self {
        Self::of_taken(handle, default, handle.core.snapshots.take(&handle.core))
    }

    /// Of one that was taken in the list; it is released with this.
    pub(crate) fn of_taken(handle: &Arc<Handle>, default: Keyspace, taken: Taken) -> Self {
        Self { held: Arc::new(HeldSnapshot { handle: Arc::clone(handle), taken, default }) }
    }

    fn reads(&self) -> Result<Reads<'_>> {
        Ok(Reads { keyspace: &self.held.default, at: Some(&self.held.taken) })
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.held.handle
    }

    pub(crate) fn default_keyspace(&self) -> &Keyspace {
        &self.held.default
    }

    pub(crate) fn taken(&self) -> &Taken {
        &self.held.taken
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
        self.held.taken.at.seq.0
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
        Ok(Reads { keyspace: self.keyspace, at: Some(&self.snapshot.held.taken) })
    }

    read_methods!();
}
