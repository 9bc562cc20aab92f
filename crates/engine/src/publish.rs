//! What readers see: entries before the number that shows them, a read state before what only it holds.
//!
//! ```text
//! commit      [a state with a new memtable, put in place]     insert     visible = the last number      one at a time
//! ingest      a state with the table, put in place                       visible = its number           as a commit
//! job         a state without what nobody can see, put in place                                         beside both
//! reader      swaps     state     number     swaps again: as before, so state and number belong together
//! ```

use esker_format::SeqNo;
use std::sync::atomic::Ordering;
// From beside this module, since its model puts others in their place.
use super::sync::{Arc, ArcSwap, AtomicU64, Guard};

/// Puts in place what is to be shown: a closure, or what is to be inlined where a closure would become a call.
pub(crate) trait PutInPlace {
    fn put_in_place(self);
}

impl<F: FnOnce()> PutInPlace for F {
    #[inline(always)]
    fn put_in_place(self) {
        self();
    }
}

/// The newest sequence number that readers may see.
#[derive(Debug)]
pub(crate) struct Visible(AtomicU64);

impl Visible {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn now(&self) -> SeqNo {
        // Acquire: pairs with the Release below, so that the entries up to this number, and the swap before the first of them, are there to be seen.
        SeqNo(self.0.load(Ordering::Acquire))
    }

    /// Has what is numbered up to `last` put in place, and then shows it. One call at a time, in the order of the numbers.
    #[inline(always)]
    pub(crate) fn publish(&self, last: SeqNo, what: impl PutInPlace) {
        what.put_in_place();
        // Release: pairs with the Acquire above.
        self.0.store(last.0, Ordering::Release);
    }

    /// Shows what has been put in place up to `last`, which may not be the newest.
    pub(crate) fn raise(&self, last: SeqNo) {
        // Release: as in `publish`.
        self.0.fetch_max(last.0, Ordering::Release);
    }
}

/// The state of a keyspace that is read now.
///
/// Loading it touches nothing that other threads write: the guard is noted down in memory of this thread's own, and a swap looks there.
pub(crate) struct Current<T> {
    state: ArcSwap<T>,
    /// How often the state was swapped.
    swaps: AtomicU64,
}

impl<T> Current<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { state: ArcSwap::from_pointee(state), swaps: AtomicU64::new(0) }
    }

    #[inline]
    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        self.state.load()
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.state.load_full()
    }

    /// Puts another state in place. Only under the state lock. Nothing that only the new state holds becomes visible before this returns.
    pub(crate) fn store(&self, state: Arc<T>) {
        self.state.store(state);
        // Release: pairs with the Acquire in `load_at`. Behind the store, so that whoever sees the count sees the state.
        self.swaps.fetch_add(1, Ordering::Release);
    }

    /// Loads a state and a sequence number that belong together.
    ///
    /// The state holds all that is visible at the number, since a memtable is put in place before anything in it becomes visible, and a swap in between
    /// is seen; and nothing visible at the number has been dropped from it, since a flush or compaction drops only versions that are hidden
    /// at a number which was visible before, and the number is loaded behind the state.
    #[inline]
    pub(crate) fn load_at(&self, visible: &Visible) -> (Guard<Arc<T>>, SeqNo) {
        // Acquire, here and below: pairs with the Release in `store`.
        let mut before = self.swaps.load(Ordering::Acquire);
        loop {
            let state = self.state.load();
            let seq = visible.now();
            let after = self.swaps.load(Ordering::Acquire);
            if before == after {
                return (state, seq);
            }
            before = after;
        }
    }
}
