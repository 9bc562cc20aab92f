//! How much of a tree lies before a key: for estimates, by the nodes on the way to it and those right below them.

use super::{Tree, root_of};
use esker_format::InternalKey;
use std::sync::atomic::Ordering::Acquire;

impl<const N: usize> Tree<N> {
    /// The share of the entries, from 0 to 1, that lie before `target`, as if two children that have as many keys held as many entries.
    pub(crate) fn share_before(&self, target: InternalKey<'_>) -> f64 {
        self.tie_loose();
        // Acquire: as in `leaf_of`.
        let (mut level, mut number) = root_of(self.root.load(Acquire));
        // The share before the node at hand, and its own.
        let (mut before, mut own) = (0.0, 1.0);
        while level > 0 {
            let inner = self.inners.get(number as usize);
            number = inner.descend(target, true, &self.records);
            level -= 1;
            let chosen = self.weight(level, number);
            let mut smaller = self.weight(level, inner.child_number(None));
            let mut all = smaller;
            for slot in 0..inner.keys().len() {
                let weight = self.weight(level, inner.child_number(Some(slot)));
                all += weight;
                if self.records.get(inner.keys().record(slot)).key() <= target {
                    smaller += weight;
                }
            }
            // Who inserts may have divided a child meanwhile; then it is off by that.
            let share = |weight: usize| own * weight as f64 / all.max(1) as f64;
            before += share(smaller.saturating_sub(chosen));
            own = share(chosen);
        }
        let keys = &self.leaf(number).keys;
        let len = keys.len();
        let smaller = (0..len).filter(|slot| self.records.get(keys.record(*slot)).key() < target).count();
        (before + own * smaller as f64 / len.max(1) as f64).clamp(0.0, 1.0)
    }

    /// How much a node of a level has right below it.
    fn weight(&self, level: u32, number: u32) -> usize {
        match level {
            0 => self.leaf(number).keys.len(),
            _ => self.inners.get(number as usize).keys().len() + 1,
        }
    }
}
