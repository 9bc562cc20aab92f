//! The option sets: what may differ without making a difference.
//!
//! The first two are what users have, in memory and on a real file system. Each of the others picks for every setting one of its values by a number that follows from its place, so that all values meet many others.

use esker::{Background, Codec, Durability, LEVELS, LeveledOptions, LogBackend, Options, ReadMode, Verify};
use esker_testkit::random::Random;
use std::time::Duration;

/// How many there are.
pub(crate) const SETS: usize = 40;

/// Where the files lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    /// In memory, where a crash is a power cut.
    Memory,
    /// In a directory of a file system, where a crash is `kill -9`.
    Files,
}

/// An option set.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub(crate) medium: Medium,
    pub(crate) background: Background,
    pub(crate) options: Options,
    /// Compactions ask a filter, which keeps everything.
    pub(crate) asks_filter: bool,
}

/// The one of that number, counted round.
pub(crate) fn set(number: usize) -> Set {
    let number = number % SETS;
    let medium = if number % 4 == 1 { Medium::Files } else { Medium::Memory };
    if number < 2 {
        return Set { medium, background: Background::Threads, options: Options::default(), asks_filter: false };
    }
    let mut random = Random::new(number as u64);
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
    let options = Options {
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
    };
    let background = *random.pick(&[Background::Manual, Background::Manual, Background::Threads]);
    Set { medium, background, options, asks_filter: random.one_in(3) }
}

impl Set {
    /// In a line.
    pub(crate) fn describe(&self) -> String {
        let o = &self.options;
        let c = &o.compaction;
        let codecs: String = o.compression.iter().map(|codec| if *codec == Codec::None { '-' } else { 'z' }).collect();
        format!(
            "{:?} {:?} {:?} memtable {:?} budget {}K block {} cache {:?} codecs {codecs} filter {} blobs from {} wal {}K {:?} retain {:?} {:?} {:?} {:?} l0 {}/{}/{} base {} table {} x{} threads {} tracking {} {}{}",
            self.medium,
            self.background,
            o.durability,
            o.memtable_bytes,
            o.memory_budget_bytes >> 10,
            o.block_size_bytes,
            o.block_cache_bytes,
            o.filter_bits_per_key,
            o.blob_bytes_min,
            o.wal_bytes_max >> 10,
            o.log_backend,
            o.wal_retain_bytes,
            o.wal_retain_age,
            o.verify,
            o.read_mode,
            c.l0_trigger,
            c.l0_slowdown,
            c.l0_stop,
            c.level_base_bytes,
            c.table_bytes,
            c.level_ratio,
            o.background_threads,
            o.transaction_tracking_bytes,
            if o.flush_on_close { "flushes on close" } else { "leaves the log on close" },
            if self.asks_filter { ", filtered" } else { "" },
        )
    }
}
