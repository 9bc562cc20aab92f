//! [`picked_options!`](crate::picked_options): option sets of which each setting is one of its values, picked by a number, so that all values meet many others.
//!
//! A macro, so that suites of the engine and of programs over it share the values, and this crate knows neither: `esker` is what stands under that name where it is called.

/// The options that follow from a [`Random`](crate::random::Random), given as `&mut`: small memtables, tables and levels among them, so that a few writes fill them.
#[macro_export]
macro_rules! picked_options {
    ($random:expr) => {{
        use esker::{Codec, Durability, LEVELS, LeveledOptions, LogBackend, Options, ReadMode, Verify};
        use std::time::Duration;

        let random: &mut $crate::random::Random = $random;
        let mut compression = [Codec::None; LEVELS];
        match random.below(4) {
            0 => {}
            1 => compression = [Codec::Lz4; LEVELS],
            2 => compression[..1].fill(Codec::Lz4),
            _ => compression[2..].fill(Codec::Lz4),
        }
        let (l0_trigger, l0_slowdown, l0_stop) = *random.pick(&[(1, 1, 2), (2, 4, 6), (3, 3, 4), (4, 12, 20)]);
        let (level_base_bytes, table_bytes) = *random.pick(&[(1 << 10, 512), (8 << 10, 2 << 10), (64 << 10, 16 << 10)]);
        let compaction = LeveledOptions {
            l0_trigger,
            l0_slowdown,
            l0_stop,
            level_base_bytes,
            table_bytes,
            level_ratio: *random.pick(&[2, 3, 10]),
            grandparent_factor: *random.pick(&[1, 2, 10]),
            blob_garbage_percent_max: *random.pick(&[0, 5, 30, 100]),
            compact_for_reads: !random.one_in(3),
            ..LeveledOptions::default()
        };
        Options {
            durability: *random.pick(&[Durability::Os, Durability::Os, Durability::Sync, Durability::Memory]),
            memory_budget_bytes: *random.pick(&[1 << 20, 4 << 20, 64 << 20]),
            memtable_bytes: *random.pick(&[Some(1 << 10), Some(6 << 10), Some(24 << 10), None]),
            memtable_age_max: Duration::from_secs(*random.pick(&[5, 600])),
            block_cache_bytes: *random.pick(&[Some(0), Some(2 << 10), None]),
            block_size_bytes: *random.pick(&[64, 256, 1 << 10, 4 << 10]),
            compression,
            filter_bits_per_key: *random.pick(&[0, 2, 12]),
            blob_bytes_min: *random.pick(&[0, 32, 100, 4 << 10]),
            compaction,
            background_threads: *random.pick(&[1, 3]),
            wal_bytes_max: *random.pick(&[4 << 10, 32 << 10, 256 << 20]),
            wal_retain_bytes: *random.pick(&[None, Some(16 << 10), Some(u64::MAX)]),
            wal_retain_age: *random.pick(&[None, None, Some(Duration::from_secs(20))]),
            log_backend: *random.pick(&[LogBackend::Mapped, LogBackend::Write]),
            verify: *random.pick(&[Verify::FirstUse, Verify::Always]),
            read_mode: *random.pick(&[ReadMode::Map, ReadMode::Pread, ReadMode::GuardedMap]),
            transaction_tracking_bytes: *random.pick(&[16 << 20, 16 << 20, 64]),
            flush_on_close: !random.one_in(3),
            ..Options::default()
        }
    }};
}
