//! What a look-up sends for ahead of its use: of the filter, of a block, of an entry.

use crate::block::Layout;
use crate::fetch::sent_for;
use crate::filter;
use crate::{BlockCache, Builder, BuilderOptions, Codec, KeyHash, ReadMode, Table, TableOptions, Verify};
use esker_format::{InternalKey, InternalKeyBuf, SeqNo, ValueKind};
use esker_vfs::{MemVfs, Vfs};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn key(i: u32) -> InternalKeyBuf {
    InternalKey::new(&i.to_be_bytes(), SeqNo(u64::from(i)), ValueKind::Put).to_buf()
}

fn hash(i: u32) -> KeyHash {
    KeyHash::of(&i.to_be_bytes())
}

/// A table of 400 entries of 100 bytes and a bit, in blocks of this size, of which all were used once.
pub(crate) fn table(block_size_bytes: usize, codec: Codec, read_mode: ReadMode) -> Arc<Table> {
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
pub(crate) fn mapped() -> [Arc<Table>; 3] {
    [8192, 4096, 250].map(|block_size_bytes| table(block_size_bytes, Codec::None, ReadMode::Map))
}

/// The data blocks with their trailers.
pub(crate) fn blocks(table: &Table) -> Vec<Range<usize>> {
    let (index, payload) = table.index().unwrap();
    (0..index.count()).map(|i| index.block(payload, i).unwrap().range).collect()
}

/// The payload of a data block, and its layout.
pub(crate) fn layout<'a>(table: &'a Table, block: &Range<usize>) -> (Layout, &'a [u8]) {
    let payload = &table.map().unwrap()[block.start..block.end - 5];
    (Layout::parse(payload).unwrap(), payload)
}

/// A line is sent for by one of its bytes.
pub(crate) fn byte(at: usize) -> Range<usize> {
    at..at + 1
}

#[test]
fn a_probe_of_the_filter_is_sent_for_where_it_will_look() {
    let table = table(4096, Codec::None, ReadMode::Map);
    for i in 0..100 {
        let filter = table.footer().filter.unwrap().range();
        let filter = &table.map().unwrap()[filter.start..filter.end - 5];
        let probe = sent_for(|| filter::prefetch_block(filter, hash(i)));
        assert_eq!((sent_for(|| table.prefetch_filter(hash(i))), probe.len()), (probe, 1));
    }
}

/// In three parts, so that look-ups of several keys wait together: the index and the block's start, then one entry.
#[test]
fn a_look_up_sends_for_the_start_of_a_block_then_for_one_entry() {
    for table in mapped() {
        let blocks = blocks(&table);
        for i in 0..400_u32 {
            let number = table.find_block(key(i).as_ref()).unwrap();
            let of_index = sent_for(|| drop(table.find_block(InternalKey::seek(&i.to_be_bytes(), SeqNo::MAX))));
            let mut spot = None;
            let mut sent = sent_for(|| spot = table.spot(&i.to_be_bytes(), SeqNo::MAX).unwrap());
            let start = blocks[number].start;
            assert_eq!(sent.split_off(of_index.len()), vec![start..start + 128; 1]);
            assert_eq!(sent, of_index);
            let sent = sent_for(|| table.aim(&spot.unwrap(), hash(i)));
            let (layout, payload) = layout(&table, &blocks[number]);
            // The first of the block with this fingerprint, which mostly is the one.
            let aimed = |n: &usize| layout.fingerprint(payload, *n) == Some(hash(i).fingerprint());
            let Some(n) = (0..layout.count).find(aimed) else {
                assert!(layout.count == 1 && sent.is_empty());
                continue;
            };
            let (first, entry) = (layout.entry(payload, 0).unwrap(), layout.entry(payload, n).unwrap());
            // Trailers lie right before the keys; their width is byte 5 of the header.
            let trailer = first.rest.start - usize::from(payload[5]) * (layout.count - n);
            assert_eq!(sent, [byte(entry.rest.start), byte(trailer), entry.value]);
        }
    }
}
