//! What is sent for, and when: no line too many, none that is not used next, and none for copies.

use super::noted::sent_for;
use crate::block::Layout;
use crate::filter::{self, FILTER_BLOCK_BYTES};
use crate::{
    BlockCache, Builder, BuilderOptions, Codec, InternalIterator, KeyHash, ReadMode, Table, TableIter, TableOptions,
    Verify,
};
use esker_format::{InternalKey, InternalKeyBuf, SeqNo, ValueKind};
use esker_vfs::{CACHE_LINE_BYTES, MemVfs, Vfs};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

fn key(i: u32) -> InternalKeyBuf {
    InternalKey::new(&i.to_be_bytes(), SeqNo(u64::from(i)), ValueKind::Put).to_buf()
}

fn hash(i: u32) -> KeyHash {
    KeyHash::of(&i.to_be_bytes())
}

/// A table of 400 entries of 100 bytes and a bit, in blocks of this size.
fn table(block_size_bytes: usize, codec: Codec, read_mode: ReadMode) -> Arc<Table> {
    let (vfs, path) = (MemVfs::new(), Path::new("t.sst"));
    let options = BuilderOptions { block_size_bytes, codec, ..Default::default() };
    let mut builder = Builder::new(vfs.create_new(path).unwrap(), "t.sst", options).unwrap();
    (0..400).for_each(|i| builder.add(key(i).as_ref(), &[b'v'; 100]).unwrap());
    builder.finish().unwrap();
    let verify = Verify::FirstUse;
    let options = TableOptions { verify, read_mode, cache: BlockCache::new(1 << 20), expect: None };
    let table = Table::open(vfs.open_read(path).unwrap(), "t.sst", options).unwrap();
    table.read_back().unwrap();
    table
}

/// Tables of large blocks and of small ones.
fn mapped() -> [Arc<Table>; 3] {
    [8192, 4096, 250].map(|block_size_bytes| table(block_size_bytes, Codec::None, ReadMode::Map))
}

/// The data blocks with their trailers.
fn blocks(table: &Table) -> Vec<Range<usize>> {
    let (index, payload) = table.index().unwrap();
    (0..index.count()).map(|i| index.block(payload, i).unwrap().range).collect()
}

/// What was sent for of the data blocks.
fn sent(table: &Table) -> Vec<usize> {
    sent_for(&table.map().unwrap()[..table.properties().data_bytes as usize])
}

/// Up to eight whole lines from a block's start on.
fn head(block: Option<&Range<usize>>) -> Vec<usize> {
    let line = |block: &Range<usize>, i: usize| block.start + CACHE_LINE_BYTES * i;
    block.map_or(Vec::new(), |block| (0..8).map(|i| line(block, i)).filter(|at| at + 64 <= block.end).collect())
}

/// Up to 64 whole lines from a block's end on, backward.
fn tail(block: &Range<usize>) -> Vec<usize> {
    (1..=64).filter_map(|i| block.end.checked_sub(CACHE_LINE_BYTES * i)).filter(|at| *at >= block.start).collect()
}

/// Six lines from the value of an entry of a block on, so far as there are data blocks.
fn values(table: &Table, block: &Range<usize>, i: usize) -> Vec<usize> {
    let map = table.map().unwrap();
    let payload = &map[block.start..block.end - 5];
    let value = Layout::parse(payload).unwrap().entry(payload, i).unwrap().value;
    let lines = (0..6).map(|line| block.start + value.start + CACHE_LINE_BYTES * line);
    lines.filter(|at| *at < table.properties().data_bytes as usize).collect()
}

#[test]
fn a_seek_sends_for_the_head_of_its_block_then_for_values_and_near_its_end_for_the_next() {
    for table in mapped() {
        let (mut iter, blocks) = (table.iter(), blocks(&table));
        let mut i = 0;
        for (number, block) in blocks.iter().enumerate() {
            let payload = &table.map().unwrap()[block.start..block.end - 5];
            let count = Layout::parse(payload).unwrap().count;
            for in_block in 0..count {
                sent(&table);
                iter.prepare_seek(key(i).as_ref());
                assert_eq!(sent(&table), head(Some(block)));
                iter.seek_prepared(key(i).as_ref()).unwrap();
                let next = if count - in_block <= 12 { head(blocks.get(number + 1)) } else { Vec::new() };
                assert_eq!(sent(&table), [values(&table, block, in_block), next].concat(), "{in_block} of {count}");
                assert_eq!(iter.key(), key(i).as_ref());
                i += 1;
            }
        }
        assert_eq!(i, 400);
    }
}

#[test]
fn a_walk_sends_for_the_block_behind_the_one_that_it_enters() {
    for table in mapped() {
        let (mut iter, blocks) = (table.iter(), blocks(&table));
        let number_of = |iter: &TableIter| table.find_block(iter.key()).unwrap();
        let mut last = 0;
        iter.seek_to_first().unwrap();
        sent(&table);
        while iter.valid() {
            let number = number_of(&iter);
            let next = if number == last { Vec::new() } else { head(blocks.get(number + 1)) };
            assert_eq!(sent(&table), next, "forward into block {number}");
            (last, _) = (number, iter.next().unwrap());
        }
        assert!(sent(&table).is_empty(), "there is none behind the last");
        last = blocks.len() - 1;
        iter.seek_to_last().unwrap();
        sent(&table);
        while iter.valid() {
            let number = number_of(&iter);
            let before = number.checked_sub(1).filter(|_| number != last).map(|number| &blocks[number]);
            let both = before.map_or(Vec::new(), |block| [head(Some(block)), tail(block)].concat());
            assert_eq!(sent(&table), both, "backward into block {number}");
            (last, _) = (number, iter.prev().unwrap());
        }
    }
}

#[test]
fn nothing_is_sent_for_of_blocks_that_are_read_as_copies() {
    for (codec, mode) in [(Codec::Lz4, ReadMode::Map), (Codec::None, ReadMode::Pread)] {
        let table = table(4096, codec, mode);
        let mut iter = table.iter();
        iter.seek(key(7).as_ref()).unwrap();
        (7..400).for_each(|_| iter.next().unwrap());
        iter.seek_to_last().unwrap();
        (1..400).for_each(|_| iter.prev().unwrap());
        assert!(table.map().is_none_or(|map| sent_for(&map[..table.properties().data_bytes as usize]).is_empty()));
    }
}

#[test]
fn a_probe_of_the_filter_is_sent_for_where_it_will_look() {
    for i in 0..100 {
        // The bits of one key: all in one block of the 16.
        let bytes = filter::build(&[hash(i).0; 64], 64);
        assert_eq!(bytes.len(), 16 * FILTER_BLOCK_BYTES);
        let bits = bytes.iter().position(|byte| *byte != 0).unwrap();
        sent_for(&bytes);
        filter::prefetch_block(&bytes, hash(i));
        assert_eq!(sent_for(&bytes), [bits / FILTER_BLOCK_BYTES * FILTER_BLOCK_BYTES]);
    }
    let table = table(4096, Codec::None, ReadMode::Map);
    let filter = table.footer().filter.unwrap().range();
    for i in 0..100 {
        let bytes = &table.map().unwrap()[filter.start..filter.end - 5];
        sent_for(bytes);
        filter::prefetch_block(bytes, hash(i));
        let probe = sent_for(bytes);
        table.prefetch_filter(hash(i));
        assert_eq!((sent_for(bytes), probe.len()), (probe, 1));
    }
}

/// A look-up in three parts: the start of the block, then the entry that its fingerprint leads to, and then nothing that was not sent for.
#[test]
fn a_look_up_sends_for_the_start_of_a_block_then_for_one_entry() {
    for table in mapped() {
        for i in 0..400_u32 {
            sent(&table);
            let spot = table.spot(&i.to_be_bytes(), SeqNo::MAX).unwrap().unwrap();
            let block = blocks(&table).swap_remove(table.find_block(key(i).as_ref()).unwrap());
            assert_eq!(sent(&table), [block.start, block.start + CACHE_LINE_BYTES]);
            table.aim(&spot, hash(i));
            let payload = &table.map().unwrap()[block.start..block.end - 5];
            let layout = Layout::parse(payload).unwrap();
            // The first of the block with this fingerprint, which mostly is the one.
            let aimed = |n: &usize| layout.fingerprint(payload, *n) == Some(hash(i).fingerprint());
            let Some(n) = (0..layout.count).find(aimed) else {
                assert!(layout.count == 1 && sent(&table).is_empty());
                continue;
            };
            let (first, entry) = (layout.entry(payload, 0).unwrap(), layout.entry(payload, n).unwrap());
            // Trailers lie right before the keys; their width is byte 5 of the header.
            let width = usize::from(payload[5]);
            let trailer = first.rest.start - width * (layout.count - n);
            let expected = [entry.rest.start, trailer, entry.value.start, entry.value.start + CACHE_LINE_BYTES];
            assert_eq!(sent(&table), expected.map(|at| block.start + at));
        }
    }
}
