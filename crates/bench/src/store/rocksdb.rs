//! RocksDB, by the crate `rocksdb`.

use super::{DataModel, Entry, MEMTABLES_MAX, Store};
use crate::Result;
use crate::args::{Compression, DurabilityLevel, Settings};
use crate::data::Key;
use crate::state::State;
use rocksdb::properties::{COMPACTION_PENDING, MEM_TABLE_FLUSH_PENDING, NUM_RUNNING_COMPACTIONS, NUM_RUNNING_FLUSHES};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, IngestExternalFileOptions, MergeOperands, Options,
    ReadOptions, SstFileWriter, WriteBatch, WriteOptions,
};
use std::path::{Path, PathBuf};

/// A RocksDB with its default column family.
pub struct RocksDb {
    database: DB,
    writes: WriteOptions,
    /// As it was opened with.
    options: Options,
}

impl RocksDb {
    fn outside(&self, table: u64) -> PathBuf {
        self.database.path().join("outside").join(format!("{table:06}.sst"))
    }

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
        if settings.state == State::Operator {
            options.set_merge_operator_associative("counter", count);
        }
        let mut writes = WriteOptions::default();
        match settings.durability {
            // A close in order writes the memtables as tables when there is no log.
            DurabilityLevel::Memory => writes.disable_wal(true),
            DurabilityLevel::Os => {}
            DurabilityLevel::Sync => writes.set_sync(true),
        }
        Ok(Self { database: DB::open(&options, dir)?, writes, options })
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

/// Its transactions are of another type of database, and are not measured here.
impl DataModel for RocksDb {
    fn merge(&self, key: &[u8], operand: [u8; 8]) -> Result<()> {
        Ok(self.database.merge_opt(key, operand, &self.writes)?)
    }

    fn delete_range(&self, begin: &[u8], end: &[u8]) -> Result<()> {
        // The call for it asks for a handle, which the default column family has only where families are named at opening.
        let mut batch = WriteBatch::default();
        batch.delete_range(begin, end);
        Ok(self.database.write_opt(batch, &self.writes)?)
    }

    fn compact(&self) -> Result<()> {
        self.database.compact_range::<&[u8], &[u8]>(None, None);
        Ok(())
    }

    fn hold_snapshot(&self) -> Result<()> {
        // Never released: it borrows what it would be kept in.
        std::mem::forget(self.database.snapshot());
        Ok(())
    }

    fn scan_back_from(&self, key: &[u8], limit: u64, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut cursor = self.cursor();
        cursor.seek_for_prev(key);
        for _ in 0..limit {
            let Some((key, value)) = cursor.item() else { break };
            look(key, value)?;
            cursor.prev();
        }
        Ok(cursor.status()?)
    }

    fn multi_get(&self, keys: &[Key], mut look: impl FnMut(usize, Option<&[u8]>) -> Result<()>) -> Result<()> {
        let values = self.database.multi_get(keys);
        values.into_iter().enumerate().try_for_each(|(nth, value)| look(nth, value?.as_deref()))
    }

    fn build_table(&self, table: u64, fill: &mut dyn FnMut(&mut Entry) -> bool) -> Result<()> {
        let path = self.outside(table);
        std::fs::create_dir_all(path.parent().expect("it lies in a directory"))?;
        let mut writer = SstFileWriter::create(&self.options);
        writer.open(path)?;
        let mut entry = Entry { key: crate::data::key(0), value: Vec::new() };
        while fill(&mut entry) {
            writer.put(entry.key, &entry.value)?;
        }
        Ok(writer.finish()?)
    }

    fn ingest_table(&self, table: u64) -> Result<()> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        Ok(self.database.ingest_external_file_opts(&options, vec![self.outside(table)])?)
    }
}

/// The operator of counters: the sum of 8 bytes each, least first.
fn count(_key: &[u8], base: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let numbers = base.into_iter().chain(operands).map(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
    let sum = numbers.into_iter().try_fold(0_i64, |sum, number| sum.checked_add(number?))?;
    Some(sum.to_le_bytes().to_vec())
}
