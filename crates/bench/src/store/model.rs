//! [`DataModel`]: what only some stores have. A store is asked only for what [`StoreName::has`](crate::args::StoreName::has) says of it.

use super::Entry;
use crate::data::Key;
use crate::{Error, Result};
use std::time::Duration;

/// Sees a value, if there is one, and says what to put in its place.
pub type Change<'a> = &'a mut dyn FnMut(Option<&[u8]>) -> Result<[u8; 8]>;

/// What lies in one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layer {
    /// Entries, all versions, operands and deletions.
    pub entries: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// Entries that expire; not known of memory.
    pub expiring: u64,
}

/// What lies where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers {
    /// In the memtable that is written to.
    pub memory: Layer,
    /// Memtables that wait to be flushed. What is in them is not told.
    pub sealed_memtables: usize,
    /// In the tables of each level, from level 0 on.
    pub levels: Vec<Layer>,
}

impl Layers {
    /// What lies in levels, all together.
    pub fn sum(levels: &[Layer]) -> Layer {
        levels.iter().fold(Layer::default(), |sum, level| Layer {
            entries: sum.entries + level.entries,
            range_tombstones: sum.range_tombstones + level.range_tombstones,
            expiring: sum.expiring + level.expiring,
        })
    }
}

/// The data model beyond keys that are put, got, scanned and deleted. What a store does not override it does not have.
pub trait DataModel {
    /// Adds 8 bytes, least first, to the counter of a key, without reading it.
    ///
    /// # Errors
    /// The store has no such thing; else the store's. So for all that follow.
    fn merge(&self, _key: &[u8], _operand: [u8; 8]) -> Result<()> {
        Err(lacks("merge operands"))
    }

    /// Has `change` see the values of all keys at one instant and puts what it says, in one serializable transaction; says how often it was in conflict with another and run again.
    fn transact(&self, _keys: &[Key], _change: Change<'_>) -> Result<u64> {
        Err(lacks("transactions"))
    }

    /// Puts `new` if the value is `expected`, and says whether it was.
    fn compare_and_swap(&self, _key: &[u8], _expected: &[u8], _new: &[u8]) -> Result<bool> {
        Err(lacks("conditional writes"))
    }

    /// Puts a value that reads as deleted once `ttl` is over.
    fn put_expiring(&self, _key: &[u8], _value: &[u8], _ttl: Duration) -> Result<()> {
        Err(lacks("values that expire"))
    }

    /// Deletes all keys from `begin` to before `end`.
    fn delete_range(&self, _begin: &[u8], _end: &[u8]) -> Result<()> {
        Err(lacks("range deletes"))
    }

    /// Moves all entries to the lowest level that has any, and all that no snapshot sees out of the way.
    fn compact(&self) -> Result<()> {
        Err(lacks("compaction by hand"))
    }

    /// Has what is there now kept, as it can be seen, until the store is closed: no compaction takes away what is deleted, or expires, from now on.
    fn hold_snapshot(&self) -> Result<()> {
        Err(lacks("snapshots"))
    }

    /// Where entries and range tombstones lie; `None` if the store does not tell.
    fn layers(&self) -> Option<Layers> {
        None
    }

    /// How long the value of a key has still to live; `None` if it lives for ever.
    fn time_to_live(&self, _key: &[u8]) -> Result<Option<Duration>> {
        Err(lacks("values that expire"))
    }

    /// Shows up to `limit` entries, the greatest first, from the last at or before `key`.
    fn scan_back_from(&self, _key: &[u8], _limit: u64, _look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        Err(lacks("scans backwards"))
    }

    /// Shows the values of all keys, in their order.
    fn multi_get(&self, _keys: &[Key], _look: impl FnMut(usize, Option<&[u8]>) -> Result<()>) -> Result<()> {
        Err(lacks("gets of many keys"))
    }

    /// Builds table number `table` outside, on the same file system, of entries that come in key order: `fill` makes the next one, until it says that there are no more.
    fn build_table(&self, _table: u64, _fill: &mut dyn FnMut(&mut Entry) -> bool) -> Result<()> {
        Err(lacks("tables built outside"))
    }

    /// Takes table number `table` in, by a move.
    fn ingest_table(&self, _table: u64) -> Result<()> {
        Err(lacks("tables built outside"))
    }

    /// Has what is committed from now on kept for [`follow`](Self::follow).
    fn keep_changes(&self) -> Result<()> {
        Err(lacks("a feed of changes"))
    }

    /// Shows all that was put since, in order of commit.
    fn follow(&self, _look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        Err(lacks("a feed of changes"))
    }
}

#[cold]
fn lacks(what: &str) -> Error {
    format!("this store is not measured with {what}").into()
}
