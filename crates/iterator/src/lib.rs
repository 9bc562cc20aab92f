//! The internal-iterator contract of an LSM tree, and iterators made of iterators.
//!
//! ```text
//!   user keys      VisibleIterator     newest version at one sequence number, tombstones hidden, within Bounds
//!                        |     └── Covers       what range tombstones of which source hide
//!   all versions   MergingIterator     many sorted sources as one
//!                   /    |    \
//!            memtable  table  ConcatIterator      a sorted run of tables, opened one at a time
//! ```
//! Everything is generic over its sources: nothing here boxes, spawns, locks, or does I/O of its own.
//!
//! ```
//! use esker_format::{InternalKey, SeqNo, ValueKind};
//! use esker_iterator::{Bounds, MergingIterator, VecIterator, VisibleIterator};
//!
//! let entry = |key: &str, seq, kind, value: &str| {
//!     (InternalKey::new(key.as_bytes(), SeqNo(seq), kind).to_buf(), value.as_bytes().to_vec())
//! };
//! let newer = vec![entry("a", 7, ValueKind::Delete, ""), entry("b", 9, ValueKind::Put, "new")];
//! let older = vec![entry("a", 1, ValueKind::Put, "x"), entry("b", 2, ValueKind::Put, "old")];
//! let merged = MergingIterator::new(vec![VecIterator::new(newer), VecIterator::new(older)]);
//!
//! let mut now = VisibleIterator::new(merged, SeqNo(8), Bounds::default());
//! now.seek_to_first()?;
//! assert_eq!((now.key(), now.value()), (&b"b"[..], &b"old"[..]), "`a` is deleted, and b#9 is not yet to be seen");
//! now.next()?;
//! assert!(!now.valid());
//! # Ok::<(), std::convert::Infallible>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod bounds;
mod concat;
mod covers;
mod heads;
mod lend;
mod merge;
mod merging;
pub mod operators;
mod tombstones;
mod vec;
mod visible;

pub use bounds::Bounds;
pub use concat::{ConcatIterator, Run};
pub use covers::Covers;
pub use lend::{Lend, Lent, NothingLent, Plain, Way};
pub use merge::{MergeFailure, MergeOperator, Operands, OperatorError, Stack, check_operand};
pub use merging::{LentMerge, MergingIterator};
pub use tombstones::{
    Covering, Fragments, RangeTombstone, RangeTombstoneBuf, RangeTombstones, Stretch, TombstoneRun, is_before_end,
};
pub use vec::{LentVec, VecIterator};
pub use visible::VisibleIterator;

use esker_format::{InternalKey, Slice, Trailer};

/// What [`InternalIterator::try_prev`] knows of the entry that it moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stepped {
    /// Its trailer.
    pub trailer: Trailer,
    /// Whether it is known that there is an entry before it, of another user key: that it is the newest version of its own. `false` promises nothing.
    pub is_newest: bool,
}

/// A cursor over versions, in internal-key order: user key ascending, of one key the newest version first.
///
/// # Contract
/// - A new iterator is not [`valid`](Self::valid) until a seek places it.
/// - [`next`](Self::next) and [`prev`](Self::prev) may follow one another at any position. Past either end the iterator is not valid, and only a seek makes it
///   valid again: `prev` after the last `next` does not come back.
/// - After an error the iterator is not valid, and the error *sticks*: every call but a seek returns it again. An error is never
///   shown as the end.
/// - The bytes that `key` and `value` return stay until the next call that takes `&mut self`.
pub trait InternalIterator {
    /// What can go wrong.
    type Error;

    /// Whether the iterator stands on an entry.
    fn valid(&self) -> bool;

    /// Moves to the first entry.
    fn seek_to_first(&mut self) -> Result<(), Self::Error>;

    /// Moves to the last entry.
    fn seek_to_last(&mut self) -> Result<(), Self::Error>;

    /// Moves to the first entry at or behind `target`.
    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Self::Error>;

    /// Moves to the last entry at or before `target`.
    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Self::Error>;

    /// Moves to the next entry.
    ///
    /// # Panics
    /// If the iterator is not valid and has no error to return.
    fn next(&mut self) -> Result<(), Self::Error>;

    /// Moves to the entry before.
    ///
    /// # Panics
    /// If the iterator is not valid and has no error to return.
    fn prev(&mut self) -> Result<(), Self::Error>;

    /// The entry's key.
    ///
    /// # Panics
    /// If the iterator is not valid.
    fn key(&self) -> InternalKey<'_>;

    /// The entry's value; empty for a deletion.
    ///
    /// # Panics
    /// If the iterator is not valid.
    fn value(&self) -> &[u8];

    /// The entry's value, owned. Sources whose bytes stay where they are pin long ones and copy none.
    ///
    /// # Panics
    /// If the iterator is not valid.
    fn value_slice(&self) -> Slice {
        Slice::from(self.value())
    }

    /// Whether it is known, at next to no cost, that there is an entry behind this one and that it has another user key. `false`
    /// promises nothing: a caller then moves and compares.
    ///
    /// # Panics
    /// If the iterator is not valid.
    fn next_is_other_key(&mut self) -> bool {
        false
    }

    /// Whether it is known, at next to no cost, that there is an entry before this one and that it has another user key. `false`
    /// promises nothing.
    ///
    /// # Panics
    /// If the iterator is not valid.
    fn prev_is_other_key(&mut self) -> bool {
        false
    }

    /// Moves to the entry behind this one, if at next to no cost it is known that there is one and that it has another user key: its
    /// trailer. `None` if it did not move; then that has to be found out by steps.
    ///
    /// # Panics
    /// If the iterator is not valid.
    fn try_next_key(&mut self) -> Option<Trailer> {
        None
    }

    /// How many steps in this direction will surely stand on an entry that comes before all versions of `user_key` there: as far as one search can tell, so far as the end of a block. 0 promises
    /// nothing.
    ///
    /// # Panics
    /// If the iterator is not valid.
    fn steps_before(&mut self, way: Way, user_key: &[u8]) -> usize {
        let _ = (way, user_key);
        0
    }

    /// Moves to the entry before this one, if at next to no cost it is known that there is one, and tells what it knows of that one. `None` if it did not move; then
    /// that has to be found out by steps.
    ///
    /// # Panics
    /// If the iterator is not valid.
    fn try_prev(&mut self) -> Option<Stepped> {
        None
    }

    /// If the entry that it stands on comes from a source behind the first `newer` ones: moves all of those that are behind in the direction of travel on to `to`, as a seek there
    /// would, at least; whether it did. Who knows that all their entries up to `to` are hidden passes them so, however many they are.
    ///
    /// After it the iterator stands where it stands; a step the other way comes upon what was passed.
    ///
    /// # Errors
    /// As a seek.
    fn pass_over(&mut self, newer: usize, to: InternalKey<'_>) -> Result<bool, Self::Error> {
        let _ = (newer, to);
        Ok(false)
    }

    /// As [`Self::seek`], but that sources behind the first `newer` ones are moved to `to`, which lies at or behind `target`: for who knows that all they have before it is hidden.
    ///
    /// # Errors
    /// As a seek.
    fn seek_over(&mut self, target: InternalKey<'_>, newer: usize, to: InternalKey<'_>) -> Result<(), Self::Error> {
        let _ = (newer, to);
        self.seek(target)
    }

    /// As [`Self::seek_over`], for [`Self::seek_for_prev`]: `to` lies at or before `target`.
    ///
    /// # Errors
    /// As a seek.
    fn seek_for_prev_over(
        &mut self,
        target: InternalKey<'_>,
        newer: usize,
        to: InternalKey<'_>,
    ) -> Result<(), Self::Error> {
        let _ = (newer, to);
        self.seek_for_prev(target)
    }

    /// The first half of a seek: finds out where `target` lies and sends for the bytes there, without waiting for them. One who
    /// seeks in several sources lets all of them do this first, so that they wait for memory at the same time.
    ///
    /// Leaves the iterator where [`Self::seek_prepared`] with the same target, or any seek, must come next.
    fn prepare_seek(&mut self, target: InternalKey<'_>) {
        let _ = target;
    }

    /// The second half: as [`Self::seek`], right after [`Self::prepare_seek`] with the same target.
    ///
    /// # Errors
    /// As a seek.
    fn seek_prepared(&mut self, target: InternalKey<'_>) -> Result<(), Self::Error> {
        self.seek(target)
    }
}

/// Passes every method on to what the pointer points to.
macro_rules! pass_on {
    () => {
        type Error = I::Error;

        #[inline]
        fn valid(&self) -> bool {
            (**self).valid()
        }

        fn seek_to_first(&mut self) -> Result<(), I::Error> {
            (**self).seek_to_first()
        }

        fn seek_to_last(&mut self) -> Result<(), I::Error> {
            (**self).seek_to_last()
        }

        fn seek(&mut self, target: InternalKey<'_>) -> Result<(), I::Error> {
            (**self).seek(target)
        }

        fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), I::Error> {
            (**self).seek_for_prev(target)
        }

        #[inline]
        fn next(&mut self) -> Result<(), I::Error> {
            (**self).next()
        }

        #[inline]
        fn prev(&mut self) -> Result<(), I::Error> {
            (**self).prev()
        }

        #[inline]
        fn key(&self) -> InternalKey<'_> {
            (**self).key()
        }

        #[inline]
        fn value(&self) -> &[u8] {
            (**self).value()
        }

        fn value_slice(&self) -> Slice {
            (**self).value_slice()
        }

        #[inline]
        fn next_is_other_key(&mut self) -> bool {
            (**self).next_is_other_key()
        }

        #[inline]
        fn prev_is_other_key(&mut self) -> bool {
            (**self).prev_is_other_key()
        }

        #[inline]
        fn try_next_key(&mut self) -> Option<Trailer> {
            (**self).try_next_key()
        }

        #[inline]
        fn try_prev(&mut self) -> Option<Stepped> {
            (**self).try_prev()
        }

        fn steps_before(&mut self, way: Way, user_key: &[u8]) -> usize {
            (**self).steps_before(way, user_key)
        }

        fn pass_over(&mut self, newer: usize, to: InternalKey<'_>) -> Result<bool, I::Error> {
            (**self).pass_over(newer, to)
        }

        fn seek_over(&mut self, target: InternalKey<'_>, newer: usize, to: InternalKey<'_>) -> Result<(), I::Error> {
            (**self).seek_over(target, newer, to)
        }

        fn seek_for_prev_over(
            &mut self,
            target: InternalKey<'_>,
            newer: usize,
            to: InternalKey<'_>,
        ) -> Result<(), I::Error> {
            (**self).seek_for_prev_over(target, newer, to)
        }

        fn prepare_seek(&mut self, target: InternalKey<'_>) {
            (**self).prepare_seek(target);
        }

        fn seek_prepared(&mut self, target: InternalKey<'_>) -> Result<(), I::Error> {
            (**self).seek_prepared(target)
        }
    };
}

impl<I: InternalIterator + ?Sized> InternalIterator for Box<I> {
    pass_on!();
}

impl<I: InternalIterator + ?Sized> InternalIterator for &mut I {
    pass_on!();
}
