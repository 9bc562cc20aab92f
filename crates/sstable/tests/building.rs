//! What a builder takes, refuses, and leaves behind.

mod support;

use esker_format::{InternalKey, SeqNo, Trailer, ValueKind};
use esker_sstable::{Builder, BuilderOptions, Codec, KeyHash, TableError};
use esker_vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, TraceVfs, Vfs, read_file};
use std::path::Path;
use support::{build, codecs, del, open, options, put, read_all, try_build};

const PATH: &str = "t.sst";

fn builder(vfs: &dyn Vfs, options: BuilderOptions) -> Builder {
    Builder::new(vfs.create_new(Path::new(PATH)).unwrap(), PATH, options).unwrap()
}

#[test]
fn what_does_not_sort_behind_is_refused_and_the_rest_goes_on() {
    let vfs = MemVfs::new();
    let mut builder = builder(&*vfs, options(4096, Codec::None));
    let key = |user_key, seq| InternalKey::new(user_key, SeqNo(seq), ValueKind::Put);
    builder.add(key(b"b", 5), b"1").unwrap();
    for refused in [key(b"a", 9), key(b"b", 5), key(b"b", 6), key(b"", 1)] {
        let error = builder.add(refused, b"no").unwrap_err();
        assert!(matches!(error, TableError::OutOfOrder { .. }), "{error}");
        assert!(error.to_string().contains("does not sort behind b#5,PUT"), "{error}");
    }
    let long = vec![b'c'; 65_536];
    assert!(matches!(
        builder.add(key(&long, 1), b""),
        Err(TableError::TooLong { bytes: 65_536, bytes_max: 65_535, .. })
    ));
    let tombstone = InternalKey::new(b"c", SeqNo(1), ValueKind::Delete);
    assert!(matches!(builder.add(tombstone, b"value"), Err(TableError::TooLong { .. })), "a tombstone has no value");
    let unknown = InternalKey { user_key: b"c", trailer: Trailer::from_bits(9 << 8 | 6) };
    assert!(builder.add(unknown, b"value").unwrap_err().is_unsupported());
    builder.add(key(b"b", 4), b"2").unwrap();
    builder.add(key(b"b\0", 9), b"3").unwrap();
    assert_eq!(builder.entries(), 3);
    builder.finish().unwrap();
    let table = open(&read_file(&*vfs, Path::new(PATH), u64::MAX).unwrap());
    assert_eq!(read_all(table.iter()).unwrap(), [put(b"b", 5, b"1"), put(b"b", 4, b"2"), put(b"b\0", 9, b"3")]);
}

#[test]
fn there_are_no_empty_tables() {
    assert!(matches!(try_build(&[], options(4096, Codec::None)), Err(TableError::Empty { .. })));
}

#[test]
fn what_finish_returned_survives_a_power_cut_and_was_synced_once() {
    let inner = MemVfs::new();
    let vfs = TraceVfs::new(inner.clone());
    let mut builder = builder(&*vfs, options(4096, Codec::Lz4));
    builder.add(InternalKey::new(b"k", SeqNo(1), ValueKind::Put), b"v").unwrap();
    builder.finish().unwrap();
    vfs.sync_dir(Path::new("")).unwrap();
    assert_eq!(vfs.syncs(PATH), 1);
    let image = inner.crash_now(CrashPolicy::SyncedOnly);
    open(&read_file(&image, Path::new(PATH), u64::MAX).unwrap()).verify().unwrap();
}

#[test]
fn a_full_disk_says_so_and_the_builder_stays_failed() {
    let vfs = MemVfs::new().with_space(300 << 10);
    let mut builder = builder(&*vfs, BuilderOptions { piece_bytes: 64 << 10, ..options(4096, Codec::None) });
    let mut failed = None;
    for i in 0..10_000u32 {
        if let Err(error) = builder.add(InternalKey::new(&i.to_be_bytes(), SeqNo(1), ValueKind::Put), &[7; 100]) {
            failed = Some(error);
            break;
        }
    }
    let error = failed.expect("a megabyte does not fit");
    assert!(error.is_no_space() && error.io().is_some() && !error.is_corruption(), "{error}");
    let again = builder.add(InternalKey::new(&[0xff; 9], SeqNo(1), ValueKind::Put), b"").unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    assert_eq!(builder.finish().unwrap_err().to_string(), error.to_string());
}

#[test]
fn any_failing_write_or_sync_is_an_error() {
    for (operation, doing) in [(Operation::Append, "write"), (Operation::WriteOut, "write"), (Operation::Sync, "sync")]
    {
        let vfs = FaultVfs::new(MemVfs::new());
        vfs.add(Rule::new(operation, Fault::EIO));
        let mut builder = builder(&*vfs, options(4096, Codec::None));
        builder.add(InternalKey::new(b"k", SeqNo(1), ValueKind::Put), b"v").unwrap();
        let error = builder.finish().unwrap_err();
        assert!(error.to_string().starts_with(&format!("table t.sst: {doing}: ")), "{error}");
        assert!(!error.is_no_space());
    }
}

#[test]
fn the_size_is_foreseen_to_within_a_tenth() {
    let vfs = MemVfs::new();
    let mut builder = builder(&*vfs, options(4096, Codec::None));
    for i in 0..30_000u32 {
        builder.add(InternalKey::new(&i.to_be_bytes(), SeqNo(u64::from(i)), ValueKind::Put), &[1; 40]).unwrap();
    }
    let foreseen = builder.estimated_bytes() as f64;
    let found = builder.finish().unwrap().file_bytes as f64;
    assert!((foreseen / found - 1.0).abs() < 0.1, "{foreseen} foreseen, {found} found");
}

/// 16 + 100 bytes, half of the value random: less than the user's own bytes, and than RocksDB's 116 (70 with LZ4).
#[test]
fn small_entries_cost_little() {
    let mut noise = 1u64;
    let mut random = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 56) as u8
    };
    let entries: Vec<_> = (0..20_000u64)
        .map(|i| {
            let mut value = [b'v'; 100];
            value[..50].fill_with(&mut random);
            put(format!("{i:016}").as_bytes(), 1 + i * 0x9e37_79b1 % (1 << 20), &value)
        })
        .collect();
    let per_entry = |codec| build(&entries, options(4096, codec)).len() as f64 / entries.len() as f64;
    let (plain, lz4) = (per_entry(Codec::None), per_entry(Codec::Lz4));
    assert!(plain < 111.0, "{plain} bytes an entry");
    assert!(lz4 < 69.0, "{lz4} bytes an entry with LZ4");
}

#[test]
fn filters_turn_away_almost_all_absent_keys() {
    let entries: Vec<_> = (0..10_000u32).map(|i| put(&i.to_be_bytes(), 1, b"")).collect();
    let table = open(&build(&entries, options(4096, Codec::None)));
    let seen = |key: &[u8]| table.may_contain(KeyHash::of(key)).unwrap();
    assert!((0..10_000u32).all(|i| seen(&i.to_be_bytes())));
    let wrong = (20_000..120_000u32).filter(|i| seen(&i.to_be_bytes())).count();
    assert!(wrong < 800, "{wrong} of 100,000");
    let without = open(&build(&entries, BuilderOptions { filter_bits_per_key: 0, ..options(4096, Codec::None) }));
    assert!(without.may_contain(KeyHash::of(b"absent")).unwrap());
}

#[test]
fn settings_out_of_bounds_are_taken_as_the_nearest() {
    let entries = [put(b"a", 1, b"x"), del(b"b", 2)];
    for codec in codecs() {
        let extreme =
            BuilderOptions { block_size_bytes: usize::MAX, filter_bits_per_key: u32::MAX, ..options(0, codec) };
        let table = open(&build(&entries, extreme));
        assert_eq!((table.properties().block_size_bytes, table.properties().filter_bits_per_key), (16 << 20, 64));
        assert_eq!(read_all(table.iter()).unwrap(), entries);
        assert_eq!(open(&build(&entries, options(0, codec))).properties().blocks, 2);
    }
}

#[test]
#[cfg(not(feature = "zstd"))]
fn zstd_is_refused_without_its_feature() {
    let vfs = MemVfs::new();
    let file = vfs.create_new(Path::new(PATH)).unwrap();
    assert!(Builder::new(file, PATH, options(4096, Codec::Zstd)).unwrap_err().is_unsupported());
}

/// A file that is written in whole pieces can be mapped by large pages.
#[test]
fn all_appends_but_the_last_end_where_pieces_end() {
    let vfs = TraceVfs::new(MemVfs::new());
    let mut builder = builder(&*vfs, BuilderOptions { piece_bytes: 10_000, ..options(400, Codec::None) });
    for i in 0..1000_u32 {
        builder.add(InternalKey::new(&i.to_be_bytes(), SeqNo(1), ValueKind::Put), &[7; 50]).unwrap();
    }
    let built = builder.finish().unwrap();
    let appends: Vec<_> = vfs.events().into_iter().filter(|event| event.operation == Operation::Append).collect();
    let ends: Vec<u64> = appends.iter().map(|append| append.offset + append.len_bytes).collect();
    let (last, pieces) = ends.split_last().unwrap();
    assert!(pieces.len() > 5 && pieces.iter().all(|end| end % 10_000 == 0), "{ends:?}");
    assert_eq!(*last, built.file_bytes);
}
