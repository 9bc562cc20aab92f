//! Settings: of an engine, of a keyspace, of one write, of one read.

use crate::error::{Error, Result};
use crate::{expiry, filter, merging};
use esker_compaction::LeveledOptions;
use esker_iterator::Bounds;
use esker_manifest::{LEVELS, Level};
use esker_sstable::{Codec, ReadMode, Verify};
use std::ops::Bound;
use std::time::Duration;

/// The least that `blob_bytes_min` may be, in bytes: a reference must not be longer than what it stands for.
const BLOB_BYTES_MIN: usize = 32;

/// When a write returns, and so what it survives. Levels differ in nothing else: the order is one for all, and after any crash the
/// state is a prefix of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Durability {
    /// As [`Options::durability`] says; there itself, the same as `Os`.
    #[default]
    EngineDefault,
    /// When it has its place in the log's order; perhaps only in this process's memory. Survives a clean close.
    Memory,
    /// When the kernel has the bytes. Survives `kill -9`, panic and abort.
    Os,
    /// When these and all earlier bytes are on stable storage. Survives power loss.
    Sync,
}

/// What recovery does about a log that is damaged where bytes were known to be on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RecoveryMode {
    /// Refuses to open, and says where the damage is. A torn tail, which nothing vouches for, is dropped: it was never promised.
    #[default]
    PointInTime,
    /// Opens with what lies before the damage, sets the rest aside, and reports it through the listener. Loses what was promised.
    Salvage,
}

/// How the log gets to the kernel. Either survives the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LogBackend {
    /// By storing into mapped memory, which costs no system call. Where the file system can't do that safely (it is not ext4, XFS or tmpfs on
    /// Linux), as [`LogBackend::Write`].
    #[default]
    Mapped,
    /// By `write(2)`.
    Write,
}

/// Settings of an engine. All may change from one open to the next.
///
/// ```
/// use esker::{Durability, Options};
/// let options = Options { durability: Durability::Sync, memory_budget_bytes: 64 << 20, ..Default::default() };
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct Options {
    /// Make the directory and an empty engine in it if there is none. Default: true.
    pub create_if_missing: bool,
    /// The level of writes that do not name one. Default: [`Durability::Os`].
    pub durability: Durability,
    /// Bound on the heap held by memtables, block cache and table metadata, in bytes. Default: 256 MiB. Batches in flight come on top; mapped
    /// files are not heap.
    pub memory_budget_bytes: usize,
    /// A memtable is sealed and flushed when it holds this much, in bytes. Default: a quarter of the budget, at most 64 MiB. More than
    /// 2 GiB is taken as that.
    pub memtable_bytes: Option<usize>,
    /// A memtable is flushed when its oldest entry is this old, so that an idle keyspace holds no memory. Default: 600 s.
    pub memtable_age_max: Duration,
    /// Size of the block cache, in bytes. Default: a quarter of the budget.
    pub block_cache_bytes: Option<usize>,
    /// Size at which a table's data block is cut, in bytes before compression. Default: 4 KiB.
    pub block_size_bytes: usize,
    /// How the tables of each level are compressed. A flush that overlaps no other table, and so will be moved and never merged, is stored as the bottom is. Default: L0 and
    /// L1 not at all, all below with LZ4.
    pub compression: [Codec; LEVELS],
    /// Size of the filter, in bits per key; 0 for none. Default: 12, which gives about one false positive in 200.
    pub filter_bits_per_key: u32,
    /// Values of at least this length are kept in blob files, and compaction moves references to them, in bytes; 0: no values are. At least 32. Default: 4 KiB.
    /// They are not compressed. How much of the files may be wasted is said by [`LeveledOptions::blob_garbage_percent_max`].
    pub blob_bytes_min: usize,
    /// The knobs of leveled compaction.
    pub compaction: LeveledOptions,
    /// How many threads compact, beside the one that flushes. Default: 1.
    pub background_threads: usize,
    /// The logs are kept below this by flushing whatever pins the oldest, in bytes. Default: 256 MiB.
    pub wal_bytes_max: u64,
    /// Logs that nothing needs any more are kept for [`crate::Engine::changes_since`] up to this much in all, in bytes. Default: none, so that none are kept, unless `wal_retain_age` is set. They outlast closing and opening, as long as one of the
    /// two is set at each open for writing.
    pub wal_retain_bytes: Option<u64>,
    /// As `wal_retain_bytes`, for this long after nothing else needs them, or, of those from before, after opening. With both set a log goes when either says so. Default: none.
    pub wal_retain_age: Option<Duration>,
    /// How the log is written. Default: [`LogBackend::Mapped`].
    pub log_backend: LogBackend,
    /// When a block's checksum is checked. Default: [`Verify::FirstUse`].
    pub verify: Verify,
    /// How tables and blob files are read. Default: [`ReadMode::Map`], under which an error of the device, or another program that cuts a file, ends the process by `SIGBUS`; under the others it is an error.
    pub read_mode: ReadMode,
    /// What recovery does about a damaged log. Default: [`RecoveryMode::PointInTime`].
    pub recovery: RecoveryMode,
    /// Bound on what all open transactions together remember of what they have read, in bytes, besides 4 KiB (or a 64th of it, if that is less) that each may have. Default: 16 MiB. More than an eighth of
    /// `memory_budget_bytes` is taken as that. Beyond it they remember wider ranges than were read, so a needless [`crate::ErrorKind::Conflict`] is possible; a missed one is not.
    pub transaction_tracking_bytes: usize,
    /// Whether [`crate::Engine::close`] flushes what is in memory, so that the next open has no log to replay. Default: true.
    pub flush_on_close: bool,
}

impl Default for Options {
    fn default() -> Self {
        let mut compression = [Codec::Lz4; LEVELS];
        compression[..2].fill(Codec::None);
        Self {
            create_if_missing: true,
            durability: Durability::Os,
            memory_budget_bytes: 256 << 20,
            memtable_bytes: None,
            memtable_age_max: Duration::from_secs(600),
            block_cache_bytes: None,
            block_size_bytes: 4 << 10,
            compression,
            filter_bits_per_key: 12,
            blob_bytes_min: 4 << 10,
            compaction: LeveledOptions::default(),
            background_threads: 1,
            wal_bytes_max: 256 << 20,
            wal_retain_bytes: None,
            wal_retain_age: None,
            log_backend: LogBackend::Mapped,
            verify: Verify::FirstUse,
            read_mode: ReadMode::Map,
            recovery: RecoveryMode::PointInTime,
            transaction_tracking_bytes: 16 << 20,
            flush_on_close: true,
        }
    }
}

/// With a last batch of 4 GiB on top, a memtable of this size still has names for all its records.
pub(crate) const MEMTABLE_BYTES_MAX: usize = 2 << 30;

impl Options {
    /// Refuses what can't work, by name.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid(format!("options: {what}")));
        let compaction = &self.compaction;
        match () {
            () if self.memory_budget_bytes < 1 << 20 => wrong("memory_budget_bytes must be at least 1 MiB"),
            () if self.memtable_bytes == Some(0) => wrong("memtable_bytes must not be 0"),
            () if !(64..=1 << 30).contains(&self.block_size_bytes) => wrong("block_size_bytes must be 64 B to 1 GiB"),
            () if self.filter_bits_per_key > 64 => wrong("filter_bits_per_key must be at most 64"),
            () if (1..BLOB_BYTES_MIN).contains(&self.blob_bytes_min) => {
                wrong("blob_bytes_min must be at least 32 B, or 0 for no blob files")
            }
            () if self.background_threads == 0 => wrong("background_threads must be at least 1"),
            () if compaction.l0_trigger == 0 => wrong("compaction.l0_trigger must be at least 1"),
            () if compaction.l0_slowdown < compaction.l0_trigger || compaction.l0_stop <= compaction.l0_slowdown => {
                wrong("compaction: l0_trigger <= l0_slowdown < l0_stop must hold")
            }
            () if compaction.level_ratio < 2 => wrong("compaction.level_ratio must be at least 2"),
            () if compaction.debt_stop_bytes <= compaction.debt_slowdown_bytes => {
                wrong("compaction: debt_slowdown_bytes < debt_stop_bytes must hold")
            }
            () if compaction.table_bytes == 0 || compaction.level_base_bytes == 0 => {
                wrong("compaction: table_bytes and level_base_bytes must not be 0")
            }
            () if self.compression.contains(&Codec::Zstd) && !cfg!(feature = "zstd") => Err(Error::new(
                crate::ErrorKind::Unsupported,
                "options: compression: this build has no zstd; enable the feature `zstd`",
            )),
            () => Ok(()),
        }
    }

    /// `compaction`, where unset with the level at which the codec changes.
    pub(crate) fn compaction_knobs(&self) -> LeveledOptions {
        let changes = self.compression.windows(2).position(|pair| pair[0] != pair[1]);
        let changes_at = changes.map(|level| Level(level as u8 + 1));
        LeveledOptions { codec_changes_at: self.compaction.codec_changes_at.or(changes_at), ..self.compaction.clone() }
    }

    /// `memtable_bytes`, or what follows from the budget.
    pub(crate) fn memtable_bytes(&self) -> usize {
        self.memtable_bytes.unwrap_or((self.memory_budget_bytes / 4).min(64 << 20)).min(MEMTABLE_BYTES_MAX)
    }

    /// `block_cache_bytes`, or what follows from the budget.
    pub(crate) fn block_cache_bytes(&self) -> usize {
        self.block_cache_bytes.unwrap_or(self.memory_budget_bytes / 4).min(self.memory_budget_bytes)
    }

    /// `transaction_tracking_bytes`, within the budget.
    pub(crate) fn transaction_tracking_bytes_max(&self) -> usize {
        self.transaction_tracking_bytes.min(self.memory_budget_bytes / 8)
    }

    /// What is left of the budget for memtables beside the block cache: writers wait when it is used up.
    pub(crate) fn memtables_bytes_max(&self) -> usize {
        let rest = self.memory_budget_bytes - self.block_cache_bytes();
        rest.max(self.memory_budget_bytes / 8)
    }
}

/// Settings of one keyspace; `None` takes the engine's.
///
/// Those given when a keyspace is made are stored with it. Those given when it is opened hold until the engine is closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct KeyspaceOptions {
    /// As [`field@Options::memtable_bytes`].
    pub memtable_bytes: Option<usize>,
    /// As [`Options::block_size_bytes`].
    pub block_size_bytes: Option<usize>,
    /// One codec for all levels of this keyspace.
    pub compression: Option<Codec>,
    /// As [`Options::filter_bits_per_key`].
    pub filter_bits_per_key: Option<u32>,
    /// As [`Options::blob_bytes_min`]: `Some(0)` for no blob files.
    pub blob_bytes_min: Option<usize>,
    /// How long what is put lives where the write does not say ([`WriteOptions::ttl`]); `None`: for ever. Part of the keyspace: given when it is made, kept with it, and `None` takes what it was made with. Another one
    /// than that is `InvalidArgument`. What does not fill a millisecond counts as one.
    pub ttl: Option<Duration>,
    /// The name of the operator that [`crate::Engine::merge`] goes by: see [`crate::Builder::merge_operator`]. Unlike the others it is what the keyspace was made with for good: given later it must be the same, and
    /// `None` is that. Default: none, and then nothing can be merged.
    pub merge_operator: Option<String>,
    /// The name of the filter that is asked by compactions what is worth keeping: one of those given to [`crate::Builder::compaction_filter`]. A keyspace that was stored with one that is not registered opens, and is compacted without; see
    /// [`crate::Event::CompactionFilterMissing`].
    pub compaction_filter: Option<String>,
}

impl KeyspaceOptions {
    /// # Errors
    /// `InvalidArgument` or `Unsupported` for what can't work, as of an engine's options.
    pub(crate) fn check(&self) -> Result<()> {
        self.merge_operator.as_deref().map_or(Ok(()), merging::check_name)?;
        let engine = Options::default();
        let as_engine = Options {
            memtable_bytes: self.memtable_bytes,
            block_size_bytes: self.block_size_bytes.unwrap_or(engine.block_size_bytes),
            filter_bits_per_key: self.filter_bits_per_key.unwrap_or(engine.filter_bits_per_key),
            blob_bytes_min: self.blob_bytes_min.unwrap_or(engine.blob_bytes_min),
            compression: self.compression.map_or(engine.compression, |codec| [codec; LEVELS]),
            ..engine
        };
        as_engine.check()?;
        self.ttl.map_or(Ok(()), |ttl| expiry::ttl_ms(ttl).map(drop))?;
        self.compaction_filter.as_deref().map_or(Ok(()), filter::check_name)?;
        match (&self.merge_operator, self.ttl) {
            (Some(_), Some(_)) => Err(Error::invalid("a keyspace has a merge operator or a time to live, not both")),
            _ => Ok(()),
        }
    }
}

/// Settings of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// When to return.
    pub durability: Durability,
    /// Return [`crate::ErrorKind::Stalled`] instead of waiting when flush and compaction are behind, or an exclusive transaction is open.
    pub no_stall: bool,
    /// How long what it puts lives, where the operation itself does not say ([`crate::WriteBatch::put_expiring`]); `None`: as the keyspace says ([`KeyspaceOptions::ttl`]). It expires so long after it is committed, by a clock that
    /// never goes back, and reads as deleted from then on. Zero is `InvalidArgument`, and so is any with merge operands or puts for a keyspace with a merge operator; what is too long for a clock, as `Duration::MAX` is, never expires.
    pub ttl: Option<Duration>,
}

impl WriteOptions {
    /// Durable against power loss.
    pub fn sync() -> Self {
        Self { durability: Durability::Sync, ..Self::default() }
    }
}

/// Settings of a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Keys before this are not shown.
    pub lower: Bound<Vec<u8>>,
    /// Keys behind this are not shown.
    pub upper: Bound<Vec<u8>>,
}

impl ReadOptions {
    pub(crate) fn into_bounds(self) -> Bounds {
        Bounds { lower: self.lower.map(Vec::into_boxed_slice), upper: self.upper.map(Vec::into_boxed_slice) }
    }
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { lower: Bound::Unbounded, upper: Bound::Unbounded }
    }
}
