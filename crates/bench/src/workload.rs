//! [`Workload`]: what is measured, and what must be there before.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Entries of a batch of `fillbatch`.
pub const BATCH_ENTRIES: u64 = 100;
/// Entries of a batch of `load`.
pub const LOAD_BATCH_ENTRIES: u64 = 1000;
/// `fillsync` does this part of `--num`, since each operation waits for the device.
pub const SYNC_PART: u64 = 100;
/// How often `open` opens and closes.
pub const OPENS: u64 = 5;
/// Keys and values that are in the log, and nowhere else, when `openkill` opens.
pub const KILLED_BYTES: u64 = 40 << 20;

/// What is measured. In order of `--workloads` left out: all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[value(rename_all = "lower")]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Puts every key, in key order.
    FillSeq,
    /// Puts every key, in random order.
    FillRandom,
    /// Puts every key, in random order, in batches of 100; latency is that of a batch.
    FillBatch,
    /// The same in batches of 1,000, as data is loaded for the workloads that need some.
    Load,
    /// Puts with a sync each, in random order, a hundredth of the keys.
    FillSync,
    /// Puts every key of a loaded store again, in another random order.
    Overwrite,
    /// Gets random keys, all there.
    ReadRandom,
    /// Gets random keys, none there, all within the range of those that are.
    ReadMissing,
    /// Seeks to a random key with a new cursor and reads 10 entries.
    SeekRandom,
    /// The same with 100 entries.
    Seek100,
    /// Walks over everything.
    ReadSeq,
    /// Walks over everything from the end.
    ReadReverse,
    /// Gets random keys while one more thread overwrites at `--write-rate`.
    ReadWhileWriting,
    /// Deletes every key of a loaded store, in random order.
    DeleteRandom,
    /// YCSB A: half gets, half puts, of keys by a Zipf distribution.
    YcsbA,
    /// YCSB B: 95 % gets, 5 % puts.
    YcsbB,
    /// YCSB C: gets.
    YcsbC,
    /// YCSB D: 95 % gets, of the newest most often, 5 % new keys.
    YcsbD,
    /// YCSB E: 95 % scans of 1 to 100 entries, 5 % new keys.
    YcsbE,
    /// YCSB F: half gets, half gets followed by a put of the same key.
    YcsbF,
    /// Opens a store that was closed in order, up to the first get.
    Open,
    /// Opens a store that was killed with 40 MiB of keys and values in its log only, up to the first get.
    OpenKill,
}

impl Workload {
    /// Whether the store is loaded, and has settled, before the measurement.
    pub fn needs_load(self) -> bool {
        !matches!(
            self,
            Self::FillSeq | Self::FillRandom | Self::FillBatch | Self::Load | Self::FillSync | Self::OpenKill
        )
    }

    /// Whether what is measured only writes, so that a write amplification can be told.
    pub fn writes(self) -> bool {
        matches!(self, Self::Overwrite | Self::DeleteRandom) || !(self.needs_load() || self.opens())
    }

    /// Whether it walks over all entries: too fast to look at the clock for each.
    pub fn walks(self) -> bool {
        matches!(self, Self::ReadSeq | Self::ReadReverse)
    }

    /// Whether opening is what is measured.
    pub fn opens(self) -> bool {
        matches!(self, Self::Open | Self::OpenKill)
    }

    /// Whether it adds keys to those that were loaded.
    pub fn inserts(self) -> bool {
        matches!(self, Self::YcsbD | Self::YcsbE)
    }

    /// Entries that a seek reads.
    pub fn seek_entries(self) -> u64 {
        if self == Self::Seek100 { 100 } else { 10 }
    }

    /// Whether calls are so long that each can be timed.
    pub fn has_long_calls(self) -> bool {
        matches!(self, Self::FillBatch | Self::Load | Self::FillSync | Self::Open | Self::OpenKill)
    }

    /// Operations of all `threads` together, if no time limit cuts them short.
    pub fn operations(self, num: u64, threads: usize) -> u64 {
        match self {
            Self::FillSync => (num / SYNC_PART).max(1),
            Self::Open => OPENS,
            Self::OpenKill => 1,
            workload if workload.walks() => num * threads as u64,
            _ => num,
        }
    }

    /// What a reader of the table has to know.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::FillBatch => Some("batches of 100, latency of a batch"),
            Self::Load => Some("batches of 1,000, latency of a batch"),
            Self::FillSync => Some("num / 100 operations"),
            Self::SeekRandom => Some("10 entries each"),
            Self::Seek100 => Some("100 entries each"),
            Self::ReadSeq | Self::ReadReverse => Some("entries"),
            _ => None,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}
