//! Tables with range tombstones: what is found in them, how far their bounds reach, and the block's example on the format page.

mod support;

use esker_format::{InternalKey, SeqNo, ValueKind};
use esker_iterator::{Fragments, InternalIterator};
use esker_sstable::{Builder, BuilderOptions, Codec, KeyHash, TableError};
use esker_vfs::{MemVfs, Vfs};
use std::path::Path;
use support::{MODES, build, build_with_ranges, layer, open, options, put, read_all, read_all_back, try_open};

const PAGE: &str = include_str!("../../../docs/format/sstable.md");

#[test]
fn they_are_beside_the_entries_and_widen_the_bounds() {
    let entries = [put(b"d", 5, b"1"), put(b"m", 9, b"2")];
    let bytes = build_with_ranges(&entries, &["b..c#20 k..x#21", "a..y#3"], options(4096, Codec::None));
    for mode in MODES {
        let table = try_open(&bytes, mode).unwrap();
        table.verify().unwrap();
        let properties = table.properties();
        assert_eq!((properties.entries, properties.range_tombstones, properties.deletions), (2, 3, 0));
        assert_eq!(format!("{:?} {:?}", properties.smallest, properties.largest), "a#3,RANGEDEL y#3,RANGEDEL");
        assert_eq!((properties.smallest_seq, properties.largest_seq), (SeqNo(3), SeqNo(21)));
        let ranges = table.range_tombstones().unwrap();
        assert_eq!(ranges.newest_covering(b"m", SeqNo(30)), Some(SeqNo(21)));
        assert_eq!(ranges.newest_covering(b"m", SeqNo(19)), Some(SeqNo(3)));
        assert_eq!(ranges.newest_covering(b"y", SeqNo(30)), None);
        assert_eq!(
            table.get(b"m", KeyHash::of(b"m"), SeqNo(30)).unwrap().unwrap().1,
            b"2",
            "entries are told as they are"
        );
        assert!(!table.may_contain(KeyHash::of(b"b")).unwrap(), "the filter knows of no range");
        assert_eq!(read_all(table.iter()).unwrap(), entries);
    }
}

#[test]
fn a_table_of_range_tombstones_alone() {
    for bits in [0, 12] {
        let options = BuilderOptions { filter_bits_per_key: bits, ..options(4096, Codec::None) };
        let bytes = build_with_ranges(&[], &["b..c\0#20"], options);
        for mode in MODES {
            let table = try_open(&bytes, mode).unwrap();
            let report = table.verify().unwrap();
            assert_eq!((report.blocks, report.entries), (0, 0));
            let properties = table.properties();
            assert_eq!(format!("{:?} {:?}", properties.smallest, properties.largest), "b#20,RANGEDEL c#20,RANGEDEL");
            assert_eq!(table.get(b"b", KeyHash::of(b"b"), SeqNo::MAX).unwrap(), None);
            assert_eq!(table.get_unfiltered(b"b", KeyHash::of(b"b"), SeqNo::MAX).unwrap(), None);
            assert!(read_all(table.iter()).unwrap().is_empty() && read_all_back(table.iter_once()).unwrap().is_empty());
            let mut iter = table.iter();
            for target in [&b""[..], b"b", b"z"] {
                iter.seek(InternalKey::before_all(target)).unwrap();
                assert!(!iter.valid());
                iter.seek_for_prev(InternalKey::behind_all(target)).unwrap();
                assert!(!iter.valid());
                iter.prepare_seek(InternalKey::before_all(target));
                iter.seek_prepared(InternalKey::before_all(target)).unwrap();
                assert!(!iter.valid());
            }
        }
    }
}

#[test]
fn what_a_table_can_not_hold_is_refused_and_the_rest_goes_on() {
    let vfs = MemVfs::new();
    let path = Path::new("t.sst");
    let mut builder = Builder::new(vfs.create_new(path).unwrap(), "t.sst", options(4096, Codec::None)).unwrap();
    builder.add_range_tombstones(layer("a..b#9 c..d#7")).unwrap();
    for refused in [Fragments::default(), layer("a..b#7"), layer("a..#3")] {
        let error = builder.add_range_tombstones(refused).unwrap_err();
        assert!(matches!(error, TableError::BadLayer { .. }), "{error}");
    }
    let entry = InternalKey::new(b"a", SeqNo(3), ValueKind::RangeDelete);
    assert!(matches!(builder.add(entry, b"b"), Err(TableError::BadLayer { .. })));
    builder.add_range_tombstones(layer("a..b#6")).unwrap();
    assert_eq!(builder.finish().unwrap().properties.range_tombstones, 3);
}

#[test]
fn a_table_without_any_has_the_bytes_that_it_always_had() {
    let entries = [put(b"d", 5, b"1")];
    assert_eq!(
        build(&entries, options(4096, Codec::None)),
        build_with_ranges(&entries, &[], options(4096, Codec::None))
    );
    assert!(open(&build(&entries, options(4096, Codec::None))).range_tombstones().is_none());
}

#[test]
fn the_block_is_as_on_the_page() {
    let example = PAGE.split("```ranges\n").nth(1).expect("the page has an example").split("```").next().unwrap();
    let bytes_of = |line: &str| {
        let digits = line.split('|').next().unwrap().split_whitespace();
        digits.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<u8>>()
    };
    let block: Vec<u8> = example.lines().flat_map(bytes_of).collect();
    let table = build_with_ranges(&[], &["ant..bee#9 cat..dog#300", "a..z#4"], options(4096, Codec::None));
    let footer = table.len() - 128;
    let number = |at: usize| u64::from_le_bytes(table[footer + at..footer + at + 8].try_into().unwrap()) as usize;
    assert_eq!(table[number(48)..][..number(56)], block);
}
