//! Walking a memtable.

use crate::MemTable;
use crate::skiplist::{Index, NONE};
use esker_format::InternalKey;
use esker_iterator::InternalIterator;
use std::convert::Infallible;
use std::sync::Arc;

/// Walks a [`MemTable`], and keeps it alive. Every step is a few loads, forward and backward.
///
/// It sees every entry whose insert had returned before the walk came to its place, and may see later ones.
#[derive(Debug, Clone)]
pub struct MemTableIter {
    table: Arc<MemTable>,
    at: Index,
}

impl MemTableIter {
    pub(crate) fn new(table: Arc<MemTable>) -> Self {
        Self { table, at: NONE }
    }
}

impl InternalIterator for MemTableIter {
    type Error = Infallible;

    #[inline]
    fn valid(&self) -> bool {
        self.at != NONE
    }

    fn seek_to_first(&mut self) -> Result<(), Infallible> {
        self.at = self.table.form.first();
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<(), Infallible> {
        self.at = self.table.form.last();
        Ok(())
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.at = self.table.form.at_or_behind(target);
        Ok(())
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.at = self.table.form.at_or_before(target);
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<(), Infallible> {
        assert!(self.valid(), "next() on an iterator that stands nowhere");
        self.at = self.table.form.next(self.at);
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<(), Infallible> {
        assert!(self.valid(), "prev() on an iterator that stands nowhere");
        self.at = self.table.form.prev(self.at);
        Ok(())
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.table.form.record(self.at).key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.table.form.record(self.at).value()
    }
}
