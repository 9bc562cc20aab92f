//! [`TransactionOf`]: what a transaction sees of one keyspace.
//!
//! A key that it has written itself is known; of any other the snapshot is asked, and then it counts as read. One that it has merged into lies in between: that it is there is known, and its value is asked for.

use super::Transaction;
use super::cursor::TransactionCursor;
use super::iter::TransactionIter;
use super::merged::{Merged, Seen};
use super::operands::OwnOperands;
use super::own::OwnWrite;
use crate::core::KeyspaceCore;
use crate::edges::Extreme;
use crate::ends::{End as _, pair};
use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::options::ReadOptions;
use crate::range::{KeyRange, to_bounds};
use crate::reads::{Reads, read_methods};
use arc_swap::Guard;
use esker_format::Slice;
use esker_iterator::Bounds;
use std::sync::Arc;

/// What a [`Transaction`] sees of one keyspace.
#[derive(Clone, Copy, Debug)]
pub struct TransactionOf<'a> {
    pub(super) transaction: &'a Transaction,
    pub(super) keyspace: &'a Keyspace,
}

impl TransactionOf<'_> {
    fn reads(&self) -> Result<TransactionReads<'_>> {
        TransactionReads::new(self.transaction, self.keyspace)
    }

    read_methods!(TransactionIter, TransactionCursor);
}

/// Reads of one keyspace within a transaction.
pub(super) struct TransactionReads<'a> {
    transaction: &'a Transaction,
    keyspace: &'a Keyspace,
}

impl<'a> TransactionReads<'a> {
    pub(super) fn new(transaction: &'a Transaction, keyspace: &'a Keyspace) -> Result<Self> {
        transaction.check(keyspace)?;
        Ok(Self { transaction, keyspace })
    }

    fn core(&self) -> &Arc<KeyspaceCore> {
        &self.keyspace.core
    }

    fn at_snapshot(&self) -> Reads<'a> {
        Reads { keyspace: self.keyspace, at: Some(self.transaction.snapshot.taken()) }
    }

    /// What the transaction has written to a key, if anything; else the key counts as read.
    fn own(&self, key: &[u8]) -> Option<&'a OwnWrite> {
        let own = self.transaction.writes.get(self.keyspace.id(), key);
        if own.is_none() {
            self.has_read(key);
        }
        own
    }

    fn has_read(&self, key: &[u8]) {
        if let Some(tracked) = &self.transaction.reads
            && let Some(reads) = &mut *tracked.lock()
        {
            reads.add_key(self.core(), key);
        }
    }

    /// The value of a key that the transaction has written to.
    fn value(&self, key: &[u8], own: &OwnWrite) -> Result<Option<Slice>> {
        match own {
            OwnWrite::Put(value) => Ok(Some(value.clone())),
            OwnWrite::Deleted => Ok(None),
            OwnWrite::Merged(operands) => self.merged(key, operands).map(Some),
        }
    }

    /// What operands make of what lies below them: where that is the snapshot's, the key counts as read.
    fn merged(&self, key: &[u8], operands: &OwnOperands) -> Result<Slice> {
        let reads = self.at_snapshot();
        let (state, at) = reads.state()?;
        let stack = operands.stack();
        if !operands.needs_snapshot() {
            return reads.seen(state.value_of_stack(key, &stack));
        }
        self.has_read(key);
        reads.seen(state.merged_under(key, at.seq, stack))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>> {
        self.own(key).map_or_else(|| self.at_snapshot().get(key), |own| self.value(key, own))
    }

    pub(super) fn contains_key(&self, key: &[u8]) -> Result<bool> {
        self.own(key).map_or_else(|| self.at_snapshot().contains_key(key), |own| Ok(own.is_there()))
    }

    pub(super) fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        let mut values = Vec::new();
        let mut others = Vec::new();
        for key in keys {
            match self.own(key.as_ref()) {
                Some(own) => values.push(self.value(key.as_ref(), own)?),
                None => {
                    others.push((values.len(), key));
                    values.push(None);
                }
            }
        }
        let found = self.at_snapshot().multi_get(others.iter().map(|(_, key)| key))?;
        for ((nth, _), value) in others.iter().zip(found) {
            values[*nth] = value;
        }
        Ok(values)
    }

    pub(super) fn range(&self, range: impl KeyRange) -> TransactionIter {
        self.seen(to_bounds(&range)).map_or_else(TransactionIter::failed, TransactionIter::new)
    }

    pub(super) fn prefix(&self, prefix: &[u8]) -> TransactionIter {
        self.seen(Bounds::prefix(prefix)).map_or_else(TransactionIter::failed, TransactionIter::new)
    }

    pub(super) fn extreme(&self, end: Extreme) -> Result<Option<(Slice, Slice)>> {
        let walk = self.walk_to(end)?;
        walk.valid().then(|| pair(&walk)).transpose()
    }

    pub(super) fn is_empty(&self) -> Result<bool> {
        Ok(!self.walk_to(Extreme::First)?.valid())
    }

    /// A walk to one end, by way of the snapshot's, which passes what was deleted there once or twice and not each time.
    pub(super) fn walk_to(&self, end: Extreme) -> Result<Merged> {
        let below = self.at_snapshot().walk_to(end)?;
        self.seen(Bounds::default())?.walk_to(end, below)
    }

    pub(super) fn cursor(&self, options: ReadOptions) -> TransactionCursor {
        let seen = self.seen(options.into_bounds());
        seen.map_or_else(TransactionCursor::failed, |seen| TransactionCursor::new(seen.walk()))
    }

    fn seen(&self, bounds: Bounds) -> Result<Seen> {
        let (state, at) = self.at_snapshot().state()?;
        Ok(Seen {
            state: Guard::into_inner(state),
            at,
            own: self.transaction.writes.own(self.keyspace.id()),
            bounds,
            keyspace: Arc::clone(self.core()),
            tracked: self.transaction.reads.clone(),
        })
    }
}
