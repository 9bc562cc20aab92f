//! sled 0.34: a Bw-tree over a log.

use super::{DataModel, Entry, Quiet, Store};
use crate::Result;
use crate::args::{DurabilityLevel, Settings};
use sled::{Batch, Db, IVec, Mode};
use std::path::Path;

/// A sled database, in its default tree.
pub struct Sled {
    database: Db,
    durability: DurabilityLevel,
    quiet: Quiet,
}

impl Sled {
    fn persist(&self) -> Result<()> {
        if self.durability == DurabilityLevel::Sync {
            self.database.flush()?;
        }
        Ok(())
    }
}

impl DataModel for Sled {}

impl Store for Sled {
    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let config = sled::Config::new()
            .path(dir.join("sled"))
            .mode(Mode::HighThroughput)
            .cache_capacity(settings.cache_mib << 20);
        Ok(Self { database: config.open()?, durability: settings.durability, quiet: Quiet::default() })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.database.insert(key, value)?;
        self.persist()
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = Batch::default();
        for entry in entries {
            batch.insert(&entry.key[..], &entry.value[..]);
        }
        self.database.apply_batch(batch)?;
        self.persist()
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.database.remove(key)?;
        self.persist()
    }

    fn get<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.database.get(key)?.map(|value| look(&value)))
    }

    fn scan_from(&self, key: &[u8], limit: u64, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        show(self.database.range(key..).take(limit as usize), look)
    }

    fn scan(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        show(self.database.iter(), look)
    }

    fn scan_reverse(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        show(self.database.iter().rev(), look)
    }

    fn flush(&self) -> Result<()> {
        self.database.flush()?;
        Ok(())
    }

    fn is_busy(&self) -> bool {
        self.quiet.is_busy()
    }

    fn close(self) -> Result<()> {
        self.flush()
    }
}

fn show(
    entries: impl Iterator<Item = sled::Result<(IVec, IVec)>>,
    mut look: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    for entry in entries {
        let (key, value) = entry?;
        look(&key, &value)?;
    }
    Ok(())
}
