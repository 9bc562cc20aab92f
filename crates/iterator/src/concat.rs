//! A sorted series of sources as one, of which only one is open at a time.

use crate::{InternalIterator, Lend, Plain, Stepped, Way};
use esker_format::{InternalKey, Slice, Trailer};
use std::fmt;

/// A sorted, non-overlapping series of sources, opened as it is walked: the tables of one level.
///
/// Source `i` lies wholly before source `i + 1`. `smallest` and `largest` are bounds on what is in a source: no entry lies
/// outside them, and they need not be entries themselves.
pub trait Run {
    /// How one source is walked.
    type Iter: InternalIterator;

    /// How many sources there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No entry of source `i` lies before this.
    fn smallest(&self, i: usize) -> InternalKey<'_>;

    /// No entry of source `i` lies behind this.
    fn largest(&self, i: usize) -> InternalKey<'_>;

    /// Opens source `i`.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn open(&self, i: usize) -> Result<Self::Iter, <Self::Iter as InternalIterator>::Error>;
}

/// Walks a [`Run`]: a seek opens one source, unless that one holds nothing on the side that is sought.
pub struct ConcatIterator<R: Run> {
    run: R,
    /// The open source, with its number. A seek that lands on it again does not open it anew.
    open: Option<(usize, R::Iter)>,
    /// Between [`InternalIterator::prepare_seek`] and the seek: the source to seek in.
    prepared: Option<usize>,
    failed: Option<<R::Iter as InternalIterator>::Error>,
}

impl<R: Run> fmt::Debug for ConcatIterator<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.open.as_ref().map(|(i, _)| i);
        f.debug_struct("ConcatIterator").field("sources", &self.run.len()).field("open", &open).finish_non_exhaustive()
    }
}

impl<R: Run> ConcatIterator<R>
where
    <R::Iter as InternalIterator>::Error: Clone,
{
    /// Walks `run`. Nothing is opened, and it is not valid, until a seek.
    pub fn new(run: R) -> Self {
        Self { run, open: None, prepared: None, failed: None }
    }

    /// The series.
    pub fn run(&self) -> &R {
        &self.run
    }

    /// The source of the entry it stands on.
    #[inline]
    pub fn current(&self) -> Option<&R::Iter> {
        match &self.open {
            Some((_, source)) if source.valid() && self.failed.is_none() => Some(source),
            _ => None,
        }
    }

    /// The open source, whether the walk stands on an entry in it or not: for those who know that it does.
    #[inline(always)]
    pub fn open_source(&self) -> Option<&R::Iter> {
        self.open.as_ref().map(|(_, source)| source)
    }

    /// As [`Self::open_source`], to move in it; the caller stays within it.
    #[inline(always)]
    pub fn open_source_mut(&mut self) -> Option<&mut R::Iter> {
        self.open.as_mut().map(|(_, source)| source)
    }

    /// The source of the entry it stands on, to move in it.
    #[inline]
    fn standing_mut(&mut self) -> Option<&mut R::Iter> {
        match &mut self.open {
            Some((_, source)) if source.valid() && self.failed.is_none() => Some(source),
            _ => None,
        }
    }

    /// Opens source `i`, unless it is open, and moves in it by `seek`.
    fn enter(
        &mut self,
        i: usize,
        seek: impl FnOnce(&mut R::Iter) -> Result<(), <R::Iter as InternalIterator>::Error>,
    ) -> Result<(), <R::Iter as InternalIterator>::Error> {
        self.failed = None;
        if self.open.as_ref().is_none_or(|(open, _)| *open != i) {
            self.open = None;
            match self.run.open(i) {
                Ok(source) => self.open = Some((i, source)),
                Err(error) => return self.check(Err(error)),
            }
        }
        let (_, source) = self.open.as_mut().expect("it was opened");
        let sought = seek(source);
        self.check(sought)
    }

    /// The first source that may hold an entry at or behind `target`.
    fn find(&self, target: InternalKey<'_>) -> usize {
        partition_point(self.run.len(), |i| self.run.largest(i) < target)
    }

    /// Stands nowhere.
    fn leave(&mut self) {
        (self.open, self.failed) = (None, None);
    }

    /// While the open source is at its end, goes to the start of the next one.
    #[inline]
    fn skip_forward(&mut self) -> Result<(), <R::Iter as InternalIterator>::Error> {
        while let Some((i, source)) = &self.open
            && !source.valid()
            && i + 1 < self.run.len()
        {
            self.enter(i + 1, InternalIterator::seek_to_first)?;
        }
        Ok(())
    }

    /// While the open source is past its start, goes to the end of the one before.
    #[inline]
    fn skip_backward(&mut self) -> Result<(), <R::Iter as InternalIterator>::Error> {
        while let Some((i, source)) = &self.open
            && !source.valid()
            && *i > 0
        {
            self.enter(i - 1, InternalIterator::seek_to_last)?;
        }
        Ok(())
    }

    /// Keeps an error: opening a source again might not bring it back.
    #[inline]
    fn check(
        &mut self,
        result: Result<(), <R::Iter as InternalIterator>::Error>,
    ) -> Result<(), <R::Iter as InternalIterator>::Error> {
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// The open source to step in.
    #[inline]
    fn stepping(&mut self) -> Result<&mut R::Iter, <R::Iter as InternalIterator>::Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let (_, source) = self.open.as_mut().expect("a step on an iterator that stands nowhere");
        Ok(source)
    }
}

impl<R: Run> InternalIterator for ConcatIterator<R>
where
    <R::Iter as InternalIterator>::Error: Clone,
{
    type Error = <R::Iter as InternalIterator>::Error;

    #[inline]
    fn valid(&self) -> bool {
        self.current().is_some()
    }

    fn seek_to_first(&mut self) -> Result<(), Self::Error> {
        if self.run.is_empty() {
            return Ok(());
        }
        self.enter(0, InternalIterator::seek_to_first)?;
        self.skip_forward()
    }

    fn seek_to_last(&mut self) -> Result<(), Self::Error> {
        let Some(last) = self.run.len().checked_sub(1) else { return Ok(()) };
        self.enter(last, InternalIterator::seek_to_last)?;
        self.skip_backward()
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Self::Error> {
        let i = self.find(target);
        if i == self.run.len() {
            self.leave();
            return Ok(());
        }
        self.enter(i, |source| source.seek(target))?;
        self.skip_forward()
    }

    /// Opens the source. If that fails, the second half tries again, and keeps the error.
    fn prepare_seek(&mut self, target: InternalKey<'_>) {
        let i = self.find(target);
        self.prepared = None;
        let prepare = |source: &mut R::Iter| {
            source.prepare_seek(target);
            Ok(())
        };
        if i < self.run.len() && self.enter(i, prepare).is_ok() {
            self.prepared = Some(i);
        }
    }

    fn seek_prepared(&mut self, target: InternalKey<'_>) -> Result<(), Self::Error> {
        match self.prepared.take() {
            Some(i) => {
                self.enter(i, |source| source.seek_prepared(target))?;
                self.skip_forward()
            }
            None => self.seek(target),
        }
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Self::Error> {
        let before = partition_point(self.run.len(), |i| self.run.smallest(i) <= target);
        let Some(i) = before.checked_sub(1) else {
            self.leave();
            return Ok(());
        };
        self.enter(i, |source| source.seek_for_prev(target))?;
        self.skip_backward()
    }

    #[inline]
    fn next(&mut self) -> Result<(), Self::Error> {
        let stepped = self.stepping()?.next();
        self.check(stepped)?;
        self.skip_forward()
    }

    #[inline]
    fn prev(&mut self) -> Result<(), Self::Error> {
        let stepped = self.stepping()?.prev();
        self.check(stepped)?;
        self.skip_backward()
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.current().expect("key() of an iterator that stands nowhere").key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.current().expect("value() of an iterator that stands nowhere").value()
    }

    fn value_slice(&self) -> Slice {
        self.current().expect("value_slice() of an iterator that stands nowhere").value_slice()
    }

    /// At the last entry of a source it is not known: two sources may share a user key.
    #[inline]
    fn next_is_other_key(&mut self) -> bool {
        self.standing_mut().is_some_and(InternalIterator::next_is_other_key)
    }

    #[inline]
    fn prev_is_other_key(&mut self) -> bool {
        self.standing_mut().is_some_and(InternalIterator::prev_is_other_key)
    }

    #[inline]
    fn try_next_key(&mut self) -> Option<Trailer> {
        self.standing_mut()?.try_next_key()
    }

    fn steps_before(&mut self, way: Way, user_key: &[u8]) -> usize {
        self.standing_mut().map_or(0, |source| source.steps_before(way, user_key))
    }

    /// At the first entry of a source it is not known whether it is the newest: two sources may share a user key.
    #[inline]
    fn try_prev(&mut self) -> Option<Stepped> {
        self.standing_mut()?.try_prev()
    }
}

impl<R: Run> Lend for ConcatIterator<R>
where
    R::Iter: Lend,
    <R::Iter as InternalIterator>::Error: Clone,
{
    type Lent = <R::Iter as Lend>::Lent;

    fn lend(&mut self, way: Way, plain: &Plain<'_>, lent: &mut Self::Lent) -> usize {
        self.standing_mut().map_or(0, |source| source.lend(way, plain, lent))
    }

    fn take_back(&mut self, lent: &mut Self::Lent) -> bool {
        self.open_source_mut().expect("it has lent").take_back(lent)
    }

    fn lent_value_slice(&self, lent: &Self::Lent) -> Slice {
        self.open_source().expect("it has lent").lent_value_slice(lent)
    }
}

/// The first of `0..len` for which `is_before` does not hold; it holds for all that come before.
fn partition_point(len: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
