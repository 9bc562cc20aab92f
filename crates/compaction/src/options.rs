//! What shapes the tree.

use esker_manifest::Level;

/// The settings of leveled compaction. They may change between two opens: the tree then drifts to its new shape.
///
/// ```
/// use esker_compaction::LeveledOptions;
/// let options = LeveledOptions { l0_trigger: 8, ..LeveledOptions::default() };
/// assert_eq!(options.level_ratio, 10);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct LeveledOptions {
    /// So many tables in level 0 and they are compacted. At least 1.
    pub l0_trigger: usize,
    /// From so many tables in level 0 on, writers are slowed down.
    pub l0_slowdown: usize,
    /// At so many tables in level 0, writers wait.
    pub l0_stop: usize,
    /// How large the topmost level in use below level 0 may grow, in bytes: when it is larger, one more level is used. Some eight memtables' worth
    /// write the least, whatever the load.
    pub level_base_bytes: u64,
    /// How many times larger each level is than the one above. At least 2.
    pub level_ratio: u32,
    /// How large a table may grow, in bytes; it may be larger by one user key, and by what a builder holds back.
    pub table_bytes: u64,
    /// A table overlaps at most so many times `table_bytes` in the level below its own, so that its next compaction stays small.
    pub grandparent_factor: u32,
    /// The first level whose tables are stored in another codec than those above. A table that crosses is moved only if it is stored in the codec
    /// of its new level already, and rewritten else. `None`: any table may be moved.
    pub codec_changes_at: Option<Level>,
    /// From so many bytes of compaction debt on, writers are slowed down.
    pub debt_slowdown_bytes: u64,
    /// At so many bytes of compaction debt, writers wait.
    pub debt_stop_bytes: u64,
    /// How much of the blob files of a keyspace may be wasted, in percent of all their records, when compaction has nothing left to do; 100 or more: all of it, no
    /// blob file is ever collected. What is beyond it counts as debt.
    pub blob_garbage_percent_max: u32,
    /// Whether reads may ask for a compaction: when seeks and walks have paid as much for the runs that overlap in level 0 as it costs to merge them, they are merged, though
    /// they are fewer than `l0_trigger`. Costs writing only where there is reading.
    pub compact_for_reads: bool,
}

impl Default for LeveledOptions {
    /// 4, 12 and 20 tables in level 0; 512 MiB in the base level; ratio 10; tables of 32 MiB; debts of 16 and 64 GiB; 30 percent of blob files; reads may
    /// ask.
    fn default() -> Self {
        Self {
            l0_trigger: 4,
            l0_slowdown: 12,
            l0_stop: 20,
            level_base_bytes: 512 << 20,
            level_ratio: 10,
            table_bytes: 32 << 20,
            grandparent_factor: 10,
            codec_changes_at: None,
            debt_slowdown_bytes: 16 << 30,
            debt_stop_bytes: 64 << 30,
            blob_garbage_percent_max: 30,
            compact_for_reads: true,
        }
    }
}

impl LeveledOptions {
    /// The most bytes that one table should overlap in the level below its own.
    pub(crate) fn grandparent_bytes_max(&self) -> u64 {
        self.table_bytes.saturating_mul(u64::from(self.grandparent_factor))
    }
}
