//! [`Iter`]: a range of keys and values, from both ends.

use crate::error::{Error, Result};
use crate::expiry::AsOf;
use crate::read::{ReadState, View};
use crate::walk::Walk;
use esker_format::Slice;
use esker_iterator::Bounds;
use std::fmt;
use std::sync::Arc;

/// Keys and values of a range, in key order, from both ends; `next` and `next_back` may be mixed and meet in the middle once.
///
/// Shows one instant, whatever is written meanwhile. It does not hold the engine open and stays valid after it is closed. After an error it ends.
///
/// For walks that copy nothing, see [`crate::Cursor`].
pub struct Iter {
    state: State,
}

enum State {
    Open(Box<Open>),
    Failed(Error),
    Done,
}

struct Open {
    at: AsOf,
    bounds: Bounds,
    front: Option<Walk>,
    back: Option<Walk>,
    read: Arc<ReadState>,
}

impl Iter {
    pub(crate) fn new(read: Arc<ReadState>, at: AsOf, bounds: Bounds) -> Self {
        Self { state: State::Open(Box::new(Open { read, at, bounds, front: None, back: None })) }
    }

    pub(crate) fn failed(error: Error) -> Self {
        Self { state: State::Failed(error) }
    }

    /// The keys alone.
    pub fn keys(self) -> Keys {
        Keys(self)
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
    fn end(&self) -> Walk {
        Walk::new(Arc::clone(&self.read), self.at, self.bounds.clone())
    }

    /// Moves the front on; its key must lie before the back's.
    fn advance(&mut self) -> Result<Option<&Walk>> {
        match &mut self.front {
            Some(front) => front.next()?,
            None => {
                let mut front = self.end();
                front.seek(View::seek_to_first)?;
                self.front = Some(front);
            }
        }
        let front = self.front.as_ref().filter(|front| front.valid());
        Ok(front.filter(|front| self.back.as_ref().is_none_or(|back| front.key() < back.key())))
    }

    /// Moves the back on; its key must lie behind the front's.
    fn advance_back(&mut self) -> Result<Option<&Walk>> {
        match &mut self.back {
            Some(back) => back.prev()?,
            None => {
                let mut back = self.end();
                back.seek(View::seek_to_last)?;
                self.back = Some(back);
            }
        }
        let back = self.back.as_ref().filter(|back| back.valid());
        Ok(back.filter(|back| self.front.as_ref().is_none_or(|front| back.key() > front.key())))
    }
}

fn pair(end: &Walk) -> Result<(Slice, Slice)> {
    Ok((Slice::from(end.key()), end.value_slice()?))
}

impl Iterator for Iter {
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(|open| {
            let found = open.advance()?.is_some();
            let front = open.front.as_ref().filter(|_| found);
            front.map(pair).transpose()
        })
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(|open| {
            let found = open.advance_back()?.is_some();
            let back = open.back.as_ref().filter(|_| found);
            back.map(pair).transpose()
        })
    }
}

impl std::iter::FusedIterator for Iter {}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Open(_) => "Iter(open)",
            State::Failed(_) => "Iter(failed)",
            State::Done => "Iter(done)",
        })
    }
}

/// The keys of a range, from both ends. Made by [`Iter::keys`].
#[derive(Debug)]
pub struct Keys(Iter);

impl Iterator for Keys {
    type Item = Result<Slice>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(|open| Ok(open.advance()?.map(|end| Slice::from(end.key()))))
    }
}

impl DoubleEndedIterator for Keys {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.step(|open| Ok(open.advance_back()?.map(|end| Slice::from(end.key()))))
    }
}

impl std::iter::FusedIterator for Keys {}
