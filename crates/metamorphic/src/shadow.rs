//! A transaction as the model has it: what it sees, and whether it must, may, or must not meet a conflict.
//!
//! What `docs/guarantees.md` leaves open stays open here ([`Verdict::May`]): keys that were not there, around what was walked over or within a range that was deleted.

use crate::oracle::{By, Entry, Logged, overlaps};
use esker_testkit::model::{At, Effect, Key, Model, Range, Space};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// How a commit must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Commits,
    May,
    Must,
}

/// What was read, but for what the transaction had written itself by then.
enum Read {
    Key(Space, Key),
    Range {
        space: Space,
        range: Range,
        /// Of what was there, the first and the last.
        there: Option<(Key, Key)>,
        /// What the transaction had put or deleted, singly
        own: BTreeSet<Key>,
        /// and by range.
        own_ranges: Vec<(Key, Option<Key>)>,
    },
}

/// A transaction.
pub(crate) struct Shadow {
    at: At,
    reads: Vec<Read>,
    pub(crate) writes: Vec<Entry>,
    savepoints: Vec<usize>,
}

fn is_within(key: &[u8], begin: &Key, end: Option<&Key>) -> bool {
    key >= &begin[..] && end.is_none_or(|end| key < &end[..])
}

impl Shadow {
    pub(crate) fn new(at: At) -> Self {
        Self { at, reads: Vec::new(), writes: Vec::new(), savepoints: Vec::new() }
    }

    pub(crate) fn write(&mut self, entries: Vec<Entry>) {
        self.writes.extend(entries);
    }

    pub(crate) fn savepoint(&mut self) {
        self.savepoints.push(self.writes.len());
    }

    /// Whether there was a savepoint.
    pub(crate) fn back(&mut self) -> bool {
        let savepoint = self.savepoints.pop();
        savepoint.inspect(|len| self.writes.truncate(*len)).is_some()
    }

    /// What was put, deleted, or lies in a range that was, whatever was merged since; not what was only merged.
    fn own(&self, space: Space) -> (BTreeSet<Key>, Vec<(Key, Option<Key>)>) {
        let (mut keys, mut ranges) = (BTreeSet::new(), Vec::new());
        for entry in self.writes.iter().filter(|entry| entry.space == space) {
            match &entry.effect {
                Effect::Put(_) | Effect::PutFor(..) | Effect::Delete => drop(keys.insert(entry.key.clone())),
                Effect::DeleteTo(end) => ranges.push((entry.key.clone(), end.clone())),
                Effect::Append(_) => {}
            }
        }
        (keys, ranges)
    }

    pub(crate) fn get(&mut self, model: &Model, space: Space, key: &Key) -> Option<Vec<u8>> {
        let (keys, ranges) = self.own(space);
        if !keys.contains(key) && !ranges.iter().any(|(begin, end)| is_within(key, begin, end.as_ref())) {
            self.reads.push(Read::Key(space, key.clone()));
        }
        self.view(model, space, &Range::ALL).remove(key)
    }

    pub(crate) fn scan(&mut self, model: &Model, space: Space, range: &Range) -> BTreeMap<Key, Vec<u8>> {
        let is_any = match (&range.lower, &range.upper) {
            (Bound::Included(lower), Bound::Included(upper)) => lower <= upper,
            (Bound::Included(lower) | Bound::Excluded(lower), Bound::Included(upper) | Bound::Excluded(upper)) => {
                lower < upper
            }
            _ => true,
        };
        if is_any {
            let (own, own_ranges) = self.own(space);
            let seen = model.range(space, range, self.at);
            let is_own = |key: &[u8]| {
                own.contains(key) || own_ranges.iter().any(|(begin, end)| is_within(key, begin, end.as_ref()))
            };
            let mut seen = seen.into_iter().map(|(key, _)| key.to_vec()).filter(|key| !is_own(key));
            let there = seen.next().map(|first| (first.clone(), seen.next_back().unwrap_or(first)));
            self.reads.push(Read::Range { space, range: range.clone(), there, own, own_ranges });
        }
        self.view(model, space, range)
    }

    /// The snapshot, and over it what was written.
    fn view(&self, model: &Model, space: Space, range: &Range) -> BTreeMap<Key, Vec<u8>> {
        let there = model.range(space, &Range::ALL, self.at);
        let mut view: BTreeMap<Key, Vec<u8>> = there.into_iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        for Entry { key, effect, .. } in self.writes.iter().filter(|entry| entry.space == space) {
            match effect {
                Effect::Put(value) | Effect::PutFor(value, _) => drop(view.insert(key.clone(), value.clone())),
                Effect::Append(operand) => view.entry(key.clone()).or_default().extend_from_slice(operand),
                Effect::Delete => drop(view.remove(key)),
                Effect::DeleteTo(end) => view.retain(|other, _| !is_within(other, key, end.as_ref())),
            }
        }
        view.retain(|key, _| range.contains(key));
        view
    }

    /// How its commit must end.
    pub(crate) fn verdict(&self, model: &Model, log: &[Logged]) -> Verdict {
        if self.writes.is_empty() {
            return Verdict::Commits;
        }
        let since = (self.at.commit + 1..).zip(&log[self.at.commit..]);
        since.map(|(commit, logged)| self.against(model, commit, logged)).max().unwrap_or(Verdict::Commits)
    }

    fn against(&self, model: &Model, commit: usize, logged: &Logged) -> Verdict {
        let mut worst = Verdict::Commits;
        for entry in &logged.entries {
            for read in &self.reads {
                let verdict = match &entry.effect {
                    Effect::DeleteTo(end) => self.against_range(model, commit, entry, end.as_ref(), read),
                    _ => touches(read, entry.space, &entry.key),
                };
                worst = worst.max(verdict);
            }
        }
        // Of tables that came in, what lies between their least and greatest key.
        if logged.by == By::Ingest && worst == Verdict::Commits {
            let keys = logged.entries.iter().map(|entry| &entry.key);
            if let (Some(first), Some(last)) = (keys.clone().min(), keys.max()) {
                let range = Range { lower: Bound::Included(first.clone()), upper: Bound::Included(last.clone()) };
                let space = logged.entries[0].space;
                let is_near = self.reads.iter().any(|read| match read {
                    Read::Key(of, key) => *of == space && range.contains(key),
                    Read::Range { space: of, range: read, .. } => *of == space && overlaps(read, first, Some(last)),
                });
                return if is_near { Verdict::May } else { worst };
            }
        }
        worst
    }

    /// A range was deleted: what was there is gone for certain, what was not may count or not.
    fn against_range(&self, model: &Model, commit: usize, entry: &Entry, end: Option<&Key>, read: &Read) -> Verdict {
        let before = At { commit: commit - 1, ..self.at };
        match read {
            Read::Key(space, key) if *space == entry.space && is_within(key, &entry.key, end) => {
                let was_there = model.get(*space, key, before).is_some();
                if was_there { Verdict::Must } else { Verdict::May }
            }
            Read::Range { space, range, .. } if *space == entry.space && overlaps(range, &entry.key, end) => {
                let there = model.range(*space, range, before);
                let gone = there.iter().filter(|(key, _)| is_within(key, &entry.key, end));
                let worst = gone.map(|(key, _)| touches(read, *space, &key.to_vec())).max();
                worst.unwrap_or(Verdict::Commits).max(Verdict::May)
            }
            _ => Verdict::Commits,
        }
    }
}

/// A key was written to.
fn touches(read: &Read, space: Space, key: &Key) -> Verdict {
    match read {
        Read::Key(of, read) if *of == space && read == key => Verdict::Must,
        Read::Range { space: of, range, there, own, own_ranges } if *of == space && range.contains(key) => {
            if own.contains(key) || own_ranges.iter().any(|(begin, end)| is_within(key, begin, end.as_ref())) {
                return Verdict::Commits;
            }
            // Before the first and behind the last it was noted that nothing is there, if it was.
            let is_between = there.as_ref().is_some_and(|(first, last)| first <= key && key <= last);
            if is_between { Verdict::Must } else { Verdict::May }
        }
        _ => Verdict::Commits,
    }
}
