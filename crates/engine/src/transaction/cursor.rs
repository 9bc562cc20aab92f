//! [`TransactionCursor`]: a position in what a transaction sees.

use super::merged::Merged;
use crate::ends::End as _;
use crate::error::{Error, Result};
use std::fmt;

/// A position in a keyspace as a transaction sees it, moved by seeks and steps in either direction; as [`crate::Cursor`], whose words on standing nowhere, errors and bounds hold here too.
///
/// It shows what the transaction had written when it was made, over its snapshot. What it has come to counts as read.
pub struct TransactionCursor {
    inner: Result<Box<Merged>>,
}

impl TransactionCursor {
    pub(super) fn new(merged: Merged) -> Self {
        Self { inner: Ok(Box::new(merged)) }
    }

    pub(crate) fn failed(error: Error) -> Self {
        Self { inner: Err(error) }
    }

    fn inner(&mut self) -> Result<&mut Merged> {
        self.inner.as_deref_mut().map_err(|error| error.clone())
    }

    /// Whether the cursor stands on an entry.
    pub fn valid(&self) -> bool {
        self.inner.as_ref().is_ok_and(|inner| inner.valid())
    }

    /// Moves to the first key at or behind `key`.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.inner()?.seek(key.as_ref())
    }

    /// Moves to the last key at or before `key`.
    pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.inner()?.seek_for_prev(key.as_ref())
    }

    /// Moves to the first key.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.inner()?.seek_to_first()
    }

    /// Moves to the last key.
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.inner()?.seek_to_last()
    }

    /// Moves to the next key; does nothing where the cursor stands nowhere.
    #[expect(clippy::should_implement_trait, reason = "a cursor is not an iterator: it lends")]
    pub fn next(&mut self) -> Result<()> {
        self.inner()?.next()
    }

    /// Moves to the key before; does nothing where the cursor stands nowhere.
    pub fn prev(&mut self) -> Result<()> {
        self.inner()?.prev()
    }

    /// The key.
    ///
    /// # Panics
    /// If the cursor is not [`valid`](Self::valid).
    pub fn key(&self) -> &[u8] {
        match &self.inner {
            Ok(inner) => inner.key(),
            Err(error) => panic!("the cursor is not valid: {error}"),
        }
    }

    /// The value. One that is kept in a blob file is loaded by the first call.
    ///
    /// # Errors
    /// The value can't be read. The cursor stays where it is, and can go on from there.
    ///
    /// # Panics
    /// If the cursor is not [`valid`](Self::valid).
    pub fn value(&self) -> Result<&[u8]> {
        self.inner.as_ref().map_err(Error::clone)?.value()
    }
}

impl fmt::Debug for TransactionCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner {
            Ok(inner) if inner.valid() => write!(f, "TransactionCursor({})", inner.key().escape_ascii()),
            Ok(_) => f.write_str("TransactionCursor(nowhere)"),
            Err(error) => write!(f, "TransactionCursor({error})"),
        }
    }
}
