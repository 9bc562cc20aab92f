//! The sources of one read, joined in one enum, so that merging dispatches without a pointer.

use crate::error::Error;
use crate::read::{LevelView, reaches_down, reaches_up};
use crate::tables::OpenTable;
use esker_format::{InternalKey, Slice, Trailer};
use esker_iterator::{Bounds, ConcatIterator, InternalIterator, Lend, Plain, Run, Stepped, Way};
use esker_memtable::MemTableIter;
use esker_sstable::{InBlock, TableIter};
use std::ops::Bound;
use std::sync::Arc;

/// A memtable, a table of L0, or a level below it.
pub(crate) enum Source {
    Memory(MemTableIter),
    Table(TableSource),
    Level(ConcatIterator<LevelRun>),
}

impl Source {
    pub(crate) fn table(open: &OpenTable) -> Self {
        Self::Table(TableSource::new(open))
    }

    /// The memtable it is in, if it is in no table.
    #[inline]
    fn in_memory(&self) -> &MemTableIter {
        match self {
            Self::Memory(iter) => iter,
            _ => panic!("the iterator is not valid"),
        }
    }

    /// The table it is in. Whether it stands on an entry there is the table's to say, which is asked for one.
    #[inline(always)]
    fn in_table(&self) -> Option<&TableIter> {
        let table = match self {
            Self::Table(table) => table,
            Self::Level(level) => level.open_source()?,
            Self::Memory(_) => return None,
        };
        match table {
            TableSource::Open(iter) => Some(iter),
            TableSource::Failed(_) => None,
        }
    }

    /// As [`Self::in_table`], to move in it.
    #[inline(always)]
    fn in_table_mut(&mut self) -> Option<&mut TableIter> {
        let table = match self {
            Self::Table(table) => table,
            Self::Level(level) => level.open_source_mut()?,
            Self::Memory(_) => return None,
        };
        table.open_mut()
    }
}

/// A table's iterator, or the reason why there is none: every seek returns it, so a scan that reaches a quarantined table fails and never
/// skips it.
#[expect(
    clippy::large_enum_variant,
    reason = "the small one is the rare one, and a box would cost every step of the other"
)]
pub(crate) enum TableSource {
    Open(TableIter),
    Failed(Error),
}

impl TableSource {
    fn new(open: &OpenTable) -> Self {
        match open.table() {
            Ok(table) => Self::Open(table.iter()),
            Err(error) => Self::Failed(error),
        }
    }
}

macro_rules! forward {
    ($self:ident, $iter:ident => $call:expr) => {
        match $self {
            Self::Memory($iter) => {
                let Ok(()) = $call;
                Ok(())
            }
            Self::Table($iter) => $call,
            Self::Level($iter) => $call,
        }
    };
}

impl InternalIterator for Source {
    type Error = Error;

    #[inline]
    fn valid(&self) -> bool {
        match self {
            Self::Memory(iter) => iter.valid(),
            Self::Table(iter) => iter.valid(),
            Self::Level(iter) => iter.valid(),
        }
    }

    fn seek_to_first(&mut self) -> Result<(), Error> {
        forward!(self, iter => iter.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<(), Error> {
        forward!(self, iter => iter.seek_to_last())
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Error> {
        forward!(self, iter => iter.seek(target))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Error> {
        forward!(self, iter => iter.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<(), Error> {
        forward!(self, iter => iter.next())
    }

    #[inline]
    fn prev(&mut self) -> Result<(), Error> {
        forward!(self, iter => iter.prev())
    }

    #[inline(always)]
    fn key(&self) -> InternalKey<'_> {
        match self.in_table() {
            Some(table) => table.key(),
            None => self.in_memory().key(),
        }
    }

    #[inline(always)]
    fn value(&self) -> &[u8] {
        match self.in_table() {
            Some(table) => table.value(),
            None => self.in_memory().value(),
        }
    }

    /// Pins the block or map it lies in if it is long; what comes from a memtable is copied.
    fn value_slice(&self) -> Slice {
        match self {
            Self::Memory(iter) => iter.value_slice(),
            Self::Table(iter) => iter.value_slice(),
            Self::Level(iter) => iter.value_slice(),
        }
    }

    #[inline]
    fn next_is_other_key(&mut self) -> bool {
        match self {
            Self::Memory(iter) => iter.next_is_other_key(),
            _ => self.in_table_mut().is_some_and(TableIter::next_is_other_key),
        }
    }

    #[inline]
    fn prev_is_other_key(&mut self) -> bool {
        match self {
            Self::Memory(iter) => iter.prev_is_other_key(),
            _ => self.in_table_mut().is_some_and(TableIter::prev_is_other_key),
        }
    }

    #[inline]
    fn try_next_key(&mut self) -> Option<Trailer> {
        match self {
            Self::Memory(iter) => iter.try_next_key(),
            _ => self.in_table_mut()?.try_next_key(),
        }
    }

    fn steps_before(&mut self, way: Way, user_key: &[u8]) -> usize {
        self.in_table_mut().map_or(0, |table| table.steps_before(way, user_key))
    }

    #[inline]
    fn try_prev(&mut self) -> Option<Stepped> {
        match self {
            Self::Memory(iter) => iter.try_prev(),
            _ => self.in_table_mut()?.try_prev(),
        }
    }

    fn prepare_seek(&mut self, target: InternalKey<'_>) {
        match self {
            Self::Memory(iter) => iter.prepare_seek(target),
            Self::Table(iter) => iter.prepare_seek(target),
            Self::Level(iter) => iter.prepare_seek(target),
        }
    }

    fn seek_prepared(&mut self, target: InternalKey<'_>) -> Result<(), Error> {
        forward!(self, iter => iter.seek_prepared(target))
    }
}

/// Memtables lend nothing.
impl Lend for Source {
    type Lent = InBlock;

    fn lend(&mut self, way: Way, plain: &Plain<'_>, lent: &mut InBlock) -> usize {
        self.in_table_mut().map_or(0, |table| table.lend(way, plain, lent))
    }

    fn take_back(&mut self, lent: &mut InBlock) -> bool {
        self.in_table_mut().expect("it has lent").take_back(lent)
    }

    fn lent_value_slice(&self, lent: &InBlock) -> Slice {
        self.in_table().expect("it has lent").lent_value_slice(lent)
    }
}

impl TableSource {
    fn moved(
        &mut self,
        step: impl FnOnce(&mut TableIter) -> Result<(), esker_sstable::TableError>,
    ) -> Result<(), Error> {
        match self {
            Self::Open(iter) => step(iter).map_err(Error::from),
            Self::Failed(error) => Err(error.clone()),
        }
    }

    #[inline]
    fn open_mut(&mut self) -> Option<&mut TableIter> {
        match self {
            Self::Open(iter) => Some(iter),
            Self::Failed(_) => None,
        }
    }

    #[inline]
    fn open(&self) -> &TableIter {
        match self {
            Self::Open(iter) => iter,
            Self::Failed(_) => panic!("the iterator is not valid"),
        }
    }
}

impl InternalIterator for TableSource {
    type Error = Error;

    #[inline]
    fn valid(&self) -> bool {
        matches!(self, Self::Open(iter) if iter.valid())
    }

    fn seek_to_first(&mut self) -> Result<(), Error> {
        self.moved(|iter| iter.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<(), Error> {
        self.moved(|iter| iter.seek_to_last())
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Error> {
        self.moved(|iter| iter.seek(target))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Error> {
        self.moved(|iter| iter.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<(), Error> {
        self.moved(TableIter::next)
    }

    #[inline]
    fn prev(&mut self) -> Result<(), Error> {
        self.moved(TableIter::prev)
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.open().key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.open().value()
    }

    fn value_slice(&self) -> Slice {
        self.open().value_slice()
    }

    #[inline]
    fn next_is_other_key(&mut self) -> bool {
        self.open_mut().is_some_and(TableIter::next_is_other_key)
    }

    #[inline]
    fn prev_is_other_key(&mut self) -> bool {
        self.open_mut().is_some_and(TableIter::prev_is_other_key)
    }

    #[inline]
    fn try_next_key(&mut self) -> Option<Trailer> {
        self.open_mut()?.try_next_key()
    }

    fn steps_before(&mut self, way: Way, user_key: &[u8]) -> usize {
        self.open_mut().map_or(0, |table| table.steps_before(way, user_key))
    }

    #[inline]
    fn try_prev(&mut self) -> Option<Stepped> {
        self.open_mut()?.try_prev()
    }

    fn prepare_seek(&mut self, target: InternalKey<'_>) {
        if let Self::Open(iter) = self {
            iter.prepare_seek(target);
        }
    }

    fn seek_prepared(&mut self, target: InternalKey<'_>) -> Result<(), Error> {
        self.moved(|iter| iter.seek_prepared(target))
    }
}

/// Those tables of one level below L0 that may hold keys within some bounds, opened as a scan reaches them. What lies beyond is not even touched: it may be damaged.
pub(crate) struct LevelRun {
    view: Arc<LevelView>,
    level: usize,
    first: usize,
    len: usize,
}

impl LevelRun {
    /// `None` if there are none.
    pub(crate) fn within(view: &Arc<LevelView>, level: usize, bounds: &Bounds) -> Option<Self> {
        let tables = &view.levels[level][..];
        let first = match bounds.lower {
            Bound::Unbounded => 0,
            _ => tables.partition_point(|open| !reaches_down(open, bounds)),
        };
        let len = match bounds.upper {
            Bound::Unbounded => tables.len() - first,
            _ => tables[first..].partition_point(|open| reaches_up(open, bounds)),
        };
        (len > 0).then(|| Self { view: Arc::clone(view), level, first, len })
    }

    #[inline]
    fn table(&self, i: usize) -> &Arc<OpenTable> {
        &self.view.levels[self.level][self.first + i]
    }
}

impl Run for LevelRun {
    type Iter = TableSource;

    fn len(&self) -> usize {
        self.len
    }

    fn smallest(&self, i: usize) -> InternalKey<'_> {
        self.table(i).meta.smallest.as_ref()
    }

    fn largest(&self, i: usize) -> InternalKey<'_> {
        self.table(i).meta.largest.as_ref()
    }

    fn open(&self, i: usize) -> Result<TableSource, Error> {
        Ok(TableSource::new(self.table(i)))
    }
}
