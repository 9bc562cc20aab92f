//! [`TransactionIter`]: a range of what a transaction sees, from both ends.

use super::merged::{Merged, Seen};
use crate::error::{Error, Result};
use esker_format::Slice;
use std::fmt;

/// Keys and values of a range as a transaction sees them, in key order, from both ends; `next` and `next_back` may be mixed and meet in the middle once.
///
/// It shows what the transaction had written when it was made, over its snapshot; what is written afterwards it does not show, so it may be walked while writing. What it has come to counts as
/// read, and no more. After an error it ends.
pub struct TransactionIter {
    state: State,
}

enum State {
    Open(Box<Open>),
    Failed(Error),
    Done,
}

struct Open {
    seen: Seen,
    front: Option<Merged>,
    back: Option<Merged>,
}

impl TransactionIter {
    pub(super) fn new(seen: Seen) -> Self {
        Self { state: State::Open(Box::new(Open { seen, front: None, back: None })) }
    }

    pub(crate) fn failed(error: Error) -> Self {
        Self { state: State::Failed(error) }
    }

    /// The keys alone; large values are not read.
    pub fn keys(self) -> TransactionKeys {
        TransactionKeys(self)
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Open) -> Result<Option<T>>) -> Option<Result<T>> {
        let result = match &mut self.state {
            State::Open(open) => step(open),
            State::Failed(error) => Err(error.clone()),
            State::Done => return None,
        };
        if !matches!(result, Ok(Some(_))) {
            self.state = State::Done;
        }
        result.transpose()
    }
}

impl Open {
    /// Moves the front on; its key must lie before the back's.
    fn advance(&mut self) -> Result<Option<&Merged>> {
        match &mut self.front {
            Some(front) => front.next()?,
            None => self.front.insert(self.seen.walk()).seek_to_first()?,
        }
        let front = self.front.as_ref().filter(|front| front.valid());
        Ok(front.filter(|front| self.back.as_ref().is_none_or(|back| front.key() < back.key())))
    }

    /// Moves the back on; its key must lie behind the front's.
    fn advance_back(&mut self) -> Result<Option<&Merged>> {
        match &mut self.back {
            Some(back) => back.prev()?,
            None => self.back.insert(self.seen.walk()).seek_to_last()?,
        }
        let back = self.back.as_ref().filter(|back| back.valid());
        Ok(back.filter(|back| self.front.as_ref().is_none_or(|front| back.key() > front.key())))
    }
}

fn pair(end: &Merged) -> Result<(Slice, Slice)> {
    Ok((Slice::from(end.key()), end.value_slice()?))
}

fn key(end: &Merged) -> Result<Slice> {
    Ok(Slice::from(end.key()))
}

impl Iterator for TransactionIter {
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(|open| open.advance()?.map(pair).transpose())
    }
}

impl DoubleEndedIterator for TransactionIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(|open| open.advance_back()?.map(pair).transpose())
    }
}

impl std::iter::FusedIterator for TransactionIter {}

impl fmt::Debug for TransactionIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Open(_) => "TransactionIter(open)",
            State::Failed(_) => "TransactionIter(failed)",
            State::Done => "TransactionIter(done)",
        })
    }
}

/// The keys of a range as a transaction sees them, from both ends. Made by [`TransactionIter::keys`].
#[derive(Debug)]
pub struct TransactionKeys(TransactionIter);

impl Iterator for TransactionKeys {
    type Item = Result<Slice>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(|open| open.advance()?.map(key).transpose())
    }
}

impl DoubleEndedIterator for TransactionKeys {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.step(|open| open.advance_back()?.map(key).transpose())
    }
}

impl std::iter::FusedIterator for TransactionKeys {}
