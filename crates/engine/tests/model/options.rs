//! Settings under which small runs reach every part of the engine.

use esker::{Codec, LEVELS, LeveledOptions, LogBackend, Options, ReadMode, Verify};
use esker_testkit::picked_options;
use esker_testkit::random::Random;

/// How many of all there are were picked by a number.
const PICKED: u64 = 34;

/// Memtables, blocks, tables and levels so small that a few writes fill them.
pub(crate) fn tiny() -> Options {
    let compaction = LeveledOptions {
        l0_trigger: 2,
        l0_slowdown: 4,
        l0_stop: 6,
        level_base_bytes: 8 << 10,
        level_ratio: 2,
        table_bytes: 2 << 10,
        grandparent_factor: 2,
        ..LeveledOptions::default()
    };
    Options {
        memory_budget_bytes: 4 << 20,
        memtable_bytes: Some(12 << 10),
        block_size_bytes: 256,
        wal_bytes_max: 32 << 10,
        compaction,
        ..Options::default()
    }
}

/// Those made by hand, and many more of which each setting is one of its values, picked by a number.
pub(crate) fn sets() -> Vec<Options> {
    let picked = (0..PICKED).map(|number| picked_options!(&mut Random::new(number)));
    by_hand().into_iter().chain(picked).collect()
}

/// Option sets that differ in what a test can see go wrong.
pub(crate) fn by_hand() -> Vec<Options> {
    let tiny = tiny();
    vec![
        Options {
            read_mode: ReadMode::Pread,
            verify: Verify::Always,
            wal_retain_bytes: Some(u64::MAX),
            ..tiny.clone()
        },
        Options {
            log_backend: LogBackend::Write,
            memtable_bytes: Some(6 << 10),
            filter_bits_per_key: 0,
            flush_on_close: false,
            wal_retain_bytes: Some(u64::MAX),
            ..tiny.clone()
        },
        Options { compression: [Codec::Lz4; LEVELS], block_size_bytes: 64, block_cache_bytes: Some(0), ..tiny.clone() },
        Options {
            read_mode: ReadMode::Pread,
            compression: [Codec::None; LEVELS],
            block_cache_bytes: Some(2 << 10),
            memtable_bytes: Some(24 << 10),
            log_backend: LogBackend::Write,
            blob_bytes_min: 64,
            ..tiny.clone()
        },
        Options {
            read_mode: ReadMode::GuardedMap,
            verify: Verify::Always,
            wal_bytes_max: 8 << 10,
            filter_bits_per_key: 4,
            compaction: LeveledOptions { l0_trigger: 1, l0_slowdown: 1, l0_stop: 2, ..tiny.compaction.clone() },
            ..tiny.clone()
        },
        // Nearly all values in blob files, which are collected all the time.
        Options {
            memtable_bytes: Some(6 << 10),
            blob_bytes_min: 32,
            compaction: LeveledOptions { blob_garbage_percent_max: 5, ..tiny.compaction.clone() },
            ..tiny
        },
    ]
}
