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
/// Keys and values that are in the log, and nowhere else, when `openkill` or `openkillfull` opens.
pub const KILLED_BYTES: u64 = 40 << 20;
/// How often `sustained` overwrites each key.
pub const SUSTAINED_ROUNDS: u64 = 10;
/// Keys that a transaction of `transact` changes.
pub const TRANSACTION_KEYS: u64 = 4;
/// Operands upon each counter of `readmerged`.
pub const OPERANDS: u64 = 3;
/// Of how many keys one has expired in `readexpired`.
pub const EXPIRED_EVERY: u64 = 3;
/// Keys of a range that `deleteranges` deletes.
pub const RANGE_KEYS: u64 = 10;
/// Keys that `multiget` gets in one call.
pub const GET_KEYS: u64 = 64;
/// Entries of a table that `ingest` takes in.
pub const TABLE_ENTRIES: u64 = 10_000;

/// What is measured. In order of `--workloads` left out: all but those of [`Workload::is_on_request`].
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
    /// Puts every key of a loaded store ten times, each time in another random order; every call is timed.
    Sustained,
    /// As `openkill`, of a store that had all `--num` keys in tables before those in the log.
    OpenKillFull,
    /// Puts every key, in key order, by the store's own way to load sorted input; where it has none, in batches of 1,000. To be seen beside `fillseq`.
    BulkLoad,
    /// Counts, by a merge operand of 8 bytes, one of `--num` counters, chosen at random.
    MergeRandom,
    /// Gets random counters that have three operands each upon what was put, which snapshots keep apart.
    ReadMerged,
    /// Transactions that read four random counters, count each and commit; those that conflict are run again, and counted.
    Transact,
    /// Gets a random value and counts in it if nobody has changed it since: `compare_and_swap`; again if somebody has.
    CompareAndSwap,
    /// Puts every key, in random order, with a time to live of a day. To be seen beside `fillrandom`.
    FillExpiring,
    /// Gets random keys of a store in which one of three has expired, and a snapshot keeps it. To be seen beside `readrandom`.
    ReadExpired,
    /// Deletes every key of a loaded store, in random order, by ranges of ten keys each.
    DeleteRanges,
    /// Seeks, with a new cursor, into a range of `--num` keys that holds nothing, and reads the 10 entries behind it: of one that never held anything, and of those that were deleted at once, in memory and in tables, and are still there.
    SeekOver,
    /// The same backwards, and the 10 entries before it.
    SeekOverReverse,
    /// Scans from the 10th entry before such a range to the 10th behind it.
    WalkOver,
    /// The same backwards.
    WalkOverReverse,
    /// Gets random keys, 64 in each call. To be seen beside `readrandom`.
    MultiGet,
    /// Takes in tables of 10,000 entries that were built outside before; latency is that of one.
    Ingest,
    /// Follows the feed of changes over all that the load wrote.
    Follow,
}

impl Workload {
    /// Those that are measured if none is named.
    pub fn by_default() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|workload| !workload.is_on_request()).collect()
    }

    /// Whether it takes ten times as long as others: only measured where it is named, and by `--scale`.
    pub fn takes_long(self) -> bool {
        matches!(self, Self::Sustained | Self::OpenKillFull)
    }

    /// Whether it is measured only where it is named: it takes long, or is no measure of stores beside each other.
    pub fn is_on_request(self) -> bool {
        self.takes_long() || self == Self::BulkLoad || self.is_of_model()
    }

    /// Whether it uses more of the data model than keys that are put, got, scanned and deleted; done in [`crate::model`].
    pub fn is_of_model(self) -> bool {
        use Workload::{
            CompareAndSwap, DeleteRanges, FillExpiring, Follow, Ingest, MergeRandom, MultiGet, ReadExpired, ReadMerged,
            Transact,
        };
        let others = [
            MergeRandom,
            ReadMerged,
            Transact,
            CompareAndSwap,
            FillExpiring,
            ReadExpired,
            DeleteRanges,
            MultiGet,
            Ingest,
            Follow,
        ];
        others.contains(&self) || self.is_over_a_hole()
    }

    /// Whether it says nothing itself of what its keyspace is like.
    pub fn runs_in_any_keyspace(self) -> bool {
        !self.is_of_model() || matches!(self, Self::Transact | Self::CompareAndSwap | Self::MultiGet)
    }

    /// Whether it reads over a range that holds nothing.
    pub fn is_over_a_hole(self) -> bool {
        matches!(self, Self::SeekOver | Self::SeekOverReverse | Self::WalkOver | Self::WalkOverReverse)
    }

    /// Whether values begin with a counter of 8 bytes.
    pub fn counts(self) -> bool {
        self.merges() || matches!(self, Self::Transact | Self::CompareAndSwap)
    }

    /// Whether another write may come between, so that it is done again.
    pub fn conflicts(self) -> bool {
        matches!(self, Self::Transact | Self::CompareAndSwap)
    }

    /// Whether it needs a keyspace that knows how to merge counters.
    pub fn merges(self) -> bool {
        matches!(self, Self::MergeRandom | Self::ReadMerged)
    }

    /// Whether the store is loaded, and has settled, before the measurement.
    pub fn needs_load(self) -> bool {
        !matches!(
            self,
            Self::FillSeq
                | Self::FillRandom
                | Self::FillBatch
                | Self::Load
                | Self::FillSync
                | Self::OpenKill
                | Self::BulkLoad
                | Self::FillExpiring
                | Self::Ingest
        )
    }

    /// Whether what is measured only writes, so that a write amplification can be told.
    pub fn writes(self) -> bool {
        let over_a_load = [Self::Overwrite, Self::Sustained, Self::DeleteRandom, Self::MergeRandom, Self::DeleteRanges];
        over_a_load.contains(&self) || !(self.needs_load() || self.opens())
    }

    /// Whether it walks over all entries: too fast to look at the clock for each.
    pub fn walks(self) -> bool {
        matches!(self, Self::ReadSeq | Self::ReadReverse | Self::Follow)
    }

    /// Whether opening is what is measured.
    pub fn opens(self) -> bool {
        matches!(self, Self::Open) || self.kills()
    }

    /// Whether a process that fills the store is killed first.
    pub fn kills(self) -> bool {
        matches!(self, Self::OpenKill | Self::OpenKillFull)
    }

    /// Whether it adds keys to those that were loaded.
    pub fn inserts(self) -> bool {
        matches!(self, Self::YcsbD | Self::YcsbE)
    }

    /// Entries that a seek reads.
    pub fn seek_entries(self) -> u64 {
        if self == Self::Seek100 { 100 } else { 10 }
    }

    /// Whether each call is timed: it is long, or the longest of all is what is asked for.
    pub fn times_each_call(self) -> bool {
        let long = [Self::FillBatch, Self::Load, Self::FillSync, Self::Sustained, Self::BulkLoad, Self::Ingest];
        long.contains(&self) || self == Self::MultiGet || self.opens()
    }

    /// Operations of all `threads` together, if no time limit cuts them short.
    pub fn operations(self, num: u64, threads: usize) -> u64 {
        match self {
            Self::FillSync => (num / SYNC_PART).max(1),
            Self::Open => OPENS,
            Self::OpenKill | Self::OpenKillFull => 1,
            Self::Sustained => SUSTAINED_ROUNDS * num,
            Self::DeleteRanges => (num / RANGE_KEYS).max(1),
            workload if workload.walks() => num * threads as u64,
            _ => num,
        }
    }

    /// What a reader of the table has to know.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::FillBatch => Some("batches of 100, latency of a batch"),
            Self::Load => Some("batches of 1,000, latency of a batch"),
            Self::BulkLoad => Some("sorted; latency of the whole load"),
            Self::FillSync => Some("num / 100 operations"),
            Self::SeekRandom => Some("10 entries each"),
            Self::Seek100 => Some("100 entries each"),
            Self::ReadSeq | Self::ReadReverse => Some("entries"),
            Self::Sustained => Some("each key ten times, every call timed"),
            Self::OpenKillFull => Some("40 MiB in the log, all keys in tables"),
            Self::ReadMerged => Some("3 operands each"),
            Self::Transact => Some("4 keys read and put each"),
            Self::CompareAndSwap => Some("each after a get"),
            Self::ReadExpired => Some("a third has expired"),
            Self::DeleteRanges => Some("num / 10 ranges of 10 keys"),
            Self::SeekOver | Self::SeekOverReverse => Some("into the range, 10 entries"),
            Self::WalkOver | Self::WalkOverReverse => Some("10 entries, the range, 10 entries"),
            Self::MultiGet => Some("64 keys a call, latency of a call"),
            Self::Ingest => Some("tables of 10,000 entries, latency of one"),
            Self::Follow => Some("entries"),
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
