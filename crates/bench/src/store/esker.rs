//! Esker, by its public face.

use super::{Entry, MEMTABLES_MAX, Store};
use crate::Result;
use crate::args::{Compression, DurabilityLevel, Settings};
use esker::{Codec, Cursor, Durability, Engine, Options, WriteBatch};
use std::path::Path;

/// Esker with the settings of a run; the rest as by default.
#[derive(Debug)]
pub struct Esker {
    engine: Engine,
}

impl Store for Esker {
    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let memtable_bytes = (settings.memtable_mib << 20) as usize;
        let cache_bytes = (settings.cache_mib << 20) as usize;
        let mut options = Options {
            durability: match settings.durability {
                DurabilityLevel::Memory => Durability::Memory,
                DurabilityLevel::Os => Durability::Os,
                DurabilityLevel::Sync => Durability::Sync,
            },
            memory_budget_bytes: cache_bytes + MEMTABLES_MAX * memtable_bytes,
            memtable_bytes: Some(memtable_bytes),
            block_cache_bytes: Some(cache_bytes),
            ..Options::default()
        };
        if settings.compression == Compression::None {
            options.compression.fill(Codec::None);
        }
        Ok(Self { engine: Engine::builder(dir).options(options).open()? })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.engine.put(key, value)?)
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = WriteBatch::new();
        for entry in entries {
            batch.put(entry.key, &entry.value);
        }
        Ok(self.engine.write(&batch)?)
    }

    fn bulk_load(&self, fill: &mut dyn FnMut(&mut Entry) -> bool) -> Result<()> {
        let mut load = self.engine.bulk_writer()?;
        let mut entry = Entry { key: crate::data::key(0), value: Vec::new() };
        while fill(&mut entry) {
            load.put(entry.key, &entry.value)?;
        }
        load.finish()?;
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.engine.delete(key)?)
    }

    fn get<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.engine.get(key)?.map(|value| look(&value)))
    }

    fn scan_from(&self, key: &[u8], limit: u64, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut cursor = self.engine.cursor();
        cursor.seek(key)?;
        for _ in 0..limit {
            if !cursor.valid() {
                break;
            }
            look(cursor.key(), cursor.value()?)?;
            cursor.next()?;
        }
        Ok(())
    }

    fn scan(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut cursor = self.engine.cursor();
        cursor.seek_to_first()?;
        walk(cursor, Cursor::next, look)
    }

    fn scan_reverse(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut cursor = self.engine.cursor();
        cursor.seek_to_last()?;
        walk(cursor, Cursor::prev, look)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.engine.flush()?)
    }

    fn is_busy(&self) -> bool {
        let metrics = self.engine.metrics();
        metrics.keyspaces.iter().any(|keyspace| keyspace.sealed_memtables > 0 || keyspace.compaction_debt_bytes > 0)
    }

    fn written_bytes(&self) -> Option<u64> {
        Some(self.engine.metrics().written_bytes)
    }

    fn close(self) -> Result<()> {
        Ok(self.engine.close()?)
    }
}

#[inline]
fn walk(
    mut cursor: Cursor,
    step: impl Fn(&mut Cursor) -> esker::Result<()>,
    mut look: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    while cursor.valid() {
        look(cursor.key(), cursor.value()?)?;
        step(&mut cursor)?;
    }
    Ok(())
}
