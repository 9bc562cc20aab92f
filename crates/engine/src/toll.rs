//! [`Toll`]: what reads have paid for runs that overlap in L0, until it pays to merge them.
//!
//! As one who skis should rent until the rent has cost as much as a pair of skis: whatever comes, reads and the compaction they ask for cost at most about twice what
//! they would have cost one who knew. A seek and a step pay for each table of level 0 that they look into, but for one where nothing lies below ([`Relief`] says how much, and what the compaction costs). Levels below
//! are not what it would spare them. Point reads pay nothing: filters spare them the other runs.
//!
//! Who reads counts for itself, adds up in its thread, and only now and then to what all have paid: many readers share a line that is seldom written.
//! Deliberately absent: a clock, a thread, a lock. Background work looks whether a toll [is paid](Toll::is_paid) when it looks for work.

use crate::tables::OpenTable;
use esker_compaction::Relief;
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A thread adds up so many seeks' worth before it hands it over.
const SEEKS_TOGETHER: u64 = 64;

/// What the readers of one state of the tables pay.
#[derive(Debug)]
pub(crate) struct Toll {
    /// What there is to ask for; `None`: nobody pays.
    relief: Option<Relief>,
    /// Shared by states between which tables have only come into L0, so that a flush forgets nothing.
    sum: Arc<Sum>,
}

#[derive(Debug)]
struct Sum {
    /// Tells sums apart; none is 0.
    number: u64,
    paid_ns: AtomicU64,
}

impl Sum {
    fn zero() -> Arc<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        // Relaxed: a number that nobody else has is all that is asked.
        Arc::new(Self { number: NUMBERS.fetch_add(1, Ordering::Relaxed), paid_ns: AtomicU64::new(0) })
    }
}

thread_local! {
    /// What this thread has not handed over yet, in nanoseconds, and for which sum. Left behind when it pays for another: it is little.
    static PENDING: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

impl Toll {
    /// The toll of a state with these tables in L0, `before` being what they and their toll were.
    pub(crate) fn new(
        relief: Option<Relief>,
        l0: &[Arc<OpenTable>],
        before: Option<(&[Arc<OpenTable>], &Self)>,
    ) -> Self {
        let now: HashSet<_> = l0.iter().map(|open| open.meta.number).collect();
        let grown = before.filter(|(l0, _)| l0.iter().all(|open| now.contains(&open.meta.number)));
        Self { relief, sum: grown.map_or_else(Sum::zero, |(_, toll)| Arc::clone(&toll.sum)) }
    }

    /// Whether reads have paid what the compaction costs.
    pub(crate) fn is_paid(&self) -> bool {
        // Relaxed: a sum that orders nothing.
        self.relief.is_some_and(|relief| self.sum.paid_ns.load(Ordering::Relaxed) >= relief.cost_ns)
    }

    /// Takes payment for seeks and steps, each of which looked into so many runs more than one.
    pub(crate) fn pay(&self, more_runs: u32, seeks: u32, steps: u32) {
        let Some(relief) = self.relief else { return };
        if more_runs == 0 || self.is_paid() {
            return;
        }
        let runs = u64::from(more_runs.min(relief.runs));
        let ns = runs * (u64::from(seeks) * Relief::SEEK_NS + u64::from(steps) * Relief::STEP_NS);
        let sum = self.sum.number;
        let (of, pending) = PENDING.get();
        let ns = if of == sum { pending.saturating_add(ns) } else { ns };
        if ns < (SEEKS_TOGETHER * Relief::SEEK_NS).min(relief.cost_ns / SEEKS_TOGETHER) {
            return PENDING.set((sum, ns));
        }
        PENDING.set((sum, 0));
        // Relaxed: as above. It stops growing when the toll is paid, so it does not run over.
        self.sum.paid_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::open_table;

    fn relief(runs: u32, cost_ns: u64) -> Option<Relief> {
        Some(Relief { runs, cost_ns })
    }

    #[test]
    fn seeks_and_steps_pay_for_each_run_but_one_until_it_is_enough() {
        let toll = Toll::new(relief(2, 100 * Relief::SEEK_NS), &[], None);
        toll.pay(0, 1_000_000, 1_000_000);
        assert!(!toll.is_paid(), "one run is no reason");
        // Of three more runs the compaction spares two.
        toll.pay(3, 30, 0);
        toll.pay(1, 18, 20 * (Relief::SEEK_NS / Relief::STEP_NS) as u32);
        assert!(!toll.is_paid());
        toll.pay(1, 2, 0);
        assert!(toll.is_paid());
        let paid = toll.sum.paid_ns.load(Ordering::Relaxed);
        toll.pay(2, u32::MAX, u32::MAX);
        assert_eq!(toll.sum.paid_ns.load(Ordering::Relaxed), paid, "who asks twice pays once");
        let nothing_to_ask = Toll::new(None, &[], None);
        nothing_to_ask.pay(2, u32::MAX, u32::MAX);
        assert!(!nothing_to_ask.is_paid());
    }

    #[test]
    fn small_sums_are_added_up_in_their_thread() {
        let cost_ns = 1_000_000 * Relief::SEEK_NS;
        let (one, other) = (Toll::new(relief(1, cost_ns), &[], None), Toll::new(relief(1, cost_ns), &[], None));
        let paid = |toll: &Toll| toll.sum.paid_ns.load(Ordering::Relaxed);
        (1..SEEKS_TOGETHER).for_each(|_| one.pay(1, 1, 0));
        assert_eq!(paid(&one), 0);
        one.pay(1, 1, 0);
        assert_eq!(paid(&one), SEEKS_TOGETHER * Relief::SEEK_NS);
        one.pay(1, 1, 0);
        other.pay(1, SEEKS_TOGETHER as u32 - 1, 0);
        assert_eq!(paid(&other), 0, "what is another's does not count");
    }

    #[test]
    fn what_was_paid_is_kept_while_tables_come_and_forgotten_when_one_goes() {
        let tables: Vec<_> = (1..4).map(|number| open_table(number, b"a", b"b")).collect();
        let (two, three) = (&tables[..2], &tables[..]);
        let before = Toll::new(relief(1, 100), two, None);
        before.pay(1, 1, 0);
        assert!(before.is_paid());
        let grown = Toll::new(relief(2, 1_000), three, Some((two, &before)));
        assert!(!grown.is_paid(), "there is more to merge");
        grown.pay(1, 2, 0);
        assert!(grown.is_paid(), "and what was paid before counts");
        assert!(!Toll::new(relief(1, 100), two, Some((three, &grown))).is_paid());
    }
}
