//! The order of loads in [`settle`], in every interleaving and with every value that the orderings allow a load to see.
//!
//! ```text
//! writer     swap to state 1, whose memtable is new    write 2 into it, visible = 2
//! job        saw 2 visible: swap to state 2, from which the version that 2 hides is gone
//! reader     settle: state and number
//! ```

use super::settle;
use esker_format::SeqNo;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A keyspace with its states numbered, and `arc-swap` no stronger than it is asked to be here.
struct World {
    state: AtomicUsize,
    swaps: AtomicU64,
    visible: AtomicU64,
}

impl World {
    /// As `Current::store`.
    fn store(&self, state: usize) {
        self.state.store(state, Ordering::Release);
        self.swaps.fetch_add(1, Ordering::Release);
    }
}

/// Runs writer, job and reader; the reader counts swaps with `swaps`.
fn model(swaps: fn(&World) -> u64) {
    loom::model(move || {
        let world =
            Arc::new(World { state: AtomicUsize::new(0), swaps: AtomicU64::new(0), visible: AtomicU64::new(1) });
        let (writer, job) = (Arc::clone(&world), Arc::clone(&world));
        let writer = loom::thread::spawn(move || {
            writer.store(1);
            writer.visible.store(2, Ordering::Release);
        });
        let job = loom::thread::spawn(move || {
            if job.visible.load(Ordering::Acquire) == 2 {
                job.store(2);
            }
        });
        let (state, seq) = settle(
            || swaps(&world),
            || world.state.load(Ordering::Acquire),
            || SeqNo(world.visible.load(Ordering::Acquire)),
        );
        assert!(seq < SeqNo(2) || state >= 1, "{seq} is visible and not in state {state}");
        assert!(state < 2 || seq >= SeqNo(2), "what {seq} sees is gone from state {state}");
        writer.join().unwrap();
        job.join().unwrap();
    });
}

#[test]
fn state_and_number_belong_together() {
    model(|world| world.swaps.load(Ordering::Acquire));
}

/// The model is worth something: without the second look it finds the read that misses a visible write.
#[test]
#[should_panic(expected = "is visible and not in state 0")]
fn without_the_second_look_they_do_not() {
    model(|_| 0);
}
