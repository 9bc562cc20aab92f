//! [`Fences`]: which tables may hold a key, without touching any of them.
//!
//! ```text
//! tables, newest first   L0 a  L0 b | L1 c   d   e | L6 f   g   h   i
//! runs                    0     1       2              3                  a table of L0, or a level below it
//! smallest, largest      heads of the tables' first and last user keys, one row each
//! ```
//! The head of a key is the eight bytes behind what all of a keyspace's tables' keys have in common. A search compares heads, which lie together, and whole
//! keys only where heads are equal. A run offers one table at most, so a look-up has at most as many as there are runs.

use crate::tables::OpenTable;
use esker_format::{common_prefix, head_of};
use std::sync::Arc;

/// Where the tables of a keyspace begin and end.
#[derive(Debug)]
pub(crate) struct Fences {
    /// What all user keys at the tables' ends begin with.
    prefix: Box<[u8]>,
    smallest: Box<[u64]>,
    largest: Box<[u64]>,
    tables: Box<[Arc<OpenTable>]>,
    /// Where each run ends among the tables; it begins where the one before ends.
    run_ends: Box<[usize]>,
}

/// The tables that may hold a key, newest first. Cheap to make and to clone: a look-up goes over them once to fetch ahead, and once to look.
#[derive(Clone)]
pub(crate) struct Candidates<'a> {
    fences: &'a Fences,
    user_key: &'a [u8],
    head: u64,
    /// The next run, and where it begins among the tables.
    run: usize,
    start: usize,
}

impl Fences {
    /// Of tables in levels, L0 first and that newest first, the others sorted and disjoint.
    pub(crate) fn new(levels: &[Vec<Arc<OpenTable>>]) -> Self {
        let tables: Box<[Arc<OpenTable>]> = levels.iter().flatten().map(Arc::clone).collect();
        let mut run_ends = Vec::new();
        let mut end = 0;
        for (level, tables) in levels.iter().enumerate() {
            match level {
                0 => run_ends.extend(1..=tables.len()),
                _ if tables.is_empty() => {}
                _ => run_ends.push(end + tables.len()),
            }
            end += tables.len();
        }
        let ends = || tables.iter().flat_map(|open| [smallest(open), largest(open)]);
        // Keys between two ends share what the ends share.
        let prefix = match (ends().min(), ends().max()) {
            (Some(first), Some(last)) => &first[..common_prefix(first, last)],
            _ => &[],
        };
        let head = |key: &[u8]| head_of(&key[prefix.len()..]);
        Self {
            prefix: prefix.into(),
            smallest: tables.iter().map(|open| head(smallest(open))).collect(),
            largest: tables.iter().map(|open| head(largest(open))).collect(),
            tables,
            run_ends: run_ends.into(),
        }
    }

    /// How many runs there are.
    pub(crate) fn runs(&self) -> usize {
        self.run_ends.len()
    }

    /// The tables that may hold `user_key`.
    #[inline]
    pub(crate) fn candidates<'a>(&'a self, user_key: &'a [u8]) -> Candidates<'a> {
        match strip_prefix(user_key, &self.prefix) {
            Some(rest) => Candidates { fences: self, user_key, head: head_of(rest), run: 0, start: 0 },
            None => Candidates { fences: self, user_key, head: 0, run: self.run_ends.len(), start: 0 },
        }
    }

    /// Which of the sorted tables `start..end` has the key, whose head is `head`, in its range.
    #[inline(always)]
    fn find(&self, start: usize, end: usize, user_key: &[u8], head: u64) -> Option<usize> {
        let heads = &self.largest[start..end];
        let mut i = start + heads.partition_point(|largest| *largest < head);
        if i < end && self.largest[i] == head {
            i += self.before_among_equal(i, end, user_key);
        }
        if i == end || self.smallest[i] > head {
            return None;
        }
        (self.smallest[i] < head || smallest(&self.tables[i]) <= user_key).then_some(i)
    }

    /// How many of the tables from `i` on that end with the same head end before the key.
    #[cold]
    fn before_among_equal(&self, i: usize, end: usize, user_key: &[u8]) -> usize {
        let equal = self.largest[i..end].partition_point(|head| *head == self.largest[i]);
        self.tables[i..i + equal].partition_point(|open| largest(open) < user_key)
    }
}

impl<'a> Candidates<'a> {
    /// Whether there may be more than one.
    #[inline]
    pub(crate) fn may_be_many(&self) -> bool {
        self.fences.run_ends.len() - self.run > 1
    }
}

impl<'a> Iterator for Candidates<'a> {
    type Item = &'a OpenTable;

    #[inline(always)]
    fn next(&mut self) -> Option<&'a OpenTable> {
        while let Some(&end) = self.fences.run_ends.get(self.run) {
            let start = std::mem::replace(&mut self.start, end);
            self.run += 1;
            if let Some(i) = self.fences.find(start, end, self.user_key, self.head) {
                return Some(&self.fences.tables[i]);
            }
        }
        None
    }
}

fn smallest(open: &OpenTable) -> &[u8] {
    &open.meta.smallest.user_key
}

fn largest(open: &OpenTable) -> &[u8] {
    &open.meta.largest.user_key
}

/// `user_key` without `prefix`. As the one of `esker-format`, but for prefixes of 8 to 16 bytes in 28 instructions less: it is done at every look-up, a twentieth of one that misses.
#[inline(always)]
fn strip_prefix<'a>(user_key: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (front, rest) = user_key.split_at_checked(prefix.len())?;
    let is_same = match (front.first_chunk::<8>(), prefix.first_chunk::<8>(), front.last_chunk(), prefix.last_chunk()) {
        (Some(a), Some(b), Some(c), Some(d)) if prefix.len() <= 16 => {
            u64::from_le_bytes(*a) == u64::from_le_bytes(*b) && u64::from_le_bytes(*c) == u64::from_le_bytes(*d)
        }
        _ => front == prefix,
    };
    is_same.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::open_table;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// By looking at every table.
    fn by_all(levels: &[Vec<Arc<OpenTable>>], user_key: &[u8]) -> Vec<u64> {
        let covers = |open: &&Arc<OpenTable>| smallest(open) <= user_key && user_key <= largest(open);
        levels.iter().flatten().filter(covers).map(|open| open.meta.number.0).collect()
    }

    fn by_fences(fences: &Fences, user_key: &[u8]) -> Vec<u64> {
        fences.candidates(user_key).map(|open| open.meta.number.0).collect()
    }

    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        // Long and short, with much in common, so that heads are often equal; and some that are nothing like the others.
        prop_oneof![
            "(key:)?[ab]{0,3}".prop_map(String::into_bytes),
            "long:prefix:of:them[ab]{0,12}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..4),
        ]
    }

    proptest! {
        #[test]
        fn finds_the_tables_that_a_look_at_all_finds(
            l0 in proptest::collection::vec((any_key(), any_key()), 0..20),
            deeper in proptest::collection::vec(proptest::collection::btree_set(any_key(), 0..12), 0..6),
            others in proptest::collection::vec(any_key(), 0..20),
        ) {
            let mut number = 0;
            let mut open = |a: &[u8], b: &[u8]| {
                number += 1;
                open_table(number, a.min(b), a.max(b))
            };
            let mut levels = vec![l0.iter().map(|(a, b)| open(a, b)).collect::<Vec<_>>()];
            for keys in &deeper {
                let keys: Vec<_> = keys.iter().collect();
                levels.push(keys.chunks(2).map(|pair| open(pair[0], pair[pair.len() - 1])).collect());
            }
            let fences = Fences::new(&levels);
            let mut keys: BTreeSet<Vec<u8>> = others.into_iter().collect();
            for open in levels.iter().flatten() {
                for end in [smallest(open), largest(open)] {
                    keys.insert(end.to_vec());
                    keys.insert([end, b"\0"].concat());
                    keys.insert(end[..end.len().saturating_sub(1)].to_vec());
                }
            }
            for key in keys {
                prop_assert_eq!(by_fences(&fences, &key), by_all(&levels, &key), "{:?}", key);
            }
        }
    }

    #[test]
    fn no_tables_and_keys_of_all_zeros_and_ones() {
        let none = Fences::new(&[Vec::new(), Vec::new()]);
        assert!(by_fences(&none, b"").is_empty() && by_fences(&none, b"a").is_empty());
        let ends: [&[u8]; 4] = [b"", &[0; 20], &[0xff; 8], &[0xff; 30]];
        let levels = vec![vec![], vec![open_table(1, ends[0], ends[1]), open_table(2, ends[2], ends[3])]];
        let fences = Fences::new(&levels);
        for key in
            [b"", &[0][..], &[0; 20], &[0; 21], &[1], &[0xff; 7], &[0xff; 8], &[0xff; 9], &[0xff; 30], &[0xff; 31]]
        {
            assert_eq!(by_fences(&fences, key), by_all(&levels, key), "{key:?}");
        }
    }
}
