//! fjall 3, set up as near to Esker as it goes.
//!
//! | | Esker | fjall |
//! |---|---|---|
//! | memtable, cache | as set | `max_memtable_size`, `cache_size` |
//! | codec `lz4` | L0 and L1 none, LZ4 below (default) | the same (default) |
//! | codec `none` | none | data blocks none; so are index blocks by default |
//! | durability `memory` | `Durability::Memory` | `manual_journal_persist`: the journal is buffered in the process |
//! | durability `os` | `Durability::Os` | by default: the journal's buffer is written out by each insert and batch |
//! | durability `sync` | `Durability::Sync` | `PersistMode::SyncData` after each |
//!
//! With `os` both have handed every acknowledged write to the kernel, so both keep it through `kill -9`. Filter sizes (fjall: 10 bits a key, more in L0) and
//! numbers of threads (fjall: one for each core) are each store's own.

use super::{Entry, Store};
use crate::Result;
use crate::args::{Compression, DurabilityLevel, Settings};
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

/// A fjall database with one keyspace.
pub struct Fjall {
    database: Database,
    keyspace: Keyspace,
    durability: DurabilityLevel,
}

impl Fjall {
    /// What each write does to be as durable as the settings say, beyond what it does by itself.
    fn persist(&self) -> Result<()> {
        if self.durability == DurabilityLevel::Sync {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Store for Fjall {
    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let by_hand = settings.durability == DurabilityLevel::Memory;
        let database =
            Database::builder(dir).cache_size(settings.cache_mib << 20).manual_journal_persist(by_hand).open()?;
        let options = || {
            let options = KeyspaceCreateOptions::default()
                .max_memtable_size(settings.memtable_mib << 20)
                .manual_journal_persist(by_hand);
            match settings.compression {
                Compression::Lz4 => options,
                Compression::None => {
                    options.data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
                }
            }
        };
        let keyspace = database.keyspace("default", options)?;
        Ok(Self { database, keyspace, durability: settings.durability })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keyspace.insert(key, value)?;
        self.persist()
    }

    fn put_sync(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keyspace.insert(key, value)?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = self.database.batch();
        for entry in entries {
            batch.insert(&self.keyspace, &entry.key[..], &entry.value[..]);
        }
        batch.commit()?;
        self.persist()
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.keyspace.remove(key)?;
        self.persist()
    }

    fn get<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.keyspace.get(key)?.map(|value| look(&value)))
    }

    fn scan_from(&self, key: &[u8], limit: u64, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        show(self.keyspace.range(key..).take(limit as usize), look)
    }

    fn scan(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        show(self.keyspace.iter(), look)
    }

    fn scan_reverse(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        show(self.keyspace.iter().rev(), look)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.keyspace.rotate_memtable_and_wait()?)
    }

    fn is_busy(&self) -> bool {
        self.database.outstanding_flushes() > 0
            || self.keyspace.sealed_memtable_count() > 0
            || self.database.active_compactions() > 0
    }

    fn close(self) -> Result<()> {
        drop(self.keyspace);
        drop(self.database);
        Ok(())
    }
}

fn show(entries: impl Iterator<Item = Guard>, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    for guard in entries {
        let (key, value) = guard.into_inner()?;
        look(&key, &value)?;
    }
    Ok(())
}
