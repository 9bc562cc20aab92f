//! The instants that snapshots see, so that flush and compaction keep what is there to see at them.
//!
//! Taking one and listing them are ordered by one lock, under which the number is read too: a list made before a snapshot was taken has a horizon at or below that snapshot's number, so the newest
//! version at the horizon, which every job keeps, is there for the snapshot to see.

use crate::expiry::AsOf;
use esker_format::SeqNo;
use std::collections::BTreeMap;
use std::time::Duration;
// From beside this module, since its model puts others in their place.
use super::sync::Mutex;

/// See the module's page. A `T` is what a job may have in the list while it is at work.
#[derive(Debug)]
pub(crate) struct Instants<T> {
    held: Mutex<Lists<T>>,
}

#[derive(Debug)]
struct Lists<T> {
    /// By the instant that each sees: in one order of both, since time goes on as the numbers do.
    instants: BTreeMap<(SeqNo, u64), Held>,
    at_work: Vec<T>,
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

impl<T> Default for Instants<T> {
    fn default() -> Self {
        Self { held: Mutex::new(Lists { instants: BTreeMap::new(), at_work: Vec::new() }) }
    }
}

impl<T> Instants<T> {
    /// Takes the instant that `now` says is the present one, and from each who is at work what `keep` makes of it.
    pub(crate) fn take<K>(
        &self,
        now: impl FnOnce() -> AsOf,
        since: impl FnOnce() -> Duration,
        keep: impl Fn(&T) -> K,
    ) -> (AsOf, Vec<K>) {
        let mut held = self.held.lock();
        let at = now();
        let instant = held.instants.entry((at.seq, at.unix_ms));
        instant.or_insert_with(|| Held { count: 0, since: since() }).count += 1;
        // Behind the number: so all that is visible at it is there. No job can have begun meanwhile that knows nothing of this snapshot.
        let kept = held.at_work.iter().map(keep).collect();
        (at, kept)
    }

    pub(crate) fn release(&self, at: AsOf) {
        let instants = &mut self.held.lock().instants;
        let at = (at.seq, at.unix_ms);
        let entry = instants.get_mut(&at).expect("a snapshot is in the list until it is released");
        entry.count -= 1;
        if entry.count == 0 {
            instants.remove(&at);
        }
    }

    /// The list as it is, with what `now` says is the present instant.
    pub(crate) fn view(&self, now: impl FnOnce() -> AsOf) -> SnapshotView {
        let held = self.held.lock();
        let mut instants: Vec<(SeqNo, u64)> = held.instants.keys().copied().collect();
        instants.dedup_by_key(|(seq, _)| *seq);
        let (snapshots, times_ms) = instants.into_iter().unzip();
        let AsOf { seq: horizon, unix_ms: now_ms } = now();
        SnapshotView { snapshots, times_ms, horizon, now_ms }
    }

    /// How many snapshots are held, and since when the oldest of them.
    pub(crate) fn oldest(&self) -> (usize, Option<Duration>) {
        let held = self.held.lock();
        let instants = &held.instants;
        (instants.values().map(|held| held.count).sum(), instants.values().map(|held| held.since).min())
    }

    /// Puts somebody among those at work.
    pub(crate) fn begin_work(&self, who: T) {
        self.held.lock().at_work.push(who);
    }

    /// Takes one out of whom `is` is true.
    pub(crate) fn end_work(&self, is: impl Fn(&T) -> bool) {
        let at_work = &mut self.held.lock().at_work;
        if let Some(nth) = at_work.iter().position(is) {
            at_work.swap_remove(nth);
        }
    }
}
