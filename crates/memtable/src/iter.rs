//! Walking a memtable.

use crate::MemTable;
use crate::skiplist::{Index, NONE, SkipList};
use esker_format::InternalKey;
use esker_iterator::InternalIterator;
use std::convert::Infallible;
use std::sync::Arc;

/// Walks a [`MemTable`], and keeps it alive. Every step is a few loads, forward and backward.
///
/// It sees, in order, every entry whose insert had returned before the walk came to its place. One that is being inserted
/// meanwhile may be seen or not, and may be missing when the walk comes back to it at once.
#[derive(Debug, Clone)]
pub struct MemTableIter {
    table: Arc<MemTable>,
    at: Index,
}

impl MemTableIter {
    pub(crate) fn new(table: Arc<MemTable>) -> Self {
        Self { table, at: NONE }
    }

    /// What it stands in.
    #[inline]
    fn form(&self) -> &SkipList {
        assert!(self.valid(), "an iterator that stands nowhere");
        self.table.form.get().expect("an entry to stand on was inserted")
    }
}

impl InternalIterator for MemTableIter {
    type Error = Infallible;

    #[inline]
    fn valid(&self) -> bool {
        self.at != NONE
    }

    fn seek_to_first(&mut self) -> Result<(), Infallible> {
        self.at = self.table.form.get().map_or(NONE, |form| form.first());
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<(), Infallible> {
        self.at = self.table.form.get().map_or(NONE, |form| form.last());
        Ok(())
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.at = self.table.form.get().map_or(NONE, |form| form.at_or_behind(target));
        Ok(())
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.at = self.table.form.get().map_or(NONE, |form| form.at_or_before(target));
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<(), Infallible> {
        self.at = self.form().next(self.at);
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<(), Infallible> {
        self.at = self.form().prev(self.at);
        Ok(())
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.form().record(self.at).key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.form().record(self.at).value()
    }
}
