//! [`Workload`]: what is measured, and what must be there before.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Entries of a batch of `fillbatch`.
pub const BATCH_ENTRIES: u64 = 100;
/// Entries that `seekrandom` reads from where it seeks.
pub const SEEK_ENTRIES: u64 = 10;
/// `fillsync` does this part of `--num`, since each operation waits for the device.
pub const SYNC_PART: u64 = 100;

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
    /// Walks over everything.
    ReadSeq,
    /// Walks over everything from the end.
    ReadReverse,
    /// Gets random keys while one more thread overwrites at `--write-rate`.
    ReadWhileWriting,
    /// Deletes every key of a loaded store, in random order.
    DeleteRandom,
}

impl Workload {
    /// Whether the store is loaded, and has settled, before the measurement.
    pub fn needs_load(self) -> bool {
        !matches!(self, Self::FillSeq | Self::FillRandom | Self::FillBatch | Self::FillSync)
    }

    /// Whether what is measured writes, so that a write amplification can be told.
    pub fn writes(self) -> bool {
        !self.needs_load() || matches!(self, Self::Overwrite | Self::DeleteRandom)
    }

    /// Whether it walks over all entries: too fast to look at the clock for each.
    pub fn walks(self) -> bool {
        matches!(self, Self::ReadSeq | Self::ReadReverse)
    }

    /// How many of `num` keys there are when it is done.
    pub fn keys_after(self, num: u64) -> u64 {
        match self {
            Self::FillSync => (num / SYNC_PART).max(1),
            Self::DeleteRandom => 0,
            _ => num,
        }
    }

    /// Operations of all `threads` together: what a progress display counts to.
    pub fn operations(self, num: u64, threads: usize) -> u64 {
        match self {
            Self::FillSync => (num / SYNC_PART).max(1),
            workload if workload.walks() => num * threads as u64,
            _ => num,
        }
    }

    /// What a reader of the table has to know.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::FillBatch => Some("batches of 100, latency of a batch"),
            Self::FillSync => Some("num / 100 operations"),
            Self::SeekRandom => Some("10 entries each"),
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
