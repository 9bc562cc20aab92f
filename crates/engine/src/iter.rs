//! [`Iter`]: a range of keys and values, from both ends.

use crate::ends::{End, Ends, Span, key, pair};
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
    ends: Ends<Seen>,
}

/// What is seen of a state as of an instant, within bounds.
struct Seen {
    read: Arc<ReadState>,
    at: AsOf,
    bounds: Bounds,
}

impl Span for Seen {
    type End = Walk;

    fn end(&self) -> Walk {
        Walk::new(Arc::clone(&self.read), self.at, self.bounds.clone())
    }
}

impl End for Walk {
    fn valid(&self) -> bool {
        Self::valid(self)
    }

    fn key(&self) -> &[u8] {
        Self::key(self)
    }

    fn value_slice(&self) -> Result<Slice> {
        Self::value_slice(self)
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.seek(View::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.seek(View::seek_to_last)
    }

    fn next(&mut self) -> Result<()> {
        Self::next(self)
    }

    fn prev(&mut self) -> Result<()> {
        Self::prev(self)
    }
}

impl Iter {
    pub(crate) fn new(read: Arc<ReadState>, at: AsOf, bounds: Bounds) -> Self {
        Self { ends: Ends::new(Seen { read, at, bounds }) }
    }

    pub(crate) fn failed(error: Error) -> Self {
        Self { ends: Ends::Failed(error) }
    }

    /// The keys alone.
    pub fn keys(self) -> Keys {
        Keys(self)
    }
}

impl Iterator for Iter {
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.ends.next(pair)
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.ends.next_back(pair)
    }
}

impl std::iter::FusedIterator for Iter {}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ends.show("Iter", f)
    }
}

/// The keys of a range, from both ends. Made by [`Iter::keys`].
#[derive(Debug)]
pub struct Keys(Iter);

impl Iterator for Keys {
    type Item = Result<Slice>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.ends.next(key)
    }
}

impl DoubleEndedIterator for Keys {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.ends.next_back(key)
    }
}

impl std::iter::FusedIterator for Keys {}
