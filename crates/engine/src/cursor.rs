//! [`Cursor`]: the walk that copies nothing.

use crate::core::{Core, KeyspaceCore};
use crate::error::{Error, Result};
use crate::expiry::AsOf;
use crate::keyspace::Keyspace;
use crate::read::{ReadState, View};
use crate::walk::Walk;
use arc_swap::Guard;
use esker_format::{Slice, ValueKind, expiry::decode_expiry};
use esker_iterator::{Bounds, Covers, Stack};
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

/// A position in a keyspace, moved by seeks and steps in either direction; keys and values are read in place.
///
/// A new cursor stands nowhere: [`Cursor::valid`] is false until a seek. Past either end it is not valid, which is not an error, and steps do nothing until the next
/// seek. An error is never shown as the end: it *sticks*, and every step returns it until the next seek. Bounds, if set, are never stepped over.
///
/// Shows one instant until [`Cursor::refresh`]. It does not hold the engine open and stays valid after it is closed.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let engine = esker::Engine::open(dir.path())?;
/// # for k in ["a", "b", "c"] { engine.put(k, "1")?; }
/// let mut cursor = engine.cursor();
/// cursor.seek("b")?;
/// while cursor.valid() {
///     println!("{:?} = {:?}", cursor.key(), cursor.value()?);
///     cursor.next()?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cursor {
    inner: Result<Inner>,
}

struct Inner {
    walk: Walk,
    /// The error that sticks until the next seek.
    failed: Option<Error>,
    /// The value at hand, if it was loaded from a blob file or made of operands, as it is when it is asked for.
    loaded: OnceLock<Slice>,
    bounds: Bounds,
    at: AsOf,
    /// Where to find newer states; `None` for a cursor of a snapshot, which has none.
    newer: Option<(Weak<Core>, Arc<KeyspaceCore>)>,
}

impl Inner {
    /// The value at hand, wherever it is.
    #[inline(never)]
    fn load(&self) -> Result<&[u8]> {
        if let Some(value) = self.loaded.get() {
            return Ok(value);
        }
        if !self.walk.is_elsewhere() {
            return Ok(self.walk.stored());
        }
        if self.walk.trailer().kind() == ValueKind::Expiring {
            return Ok(decode_expiry(self.walk.stored())?.1);
        }
        let value = self.walk.load()?;
        Ok(self.loaded.get_or_init(|| value))
    }
}

impl Cursor {
    pub(crate) fn new(keyspace: &Keyspace, newest: bool, state: Arc<ReadState>, at: AsOf, bounds: Bounds) -> Self {
        let newer = newest.then(|| (Arc::downgrade(&keyspace.handle.core), Arc::clone(&keyspace.core)));
        let walk = Walk::new(state, at, bounds.clone());
        Self { inner: Ok(Inner { walk, failed: None, loaded: OnceLock::new(), bounds, at, newer }) }
    }

    /// A cursor that keeps to its instant, under range tombstones newer than all there is. It is not to be refreshed.
    pub(crate) fn under(covers: Covers, state: Arc<ReadState>, at: AsOf, bounds: Bounds) -> Self {
        Self::standing(Walk::under(covers, state, at, bounds.clone()), at, bounds)
    }

    /// A cursor that keeps to its instant, and stands where a walk within `bounds` does. It is not to be refreshed.
    pub(crate) fn standing(walk: Walk, at: AsOf, bounds: Bounds) -> Self {
        Self { inner: Ok(Inner { walk, failed: None, loaded: OnceLock::new(), bounds, at, newer: None }) }
    }

    pub(crate) fn failed(error: Error) -> Self {
        Self { inner: Err(error) }
    }

    fn inner(&mut self) -> Result<&mut Inner> {
        self.inner.as_mut().map_err(|error| error.clone())
    }

    fn sought(&mut self, seek: impl FnOnce(&mut View) -> Result<()>) -> Result<()> {
        let inner = self.inner()?;
        inner.loaded.take();
        inner.failed = inner.walk.seek(seek).err();
        inner.failed.clone().map_or(Ok(()), Err)
    }

    /// The short way of [`Self::stepped`]: whether it led there.
    #[inline(always)]
    fn stepped_in_lent(&mut self, step: impl FnOnce(&mut Walk) -> bool) -> bool {
        match &mut self.inner {
            Ok(inner) => inner.loaded.get().is_none() && step(&mut inner.walk),
            Err(_) => false,
        }
    }

    #[inline(never)]
    fn stepped(&mut self, step: impl FnOnce(&mut Walk) -> Result<()>) -> Result<()> {
        let inner = self.inner()?;
        if !inner.walk.valid() {
            return inner.failed.clone().map_or(Ok(()), Err);
        }
        if inner.loaded.get().is_some() {
            inner.loaded.take();
        }
        step(&mut inner.walk).inspect_err(|error| inner.failed = Some(error.clone()))
    }

    /// Whether the cursor stands on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.inner.as_ref().is_ok_and(|inner| inner.walk.valid())
    }

    /// Moves to the first key at or behind `key`.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.sought(|iter| iter.seek(key.as_ref()))
    }

    /// Moves to the last key at or before `key`.
    pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.sought(|iter| iter.seek_for_prev(key.as_ref()))
    }

    /// Moves to the first key.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.sought(View::seek_to_first)
    }

    /// Moves to the last key.
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.sought(View::seek_to_last)
    }

    /// Moves to the next key; does nothing where the cursor stands nowhere.
    #[expect(clippy::should_implement_trait, reason = "a cursor is not an iterator: it lends")]
    #[inline]
    pub fn next(&mut self) -> Result<()> {
        if self.stepped_in_lent(Walk::next_lent) { Ok(()) } else { self.stepped(Walk::next) }
    }

    /// Moves to the key before; does nothing where the cursor stands nowhere.
    #[inline]
    pub fn prev(&mut self) -> Result<()> {
        if self.stepped_in_lent(Walk::prev_lent) { Ok(()) } else { self.stepped(Walk::prev) }
    }

    /// The key.
    ///
    /// # Panics
    /// If the cursor is not [`valid`](Self::valid).
    #[inline]
    pub fn key(&self) -> &[u8] {
        match &self.inner {
            Ok(inner) => match inner.walk.lent_key() {
                Some(key) => key,
                None => self.key_of_any(),
            },
            Err(_) => self.key_of_any(),
        }
    }

    #[inline(never)]
    fn key_of_any(&self) -> &[u8] {
        match &self.inner {
            Ok(inner) => inner.walk.key(),
            Err(error) => panic!("the cursor is not valid: {error}"),
        }
    }

    /// The value. One that is kept in a blob file is loaded by the first call, and merge operands are merged, so that a walk over the keys alone reads no blob file and calls no operator.
    ///
    /// # Errors
    /// The value can't be read, or the merge operator fails. The cursor stays where it is, and can go on from there.
    ///
    /// # Panics
    /// If the cursor is not [`valid`](Self::valid).
    #[inline]
    pub fn value(&self) -> Result<&[u8]> {
        match &self.inner {
            Ok(inner) => match inner.walk.lent_value() {
                Some(value) => Ok(value),
                None => self.value_of_any(),
            },
            Err(_) => self.value_of_any(),
        }
    }

    #[inline(never)]
    fn value_of_any(&self) -> Result<&[u8]> {
        let inner = self.inner.as_ref().map_err(Error::clone)?;
        match inner.walk.put_value() {
            Some(value) => Ok(value),
            None => inner.load(),
        }
    }

    /// What is stored of the entry, if it is of a kind that expires.
    pub(crate) fn stored_expiring(&self) -> Option<&[u8]> {
        match &self.inner {
            Ok(inner) => inner.walk.trailer().kind().expires().then(|| inner.walk.stored()),
            Err(error) => panic!("the cursor is not valid: {error}"),
        }
    }

    /// As [`Self::value`], owned.
    pub(crate) fn value_slice(&self) -> Result<Slice> {
        self.inner.as_ref().map_err(Error::clone)?.walk.value_slice()
    }

    /// What a stack of operands newer than all there is makes of `key`: of what the cursor shows, if it stands there and `below` says that it counts, else of nothing.
    pub(crate) fn merged_under(&self, key: &[u8], mut stack: Stack, below: bool) -> Result<Slice> {
        let walk = &self.inner.as_ref().map_err(Error::clone)?.walk;
        if below && walk.valid() && walk.key() == key {
            walk.add_to(&mut stack);
        }
        walk.state().value_of_stack(key, &stack)
    }

    /// How many keys it has passed because they are deleted or have expired.
    #[cfg(test)]
    pub(crate) fn passed(&self) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.walk.passed())
    }

    /// Moves on to the newest state, and stands nowhere. A cursor of a snapshot keeps to its instant.
    ///
    /// # Errors
    /// `Closed` if the engine was closed, `NotFound` if the keyspace was dropped; the cursor then stays where it is.
    pub fn refresh(&mut self) -> Result<()> {
        let inner = self.inner()?;
        let (state, at) = match &inner.newer {
            None => (Arc::clone(inner.walk.state()), inner.at),
            Some((core, keyspace)) => {
                let core = core.upgrade().ok_or_else(Error::closed)?;
                core.check_open()?;
                keyspace.check()?;
                let (state, at) = keyspace.now(&core);
                (Guard::into_inner(state), at)
            }
        };
        inner.walk = Walk::new(state, at, inner.bounds.clone());
        inner.failed = None;
        inner.loaded.take();
        inner.at = at;
        Ok(())
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner {
            Ok(inner) if inner.walk.valid() => write!(f, "Cursor({})", inner.walk.key().escape_ascii()),
            Ok(_) => f.write_str("Cursor(nowhere)"),
            Err(error) => write!(f, "Cursor({error})"),
        }
    }
}
