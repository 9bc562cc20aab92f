//! [`Ends`]: a range walked from both ends, which [`crate::Iter`] and [`crate::TransactionIter`] have in common.
//!
//! ```text
//! begin ── front ──>   not come to yet   <── back ── end         each a walk of its own, begun when it is first asked for
//! ```
//! They meet in the middle once: what the one has come to, the other does not show.

use crate::error::{Error, Result};
use esker_format::Slice;
use std::fmt;

/// One of the two walks. It stands nowhere until it is sought, and takes steps only from an entry.
pub(crate) trait End {
    fn valid(&self) -> bool;
    fn key(&self) -> &[u8];
    fn value_slice(&self) -> Result<Slice>;
    fn seek_to_first(&mut self) -> Result<()>;
    fn seek_to_last(&mut self) -> Result<()>;
    fn next(&mut self) -> Result<()>;
    fn prev(&mut self) -> Result<()>;
}

/// What is walked over: it makes the ends.
pub(crate) trait Span {
    type End: End;

    fn end(&self) -> Self::End;
}

/// See the module's page. After an error it is done.
pub(crate) enum Ends<S: Span> {
    Open(Box<Open<S>>),
    Failed(Error),
    Done,
}

pub(crate) struct Open<S: Span> {
    front: Option<S::End>,
    back: Option<S::End>,
    /// Behind the walks over it.
    span: S,
}

impl<S: Span> Ends<S> {
    pub(crate) fn new(span: S) -> Self {
        Self::Open(Box::new(Open { front: None, back: None, span }))
    }

    /// What `item` makes of the next entry from the front.
    pub(crate) fn next<T>(&mut self, item: impl FnOnce(&S::End) -> Result<T>) -> Option<Result<T>> {
        self.step(|open| {
            let found = open.advance()?;
            open.front.as_ref().filter(|_| found).map(item).transpose()
        })
    }

    /// What `item` makes of the next entry from the back.
    pub(crate) fn next_back<T>(&mut self, item: impl FnOnce(&S::End) -> Result<T>) -> Option<Result<T>> {
        self.step(|open| {
            let found = open.advance_back()?;
            open.back.as_ref().filter(|_| found).map(item).transpose()
        })
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Open<S>) -> Result<Option<T>>) -> Option<Result<T>> {
        let result = match self {
            Self::Open(open) => step(open),
            Self::Failed(error) => Err(error.clone()),
            Self::Done => return None,
        };
        if !matches!(result, Ok(Some(_))) {
            *self = Self::Done;
        }
        result.transpose()
    }

    /// As a type of that name shows itself.
    pub(crate) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self {
            Self::Open(_) => "open",
            Self::Failed(_) => "failed",
            Self::Done => "done",
        };
        write!(f, "{name}({state})")
    }
}

impl<S: Span> Open<S> {
    /// Moves the front on; whether it stands on an entry before the back's.
    fn advance(&mut self) -> Result<bool> {
        match &mut self.front {
            Some(front) => front.next()?,
            None => {
                let mut front = self.span.end();
                front.seek_to_first()?;
                self.front = Some(front);
            }
        }
        Ok(self.is_apart(self.front.as_ref()))
    }

    /// Moves the back on; whether it stands on an entry behind the front's.
    fn advance_back(&mut self) -> Result<bool> {
        match &mut self.back {
            Some(back) => back.prev()?,
            None => {
                let mut back = self.span.end();
                back.seek_to_last()?;
                self.back = Some(back);
            }
        }
        Ok(self.is_apart(self.back.as_ref()))
    }

    /// Whether the one that moved stands on an entry, and the two have not met.
    fn is_apart(&self, moved: Option<&S::End>) -> bool {
        moved.is_some_and(End::valid)
            && match (&self.front, &self.back) {
                (Some(front), Some(back)) => front.key() < back.key(),
                _ => true,
            }
    }
}

/// Key and value.
pub(crate) fn pair(end: &impl End) -> Result<(Slice, Slice)> {
    Ok((Slice::from(end.key()), end.value_slice()?))
}

/// The key alone.
pub(crate) fn key(end: &impl End) -> Result<Slice> {
    Ok(Slice::from(end.key()))
}
