//! What a transaction has written and not committed, and the way back to its savepoints.

use super::operands::{Base, OwnOperands};
use super::own::{Own, OwnWrite, OwnWrites, Replaced};
use crate::batch::WriteBatch;
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use esker_format::{KeyspaceId, Slice};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A point in a transaction to go back to. Made by [`crate::Transaction::savepoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint(u64);

/// The writes of one transaction.
#[derive(Debug, Default)]
pub(super) struct Writes {
    spaces: BTreeMap<KeyspaceId, Own>,
    /// How to undo what was written since the first savepoint, in the order in which it was.
    undo: Vec<(KeyspaceId, Undo)>,
    /// Those that can be gone back to, with how much there was to undo.
    savepoints: Vec<(Savepoint, usize)>,
}

#[derive(Debug)]
enum Undo {
    /// A key, and what the transaction had written there before, if anything.
    Entry(Slice, Option<OwnWrite>),
    /// A key that was merged into.
    Operand(Slice),
    Range(Replaced),
}

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.spaces.values().all(|own| own.is_empty())
    }

    /// What was written to a key, if anything.
    pub(super) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&OwnWrite> {
        self.spaces.get(&keyspace)?.get(key)
    }

    /// What was written in a keyspace up to now.
    pub(super) fn own(&self, keyspace: KeyspaceId) -> Own {
        self.spaces.get(&keyspace).map(Arc::clone).unwrap_or_default()
    }

    fn own_mut(&mut self, keyspace: KeyspaceId) -> &mut OwnWrites {
        Arc::make_mut(self.spaces.entry(keyspace).or_default())
    }

    pub(super) fn set(&mut self, keyspace: &Keyspace, key: &[u8], value: Option<&[u8]>) {
        let key = Slice::from(key);
        let before = self.own_mut(keyspace.id()).set(key.clone(), value.map(Slice::from));
        self.can_be_undone(keyspace, Undo::Entry(key, before));
    }

    /// Merges an operand that the keyspace takes into a key.
    pub(super) fn merge(&mut self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) {
        let key = Slice::from(key);
        self.own_mut(keyspace.id()).merge(key.clone(), operand);
        self.can_be_undone(keyspace, Undo::Operand(key));
    }

    /// Deletes the keys from `begin` on, up to `end`, of which an empty one is none.
    pub(super) fn delete_range(&mut self, keyspace: &Keyspace, begin: &[u8], end: &[u8]) {
        let replaced = self.own_mut(keyspace.id()).delete_range(begin, end);
        self.can_be_undone(keyspace, Undo::Range(replaced));
    }

    fn can_be_undone(&mut self, keyspace: &Keyspace, undo: Undo) {
        if !self.savepoints.is_empty() {
            self.undo.push((keyspace.id(), undo));
        }
    }

    pub(super) fn savepoint(&mut self) -> Savepoint {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        // Relaxed: a number that nobody else has, no other transaction either, is all that is asked.
        let savepoint = Savepoint(NUMBERS.fetch_add(1, Ordering::Relaxed));
        self.savepoints.push((savepoint, self.undo.len()));
        savepoint
    }

    /// Undoes what was written since; later savepoints are forgotten.
    pub(super) fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let Some(nth) = self.savepoints.iter().position(|(other, _)| *other == savepoint) else {
            return Err(Error::invalid("the savepoint is of another transaction, or behind one that was gone back to"));
        };
        self.savepoints.truncate(nth + 1);
        let (_, kept) = self.savepoints[nth];
        while self.undo.len() > kept
            && let Some((keyspace, undo)) = self.undo.pop()
        {
            let own = self.own_mut(keyspace);
            match undo {
                Undo::Entry(key, before) => own.set_back(key, before),
                Undo::Operand(key) => own.unmerge(key),
                Undo::Range(replaced) => own.put_back(replaced),
            }
        }
        Ok(())
    }

    /// In each keyspace first the ranges that were deleted, then the keys, which were written later where they lie in one.
    pub(super) fn to_batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for (keyspace, own) in &self.spaces {
            for (begin, end) in own.ranges() {
                batch.delete_range_or_all_id(*keyspace, begin, end);
            }
            for (key, write) in own.entries((Bound::Unbounded, Bound::Unbounded)) {
                match write {
                    OwnWrite::Put(value) => {
                        batch.put_id(*keyspace, key, value);
                    }
                    OwnWrite::Deleted => {
                        batch.delete_id(*keyspace, key);
                    }
                    OwnWrite::Merged(operands) => add_operands(&mut batch, *keyspace, key, operands),
                }
            }
        }
        batch
    }
}

/// Adds what was merged into a key, behind what the transaction had written there before.
fn add_operands(batch: &mut WriteBatch, keyspace: KeyspaceId, key: &[u8], operands: &OwnOperands) {
    match operands.base() {
        Base::Put(value) => {
            batch.put_id(keyspace, key, value);
        }
        Base::Deleted => {
            batch.delete_id(keyspace, key);
        }
        Base::Snapshot | Base::RangeDeleted => {}
    }
    for operand in operands.iter() {
        batch.merge_id(keyspace, key, operand);
    }
}
