//! Tables against a map of versions.

mod support;

use esker_format::{InternalKey, SeqNo, Slice, Trailer, ValueKind};
use esker_iterator::InternalIterator;
use esker_sstable::{BlockCache, BuilderOptions, Codec, KeyHash, ReadMode, Table, Verify};
use esker_testkit::iterator_suite::{any_entries, any_user_key};
use proptest::prelude::*;
use std::sync::Arc;
use support::{
    Bytes, Entry, MODES, build, codecs, del, open, options, put, read_all, read_all_back, table_options, try_build,
    try_open,
};

fn get(table: &Table, user_key: &[u8], seq: u64) -> Option<(Trailer, Slice)> {
    table.get(user_key, KeyHash::of(user_key), SeqNo(seq)).unwrap()
}

/// The newest version at or below `seq`, by looking at all.
fn expected<'a>(entries: &'a [Entry], user_key: &[u8], seq: u64) -> Option<(Trailer, &'a [u8])> {
    let mut versions = entries.iter().filter(|(key, _)| *key.user_key == *user_key);
    versions.find(|(key, _)| key.trailer.seq() <= SeqNo(seq)).map(|(key, value)| (key.trailer, &value[..]))
}

fn check(table: &Arc<Table>, entries: &[Entry]) {
    assert_eq!(read_all(table.iter()).unwrap(), entries);
    assert_eq!(read_all_back(table.iter_once()).unwrap(), entries);
    for (key, value) in entries {
        let seq = key.trailer.seq().0;
        let (trailer, found) = get(table, &key.user_key, seq).unwrap();
        assert_eq!((trailer, &found[..]), (key.trailer, &value[..]), "{key:?}");
        let older = seq.checked_sub(1).and_then(|seq| get(table, &key.user_key, seq));
        let expected = seq.checked_sub(1).and_then(|seq| expected(entries, &key.user_key, seq));
        assert_eq!(older.as_ref().map(|(trailer, value)| (*trailer, &value[..])), expected, "before {key:?}");
    }
    let report = table.verify().unwrap();
    assert_eq!((report.entries, report.file_bytes), (entries.len() as u64, table.file_bytes()));
}

fn any_mode() -> impl Strategy<Value = (ReadMode, Verify)> {
    prop::sample::select(&MODES[..])
}

proptest! {
    #[test]
    fn gets_and_walks_give_what_was_added(
        entries in any_entries(1..150),
        block_size_bytes in prop_oneof![Just(1usize), 20..300usize, Just(4096)],
        codec in prop::sample::select(codecs().collect::<Vec<_>>()),
        filter_bits_per_key in prop::sample::select(vec![0u32, 1, 12]),
        mode in any_mode(),
        others in proptest::collection::vec((any_user_key(), 0..31u64), 20),
    ) {
        let builder_options = BuilderOptions { filter_bits_per_key, created_unix_ms: 5, ..options(block_size_bytes, codec) };
        let (bytes, built) = try_build(&entries, builder_options).unwrap();
        let table = try_open(&bytes, mode).unwrap();
        check(&table, &entries);
        for (user_key, seq) in others {
            let found = get(&table, &user_key, seq);
            let found = found.as_ref().map(|(trailer, value)| (*trailer, &value[..]));
            prop_assert_eq!(found, expected(&entries, &user_key, seq), "{:?} at {}", user_key, seq);
        }
        let properties = table.properties();
        prop_assert_eq!(properties, &built.properties);
        prop_assert_eq!(built.file_bytes, bytes.len() as u64);
        prop_assert_eq!(&properties.smallest, &entries[0].0);
        prop_assert_eq!(&properties.largest, &entries[entries.len() - 1].0);
        let seqs = || entries.iter().map(|(key, _)| key.trailer.seq());
        prop_assert_eq!((Some(properties.smallest_seq), Some(properties.largest_seq)), (seqs().min(), seqs().max()));
        let deletions = entries.iter().filter(|(key, _)| key.trailer.kind() == ValueKind::Delete).count();
        prop_assert_eq!(properties.deletions, deletions as u64);
        prop_assert_eq!(properties.raw_value_bytes, entries.iter().map(|(_, value)| value.len() as u64).sum::<u64>());
        prop_assert_eq!(properties.filter_bytes > 0, filter_bits_per_key > 0);
    }
}

#[test]
fn an_empty_value_is_not_a_tombstone_and_the_empty_key_is_a_key() {
    let entries = [put(b"", 3, b""), del(b"", 2), put(b"", 1, b"x"), del(b"a", 9), put(b"a", 8, b"")];
    for codec in codecs() {
        for mode in MODES {
            let table = try_open(&build(&entries, options(4096, codec)), mode).unwrap();
            check(&table, &entries);
            assert_eq!(get(&table, b"", 3).unwrap(), (Trailer::new(SeqNo(3), ValueKind::Put), Slice::empty()));
            assert_eq!(get(&table, b"", 2).unwrap().0.kind(), ValueKind::Delete);
            assert_eq!(get(&table, b"", 0), None);
            assert_eq!(get(&table, b"a", 8).unwrap().0.kind(), ValueKind::Put);
        }
    }
}

#[test]
fn the_longest_keys_and_keys_of_all_ones() {
    let long = |byte: u8, last: u8| [&vec![byte; 65_534][..], &[last]].concat();
    let mut entries = vec![
        put(&[], 1, b"empty"),
        put(&long(b'k', 0), 7, b"a"),
        put(&long(b'k', 0), 6, b"b"),
        put(&long(b'k', 1), 5, &vec![1; 70_000]),
        del(&long(b'm', 1), 4),
        put(&[0xff], 1, b"one"),
        put(&long(0xff, 0xfe), 1, b""),
        put(&long(0xff, 0xff), SeqNo::MAX.0, b"last"),
        put(&long(0xff, 0xff), 0, b"really"),
    ];
    entries.sort();
    for (block_size_bytes, codec) in
        [(4096, Codec::None), (4096, Codec::Lz4), (1 << 20, Codec::None), (1 << 20, Codec::Lz4)]
    {
        for mode in MODES {
            let table = try_open(&build(&entries, options(block_size_bytes, codec)), mode).unwrap();
            check(&table, &entries);
            assert_eq!(get(&table, &long(0xff, 0xff), 5).unwrap().1, b"really");
            let mut iter = table.iter();
            iter.seek(InternalKey::behind_all(&long(0xff, 0xff))).unwrap();
            assert!(!iter.valid());
            iter.seek_for_prev(InternalKey::behind_all(&long(0xff, 0xff))).unwrap();
            assert_eq!(iter.value(), b"really");
        }
    }
}

#[test]
fn versions_of_one_key_spread_over_many_blocks() {
    let mut entries = vec![put(b"j", 1, b"before")];
    entries.extend(
        (1..=1000u64).rev().map(|seq| if seq % 7 == 0 { del(b"k", seq) } else { put(b"k", seq, &seq.to_le_bytes()) }),
    );
    entries.push(put(b"l", 1, b"after"));
    for block_size_bytes in [1, 100, 4096] {
        let table = open(&build(&entries, options(block_size_bytes, Codec::None)));
        assert!(table.properties().blocks > 2);
        check(&table, &entries);
        assert_eq!(get(&table, b"k", u64::MAX >> 8).unwrap().0.seq(), SeqNo(1000));
        assert_eq!(get(&table, b"k", 0), None);
    }
}

#[test]
fn seeks_at_every_block_boundary() {
    let key = |i: u32| format!("key{:05}", 2 * i);
    let entries: Vec<Entry> = (0..500).map(|i| put(key(i).as_bytes(), 5, &[i as u8; 20])).collect();
    let table = open(&build(&entries, options(256, Codec::None)));
    assert!(table.properties().blocks > 40);
    let mut iter = table.iter();
    for i in 0..1000u32 {
        let target = format!("key{i:05}");
        let target = InternalKey::seek(target.as_bytes(), SeqNo(7));
        let at = entries.partition_point(|(key, _)| key.as_ref() < target);
        iter.seek(target).unwrap();
        assert_eq!(iter.valid().then(|| iter.key().to_buf()), entries.get(at).map(|e| e.0.clone()), "{target:?}");
        iter.seek_for_prev(target).unwrap();
        assert_eq!(
            iter.valid().then(|| iter.key().to_buf()),
            at.checked_sub(1).map(|at| entries[at].0.clone()),
            "{target:?}"
        );
    }
}

#[test]
fn values_of_some_mib_beside_small_ones() {
    let noise: Vec<u8> = (0..5u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let entries =
        [put(b"a", 1, b"small"), put(b"b", 2, &noise), put(b"c", 3, &vec![b'z'; 3 << 20]), put(b"d", 4, b"small")];
    for codec in codecs() {
        for mode in MODES {
            let bytes = build(&entries, options(4096, codec));
            let table = try_open(&bytes, mode).unwrap();
            check(&table, &entries);
            let value = get(&table, b"b", 9).unwrap().1;
            drop(table);
            assert!(value.is_pinned() && value == noise, "a slice outlives its table");
        }
    }
}

#[test]
fn long_values_are_pinned_and_short_ones_copied() {
    let entries = [put(b"a", 1, &[7; 256]), put(b"b", 1, &[8; 257])];
    for codec in codecs() {
        for mode in MODES {
            let table = try_open(&build(&entries, options(4096, codec)), mode).unwrap();
            assert_eq!(
                (get(&table, b"a", 1).unwrap().1.is_pinned(), get(&table, b"b", 1).unwrap().1.is_pinned()),
                (false, true)
            );
            let mut iter = table.iter();
            iter.seek_to_last().unwrap();
            let slice = iter.value_slice();
            assert!(slice.is_pinned() && slice == [8; 257]);
        }
    }
}

#[test]
fn a_map_holds_nothing_on_the_heap_and_copies_are_counted() {
    let entries: Vec<Entry> = (0..5000u32).map(|i| put(&i.to_be_bytes(), 1, &[i as u8; 50])).collect();
    let bytes = build(&entries, options(4096, Codec::None));
    let file = || Arc::new(Bytes(bytes.clone()));
    let cache = BlockCache::new(1 << 20);
    let mapped = Table::open(file(), "t", support::table_options(ReadMode::Map, Verify::FirstUse)).unwrap();
    check(&mapped, &entries);
    assert_eq!(mapped.mapped_bytes(), bytes.len() as u64);
    assert!(mapped.heap_bytes() < 2000, "{} bytes", mapped.heap_bytes());
    let read = Table::open(
        file(),
        "t",
        esker_sstable::TableOptions { cache: cache.clone(), ..table_options(ReadMode::Pread, Verify::FirstUse) },
    );
    let read = read.unwrap();
    let index_and_filter = (read.properties().index_bytes + read.properties().filter_bytes) as usize;
    assert!(read.heap_bytes() < 2000, "nothing is read before it is needed");
    assert!(get(&read, &7u32.to_be_bytes(), 1).is_some());
    assert!(read.heap_bytes() > index_and_filter && read.heap_bytes() < index_and_filter + 2000);
    assert_eq!((read.mapped_bytes(), cache.hits(), cache.misses()), (0, 0, 1));
    assert!(get(&read, &8u32.to_be_bytes(), 1).is_some());
    assert_eq!((cache.hits(), cache.misses()), (1, 1));
    let one_block = cache.usage_bytes();
    assert!(one_block > 4000 && one_block < 5000);
    assert_eq!(read_all(read.iter_once()).unwrap().len(), entries.len());
    assert_eq!(cache.usage_bytes(), one_block, "a walk past the cache leaves it as it was");
}

#[test]
fn two_tables_in_one_cache_do_not_mix() {
    let cache = BlockCache::new(1 << 20);
    let tables: Vec<_> = [b"one", b"two"]
        .map(|value| {
            let bytes = build(&[put(b"k", 1, value)], options(4096, Codec::None));
            let options =
                esker_sstable::TableOptions { cache: cache.clone(), ..table_options(ReadMode::Pread, Verify::Always) };
            Table::open(Arc::new(Bytes(bytes)), "t", options).unwrap()
        })
        .into();
    for _ in 0..2 {
        assert_eq!(
            (get(&tables[0], b"k", 1).unwrap().1, get(&tables[1], b"k", 1).unwrap().1),
            (b"one".into(), b"two".into())
        );
    }
}

#[test]
fn many_threads_read_one_table() {
    let entries: Vec<Entry> = (0..5000u32).map(|i| put(&i.to_be_bytes(), 1, &i.to_be_bytes())).collect();
    for codec in codecs() {
        let table = open(&build(&entries, options(512, codec)));
        std::thread::scope(|scope| {
            for start in 0..4 {
                let (table, entries) = (&table, &entries);
                scope.spawn(move || {
                    for i in 0..entries.len() {
                        let (key, value) = &entries[(i * 7 + start * 1000) % entries.len()];
                        assert_eq!(get(table, &key.user_key, 1).unwrap().1, value[..]);
                    }
                    assert_eq!(read_all(table.iter()).unwrap(), *entries);
                });
            }
        });
    }
}

/// By the index and one block: right to within a block's difference in size, at any place.
#[test]
fn the_share_before_a_key_is_about_right() {
    let entries: Vec<_> = (0..2_000u16).map(|i| put(&i.to_be_bytes(), 5, &[7; 20])).collect();
    for codec in codecs() {
        for mode in MODES {
            let table = try_open(&build(&entries, options(1024, codec)), mode).unwrap();
            let mut last = 0.0;
            for i in 0..=2_000u16 {
                let share = table.share_before(InternalKey::before_all(&i.to_be_bytes())).unwrap();
                assert!((share - f64::from(i) / 2_000.0).abs() < 0.02, "{share} before {i}");
                assert!(share >= last);
                last = share;
            }
            assert_eq!(table.share_before(InternalKey::before_all(b"")).unwrap(), 0.0);
            assert_eq!(table.share_before(InternalKey::behind_all(&[0xff; 3])).unwrap(), 1.0);
        }
    }
    let one = try_open(&build(&entries[..10], options(4096, Codec::None)), MODES[0]).unwrap();
    let share = one.share_before(InternalKey::behind_all(&4u16.to_be_bytes())).unwrap();
    assert_eq!(share, 0.5, "within a block it is exact");
}
