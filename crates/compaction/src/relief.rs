//! What a compaction would spare those who seek and walk, and what it costs: so that reads which pay for many runs can ask for fewer.
//!
//! ```text
//! L0   9:a-m  8:c-z  7:a-z        three runs over one another, and a fourth below: each seek looks into four
//! L6   1:a-g  2:h-z               tables, each step merges them. After L0[9 8 7] L6[1 2] -> L6 there is one
//! ```
//! Reads and compaction are counted in the same coin, nanoseconds, by rough figures that hold for any machine as far as their ratios go. Nothing here
//! counts or decides when: see the engine's toll.

use crate::plan::Plan;
use esker_manifest::Level;

/// What merging costs: for each entry, and for each byte of it.
const ENTRY_NS: u64 = 50;
const BYTE_NS: u64 = 1;

/// What a compaction for the sake of reads gives and takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relief {
    /// So many runs fewer are left for a seek to look into.
    pub runs: u32,
    /// What the compaction costs, in nanoseconds.
    pub cost_ns: u64,
}

impl Relief {
    /// What a seek pays for each run but one.
    pub const SEEK_NS: u64 = 400;
    /// What a step pays for each run but one.
    pub const STEP_NS: u64 = 20;

    /// Of a plan that brings tables of level 0 down, or together; `None` if as many runs would be left.
    pub(crate) fn of(plan: &Plan) -> Option<Self> {
        let level_0 = plan.tables().filter(|(level, _)| *level == Level::ZERO).count();
        let met = plan.tables().any(|(level, _)| level != Level::ZERO);
        let runs = (level_0 + usize::from(met)).saturating_sub(1) as u32;
        let cost = |sum: u64, entries: u64, bytes: u64| {
            sum.saturating_add(entries.saturating_mul(ENTRY_NS)).saturating_add(bytes.saturating_mul(BYTE_NS))
        };
        let cost_ns = plan.tables().fold(0, |sum, (_, table)| cost(sum, table.entries, table.file_bytes));
        (runs > 0).then_some(Self { runs, cost_ns })
    }
}
