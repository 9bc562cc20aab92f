//! How large each level should be, by how large the bottom is.
//!
//! ```text
//!        actual    target
//! L0     4 tables  4 tables       base size 64, ratio 10
//! L1-3   -         -
//! L4     50        40             the base level: level 0 is compacted into it
//! L5     300       400            a tenth of the bottom
//! L6     4,000     -              the bottom is as large as the data
//! ```
//! Targets are derived upward from the largest level, as if it lay at the bottom, until one fits the base size. So the bottom always holds some nine tenths
//! of the data, and space for stale versions stays near a tenth, whatever the size. However the division comes out, no level in use aims below a quarter of the
//! base size: a smaller one would hold back next to nothing of what level 0 brings, and all would be written once more for it.
//!
//! Levels above the base level, left by data that was once larger or by other options, are drained downward.

use crate::garbage::Waste;
use crate::options::LeveledOptions;
use crate::span::bytes_of;
use esker_manifest::{KeyspaceVersion, LEVELS, Level};

/// No level in use aims below this part of the base size.
const BASE_PART: u64 = 4;

pub(crate) struct Shape {
    /// Where tables of level 0 go: not below any level that holds something.
    pub(crate) l0_output: Level,
    /// What each level should hold at most; 0 for those above the base level, the bottom's is never exceeded.
    pub(crate) targets: [u64; LEVELS],
    /// What each level holds.
    pub(crate) bytes: [u64; LEVELS],
}

impl Shape {
    pub(crate) fn of(version: &KeyspaceVersion, options: &LeveledOptions) -> Self {
        let ratio = u64::from(options.level_ratio.max(2));
        let bytes: [u64; LEVELS] = std::array::from_fn(|level| bytes_of(&version.levels[level]));
        let mut size = bytes[1..].iter().copied().max().unwrap_or(0);
        let mut base = LEVELS - 1;
        while base > 1 && size > options.level_base_bytes {
            size /= ratio;
            base -= 1;
        }
        let mut targets = [0; LEVELS];
        for target in &mut targets[base..] {
            *target = size.max(options.level_base_bytes / BASE_PART);
            size = size.saturating_mul(ratio);
        }
        targets[LEVELS - 1] = u64::MAX;
        let first_used = (1..base).find(|&level| !version.levels[level].is_empty()).unwrap_or(base);
        Self { l0_output: Level(first_used as u8), targets, bytes }
    }

    /// Bytes to be rewritten until every level fits its target: what is too much in a level merges with its share of the level below, and all of
    /// that is then too much there.
    pub(crate) fn debt_bytes(&self, l0_tables: usize, options: &LeveledOptions) -> u64 {
        let mut debt = 0f64;
        let mut arriving = 0f64;
        if l0_tables >= options.l0_trigger.max(1) {
            arriving = self.bytes[0] as f64;
            debt = arriving + self.bytes[self.l0_output.index()] as f64;
        }
        for level in self.l0_output.index()..LEVELS - 1 {
            let held = self.bytes[level] as f64 + arriving;
            arriving = (held - self.targets[level] as f64).max(0.0);
            if arriving > 0.0 {
                debt += arriving * (1.0 + self.bytes[level + 1] as f64 / held);
            }
        }
        debt as u64
    }
}

/// What writers should be slowed down by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Tables in level 0.
    pub l0_files: usize,
    /// Bytes to be rewritten until every level fits its target, and those of blob files that are garbage beyond their bound.
    pub debt_bytes: u64,
    /// How hard to brake: 0 not at all, 1 writers wait, between them by degrees.
    pub brake: f64,
}

impl Pressure {
    pub(crate) fn of(version: &KeyspaceVersion, options: &LeveledOptions) -> Self {
        let l0_files = version.levels[0].len();
        let waste = Waste::of(version);
        let debt_bytes = Shape::of(version, options)
            .debt_bytes(l0_files, options)
            .saturating_add(waste.excess_bytes(waste.garbage_bytes, options));
        let files = grade(l0_files as u64, options.l0_slowdown as u64, options.l0_stop as u64);
        let debt = grade(debt_bytes, options.debt_slowdown_bytes, options.debt_stop_bytes);
        Self { l0_files, debt_bytes, brake: files.max(debt) }
    }
}

/// 0 below `slowdown`, 1 from `stop` on, and a step above 0 at `slowdown` itself.
fn grade(found: u64, slowdown: u64, stop: u64) -> f64 {
    if found >= stop {
        1.0
    } else if found < slowdown {
        0.0
    } else {
        (found - slowdown + 1) as f64 / (stop - slowdown + 1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brake_grows_by_degrees() {
        let grades: Vec<f64> = [11, 12, 16, 19, 20, 21].iter().map(|&files| grade(files, 12, 20)).collect();
        assert_eq!(grades[0], 0.0);
        assert!(grades.is_sorted());
        assert!(grades[1] > 0.0 && grades[3] < 1.0);
        assert_eq!(grades[4..], [1.0, 1.0]);
        assert_eq!(grades[1..4], [1.0 / 9.0, 5.0 / 9.0, 8.0 / 9.0], "in even steps, the last of which is the stop");
        assert_eq!(grade(7, 5, 5), 1.0, "a stop at the slowdown leaves no room for degrees");
        assert_eq!(grade(5, 7, 5), 1.0, "a stop holds though the slowdown lies behind it");
    }
}
