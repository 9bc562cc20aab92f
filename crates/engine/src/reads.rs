//! The reading calls, which [`Keyspace`], [`crate::Snapshot`] and [`crate::SnapshotOf`] have in common.

use crate::cursor::Cursor;
use crate::error::Result;
use crate::expiry::AsOf;
use crate::iter::Iter;
use crate::keyspace::Keyspace;
use crate::options::ReadOptions;
use crate::range::{KeyRange, to_bounds};
use crate::read::{ReadState, TOGETHER_MAX};
use crate::snapshot::Taken;
use arc_swap::Guard;
use esker_format::Slice;
use esker_iterator::Bounds;
use std::sync::Arc;

/// The reading calls of a type that has `fn reads(&self) -> Result<Reads<'_>>`.
macro_rules! read_methods {
    () => {
        $crate::reads::read_methods!($crate::Iter, $crate::Cursor);
    };
    ($iter:ty, $cursor:ty) => {
        /// As [`crate::Engine::get`].
        pub fn get(&self, key: impl AsRef<[u8]>) -> $crate::Result<Option<$crate::Slice>> {
            self.reads()?.get(key.as_ref())
        }

        /// As [`crate::Engine::contains_key`].
        pub fn contains_key(&self, key: impl AsRef<[u8]>) -> $crate::Result<bool> {
            self.reads()?.contains_key(key.as_ref())
        }

        /// As [`crate::Engine::multi_get`].
        pub fn multi_get<K: AsRef<[u8]>>(
            &self,
            keys: impl IntoIterator<Item = K>,
        ) -> $crate::Result<Vec<Option<$crate::Slice>>> {
            self.reads()?.multi_get(keys)
        }

        /// As [`crate::Engine::range`].
        pub fn range(&self, range: impl $crate::KeyRange) -> $iter {
            self.reads().map_or_else(<$iter>::failed, |reads| reads.range(range))
        }

        /// As [`crate::Engine::prefix`].
        pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> $iter {
            self.reads().map_or_else(<$iter>::failed, |reads| reads.prefix(prefix.as_ref()))
        }

        /// As [`crate::Engine::iter`].
        pub fn iter(&self) -> $iter {
            self.range(..)
        }

        /// As [`crate::Engine::is_empty`].
        pub fn is_empty(&self) -> $crate::Result<bool> {
            self.reads()?.is_empty()
        }

        /// As [`crate::Engine::first`].
        pub fn first(&self) -> $crate::Result<Option<($crate::Slice, $crate::Slice)>> {
            self.reads()?.extreme($crate::edges::Extreme::First)
        }

        /// As [`crate::Engine::last`].
        pub fn last(&self) -> $crate::Result<Option<($crate::Slice, $crate::Slice)>> {
            self.reads()?.extreme($crate::edges::Extreme::Last)
        }

        /// As [`crate::Engine::cursor`].
        pub fn cursor(&self) -> $cursor {
            self.cursor_with($crate::ReadOptions::default())
        }

        /// As [`crate::Engine::cursor_with`].
        pub fn cursor_with(&self, options: $crate::ReadOptions) -> $cursor {
            self.reads().map_or_else(<$cursor>::failed, |reads| reads.cursor(options))
        }
    };
}

pub(crate) use read_methods;

/// Reads of one keyspace: of its newest state, or of a snapshot's.
pub(crate) struct Reads<'a> {
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) at: Option<&'a Taken>,
}

impl Reads<'_> {
    /// The state to read and the instant to read it at.
    #[inline(always)]
    pub(crate) fn state(&self) -> Result<(Guard<Arc<ReadState>>, AsOf)> {
        let core = &self.keyspace.handle.core;
        core.check_open()?;
        match self.at {
            Some(taken) => Ok((taken.state_of(&self.keyspace.core), taken.at)),
            None => {
                self.keyspace.check()?;
                Ok(self.keyspace.core.now(core))
            }
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Slice>> {
        let (state, at) = self.state()?;
        self.seen(state.get(key, at))
    }

    pub(crate) fn contains_key(&self, key: &[u8]) -> Result<bool> {
        let (state, at) = self.state()?;
        self.seen(state.contains(key, at))
    }

    pub(crate) fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        let (state, at) = self.state()?;
        // The caller's iterator may do anything meanwhile, so no guard is held: a thread has but a few.
        let state = Guard::into_inner(state);
        let mut keys = keys.into_iter();
        let mut values = Vec::with_capacity(keys.size_hint().0);
        let mut some = Vec::with_capacity(TOGETHER_MAX);
        loop {
            some.clear();
            some.extend(keys.by_ref().take(TOGETHER_MAX));
            if some.is_empty() {
                return Ok(values);
            }
            let first = values.len();
            values.resize_with(first + some.len(), || None);
            self.seen(state.get_together(&some, at, &mut values[first..]))?;
        }
    }

    pub(crate) fn range(&self, range: impl KeyRange) -> Iter {
        self.iter(to_bounds(&range))
    }

    pub(crate) fn prefix(&self, prefix: &[u8]) -> Iter {
        self.iter(Bounds::prefix(prefix))
    }

    fn iter(&self, bounds: Bounds) -> Iter {
        self.state().map_or_else(Iter::failed, |(state, at)| Iter::new(Guard::into_inner(state), at, bounds))
    }

    pub(crate) fn cursor(&self, options: ReadOptions) -> Cursor {
        let bounds = options.into_bounds();
        let newest = self.at.is_none();
        match self.state() {
            Ok((state, at)) => Cursor::new(self.keyspace, newest, Guard::into_inner(state), at, bounds),
            Err(error) => Cursor::failed(error),
        }
    }

    /// Counts a look-up that failed. Walks count for themselves.
    pub(crate) fn seen<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.keyspace.handle.core.tables.read_errors.add(1);
        }
        result
    }
}
