//! [`TransactionIter`]: a range of what a transaction sees, from both ends.

use super::merged::{Merged, Seen};
use crate::ends::{Ends, Span, key, pair};
use crate::error::{Error, Result};
use esker_format::Slice;
use std::fmt;

/// Keys and values of a range as a transaction sees them, in key order, from both ends; `next` and `next_back` may be mixed and meet in the middle once.
///
/// It shows what the transaction had written when it was made, over its snapshot; what is written afterwards it does not show, so it may be walked while writing. What it has come to counts as
/// read, and no more. After an error it ends.
pub struct TransactionIter {
    ends: Ends<Seen>,
}

impl Span for Seen {
    type End = Merged;

    fn end(&self) -> Merged {
        self.walk()
    }
}

impl TransactionIter {
    pub(super) fn new(seen: Seen) -> Self {
        Self { ends: Ends::new(seen) }
    }

    pub(crate) fn failed(error: Error) -> Self {
        Self { ends: Ends::Failed(error) }
    }

    /// The keys alone; large values are not read.
    pub fn keys(self) -> TransactionKeys {
        TransactionKeys(self)
    }
}

impl Iterator for TransactionIter {
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.ends.next(pair)
    }
}

impl DoubleEndedIterator for TransactionIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.ends.next_back(pair)
    }
}

impl std::iter::FusedIterator for TransactionIter {}

impl fmt::Debug for TransactionIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ends.show("TransactionIter", f)
    }
}

/// The keys of a range as a transaction sees them, from both ends. Made by [`TransactionIter::keys`].
#[derive(Debug)]
pub struct TransactionKeys(TransactionIter);

impl Iterator for TransactionKeys {
    type Item = Result<Slice>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.ends.next(key)
    }
}

impl DoubleEndedIterator for TransactionKeys {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.ends.next_back(key)
    }
}

impl std::iter::FusedIterator for TransactionKeys {}
