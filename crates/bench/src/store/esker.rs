//! Esker, by its public face.

use super::{Change, DataModel, Entry, Layer, Layers, MEMTABLES_MAX, Store};
use crate::Result;
use crate::args::{Compression, DurabilityLevel, Settings};
use crate::data::Key;
use crate::state::State;
use esker::{
    Background, ChangesHold, Codec, Cursor, Durability, Engine, IngestOptions, KeyspaceOptions, Operation, Options,
    Snapshot, SstOptions, SstWriter, WriteBatch, WriteOptions,
};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

/// The operator of counters.
const COUNTER: &str = "esker.counter";
/// Longer than any measurement.
const FOR_LONG: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Entries of each kind in the keyspace that lies beside the one that is measured.
const BESIDE: u64 = 1000;

/// Esker with the settings of a run; the rest as by default.
#[derive(Debug)]
pub struct Esker {
    engine: Engine,
    /// As the engine writes by default, for calls that take options.
    writes: WriteOptions,
    /// From where on changes are kept.
    kept: OnceLock<(u64, ChangesHold)>,
    /// Held until it is closed.
    snapshots: Mutex<Vec<Snapshot>>,
    /// Nobody flushes and compacts, so what is sealed stays in memory.
    rests: bool,
}

impl Esker {
    /// Keyspaces in which all is used that the one that is measured does without.
    fn fill_beside(engine: &Engine) -> Result<()> {
        let expiring = KeyspaceOptions { ttl: Some(FOR_LONG), ..KeyspaceOptions::default() };
        let expiring = engine.keyspace("expiring", expiring)?;
        let counters = KeyspaceOptions { merge_operator: Some(COUNTER.into()), ..KeyspaceOptions::default() };
        let counters = engine.keyspace("counters", counters)?;
        for entry in 0..BESIDE {
            expiring.put(entry.to_be_bytes(), entry.to_le_bytes())?;
            counters.merge(entry.to_be_bytes(), 1_i64.to_le_bytes())?;
        }
        Ok(expiring.delete_range(0_u64.to_be_bytes(), (BESIDE / 2).to_be_bytes())?)
    }

    /// Where a table lies before it is taken in: the engine does not mind a directory that is not its own.
    fn outside(&self, table: u64) -> PathBuf {
        self.engine.path().join("outside").join(format!("{table:06}.sst"))
    }
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
        if State::HOLES.contains(&settings.state) {
            // What is in memory stays there.
            options.memtable_age_max = FOR_LONG;
        }
        if settings.compression == Compression::None {
            options.compression.fill(Codec::None);
        }
        let keyspace = match settings.state {
            State::Operator => KeyspaceOptions { merge_operator: Some(COUNTER.into()), ..Default::default() },
            State::Expiring => KeyspaceOptions { ttl: Some(FOR_LONG), ..Default::default() },
            _ => KeyspaceOptions::default(),
        };
        let writes = WriteOptions { durability: options.durability, ..WriteOptions::default() };
        let rests = settings.state == State::Unflushed;
        let background = if rests { Background::Manual } else { Background::Threads };
        let engine = Engine::builder(dir).options(options).default_keyspace(keyspace).background(background).open()?;
        if settings.state == State::Beside {
            Self::fill_beside(&engine)?;
        }
        Ok(Self { engine, writes, kept: OnceLock::new(), snapshots: Mutex::default(), rests })
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
        if self.rests {
            return false;
        }
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

impl DataModel for Esker {
    fn merge(&self, key: &[u8], operand: [u8; 8]) -> Result<()> {
        Ok(self.engine.merge(key, operand)?)
    }

    fn transact(&self, keys: &[Key], change: Change<'_>) -> Result<u64> {
        let mut runs = 0;
        self.engine.transact_with(&self.writes, |transaction| {
            runs += 1;
            for key in keys {
                let value = transaction.get(key)?;
                let new = change(value.as_deref()).map_err(esker::Error::other)?;
                transaction.put(key, new)?;
            }
            Ok(())
        })?;
        Ok(runs - 1)
    }

    fn compare_and_swap(&self, key: &[u8], expected: &[u8], new: &[u8]) -> Result<bool> {
        Ok(self.engine.compare_and_swap_with(key, Some(expected), Some(new), &self.writes)?)
    }

    fn put_expiring(&self, key: &[u8], value: &[u8], ttl: Duration) -> Result<()> {
        Ok(self.engine.put_with(key, value, &WriteOptions { ttl: Some(ttl), ..self.writes })?)
    }

    fn delete_range(&self, begin: &[u8], end: &[u8]) -> Result<()> {
        Ok(self.engine.delete_range(begin, end)?)
    }

    fn compact(&self) -> Result<()> {
        Ok(self.engine.compact_range(..)?)
    }

    fn hold_snapshot(&self) -> Result<()> {
        self.snapshots.lock().expect("nobody panicked").push(self.engine.snapshot());
        Ok(())
    }

    fn layers(&self) -> Option<Layers> {
        let metrics = self.engine.metrics();
        // The first is that which is measured.
        let keyspace = metrics.keyspaces.first()?;
        let levels = keyspace.levels.iter().map(|level| Layer {
            entries: level.entries,
            range_tombstones: level.range_tombstones,
            expiring: level.expiring,
        });
        Some(Layers {
            memory: Layer {
                entries: keyspace.active_entries as u64,
                range_tombstones: keyspace.active_range_tombstones as u64,
                expiring: 0,
            },
            sealed_memtables: keyspace.sealed_memtables,
            levels: levels.collect(),
        })
    }

    fn time_to_live(&self, key: &[u8]) -> Result<Option<Duration>> {
        let (_, expiry) = self.engine.get_with_expiry(key)?.ok_or("no value is there")?;
        Ok(expiry.map(|expiry| expiry.duration_since(SystemTime::now()).unwrap_or_default()))
    }

    fn scan_back_from(&self, key: &[u8], limit: u64, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut cursor = self.engine.cursor();
        cursor.seek_for_prev(key)?;
        for _ in 0..limit {
            if !cursor.valid() {
                break;
            }
            look(cursor.key(), cursor.value()?)?;
            cursor.prev()?;
        }
        Ok(())
    }

    fn multi_get(&self, keys: &[Key], mut look: impl FnMut(usize, Option<&[u8]>) -> Result<()>) -> Result<()> {
        let values = self.engine.multi_get(keys)?;
        values.iter().enumerate().try_for_each(|(nth, value)| look(nth, value.as_deref()))
    }

    fn build_table(&self, table: u64, fill: &mut dyn FnMut(&mut Entry) -> bool) -> Result<()> {
        let path = self.outside(table);
        std::fs::create_dir_all(path.parent().expect("it lies in a directory"))?;
        let compression = self.engine.options().compression[esker::LEVELS - 1];
        let mut writer = SstWriter::create(path, &SstOptions { compression, ..SstOptions::default() })?;
        let mut entry = Entry { key: crate::data::key(0), value: Vec::new() };
        while fill(&mut entry) {
            writer.put(entry.key, &entry.value)?;
        }
        writer.finish()?;
        Ok(())
    }

    fn ingest_table(&self, table: u64) -> Result<()> {
        self.engine.ingest([self.outside(table)], &IngestOptions { move_files: true })?;
        Ok(())
    }

    fn keep_changes(&self) -> Result<()> {
        let from = self.engine.metrics().last_seq;
        let hold = self.engine.hold_changes(from)?;
        self.kept.set((from, hold)).map_err(|_| "changes are kept already")?;
        Ok(())
    }

    fn follow(&self, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let (from, _) = self.kept.get().ok_or("no changes are kept")?;
        for change in self.engine.changes_since(*from)? {
            let esker::Change::Batch(batch) = change? else { return Err("nobody ingested anything".into()) };
            for operation in batch.operations() {
                let Operation::Put { key, value, .. } = operation else {
                    return Err(format!("nobody did this: {operation:?}").into());
                };
                look(key, value)?;
            }
        }
        Ok(())
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
