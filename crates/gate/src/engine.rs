//! What a user calls, and what follows from it in the background: over an engine that does nothing by itself.

use crate::data::{ENTRIES, Key, Seen, Value, key, missing_key, mixed, scratch, shuffled, value};
use crate::{Result, measured};
use esker::{Background, Codec, Cursor, Engine, KeyspaceOptions, Options, WriteBatch};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// No part fills a memtable. Logs are made ahead three quarters as long, which the parts that run beside each other find room for in 64 MiB.
const MEMTABLE_BYTES: usize = 8 << 20;
const BATCH: usize = 100;
/// Entries that a seek walks over.
const STEPS: u64 = 10;

fn open(dir: &Path, codec: Codec) -> Result<Engine> {
    let mut options =
        Options { memory_budget_bytes: 64 << 20, memtable_bytes: Some(MEMTABLE_BYTES), ..Options::default() };
    options.compression.fill(codec);
    let engine = Engine::builder(dir).options(options).background(Background::Manual).open()?;
    settle(&engine)?;
    Ok(engine)
}

/// Does all that waits to be done in the background: above all, makes room in the log ahead of the writer.
fn settle(engine: &Engine) -> Result<()> {
    while engine.step()? {}
    Ok(())
}

fn new_engine(codec: Codec) -> Result<(TempDir, Engine)> {
    let dir = scratch()?;
    let engine = open(dir.path(), codec)?;
    Ok((dir, engine))
}

fn put_all(engine: &Engine, entries: &[u64]) -> Result<()> {
    for some in entries.chunks(BATCH) {
        let mut batch = WriteBatch::new();
        for &i in some {
            batch.put(key(i), value(i));
        }
        engine.write(&batch)?;
    }
    Ok(())
}

/// All entries in one level of tables.
fn one_level(codec: Codec) -> Result<(TempDir, Engine)> {
    let (dir, engine) = new_engine(codec)?;
    put_all(&engine, &shuffled(0))?;
    engine.flush()?;
    engine.compact_range(..)?;
    settle(&engine)?;
    Ok((dir, engine))
}

/// All entries in one level, a tenth of them again in each of two tables of L0, and a hundredth in the memtable.
fn layers() -> Result<(TempDir, Engine)> {
    let (dir, engine) = one_level(Codec::None)?;
    for part in 0..2 {
        let entries: Vec<_> = shuffled(1).into_iter().filter(|i| i % 10 == part).collect();
        put_all(&engine, &entries)?;
        engine.flush()?;
    }
    let entries: Vec<_> = shuffled(2).into_iter().filter(|i| i % 100 == 7).collect();
    put_all(&engine, &entries)?;
    Ok((dir, engine))
}

/// About a third of all entries in each of three tables of L0, picked at random: most steps go from one table to another.
fn even() -> Result<(TempDir, Engine)> {
    let (dir, engine) = new_engine(Codec::None)?;
    for part in 0..3 {
        let entries: Vec<_> = shuffled(4).into_iter().filter(|i| mixed(*i) % 3 == part).collect();
        put_all(&engine, &entries)?;
        engine.flush()?;
    }
    Ok((dir, engine))
}

/// Counts and checks what is there, each value whole.
fn check_all(engine: &Engine, expected: u64) -> Result<u64> {
    let mut next = 0;
    for item in engine.iter() {
        let (found_key, found) = item?;
        if found_key != key(next)[..] || found != value(next)[..] {
            return Err(format!("entry {next} is not as it was written").into());
        }
        next += 1;
    }
    if next == expected { Ok(next) } else { Err(format!("{next} entries, expected {expected}").into()) }
}

fn put(order: &[u64]) -> Result<u64> {
    let (_dir, engine) = new_engine(Codec::None)?;
    put_into(&engine, order)
}

fn put_into(engine: &Engine, order: &[u64]) -> Result<u64> {
    let entries: Vec<(Key, Value)> = order.iter().map(|&i| (key(i), value(i))).collect();
    measured(|| entries.iter().try_for_each(|(key, value)| engine.put(key, value)))?;
    check_all(engine, ENTRIES)
}

/// As `put_random`, in an engine whose other keyspaces have operands, values that expire and a deleted range.
pub(crate) fn put_beside() -> Result<u64> {
    const BESIDE: u64 = 100;
    let (_dir, engine) = new_engine(Codec::None)?;
    let ttl = KeyspaceOptions { ttl: Some(Duration::from_secs(1 << 20)), ..KeyspaceOptions::default() };
    let expiring = engine.keyspace("expiring", ttl)?;
    let counter = KeyspaceOptions { merge_operator: Some("esker.counter".into()), ..KeyspaceOptions::default() };
    let counters = engine.keyspace("counters", counter)?;
    for i in 0..BESIDE {
        expiring.put(key(i), value(i))?;
        counters.merge(key(i), 1_i64.to_le_bytes())?;
    }
    expiring.delete_range(key(0), key(BESIDE / 2))?;
    put_into(&engine, &shuffled(0))
}

pub(crate) fn put_random() -> Result<u64> {
    put(&shuffled(0))
}

pub(crate) fn put_sequential() -> Result<u64> {
    put(&(0..ENTRIES).collect::<Vec<_>>())
}

/// The batches are filled while it is counted, as a user does.
pub(crate) fn put_batches() -> Result<u64> {
    let (_dir, engine) = new_engine(Codec::None)?;
    let entries: Vec<(Key, Value)> = shuffled(0).into_iter().map(|i| (key(i), value(i))).collect();
    measured(|| {
        let mut batch = WriteBatch::new();
        entries.chunks(BATCH).try_for_each(|some| {
            batch.clear();
            for (key, value) in some {
                batch.put(key, value);
            }
            engine.write(&batch)
        })
    })?;
    check_all(&engine, ENTRIES)
}

/// Gets all entries, in another order than they were put.
fn get_all(engine: &Engine) -> Result<u64> {
    let keys: Vec<Key> = shuffled(3).into_iter().map(key).collect();
    let get = || {
        let mut seen = Seen::default();
        for key in &keys {
            if let Some(value) = engine.get(key)? {
                seen.look(&value);
            }
        }
        Ok::<_, esker::Error>(seen)
    };
    // Once before, so that blocks have been checked, and decompressed, when the count begins.
    get()?;
    measured(get)?.expect(Seen::of(0..ENTRIES))
}

pub(crate) fn get_from_memtable() -> Result<u64> {
    let (_dir, engine) = new_engine(Codec::None)?;
    put_all(&engine, &shuffled(0))?;
    get_all(&engine)
}

pub(crate) fn get_from_table() -> Result<u64> {
    let (_dir, engine) = one_level(Codec::None)?;
    get_all(&engine)
}

/// Every block is in the block cache.
pub(crate) fn get_from_compressed_table() -> Result<u64> {
    let (_dir, engine) = one_level(Codec::Lz4)?;
    get_all(&engine)
}

pub(crate) fn get_missing() -> Result<u64> {
    let (_dir, engine) = one_level(Codec::None)?;
    let keys: Vec<Key> = shuffled(3).into_iter().map(missing_key).collect();
    let get =
        || keys.iter().try_fold(0, |found, key| Ok::<_, esker::Error>(found + u64::from(engine.get(key)?.is_some())));
    get()?;
    match measured(get)? {
        0 => Ok(ENTRIES),
        found => Err(format!("{found} entries that nobody wrote").into()),
    }
}

/// A new cursor for each seek; an entry is one seek with its steps.
fn seek_all(engine: &Engine) -> Result<u64> {
    let order: Vec<u64> = shuffled(3).into_iter().step_by(5).collect();
    let keys: Vec<Key> = order.iter().map(|&i| key(i)).collect();
    let seek = || {
        let mut seen = Seen::default();
        for key in &keys {
            let mut cursor = engine.cursor();
            cursor.seek(key)?;
            for _ in 0..STEPS {
                if !cursor.valid() {
                    break;
                }
                seen.look(cursor.value()?);
                cursor.next()?;
            }
        }
        Ok::<_, esker::Error>(seen)
    };
    seek()?;
    measured(seek)?.expect(Seen::of(order.iter().flat_map(|&i| i..(i + STEPS).min(ENTRIES))))?;
    Ok(order.len() as u64)
}

pub(crate) fn seek() -> Result<u64> {
    let (_dir, engine) = one_level(Codec::None)?;
    seek_all(&engine)
}

pub(crate) fn seek_merged() -> Result<u64> {
    let (_dir, engine) = layers()?;
    seek_all(&engine)
}

/// Entries that lie before, and behind, a range that holds nothing.
const AROUND: u64 = 100;

/// Seeks, forward and backward, by one cursor, to keys between the edges, where nothing is left.
fn seek_nothing(engine: &Engine) -> Result<u64> {
    let keys: Vec<Key> = shuffled(3).into_iter().filter(|i| (AROUND..ENTRIES - AROUND).contains(i)).map(key).collect();
    let mut cursor = engine.cursor();
    let mut seek = || {
        let mut seen = Seen::default();
        for key in &keys {
            cursor.seek(key)?;
            seen.look(cursor.value()?);
            cursor.seek_for_prev(key)?;
            seen.look(cursor.value()?);
        }
        Ok::<_, esker::Error>(seen)
    };
    seek()?;
    measured(seek)?.expect(Seen::of(keys.iter().flat_map(|_| [ENTRIES - AROUND, AROUND - 1])))?;
    Ok(2 * keys.len() as u64)
}

/// Scans of some entries on either side of that range, forward and backward.
fn cross_nothing(engine: &Engine) -> Result<u64> {
    const SCANS: usize = 500;
    let (before, behind) = (AROUND - STEPS / 2, ENTRIES - AROUND + STEPS / 2 - 1);
    let cross = || {
        let mut seen = Seen::default();
        for _ in 0..SCANS {
            let mut cursor = engine.cursor();
            cursor.seek(key(before))?;
            for _ in 0..STEPS {
                seen.look(cursor.value()?);
                cursor.next()?;
            }
            let mut cursor = engine.cursor();
            cursor.seek_for_prev(key(behind))?;
            for _ in 0..STEPS {
                seen.look(cursor.value()?);
                cursor.prev()?;
            }
        }
        Ok::<_, esker::Error>(seen)
    };
    cross()?;
    let around = || (before..AROUND).chain(ENTRIES - AROUND..=behind);
    measured(cross)?.expect(Seen::of((0..2 * SCANS).flat_map(|_| around())))?;
    Ok(2 * SCANS as u64)
}

/// The edges in a table, and one more in the memtable.
fn empty() -> Result<(TempDir, Engine)> {
    let (dir, engine) = new_engine(Codec::None)?;
    put_all(&engine, &edges())?;
    engine.flush()?;
    engine.compact_range(..)?;
    put_all(&engine, &[0])?;
    settle(&engine)?;
    Ok((dir, engine))
}

fn edges() -> Vec<u64> {
    (0..AROUND).chain(ENTRIES - AROUND..ENTRIES).collect()
}

/// All entries in a table, and the tombstone of those between the edges in the memtable.
fn deleted() -> Result<(TempDir, Engine)> {
    let (dir, engine) = one_level(Codec::None)?;
    engine.delete_range(key(AROUND), key(ENTRIES - AROUND))?;
    Ok((dir, engine))
}

pub(crate) fn seek_empty() -> Result<u64> {
    let (_dir, engine) = empty()?;
    seek_nothing(&engine)
}

pub(crate) fn seek_deleted() -> Result<u64> {
    let (_dir, engine) = deleted()?;
    seek_nothing(&engine)
}

pub(crate) fn cross_empty() -> Result<u64> {
    let (_dir, engine) = empty()?;
    cross_nothing(&engine)
}

pub(crate) fn cross_deleted() -> Result<u64> {
    let (_dir, engine) = deleted()?;
    cross_nothing(&engine)
}

/// The edges in the memtable.
pub(crate) fn cross_empty_memory() -> Result<u64> {
    let (_dir, engine) = new_engine(Codec::None)?;
    put_all(&engine, &edges())?;
    cross_nothing(&engine)
}

/// All entries in one that waits to be flushed, and the tombstone in the next.
pub(crate) fn cross_deleted_memory() -> Result<u64> {
    let (_dir, engine) = new_engine(Codec::None)?;
    put_all(&engine, &(0..ENTRIES).collect::<Vec<_>>())?;
    engine.delete_range(key(AROUND), key(ENTRIES - AROUND))?;
    cross_nothing(&engine)
}

fn walk(
    engine: &Engine,
    begin: impl Fn(&mut Cursor) -> esker::Result<()>,
    step: impl Fn(&mut Cursor) -> esker::Result<()>,
) -> Result<u64> {
    let walk = || {
        let mut seen = Seen::default();
        let mut cursor = engine.cursor();
        begin(&mut cursor)?;
        while cursor.valid() {
            seen.look(cursor.value()?);
            step(&mut cursor)?;
        }
        Ok::<_, esker::Error>(seen)
    };
    walk()?;
    measured(walk)?.expect(Seen::of(0..ENTRIES))
}

pub(crate) fn walk_forward() -> Result<u64> {
    let (_dir, engine) = one_level(Codec::None)?;
    walk(&engine, Cursor::seek_to_first, Cursor::next)
}

pub(crate) fn walk_backward() -> Result<u64> {
    let (_dir, engine) = one_level(Codec::None)?;
    walk(&engine, Cursor::seek_to_last, Cursor::prev)
}

pub(crate) fn walk_merged() -> Result<u64> {
    let (_dir, engine) = layers()?;
    walk(&engine, Cursor::seek_to_first, Cursor::next)
}

pub(crate) fn walk_merged_backward() -> Result<u64> {
    let (_dir, engine) = layers()?;
    walk(&engine, Cursor::seek_to_last, Cursor::prev)
}

/// Over three tables of L0 whose keys come in turns, as loads in random order leave them.
pub(crate) fn walk_even() -> Result<u64> {
    let (_dir, engine) = even()?;
    walk(&engine, Cursor::seek_to_first, Cursor::next)
}

pub(crate) fn walk_even_backward() -> Result<u64> {
    let (_dir, engine) = even()?;
    walk(&engine, Cursor::seek_to_last, Cursor::prev)
}

pub(crate) fn flush() -> Result<u64> {
    let (_dir, engine) = new_engine(Codec::None)?;
    put_all(&engine, &shuffled(0))?;
    measured(|| engine.flush())?;
    if engine.metrics().flush_bytes < ENTRIES * 50 {
        return Err("nothing was flushed".into());
    }
    check_all(&engine, ENTRIES)
}

/// Two tables of L0 that lie over each other become one level.
pub(crate) fn compaction() -> Result<u64> {
    let (_dir, engine) = new_engine(Codec::None)?;
    for part in 0..2 {
        let entries: Vec<_> = shuffled(part).into_iter().filter(|i| i % 2 == part).collect();
        put_all(&engine, &entries)?;
        engine.flush()?;
    }
    measured(|| engine.compact_range(..))?;
    if engine.metrics().compaction_written_bytes < ENTRIES * 50 {
        return Err("nothing was compacted".into());
    }
    check_all(&engine, ENTRIES)
}

/// Opens what a process leaves behind that was killed before it flushed.
pub(crate) fn recovery() -> Result<u64> {
    let (dir, engine) = new_engine(Codec::None)?;
    put_all(&engine, &shuffled(0))?;
    let killed = scratch()?;
    for file in std::fs::read_dir(dir.path())? {
        let file = file?;
        std::fs::copy(file.path(), killed.path().join(file.file_name()))?;
    }
    let options = engine.options().clone();
    drop(engine);
    let builder = Engine::builder(killed.path()).options(options).background(Background::Manual);
    let engine = measured(|| builder.open())?;
    check_all(&engine, ENTRIES)
}
