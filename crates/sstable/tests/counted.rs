//! What a table asks of its file, counted: what is read, how often, what the system is told to read ahead, and what goes into the cache.

mod support;

use esker_format::{InternalKey, SeqNo};
use esker_iterator::InternalIterator;
use esker_sstable::{BlockCache, Codec, KeyHash, ReadMode, Table, TableIter, TableOptions, Verify};
use esker_vfs::{Map, OsVfs, ReadableFile, Vfs};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use support::{Entry, build, options, put, table_options};

const BLOCK: u64 = 4096;
const KIB: u64 = 1 << 10;

/// A file that is read, not mapped, and that notes what is asked of it.
#[derive(Debug, Default)]
struct Watched {
    bytes: Vec<u8>,
    read: Mutex<Vec<Range<u64>>>,
    ahead: Mutex<Vec<Range<u64>>>,
}

impl ReadableFile for Watched {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read.lock().unwrap().push(offset..offset + buffer.len() as u64);
        buffer.copy_from_slice(&self.bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_ahead(&self, range: Range<u64>) {
        self.ahead.lock().unwrap().push(range);
    }
}

impl Watched {
    /// What was read since this was asked last.
    fn read(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.read.lock().unwrap())
    }

    /// What was to be read ahead since this was asked last.
    fn ahead(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.ahead.lock().unwrap())
    }
}

fn key(block: u64) -> [u8; 8] {
    block.to_be_bytes()
}

fn target(block: &[u8; 8]) -> InternalKey<'_> {
    InternalKey::before_all(block)
}

/// So many blocks of one entry, each of exactly 4096 bytes: header, key, value, trailer.
fn even(blocks: u64) -> Vec<u8> {
    let value = [b'v'; BLOCK as usize - 24 - 8 - 5];
    let entries: Vec<Entry> = (0..blocks).map(|block| put(&key(block), 1, &value)).collect();
    build(&entries, options(1, Codec::None))
}

/// A table of so many even blocks, of which only footer and properties were read.
fn watched(blocks: u64, cache: &Arc<BlockCache>) -> (Arc<Table>, Arc<Watched>) {
    let file = Arc::new(Watched { bytes: even(blocks), ..Watched::default() });
    let options = TableOptions { cache: Arc::clone(cache), ..table_options(ReadMode::Map, Verify::FirstUse) };
    let table = Table::open(Arc::clone(&file) as Arc<dyn ReadableFile>, "t.sst", options).unwrap();
    assert_eq!((table.properties().blocks, table.properties().data_bytes), (blocks, blocks * BLOCK));
    file.read();
    (table, file)
}

/// Walks on to the end; what is to be read ahead when, by the number of the block that is entered.
fn ahead_of(
    mut iter: TableIter,
    file: &Watched,
    begin: fn(&mut TableIter) -> Result<(), esker_sstable::TableError>,
    step: fn(&mut TableIter) -> Result<(), esker_sstable::TableError>,
) -> Vec<(u64, Range<u64>)> {
    begin(&mut iter).unwrap();
    file.ahead();
    let mut calls = Vec::new();
    loop {
        step(&mut iter).unwrap();
        if !iter.valid() {
            assert!(file.ahead().is_empty(), "there is nothing behind the end");
            return calls;
        }
        let block = u64::from_be_bytes(iter.key().user_key.try_into().unwrap());
        calls.extend(file.ahead().into_iter().map(|range| (block, range)));
    }
}

#[test]
fn a_walk_over_all_has_what_comes_read_ahead_from_its_first_step_on() {
    let (table, file) = watched(150, &BlockCache::new(0));
    let begin = BLOCK;
    let forward = [
        (1, begin..begin + 128 * KIB),
        (17, begin + 128 * KIB..begin + 384 * KIB),
        (57, begin + 384 * KIB..begin + 1024 * KIB),
    ];
    assert_eq!(ahead_of(table.iter_once(), &file, TableIter::seek_to_first, TableIter::next), forward);
    let end = 149 * BLOCK;
    let backward = [(148, end - 128 * KIB..end), (132, end - 384 * KIB..end - 128 * KIB), (92, 0..end - 384 * KIB)];
    assert_eq!(ahead_of(table.iter_once(), &file, TableIter::seek_to_last, TableIter::prev), backward);
}

#[test]
fn a_walk_that_may_be_short_waits_for_its_fifth_step() {
    let (table, file) = watched(30, &BlockCache::new(0));
    let forward = [(5, 5 * BLOCK..5 * BLOCK + 128 * KIB)];
    assert_eq!(ahead_of(table.iter(), &file, TableIter::seek_to_first, TableIter::next)[..1], forward);
    let backward = [(24, 0..25 * BLOCK)];
    assert_eq!(ahead_of(table.iter(), &file, TableIter::seek_to_last, TableIter::prev), backward);
}

/// What is read as a whole, index and filter, is asked for as a whole before it is read.
#[test]
fn the_first_look_up_reads_filter_index_and_one_block() {
    let (table, file) = watched(30, &BlockCache::new(1 << 20));
    let get = |block| table.get(&key(block), KeyHash::of(&key(block)), SeqNo::MAX).unwrap();
    assert!(get(7).is_some());
    let (ahead, read) = (file.ahead(), file.read());
    assert_eq!(read[..2], ahead);
    let lengths = ahead.iter().map(|range| range.end - range.start);
    assert!(lengths.eq([table.properties().filter_bytes, table.properties().index_bytes]), "{ahead:?}");
    assert_eq!((read.len(), &read[2]), (3, &(7 * BLOCK..8 * BLOCK)));
    assert!(get(7).is_some());
    assert!(file.read().is_empty() && file.ahead().is_empty());
}

/// Who seeks in several tables lets all of them begin first.
#[test]
fn a_seek_that_is_prepared_has_searched_the_index() {
    let (table, file) = watched(30, &BlockCache::new(0));
    let mut iter = table.iter();
    iter.prepare_seek(target(&key(9)));
    let index = file.read();
    assert_eq!(index.len(), 1);
    assert_eq!(index[0].end - index[0].start, table.properties().index_bytes);
    iter.seek_prepared(target(&key(9))).unwrap();
    let block = file.read();
    assert_eq!((block.len(), &block[0]), (1, &(9 * BLOCK..10 * BLOCK)));
    assert_eq!(iter.key().user_key, key(9));
    iter.prepare_seek(target(&key(3)));
    assert!(!iter.valid(), "a seek must come next");
}

#[test]
fn a_long_walk_leaves_the_cache_to_others_after_64_blocks() {
    let cache = BlockCache::new(64 << 20);
    let (table, file) = watched(100, &cache);
    let mut iter = table.iter();
    iter.seek_to_first().unwrap();
    let one_block = cache.usage_bytes();
    assert!(one_block >= BLOCK);
    while iter.valid() {
        iter.next().unwrap();
    }
    assert_eq!(cache.usage_bytes(), 64 * one_block);
    file.read();
    iter.seek_to_first().unwrap();
    (1..64).for_each(|_| iter.next().unwrap());
    assert!(file.read().is_empty(), "those are in memory");
    // A seek begins another walk.
    iter.seek(target(&key(90))).unwrap();
    iter.next().unwrap();
    assert_eq!(cache.usage_bytes(), 66 * one_block);
}

/// 256 KiB a call, and not a block more where that is reached.
#[test]
fn what_is_read_back_is_read_many_blocks_at_a_time() {
    let (table, file) = watched(150, &BlockCache::new(0));
    table.read_back().unwrap();
    let data: Vec<_> = file.read().into_iter().filter(|range| range.start < 150 * BLOCK).collect();
    assert_eq!(data, [0..256 * KIB, 256 * KIB..512 * KIB, 512 * KIB..600 * KIB]);
}

#[test]
fn verifying_counts_blocks_entries_and_bytes() {
    let (table, file) = watched(70, &BlockCache::new(0));
    let mut bytes = Vec::new();
    let report = table.verify_all(&mut |error| panic!("{error}"), &mut |read| bytes.push(read));
    assert_eq!((report.blocks, report.entries, report.file_bytes), (70, 70, file.bytes.len() as u64));
    assert_eq!(bytes, [BLOCK; 70]);
    assert_eq!(table.verify().unwrap(), report);
}

/// `Verify::FirstUse` on a map: a check is as much as many look-ups cost. What the kernel reads again later is not checked again, as the page says.
#[test]
fn a_block_that_is_used_in_a_map_is_checked_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.sst");
    let bytes = even(70);
    OsVfs.create_new(&path).unwrap().append(&bytes).unwrap();
    let open = || {
        let file = OsVfs.open_read(&path).unwrap();
        Table::open(file, "t.sst", table_options(ReadMode::Map, Verify::FirstUse)).unwrap()
    };
    let last_byte = |table: &Table, block: u64| {
        let found = table.get(&key(block), KeyHash::of(&key(block)), SeqNo::MAX)?;
        Ok::<_, esker_sstable::TableError>(*found.expect("it is there").1.last().expect("a long value"))
    };
    let used = open();
    assert!((0..70).all(|block| last_byte(&used, block).unwrap() == b'v'));
    let below = File::options().write(true).open(&path).unwrap();
    let fresh = open();
    for block in [0, 1, 2, 62, 63, 64, 65, 69] {
        below.write_all_at(b"w", (block + 1) * BLOCK - 6).unwrap();
        assert_eq!(last_byte(&used, block).unwrap(), b'w', "block {block}");
        assert!(last_byte(&fresh, block).unwrap_err().is_corruption(), "block {block}");
    }
}
