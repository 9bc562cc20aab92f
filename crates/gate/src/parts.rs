//! One crate below the engine at a time: when a part of the engine takes longer, these show where.

use crate::data::{ENTRIES, Key, Seen, Value, key, missing_key, scratch, shuffled, value};
use crate::{Result, measured};
use esker_compaction::CompactionIter;
use esker_format::checksum::crc32c;
use esker_format::{FileId, FileNo, InternalKey, InternalKeyBuf, KeyHash, SeqNo, ValueKind};
use esker_iterator::{InternalIterator, MergingIterator, VecIterator};
use esker_memtable::{ArenaPool, MemTable};
use esker_sstable::{BlockCache, Builder, BuilderOptions, Codec, ReadMode, Table, TableOptions, Verify};
use esker_vfs::{OsVfs, Vfs};
use esker_wal::{Backend, Fill, GroupSync, LogHeader, Lsn, Prepared, Reader, RecordKind, Reserve};
use std::path::Path;
use std::sync::Arc;

/// Sources of a merge.
const SOURCES: u64 = 8;
/// Entries of a table of one block.
const BLOCK_ENTRIES: u64 = 30;
const BLOCK_BYTES: usize = 4096;

fn put(key: &[u8], seq: u64) -> InternalKey<'_> {
    InternalKey::new(key, SeqNo(seq), ValueKind::Put)
}

/// Whether logs are mapped where parts have their files.
pub(crate) fn logs_are_mapped() -> Result<bool> {
    let dir = scratch()?;
    Ok(Prepared::create(&OsVfs, &dir.path().join("000001.wal"), Backend::Mapped)?.is_mapped())
}

/// Records as a put writes them, in a log that has room.
pub(crate) fn log_append() -> Result<u64> {
    let dir = scratch()?;
    let path = dir.path().join("000001.wal");
    let prepared = Prepared::create(&OsVfs, &path, Backend::Mapped)?;
    if let Some(ahead) = prepared.ahead(4 << 20) {
        ahead.make(Fill::Populated, OsVfs.clock())?;
    }
    let header = LogHeader { file_id: FileId(1), number: FileNo(1), start: Lsn::ZERO, durable: Lsn::ZERO };
    let mut log = prepared.begin(header, &GroupSync::new(Lsn::ZERO))?;
    let values: Vec<Value> = (0..ENTRIES).map(value).collect();
    let head = [7; 32];
    measured(|| {
        values.iter().try_for_each(|value| {
            log.append(RecordKind::Data, &[&head, value], Reserve::Keep)?;
            log.push()
        })
    })?;
    let mut reader = Reader::open(OsVfs.open_read(&path)?, "000001.wal")?;
    let mut seen = Seen::default();
    while let Some(record) = reader.next()? {
        seen.look(&record.payload[head.len()..]);
    }
    seen.expect(Seen::of(0..ENTRIES))
}

fn insert_all(table: &Arc<MemTable>, entries: &[(Key, Value)]) {
    for (seq, (key, value)) in (1..).zip(entries) {
        table.insert(put(key, seq), value);
    }
}

fn entries_in_random_order() -> Vec<(Key, Value)> {
    shuffled(0).into_iter().map(|i| (key(i), value(i))).collect()
}

fn new_memtable() -> Arc<MemTable> {
    Arc::new(MemTable::with_pool(ArenaPool::new(16 << 20)))
}

pub(crate) fn memtable_insert() -> Result<u64> {
    let (table, entries) = (new_memtable(), entries_in_random_order());
    measured(|| insert_all(&table, &entries));
    let (mut seen, mut iter) = (Seen::default(), table.iter());
    iter.seek_to_first()?;
    while iter.valid() {
        seen.look(iter.value());
        iter.next()?;
    }
    seen.expect(Seen::of(0..ENTRIES))
}

pub(crate) fn memtable_get() -> Result<u64> {
    let table = new_memtable();
    insert_all(&table, &entries_in_random_order());
    let keys: Vec<Key> = shuffled(3).into_iter().map(key).collect();
    let seen = measured(|| {
        let mut seen = Seen::default();
        for key in &keys {
            if let Some((_, value)) = table.get(key, SeqNo::MAX) {
                seen.look(value);
            }
        }
        seen
    });
    seen.expect(Seen::of(0..ENTRIES))
}

/// A table of the first `entries`, its blocks not compressed.
fn table(dir: &Path, entries: u64) -> Result<Arc<Table>> {
    let (path, name) = (dir.join("000001.sst"), "000001.sst");
    let options = BuilderOptions { file_id: FileId(7), codec: Codec::None, ..Default::default() };
    let mut builder = Builder::new(OsVfs.create_new(&path)?, name, options)?;
    for i in 0..entries {
        builder.add(put(&key(i), i + 1), &value(i))?;
    }
    builder.finish()?;
    let options = TableOptions {
        verify: Verify::FirstUse,
        read_mode: ReadMode::Map,
        cache: BlockCache::new(1 << 20),
        expect: None,
    };
    let table = Table::open(OsVfs.open_read(&path)?, name, options)?;
    table.verify()?;
    Ok(table)
}

/// The search of one block, past the filter.
pub(crate) fn block_search() -> Result<u64> {
    let dir = scratch()?;
    let table = table(dir.path(), BLOCK_ENTRIES)?;
    let order: Vec<u64> = shuffled(3).into_iter().map(|i| i % BLOCK_ENTRIES).collect();
    let keys: Vec<(Key, KeyHash)> = order.iter().map(|&i| (key(i), KeyHash::of(&key(i)))).collect();
    let search = || {
        let mut seen = Seen::default();
        for (key, hash) in &keys {
            if let Some((_, value)) = table.get_unfiltered(key, *hash, SeqNo::MAX)? {
                seen.look(&value);
            }
        }
        Ok::<_, esker_sstable::TableError>(seen)
    };
    search()?;
    measured(search)?.expect(Seen::of(order.iter().copied()))
}

/// Keys that are there and keys that are not, by turns, each hashed as it comes.
pub(crate) fn filter_probe() -> Result<u64> {
    let dir = scratch()?;
    let table = table(dir.path(), ENTRIES)?;
    let keys: Vec<Key> =
        shuffled(3).into_iter().map(|i| if i.is_multiple_of(2) { key(i) } else { missing_key(i) }).collect();
    let probe = || {
        keys.iter().try_fold(0, |held, key| {
            Ok::<_, esker_sstable::TableError>(held + u64::from(table.may_contain(KeyHash::of(key))?))
        })
    };
    probe()?;
    let held = measured(probe)?;
    // All that are there, and at most one in fifty of the others.
    if (ENTRIES / 2..=ENTRIES / 2 + ENTRIES / 100).contains(&held) {
        Ok(ENTRIES)
    } else {
        Err(format!("the filter holds {held} of {ENTRIES} keys, half of which are there").into())
    }
}

fn source_entry(i: u64, seq: u64) -> (InternalKeyBuf, Vec<u8>) {
    (put(&key(i), seq).to_buf(), value(i).to_vec())
}

/// The lead changes at nearly every step.
pub(crate) fn merge_step() -> Result<u64> {
    let mut dealt = vec![Vec::new(); SOURCES as usize];
    for (place, i) in shuffled(0).into_iter().enumerate() {
        dealt[place % SOURCES as usize].push(source_entry(i, 1));
    }
    let mut merged = MergingIterator::new(dealt.into_iter().map(VecIterator::new).collect());
    let seen = measured(|| {
        let mut seen = Seen::default();
        merged.seek_to_first()?;
        while merged.valid() {
            seen.look(merged.value());
            merged.next()?;
        }
        Ok::<_, std::convert::Infallible>(seen)
    })?;
    seen.expect(Seen::of(0..ENTRIES))
}

/// What may be dropped: two versions of each key, the older of which nobody sees.
pub(crate) fn compaction_step() -> Result<u64> {
    let keys = ENTRIES / 2;
    let entries = (0..keys).flat_map(|i| [source_entry(i, keys + i + 1), source_entry(i, i + 1)]).collect();
    let mut source = VecIterator::new(entries);
    let seen = measured(|| {
        let mut seen = Seen::default();
        let mut iter = CompactionIter::new(&mut source, &[], SeqNo(ENTRIES), |_| true);
        iter.seek_to_first()?;
        while iter.valid() {
            seen.look(iter.value());
            iter.next()?;
        }
        Ok::<_, std::convert::Infallible>(seen)
    })?;
    seen.expect(Seen::of(0..keys))?;
    Ok(ENTRIES)
}

/// Of pieces as long as a record of the log.
pub(crate) fn crc_of_records() -> Result<u64> {
    let values: Vec<Value> = (0..ENTRIES).map(value).collect();
    crc_of(&values.iter().map(|value| &value[..]).collect::<Vec<_>>())
}

pub(crate) fn crc_of_blocks() -> Result<u64> {
    let bytes: Vec<u8> = (0..ENTRIES).flat_map(value).collect();
    // Overlapping ones, so that there are some thousand.
    crc_of(&bytes.windows(BLOCK_BYTES).step_by(1000).collect::<Vec<_>>())
}

fn crc_of(pieces: &[&[u8]]) -> Result<u64> {
    let sum = measured(|| pieces.iter().fold(0_u32, |sum, piece| sum ^ crc32c(piece)));
    let expected = pieces.iter().fold(0_u32, |sum, piece| sum ^ slow_crc32c(piece));
    if sum == expected { Ok(pieces.len() as u64) } else { Err(format!("{sum:#x}, expected {expected:#x}").into()) }
}

/// Bit by bit, as it is defined: reflected, polynomial 0x1EDC6F41.
fn slow_crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
