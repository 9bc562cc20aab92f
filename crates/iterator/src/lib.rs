//! The internal-iterator contract of an LSM tree, and iterators made of iterators.
#![forbid(unsafe_code)]

use esker_format::InternalKey;

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
}
