//! Tables whose checksums are right and whose parts do not agree: opening finds what does not fit the footer, and verifying the rest.

mod support;

use esker_format::checksum::{Crc, crc32c};
use esker_format::{Decoder, varint};
use esker_iterator::InternalIterator;
use esker_sstable::{BuilderOptions, Codec, KeyHash, Table, TableError, Verify};
use esker_vfs::{Map, ReadableFile};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use support::{Bytes, Entry, FILE_ID, MODES, build, build_with_ranges, del, options, put, table_options, try_open};

const FOOTER_BYTES: usize = 128;
const TRAILER_BYTES: usize = 5;
const KIND_FILTER: u8 = 3 << 4;

/// Where a block's handle is in the footer.
const PROPERTIES: usize = 0;
const INDEX: usize = 16;
const FILTER: usize = 32;

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn footer_of(bytes: &[u8]) -> usize {
    bytes.len() - FOOTER_BYTES
}

/// A block with its trailer.
fn block(bytes: &[u8], handle: usize) -> Range<usize> {
    let at = footer_of(bytes) + handle;
    let start = u64_at(bytes, at) as usize;
    start..start + u64_at(bytes, at + 8) as usize + TRAILER_BYTES
}

/// Makes the checksums of a block and of the footer right.
fn sign(bytes: &mut [u8], block: Range<usize>) {
    let end = block.end - 4;
    let checksum = Crc::new().u64(FILE_ID.0).u64(block.start as u64).bytes(&bytes[block.start..end]).finish();
    bytes[end..block.end].copy_from_slice(&checksum.to_le_bytes());
    let footer = footer_of(bytes);
    let checksum = crc32c(&bytes[footer..footer + 116]);
    bytes[footer + 116..footer + 120].copy_from_slice(&checksum.to_le_bytes());
}

/// The same table with `change` made to a block.
fn with_changed(bytes: &[u8], block: Range<usize>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    change(&mut changed[block.clone()]);
    sign(&mut changed, block);
    changed
}

/// The same table with another filter handle, and a right filter block there.
fn with_filter(bytes: &[u8], offset: usize, len: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let handle = footer_of(bytes) + FILTER;
    changed[handle..handle + 8].copy_from_slice(&(offset as u64).to_le_bytes());
    changed[handle + 8..handle + 16].copy_from_slice(&(len as u64).to_le_bytes());
    if offset == 0 {
        sign(&mut changed, block(bytes, PROPERTIES));
        return changed;
    }
    let end = block(bytes, FILTER).end;
    changed[offset + len..end].fill(0);
    changed[offset + len] = KIND_FILTER;
    sign(&mut changed, offset..offset + len + TRAILER_BYTES);
    changed
}

/// The same table with another value of a field of the properties.
fn with_field(bytes: &[u8], tag: u64, field: &[u8]) -> Vec<u8> {
    let old = block(bytes, PROPERTIES);
    let mut decoder = Decoder::new(&bytes[old.start..old.end - TRAILER_BYTES]);
    let mut fields = Vec::new();
    while !decoder.is_empty() {
        fields.push((decoder.varint("tag").unwrap(), decoder.prefixed("field").unwrap()));
    }
    fields.retain(|(found, _)| *found != tag);
    fields.push((tag, field));
    fields.sort_unstable();
    let mut changed = bytes[..old.start].to_vec();
    for (tag, field) in fields {
        varint::put(&mut changed, tag);
        varint::put(&mut changed, field.len() as u64);
        changed.extend_from_slice(field);
    }
    let len = changed.len() - old.start;
    changed.extend_from_slice(&bytes[old.end - TRAILER_BYTES..]);
    let (footer, file_bytes) = (footer_of(&changed), changed.len() as u64);
    changed[footer + 8..footer + 16].copy_from_slice(&(len as u64).to_le_bytes());
    changed[footer + 96..footer + 104].copy_from_slice(&file_bytes.to_le_bytes());
    sign(&mut changed, old.start..old.start + len + TRAILER_BYTES);
    changed
}

fn with_number(bytes: &[u8], tag: u64, number: u64) -> Vec<u8> {
    let mut field = Vec::new();
    varint::put(&mut field, number);
    with_field(bytes, tag, &field)
}

fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..24u64).map(|i| put(format!("key{i:02}").as_bytes(), i + 2, b"a value")).collect();
    entries.push(put(b"key11", 1, b"an older one"));
    entries.push(del(b"key07", 99));
    entries.sort();
    entries
}

fn table() -> Vec<u8> {
    build(&entries(), options(200, Codec::None))
}

/// All that verifying finds.
fn findings(table: &Table) -> Vec<TableError> {
    let mut found = Vec::new();
    table.verify_all(&mut |error| found.push(error), &mut |_| {});
    assert_eq!(table.verify().err().map(|error| error.to_string()), found.first().map(ToString::to_string));
    found
}

/// That verifying finds one thing, this one, in each way to read.
fn finds(bytes: &[u8], offset: usize, what: &str) {
    for mode in MODES {
        let found = findings(&try_open(bytes, mode).unwrap());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].offset(), Some(offset as u64));
        assert!(found[0].is_corruption() && found[0].to_string().ends_with(what), "{}", found[0]);
    }
}

/// Each of them by itself. Tags: 3 file id, 6 entries, 16 blocks, 18 bytes of blocks, 38 range tombstones.
#[test]
fn properties_that_do_not_fit_the_footer_are_refused_at_open() {
    let plain = table();
    let ranges = build_with_ranges(&entries(), &["key03..key05#50"], options(200, Codec::None));
    let behind_data = block(&plain, FILTER).start as u64;
    let blocks_max = try_open(&plain, MODES[0]).unwrap().properties().data_bytes / TRAILER_BYTES as u64;
    let nothing_in_it = with_number(&with_number(&plain, 6, 0), 16, 0);
    for (why, bytes) in [
        ("another id", with_field(&plain, 3, &7u64.to_le_bytes())),
        ("range tombstones of which there is no block", with_number(&plain, 38, 1)),
        ("none, where there is a block of them", with_number(&ranges, 38, 0)),
        ("neither entries nor range tombstones", nothing_in_it),
        ("entries in no block", with_number(&plain, 16, 0)),
        ("blocks of no entry", with_number(&ranges, 6, 0)),
        ("blocks that reach into the filter", with_number(&plain, 18, behind_data + 1)),
        ("more blocks than so many bytes could be", with_number(&plain, 16, blocks_max + 1)),
    ] {
        for mode in MODES {
            let error = try_open(&bytes, mode).expect_err(why);
            assert_eq!(error.offset(), Some(block(&bytes, PROPERTIES).start as u64), "{why}");
            assert!(error.to_string().ends_with("properties that do not fit the footer"), "{why}: {error}");
        }
    }
    for (tag, number) in [(16, blocks_max), (18, behind_data)] {
        // As many as there may be: it is the index that knows better.
        let table = try_open(&with_number(&plain, tag, number), MODES[0]).unwrap();
        assert!(table.iter().seek_to_first().unwrap_err().is_corruption());
    }
}

/// Tags: 6 entries, 8 deletions, 10 user keys, 12 and 14 bytes of keys and values, 20 and 22 of index and filter, 28 and 30 bounds,
/// 32 and 34 sequence numbers.
#[test]
fn properties_that_are_not_those_of_the_contents_are_found() {
    let what = "properties that are not those of the entries";
    let bytes = table();
    let properties = block(&bytes, PROPERTIES).start;
    for tag in [6, 8, 10, 12, 14, 20, 22, 32, 34] {
        finds(&with_number(&bytes, tag, 77), properties, what);
    }
    // A trailer, `#9,PUT`, and a user key.
    for (tag, key) in [(28, b"key"), (30, b"kez")] {
        finds(&with_field(&bytes, tag, &[&[1, 9, 0, 0, 0, 0, 0, 0], &key[..]].concat()), properties, what);
    }
}

#[test]
fn a_damaged_block_is_one_finding_and_the_properties_are_left_alone() {
    let mut bytes = table();
    bytes[30] ^= 1;
    for mode in MODES {
        let found = findings(&try_open(&bytes, mode).unwrap());
        assert!(matches!(found[..], [TableError::Checksum { offset: 0, .. }]), "{found:?}");
    }
}

/// Four keys of one block, of which two are exchanged, with their fingerprints: nothing else tells.
#[test]
fn entries_out_of_order_within_a_block_are_found() {
    let entries: Vec<Entry> = (0..4).map(|i| put(format!("key{i}").as_bytes(), 5, b"v")).collect();
    let bytes = build(&entries, options(4096, Codec::None));
    let data = 0..try_open(&bytes, MODES[0]).unwrap().properties().data_bytes as usize;
    let swapped = with_changed(&bytes, data, |block| {
        let keys = block.windows(4).position(|keys| keys == b"0123").unwrap();
        block.swap(keys + 1, keys + 2);
        let fingerprints = 24 + b"key".len();
        block.swap(fingerprints + 1, fingerprints + 2);
    });
    finds(&swapped, 0, "entries out of order");
}

/// The fence behind the first block, and its head, which is searched first: each by itself.
#[test]
fn a_fence_before_its_block_or_with_another_head_is_found() {
    let entries: Vec<Entry> = (0..3).map(|i| put(format!("{}", i * 3).as_bytes(), 5, b"v")).collect();
    let bytes = build(&entries, options(1, Codec::None));
    let index = block(&bytes, INDEX);
    let what = "a fence before its block's last key, or with another head";
    let (head, fences) = (8, 20 + 20 * 3);
    assert_eq!(&bytes[index.start + head..][..8], [0, 0, 0, 0, 0, 0, 0, bytes[index.start + fences]]);
    for byte in 0..8 {
        let other_head = with_changed(&bytes, index.clone(), |index| index[head + byte] ^= 1);
        finds(&other_head, index.start, what);
    }
    let too_early = with_changed(&bytes, index.clone(), |index| {
        index[head + 7] = b'!';
        index[fences] = b'!';
    });
    finds(&too_early, index.start, what);
}

#[test]
fn what_lies_between_the_blocks_is_found_in_front_of_the_footer() {
    let bytes = table();
    let pad = block(&bytes, FILTER).start - 1;
    assert!(pad as u64 >= try_open(&bytes, MODES[0]).unwrap().properties().data_bytes, "there is a gap");
    let mut changed = bytes.clone();
    changed[pad] = 1;
    finds(&changed, footer_of(&bytes), "something between the blocks");
}

#[test]
fn a_filter_is_whole_blocks() {
    let bytes = table();
    let filter = block(&bytes, FILTER);
    let len = filter.len() - TRAILER_BYTES;
    assert!(len >= 32 && len.is_multiple_of(32));
    for cut in [1, 31, len - 1, len] {
        let changed = with_filter(&bytes, filter.start, len - cut);
        for mode in MODES {
            let table = try_open(&changed, mode).unwrap();
            let error = table.may_contain(KeyHash::of(b"key11")).unwrap_err();
            assert_eq!(error.offset(), Some(filter.start as u64), "{error}");
            assert!(error.to_string().ends_with("not whole filter blocks"), "{error}");
        }
    }
}

/// A file that becomes another one while it is open.
#[derive(Debug)]
struct Replaced(Mutex<Vec<u8>>);

impl ReadableFile for Replaced {
    fn len_bytes(&self) -> io::Result<u64> {
        Bytes(self.0.lock().unwrap().clone()).len_bytes()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        Bytes(self.0.lock().unwrap().clone()).read_exact_at(buffer, offset)
    }

    fn map(&self) -> io::Result<Map> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Footer, properties and range tombstones are in memory from opening on. Each is held against the file as it is now, even if that is a right table by
/// itself.
#[test]
fn what_is_in_memory_is_still_what_is_in_the_file() {
    let dated = |layer: &str, created_unix_ms| {
        let options = BuilderOptions { created_unix_ms, ..options(200, Codec::None) };
        build_with_ranges(&entries(), &[layer], options)
    };
    let opened = dated("key03..key05#50 key08..key09#60", 1_750_000_000_000);
    for (what, now) in [
        ("footer", with_filter(&opened, 0, 0)),
        ("properties", dated("key03..key05#50 key08..key09#60", 1_750_000_000_001)),
        ("range tombstones", dated("key03..key06#50 key08..key09#60", 1_750_000_000_000)),
    ] {
        assert_eq!(now.len(), opened.len());
        let file = Arc::new(Replaced(Mutex::new(opened.clone())));
        let options = table_options(MODES[1].0, Verify::FirstUse);
        let table = Table::open(Arc::clone(&file) as Arc<dyn ReadableFile>, "t.sst", options).unwrap();
        table.verify().unwrap();
        *file.0.lock().unwrap() = now;
        let error = table.verify().unwrap_err();
        assert_eq!(error.offset(), Some(footer_of(&opened) as u64), "{what}: {error}");
        assert!(error.to_string().ends_with("not what it was when the table was opened"), "{what}: {error}");
    }
}
