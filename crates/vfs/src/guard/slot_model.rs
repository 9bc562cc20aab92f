//! Slots in every order of their threads, and with every value that the orderings allow a load to see: `slot.rs` itself, compiled a second time, with loom's atomics.
//!
//! ```text
//! faulting    note the page, then put zeros in its place            as the handler does
//! reader      copy the page, then look at the slot                  as `GuardedMap::read_exact_at` does
//! owner       give the slot to one map after another
//! looking     where does its map lie?                               as a handler that passes by
//! ```
#![cfg(test)]

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
}

#[path = "slot.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "compiled again with other atomics, and called in part")]
mod slot;

use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use slot::{Noted, Slot};
use std::sync::Arc;

/// More switches of threads than this at places where none was due are not tried.
const PREEMPTIONS_MAX: usize = 3;
const PAGE: usize = 4096;

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(run);
}

/// A map's slot, and what a copy of each of its pages gives.
struct Mapped {
    slot: Slot,
    pages: [AtomicUsize; 2],
}

/// What the file has, and what the handler puts there.
const FILE: usize = 7;
const ZEROS: usize = 0;

impl Mapped {
    fn new() -> Arc<Self> {
        let slot = Slot::default();
        slot.set(PAGE, 2 * PAGE);
        Arc::new(Self { slot, pages: [AtomicUsize::new(FILE), AtomicUsize::new(FILE)] })
    }

    fn fault(&self, page: usize) {
        assert_eq!(self.slot.note(page), Noted::Page);
        self.pages[page].store(ZEROS, Ordering::Relaxed);
    }

    /// Zeros are never taken for what the file has.
    fn read(&self, page: usize) {
        let copy = self.pages[page].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let noted = self.slot.first_noted(page * PAGE..(page + 1) * PAGE, PAGE);
        assert!(copy == FILE || noted == Some(page * PAGE), "zeros, and no note");
    }
}

#[test]
fn who_has_copied_zeros_finds_the_note() {
    model(|| {
        let mapped = Mapped::new();
        let others = [0, 1].map(|page| {
            let mapped = Arc::clone(&mapped);
            loom::thread::spawn(move || mapped.fault(page))
        });
        mapped.read(1);
        mapped.read(0);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(mapped.slot.noted(PAGE), 2);
    });
}

#[test]
fn two_who_fault_on_one_page_note_it_once() {
    model(|| {
        let mapped = Mapped::new();
        let other = Arc::clone(&mapped);
        let other = loom::thread::spawn(move || other.fault(1));
        mapped.fault(1);
        mapped.read(1);
        other.join().unwrap();
        assert_eq!(mapped.slot.noted(PAGE), 1);
    });
}

#[test]
fn the_range_of_one_map_is_never_mixed_with_that_of_the_next() {
    model(|| {
        let slot = Arc::new(Slot::default());
        slot.set(100, 10);
        let looking = Arc::clone(&slot);
        let looking = loom::thread::spawn(move || {
            let found = looking.range();
            assert!([None, Some(100..110), Some(200..220)].contains(&found), "{found:?}");
        });
        slot.set(0, 0);
        slot.set(200, 20);
        looking.join().unwrap();
        assert_eq!(slot.range(), Some(200..220));
    });
}
