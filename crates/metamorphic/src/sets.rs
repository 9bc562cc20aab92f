//! The option sets: what may differ without making a difference.
//!
//! The first two are what users have, in memory and on a real file system. Each of the others picks for every setting one of its values by a number that follows from its place, so that all values meet many others.

use esker::{Background, Codec, Options};
use esker_testkit::random::Random;

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
    let options = esker_testkit::picked_options!(&mut random);
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
