//! redb 4: a copy-on-write B-tree in one file.

use super::{Change, DataModel, Entry, Store};
use crate::Result;
use crate::args::{DurabilityLevel, Settings};
use crate::data::Key;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::path::Path;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("default");

/// A redb database with one table.
pub struct Redb {
    database: Database,
    /// There is nothing between a sync for each commit and none until the next one that has it.
    durability: Durability,
}

impl Redb {
    fn begin(&self, durability: Durability) -> Result<WriteTransaction> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        Ok(transaction)
    }

    /// A cursor's newest state is that of a new read transaction.
    fn show<'a>(
        entries: impl Iterator<Item = std::result::Result<RedbEntry<'a>, redb::StorageError>>,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        for entry in entries {
            let (key, value) = entry?;
            look(key.value(), value.value())?;
        }
        Ok(())
    }
}

type RedbEntry<'a> = (redb::AccessGuard<'a, &'static [u8]>, redb::AccessGuard<'a, &'static [u8]>);

/// Write transactions come one at a time, so none is in conflict.
impl DataModel for Redb {
    fn transact(&self, keys: &[Key], change: Change<'_>) -> Result<u64> {
        let transaction = self.begin(self.durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for key in keys {
                let new = change(table.get(&key[..])?.as_ref().map(|value| value.value()))?;
                table.insert(&key[..], &new[..])?;
            }
        }
        transaction.commit()?;
        Ok(0)
    }
}

impl Store for Redb {
    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let durability = match settings.durability {
            DurabilityLevel::Memory | DurabilityLevel::Os => Durability::None,
            DurabilityLevel::Sync => Durability::Immediate,
        };
        let path = dir.join("redb");
        let is_new = !path.exists();
        let database = Database::builder().set_cache_size((settings.cache_mib << 20) as usize).create(path)?;
        let store = Self { database, durability };
        if is_new {
            let transaction = store.begin(Durability::Immediate)?;
            transaction.open_table(TABLE)?;
            transaction.commit()?;
        }
        Ok(store)
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let transaction = self.begin(self.durability)?;
        transaction.open_table(TABLE)?.insert(key, value)?;
        Ok(transaction.commit()?)
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let transaction = self.begin(self.durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for entry in entries {
                table.insert(&entry.key[..], &entry.value[..])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let transaction = self.begin(self.durability)?;
        transaction.open_table(TABLE)?.remove(key)?;
        Ok(transaction.commit()?)
    }

    fn get<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key)?.map(|value| look(value.value())))
    }

    fn scan_from(&self, key: &[u8], limit: u64, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Self::show(table.range(key..)?.take(limit as usize), look)
    }

    fn scan(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Self::show(table.iter()?, look)
    }

    fn scan_reverse(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Self::show(table.iter()?.rev(), look)
    }

    /// A durable commit, which takes all before it with it.
    fn flush(&self) -> Result<()> {
        Ok(self.begin(Durability::Immediate)?.commit()?)
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn close(self) -> Result<()> {
        self.flush()?;
        Ok(self.database.close()?)
    }
}
