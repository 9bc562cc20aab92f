//! fjall 3: an LSM tree, set up as near to Esker as it goes.
//!
//! By default the journal's buffer is written out by each insert and batch, which is `os`. With `memory` it is buffered in the process, with `sync` each write is followed by
//! `PersistMode::SyncData`. The default codec is that of Esker: none for L0 and L1, LZ4 below.

use super::{DataModel, Entry, Store};
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

impl DataModel for Fjall {}

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
