//! Whether a history of transactions could have come from running them one after the other.
//!
//! Every key holds a list, and every write appends its transaction's number to one; so a read tells which writes came before it, and the final lists tell the order of all. From these
//! follow the dependencies (Adya):
//! ```text
//! ww   a appended next before b          wr   b read what a appended last          rw   a read the list without b, whose append is the next
//! ```
//! A history is serializable just if they have no cycle. A list that was read and is no beginning of the final one is an anomaly by itself: a lost update, or a read of what never was committed.
//!
//! Who began when another had come to its end comes after it too: a cycle with such a pair in it is a read of what was no longer so, or a write that was put in front of one that had been acknowledged.

use super::clearing::Look;
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) type Id = u32;
pub(super) type Key = u32;

/// A transaction that was committed.
#[derive(Debug, Clone, Default)]
pub(super) struct Committed {
    pub(super) id: Id,
    /// By a clock that all threads share: read before it did anything, and when its commit or its last read had returned.
    pub(super) began: u64,
    pub(super) ended: u64,
    /// Of each key that it looked at, also by scans that found nothing there: how long the list was, and the digest of it.
    pub(super) reads: BTreeMap<Key, Read>,
    /// The keys that it appended to.
    pub(super) appends: Vec<Key>,
    /// What it has seen of keys that are deleted with ranges, and which of them it has so deleted: see [`super::clearing`].
    pub(super) looks: BTreeMap<Key, Look>,
    pub(super) clears: Vec<Key>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) len: usize,
    pub(super) digest: u64,
}

impl Read {
    pub(super) fn of(list: &[Id]) -> Self {
        Self { len: list.len(), digest: list.iter().fold(0, |digest, id| step(digest, *id)) }
    }
}

fn step(digest: u64, id: Id) -> u64 {
    (digest ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

/// What is wrong with a history; `None` if it is serializable.
pub(super) fn anomaly(history: &[Committed], lists: &BTreeMap<Key, Vec<Id>>) -> Option<String> {
    let nth: HashMap<Id, usize> = history.iter().enumerate().map(|(nth, tx)| (tx.id, nth)).collect();
    let none = Vec::new();
    let list = |key: &Key| lists.get(key).unwrap_or(&none);
    let mut digests: HashMap<Key, Vec<u64>> = HashMap::new();
    for (key, list) in lists {
        let mut all = vec![0];
        for id in list {
            if !nth.contains_key(id) {
                return Some(format!("{key} holds an append of {id}, which was not committed"));
            }
            all.push(step(all[all.len() - 1], *id));
        }
        digests.insert(*key, all);
    }
    for tx in history {
        for key in &tx.appends {
            if list(key).iter().filter(|id| **id == tx.id).count() != 1 {
                return Some(format!("lost update: the append of {} to {key} is not there once", tx.id));
            }
        }
    }

    // Who must come after whom.
    let mut after: Vec<HashSet<usize>> = vec![HashSet::new(); history.len()];
    for list in lists.values() {
        for pair in list.windows(2) {
            after[nth[&pair[0]]].insert(nth[&pair[1]]);
        }
    }
    for (this, tx) in history.iter().enumerate() {
        for (key, read) in &tx.reads {
            let found = digests.get(key).map_or((read.len == 0).then_some(0), |all| all.get(read.len).copied());
            if found != Some(read.digest) {
                return Some(format!("{} has read a list of {key} that was never there", tx.id));
            }
            if let Some(last) = read.len.checked_sub(1) {
                after[nth[&list(key)[last]]].insert(this);
            }
            if let Some(next) = list(key).get(read.len) {
                after[this].insert(nth[next]);
            }
        }
    }
    for (before, this) in in_time(history) {
        after[before].insert(this);
    }
    for (this, after) in after.iter_mut().enumerate() {
        after.remove(&this);
    }
    cycle(&after).map(|cycle| {
        let ids: Vec<_> = cycle.iter().map(|nth| &history[*nth]).collect();
        format!("each of these comes after the one before it, and the first after the last: {ids:#?}")
    })
}

/// Pairs of which the first had ended when the second began. Those that follow from others are left out: there are but a few for each, as many as there are threads.
fn in_time(history: &[Committed]) -> Vec<(usize, usize)> {
    let mut by_end: Vec<usize> = (0..history.len()).collect();
    by_end.sort_unstable_by_key(|nth| history[*nth].ended);
    let mut pairs = Vec::new();
    for (this, tx) in history.iter().enumerate() {
        let ended = by_end.partition_point(|nth| history[*nth].ended < tx.began);
        // Who ended before one of these began comes before that one, and so before this.
        let mut newest_begin = 0;
        for before in by_end[..ended].iter().rev() {
            if history[*before].ended < newest_begin {
                break;
            }
            newest_begin = newest_begin.max(history[*before].began);
            pairs.push((*before, this));
        }
    }
    pairs
}

/// A cycle of the graph, if it has one.
fn cycle(after: &[HashSet<usize>]) -> Option<Vec<usize>> {
    let mut before = vec![0; after.len()];
    after.iter().flatten().for_each(|nth| before[*nth] += 1);
    let mut free: Vec<usize> = (0..after.len()).filter(|nth| before[*nth] == 0).collect();
    let mut left = after.len();
    while let Some(nth) = free.pop() {
        left -= 1;
        for next in &after[nth] {
            before[*next] -= 1;
            if before[*next] == 0 {
                free.push(*next);
            }
        }
    }
    if left == 0 {
        return None;
    }
    // What is left has a way back from everywhere; going backward ends in a cycle.
    let is_left: HashSet<usize> = (0..after.len()).filter(|nth| before[*nth] > 0).collect();
    let source = |nth: usize| is_left.iter().copied().find(|other| after[*other].contains(&nth));
    let mut path = vec![*is_left.iter().next()?];
    loop {
        let from = source(path[path.len() - 1])?;
        if let Some(start) = path.iter().position(|nth| *nth == from) {
            let mut cycle = path.split_off(start);
            cycle.reverse();
            return Some(cycle);
        }
        path.push(from);
    }
}

fn tx(id: Id, reads: &[(Key, &[Id])], appends: &[Key]) -> Committed {
    let reads = reads.iter().map(|(key, list)| (*key, Read::of(list))).collect();
    Committed { id, reads, appends: appends.to_vec(), ..Committed::default() }
}

fn at(began: u64, ended: u64, tx: Committed) -> Committed {
    Committed { began, ended, ..tx }
}

fn lists(lists: &[(Key, &[Id])]) -> BTreeMap<Key, Vec<Id>> {
    lists.iter().map(|(key, list)| (*key, list.to_vec())).collect()
}

/// What it is called, and whether it is serializable.
type Case = (&'static str, Vec<Committed>, BTreeMap<Key, Vec<Id>>, bool);

#[test]
fn the_checker_knows_the_anomalies_by_name() {
    let (x, y) = (1, 2);
    let cases: [Case; 12] = [
        (
            "one after the other",
            vec![tx(1, &[(x, &[])], &[x]), tx(2, &[(x, &[1])], &[x, y])],
            lists(&[(x, &[1, 2]), (y, &[2])]),
            true,
        ),
        ("lost update", vec![tx(1, &[(x, &[])], &[x]), tx(2, &[(x, &[])], &[x])], lists(&[(x, &[2])]), false),
        (
            "write skew",
            vec![tx(1, &[(x, &[]), (y, &[])], &[x]), tx(2, &[(x, &[]), (y, &[])], &[y])],
            lists(&[(x, &[1]), (y, &[2])]),
            false,
        ),
        ("dirty read", vec![tx(1, &[(x, &[9])], &[])], lists(&[(x, &[])]), false),
        (
            "non-repeatable read",
            vec![tx(1, &[], &[x, y]), tx(2, &[(x, &[]), (y, &[1])], &[])],
            lists(&[(x, &[1]), (y, &[1])]),
            false,
        ),
        (
            "phantom",
            vec![tx(1, &[(x, &[]), (y, &[])], &[7]), tx(2, &[(7, &[])], &[y])],
            lists(&[(7, &[1]), (y, &[2])]),
            false,
        ),
        (
            // Fekete, O'Neil, O'Neil: 1 and 2 alone are fine, and so is the reader beside either.
            "read-only anomaly",
            vec![tx(1, &[(y, &[])], &[y]), tx(2, &[(x, &[]), (y, &[])], &[x]), tx(3, &[(x, &[]), (y, &[1])], &[])],
            lists(&[(x, &[2]), (y, &[1])]),
            false,
        ),
        (
            "the same without the reader",
            vec![tx(1, &[(y, &[])], &[y]), tx(2, &[(x, &[]), (y, &[])], &[x])],
            lists(&[(x, &[2]), (y, &[1])]),
            true,
        ),
        ("stale read", vec![at(1, 2, tx(1, &[], &[x])), at(3, 4, tx(2, &[(x, &[])], &[]))], lists(&[(x, &[1])]), false),
        (
            "the same at one time",
            vec![at(1, 3, tx(1, &[], &[x])), at(2, 4, tx(2, &[(x, &[])], &[]))],
            lists(&[(x, &[1])]),
            true,
        ),
        (
            "stale by way of another key",
            vec![at(1, 2, tx(1, &[], &[x])), at(3, 6, tx(2, &[], &[y])), at(4, 5, tx(3, &[(x, &[]), (y, &[2])], &[]))],
            lists(&[(x, &[1]), (y, &[2])]),
            false,
        ),
        (
            "a write in front of one that had been acknowledged",
            vec![at(1, 2, tx(1, &[], &[x])), at(3, 4, tx(2, &[], &[x]))],
            lists(&[(x, &[2, 1])]),
            false,
        ),
    ];
    for (name, history, lists, is_fine) in cases {
        let found = anomaly(&history, &lists);
        assert_eq!(found.is_none(), is_fine, "{name}: {found:?}");
    }
}

#[test]
fn who_came_after_whom_is_told_of_all() {
    // Intervals that overlap as those of three threads do.
    let history: Vec<Committed> =
        (0..60).map(|n| at(7 * n + n % 5, 7 * n + 18 - n % 3, tx(n as Id, &[], &[]))).collect();
    let mut reached = vec![HashSet::new(); history.len()];
    let mut pairs = in_time(&history);
    assert!(pairs.len() < 4 * history.len(), "{}", pairs.len());
    pairs.sort_unstable_by_key(|(_, this)| history[*this].began);
    for (before, this) in pairs {
        let all_before: Vec<usize> = reached[before].iter().copied().chain([before]).collect();
        reached[this].extend(all_before);
    }
    for (this, tx) in history.iter().enumerate() {
        let expected = (0..history.len()).filter(|nth| history[*nth].ended < tx.began).collect();
        assert_eq!(reached[this], expected, "{this}");
    }
}
