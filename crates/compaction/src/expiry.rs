//! What has expired for all who may still read it.
//!
//! ```text
//! snapshot 4, taken at 10:00        #7 expires 10:30      horizon 9, now 11:00: nobody sees #7 any more
//!                                   #3 expires 10:30      snapshot 4 does see #3, for as long as it is held
//! ```
//! A [stripe](crate::CompactionIter)'s versions are read as of the snapshot at its end, or of later ones, and those were taken later. So what has expired at the time of that snapshot is gone for everybody, and counts as the tombstone
//! that it is to all who read it: it hides what is older in its stripe, and stays, as a tombstone, where something older may lie below.

use crate::ranges::Stripes;
use esker_format::{SeqNo, split_expiry};
use esker_manifest::TableMeta;

/// As of which times entries are read that are needed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times<'a> {
    /// When each snapshot was taken, in the order of the snapshots, in milliseconds since 1970; of several that were taken at one sequence number the earliest. With as many as there are snapshots, or nothing has expired.
    pub snapshots_ms: &'a [u64],
    /// The time now: those who come read then or later.
    pub now_ms: u64,
}

/// Of each stripe, the oldest first: what expires up to here is gone for all who read it.
#[derive(Debug, Default)]
pub(crate) struct Gone(Vec<u64>);

impl Gone {
    pub(crate) fn new(snapshots: &[SeqNo], horizon: SeqNo, times: Times<'_>) -> Self {
        if times.snapshots_ms.len() != snapshots.len() {
            return Self::default();
        }
        let at = |(snapshot, time): (&SeqNo, &u64)| (*snapshot, *time);
        let (below, above): (Vec<_>, Vec<_>) =
            snapshots.iter().zip(times.snapshots_ms).map(at).partition(|(snapshot, _)| *snapshot < horizon);
        let last = above.into_iter().fold(times.now_ms, |least, (_, time)| least.min(time));
        let mut gone: Vec<u64> = below.into_iter().map(|(_, time)| time).chain([last]).collect();
        // Whoever reads later sees it too.
        for i in (1..gone.len()).rev() {
            gone[i - 1] = gone[i - 1].min(gone[i]);
        }
        Self(gone)
    }

    /// Whether a version in the stripe that ends at `stripe` has expired, of which this is stored.
    pub(crate) fn has(&self, stored: &[u8], stripe: SeqNo, stripes: &Stripes) -> bool {
        let gone = self.0.get(stripes.nth(stripe)).copied().unwrap_or(0);
        split_expiry(stored).is_some_and(|(expiry, _)| expiry <= gone)
    }

    /// Whether all that a table holds has expired, and no snapshot needs any of it.
    pub(crate) fn has_all_of(&self, table: &TableMeta, stripes: &Stripes) -> bool {
        let gone = self.0.first().copied().unwrap_or(0);
        let all = table.expiries.filter(|expiries| expiries.entries == table.entries);
        all.is_some_and(|expiries| expiries.latest_ms <= gone)
            && table.ranges.is_none()
            && table.largest_seq <= stripes.oldest()
    }
}
