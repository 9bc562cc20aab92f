//! RocksDB, by the crate `rocksdb`.

use super::{Entry, MEMTABLES_MAX, Store};
use crate::Result;
use crate::args::{Compression, DurabilityLevel, Settings};
use rocksdb::properties::{COMPACTION_PENDING, MEM_TABLE_FLUSH_PENDING, NUM_RUNNING_COMPACTIONS, NUM_RUNNING_FLUSHES};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, Options, ReadOptions, WriteBatch, WriteOptions,
};
use std::path::Path;

/// A RocksDB with its default column family.
pub struct RocksDb {
    database: DB,
    writes: WriteOptions,
}

impl RocksDb {
    fn cursor(&self) -> DBRawIterator<'_> {
        self.database.raw_iterator_opt(ReadOptions::default())
    }
}

impl Store for RocksDb {
    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as i32;
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&Cache::new_hyper_clock_cache((settings.cache_mib << 20) as usize, 0));
        tables.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&tables);
        options.set_write_buffer_size((settings.memtable_mib << 20) as usize);
        options.set_max_write_buffer_number(MEMTABLES_MAX as i32);
        options.set_max_background_jobs(cores.max(2));
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_bytes_per_sync(1 << 20);
        match settings.compression {
            Compression::None => options.set_compression_type(DBCompressionType::None),
            Compression::Lz4 => {
                let mut levels = [DBCompressionType::Lz4; 7];
                levels[..2].fill(DBCompressionType::None);
                options.set_compression_per_level(&levels);
            }
        }
        let mut writes = WriteOptions::default();
        match settings.durability {
            // A close in order writes the memtables as tables when there is no log.
            DurabilityLevel::Memory => writes.disable_wal(true),
            DurabilityLevel::Os => {}
            DurabilityLevel::Sync => writes.set_sync(true),
        }
        Ok(Self { database: DB::open(&options, dir)?, writes })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.database.put_opt(key, value, &self.writes)?)
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for entry in entries {
            batch.put(entry.key, &entry.value);
        }
        Ok(self.database.write_opt(batch, &self.writes)?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.database.delete_opt(key, &self.writes)?)
    }

    fn get<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.database.get_pinned(key)?.map(|value| look(&value)))
    }

    fn scan_from(&self, key: &[u8], limit: u64, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut cursor = self.cursor();
        cursor.seek(key);
        for _ in 0..limit {
            let Some((key, value)) = cursor.item() else { break };
            look(key, value)?;
            cursor.next();
        }
        Ok(cursor.status()?)
    }

    fn scan(&self, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut cursor = self.cursor();
        cursor.seek_to_first();
        while let Some((key, value)) = cursor.item() {
            look(key, value)?;
            cursor.next();
        }
        Ok(cursor.status()?)
    }

    fn scan_reverse(&self, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut cursor = self.cursor();
        cursor.seek_to_last();
        while let Some((key, value)) = cursor.item() {
            look(key, value)?;
            cursor.prev();
        }
        Ok(cursor.status()?)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.database.flush()?)
    }

    fn is_busy(&self) -> bool {
        [COMPACTION_PENDING, MEM_TABLE_FLUSH_PENDING, NUM_RUNNING_COMPACTIONS, NUM_RUNNING_FLUSHES]
            .iter()
            .any(|name| self.database.property_int_value(*name).ok().flatten() != Some(0))
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
