//! The range tombstones of a table, so that readers at any sequence number look them up without a lock.
//!
//! ```text
//!   tombstone   1   2   3   4   5   6   7   8          in the order of their sequence numbers
//!   node 1      =                                      what node i holds: the last lowbit(i) tombstones up to i,
//!   node 2      =====                                  cut against one another
//!   node 3              =
//!   node 4      =============
//!   node 5                      =
//!   node 6                      =====                  a reader who sees six of them looks into nodes 6 and 4
//! ```
//! A Fenwick tree over time: whoever reads at a sequence number sees the first so many tombstones, and these are what a logarithm of the nodes hold. Within a node all are seen, so they can be cut against one another, and
//! a node is no longer than twice what is in it, however they overlap. Nodes are appended and never change. A tombstone goes through a logarithm of nodes, on average half of it, which is paid by whoever inserts it.

use crate::list::List;
use esker_format::SeqNo;
use esker_iterator::{Fragments, RangeTombstone, RangeTombstoneBuf, RangeTombstones};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// See the module's page.
pub(crate) struct Ranges {
    nodes: List<Node>,
    /// As they were given. Under its lock, one inserts.
    given: Mutex<Vec<RangeTombstoneBuf>>,
    bytes: AtomicUsize,
}

struct Node {
    /// That of the node's last tombstone.
    seq: SeqNo,
    fragments: Arc<Fragments>,
}

impl Ranges {
    pub(crate) fn new() -> Self {
        Self { nodes: List::new(), given: Mutex::new(Vec::new()), bytes: AtomicUsize::new(0) }
    }

    /// Adds a tombstone. When this returns, every look-up that begins afterwards finds it.
    ///
    /// # Panics
    /// If one that is as new was added before.
    pub(crate) fn insert(&self, tombstone: RangeTombstone<'_>) {
        let mut given = self.given.lock().expect("whoever inserts does not panic half-way");
        let newest = given.last().map(|last| last.seq);
        assert!(newest.is_none_or(|newest| newest < tombstone.seq), "range tombstones come in the order of time");
        given.push(tombstone.to_buf());
        let count = given.len();
        let held = &given[count - (1 << count.trailing_zeros())..];
        let fragments = Arc::new(Fragments::cut(held.iter().map(RangeTombstoneBuf::as_ref)));
        let own = size_of::<RangeTombstoneBuf>() + tombstone.begin.len() + tombstone.end.len();
        let node = size_of::<Node>() + size_of::<Fragments>() + fragments.heap_bytes();
        let (_, grown) = self.nodes.push(Box::new(Node { seq: tombstone.seq, fragments }).into());
        // Relaxed: a figure.
        self.bytes.fetch_add(own + node + grown, Relaxed);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.load(Relaxed)
    }

    /// The smallest and the largest sequence number.
    pub(crate) fn seq_range(&self) -> Option<(SeqNo, SeqNo)> {
        let last = self.len().checked_sub(1)?;
        Some((self.nodes.get(0).seq, self.nodes.get(last).seq))
    }

    /// The nodes that hold all tombstones at or below `at` and no others, the newest first.
    fn nodes(&self, at: SeqNo) -> impl Iterator<Item = &Node> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.nodes.get(middle).seq <= at { low = middle + 1 } else { high = middle }
        }
        let counts = std::iter::successors(Some(low), |count| Some(count & count.wrapping_sub(1)));
        counts.take_while(|count| *count > 0).map(|count| self.nodes.get(count - 1))
    }

    /// The newest one that covers `user_key`, as of `at`.
    pub(crate) fn newest_covering(&self, user_key: &[u8], at: SeqNo) -> Option<SeqNo> {
        self.nodes(at).find_map(|node| node.fragments.covering(user_key))
    }

    /// Those that are seen at `at`.
    pub(crate) fn as_of(&self, at: SeqNo) -> RangeTombstones {
        RangeTombstones::new(self.nodes(at).map(|node| Arc::clone(&node.fragments)).collect())
    }

    /// All of them, as they were given.
    pub(crate) fn given(&self) -> Vec<RangeTombstoneBuf> {
        self.given.lock().expect("whoever inserts does not panic half-way").clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn readers_at_each_number_see_what_a_look_at_all_finds(
            given in vec((0..20u8, 0..20u8), 0..70),
        ) {
            let ranges = Ranges::new();
            let tombstone = |i: usize| {
                let (begin, end) = &given[i];
                // Every other number, so that readers may be between two.
                RangeTombstone { begin: std::slice::from_ref(begin), end: std::slice::from_ref(end), seq: SeqNo(2 * i as u64 + 2) }
            };
            (0..given.len()).for_each(|i| ranges.insert(tombstone(i)));
            prop_assert_eq!(ranges.len(), given.len());
            for at in (0..2 * given.len() as u64 + 4).map(SeqNo) {
                let seen = ranges.as_of(at);
                prop_assert!(seen.len() <= 2 * given.len());
                for key in 0..21u8 {
                    let covering = (0..given.len()).map(tombstone).filter(|t| t.seq <= at && t.covers(&[key]));
                    let newest = covering.map(|t| t.seq).max();
                    prop_assert_eq!(ranges.newest_covering(&[key], at), newest);
                    prop_assert_eq!(seen.newest_covering(&[key], at), newest);
                }
            }
        }
    }
}
