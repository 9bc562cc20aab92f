//! [`ReadAhead`]: what a walk through a table has the system read before it comes there.
//!
//! ```text
//! blocks entered, in order   | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 |10 |11 | ...
//! asked for                                  |<--- 128 KiB --->|<------- 256 KiB ------->|<-- up to 2 MiB -->
//! ```
//! Tables are mapped for look-ups, so the kernel reads no more than what is touched. A walk that has entered a few blocks one behind the other will likely go on, and
//! asks for what comes, more each time; a walk over a whole table asks at once. It asks again when it is half way through, so that the device works meanwhile.

use crate::table::{Fill, Table};
use esker_iterator::Way;
use std::ops::Range;

/// Blocks entered one behind the other before anything is asked for: short scans need not pay a system call.
const BLOCKS_BEFORE: u32 = 4;
const BYTES_MIN: usize = 128 << 10;
const BYTES_MAX: usize = 2 << 20;

/// How far one walk has asked.
#[derive(Debug, Clone)]
pub(crate) struct ReadAhead {
    /// Blocks still to be entered in order before it asks.
    wait: u32,
    way: Way,
    /// What was asked for last; the walk is in it or before it.
    asked: Range<usize>,
}

impl ReadAhead {
    /// For a cursor: one that leaves nothing in the cache is on its way through the whole table, another's walk may be short.
    pub(crate) fn new(fill: Fill) -> Self {
        match fill {
            Fill::Cache => Self { wait: BLOCKS_BEFORE, ..Self::at_once() },
            Fill::Nothing | Fill::Anew => Self::at_once(),
        }
    }

    /// For a walk over a whole table.
    pub(crate) fn at_once() -> Self {
        Self { wait: 0, way: Way::Forward, asked: 0..0 }
    }

    /// The walk enters block `number`, beside the one that it entered before.
    #[inline]
    pub(crate) fn enter(&mut self, table: &Table, number: usize, way: Way) {
        match self.wait.checked_sub(1) {
            Some(wait) => self.wait = wait,
            None => self.enter_far(table, number, way),
        }
    }

    fn enter_far(&mut self, table: &Table, number: usize, way: Way) {
        let Ok((index, payload)) = table.index() else { return };
        let Some(place) = index.block(payload, number) else { return };
        if let Some(range) = self.next(place.range, way) {
            table.read_ahead(range);
        }
    }

    /// What to ask for when the walk enters a block that lies at `block`, if anything.
    fn next(&mut self, block: Range<usize>, way: Way) -> Option<Range<usize>> {
        let half = self.asked.len() / 2;
        let is_inside = self.way == way && self.asked.start <= block.start && block.end <= self.asked.end;
        let left = match way {
            Way::Forward => self.asked.end.saturating_sub(block.start),
            Way::Backward => block.end.saturating_sub(self.asked.start),
        };
        if is_inside && left > half {
            return None;
        }
        let bytes = if is_inside { (2 * self.asked.len()).min(BYTES_MAX) } else { BYTES_MIN };
        let bytes = bytes.max(block.len());
        // Behind what was asked for; a walk that is elsewhere begins where it is.
        let range = match way {
            Way::Forward if is_inside => self.asked.end..self.asked.end + bytes,
            Way::Forward => block.start..block.start + bytes,
            Way::Backward if is_inside => self.asked.start.saturating_sub(bytes)..self.asked.start,
            Way::Backward => block.end.saturating_sub(bytes)..block.end,
        };
        // The walk is still in the half before, which is part of what it has asked for.
        self.asked = match (is_inside, way) {
            (false, _) => range.clone(),
            (true, Way::Forward) => block.start..range.end,
            (true, Way::Backward) => range.start..block.end,
        };
        self.way = way;
        (!range.is_empty()).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 4096;

    /// All that a walk over these blocks asks for.
    fn asked(blocks: impl Iterator<Item = usize>, way: Way) -> Vec<(usize, Range<usize>)> {
        let mut ahead = ReadAhead::at_once();
        blocks.filter_map(|i| Some((i, ahead.next(i * BLOCK..(i + 1) * BLOCK, way)?))).collect()
    }

    #[test]
    fn each_byte_is_asked_for_once_and_before_the_walk_is_there() {
        let blocks = 5000;
        let forward = asked(0..blocks, Way::Forward);
        let mut end = 0;
        for (i, range) in &forward {
            assert_eq!(range.start, end, "no gap, nothing twice");
            assert!(i * BLOCK <= range.start && range.len() <= BYTES_MAX);
            end = range.end;
        }
        assert!(end >= blocks * BLOCK && forward.len() < 20, "{} calls", forward.len());
        let mut start = blocks * BLOCK;
        for (_, range) in asked((0..blocks).rev(), Way::Backward) {
            assert_eq!(range.end, start);
            start = range.start;
        }
        assert_eq!(start, 0);
    }

    #[test]
    fn a_walk_that_turns_begins_anew() {
        let mut ahead = ReadAhead::at_once();
        let block = |i: usize| i * BLOCK..(i + 1) * BLOCK;
        assert_eq!(ahead.next(block(100), Way::Forward), Some(100 * BLOCK..100 * BLOCK + BYTES_MIN));
        assert_eq!(ahead.next(block(101), Way::Forward), None);
        assert_eq!(ahead.next(block(100), Way::Backward), Some(101 * BLOCK - BYTES_MIN..101 * BLOCK));
        assert_eq!(ahead.next(block(9000), Way::Backward), Some(9001 * BLOCK - BYTES_MIN..9001 * BLOCK));
        // A block that is larger than all of it.
        assert_eq!(ahead.next(0..3 * BYTES_MIN, Way::Forward), Some(0..3 * BYTES_MIN));
        assert_eq!(ReadAhead::new(Fill::Cache).wait, BLOCKS_BEFORE);
        assert_eq!(ReadAhead::new(Fill::Nothing).wait, 0);
    }

    /// As the picture above shows: each time twice as much as it is in, once it is half way through; not earlier, and not a block later.
    #[test]
    fn it_asks_again_exactly_half_way_through_and_for_more_each_time() {
        const KIB: usize = 1 << 10;
        let calls = [(0, 0..128 * KIB), (16, 128 * KIB..384 * KIB), (56, 384 * KIB..1024 * KIB)];
        assert_eq!(asked(0..100, Way::Forward), calls);
        let end = 1000 * BLOCK;
        let calls = [(999, end - 128 * KIB..end), (983, end - 384 * KIB..end - 128 * KIB)];
        assert_eq!(asked((950..1000).rev(), Way::Backward), calls);
    }
}
