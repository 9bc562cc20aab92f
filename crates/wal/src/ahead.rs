//! [`Ahead`]: room for a log to come, made by another thread before the writer needs it.
//!
//! What costs time is the first use of a page, in two ways that exclude each other. Where commits are not synced, the page should be there
//! and writable before the writer comes: it is *populated*, which dirties it. Where they are, it should have been *written* once, as zeros:
//! then a sync of a small record is half as dear as one that also has to note that the space is now in use. Populated pages would all be
//! written by the next sync, so that is not done there.

use esker_vfs::{Clock, LogRoom};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How much is allocated and populated at a time: the writer, should it run out of room, waits for no more than one.
const POPULATE_BYTES: u64 = 1 << 20;
/// How much is written at a time, and the pause behind it: at that pace others who use the disk do not notice.
const WRITE_BYTES: u64 = 256 << 10;
const WRITE_PAUSE: Duration = Duration::from_millis(1);

/// What is done to new room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Pages are made present and writable: for commits that are not synced.
    Populated,
    /// Zeros are written: for commits that are.
    Written,
}

/// Room to make in a mapped log, by whoever has time, beside the one who appends.
#[derive(Debug)]
pub struct Ahead {
    room: Arc<dyn LogRoom>,
    from: u64,
    to: u64,
}

impl Ahead {
    pub(crate) fn new(room: Arc<dyn LogRoom>, from: u64, to: u64) -> Self {
        Self { room, from, to }
    }

    /// Makes it, in steps. Returns how many zeros were written.
    ///
    /// # Errors
    /// If the file system is full, or fails. What was made stays; the log is as good as before.
    pub fn make(&self, fill: Fill, clock: &dyn Clock) -> io::Result<u64> {
        let old = self.room.len_bytes();
        match fill {
            Fill::Populated => {
                let mut at = self.from;
                while at < self.to {
                    let step = (at + POPULATE_BYTES).min(self.to);
                    self.room.grow(step)?;
                    if self.room.len_bytes() < step {
                        // The log has ended meanwhile.
                        break;
                    }
                    self.room.populate(at, step);
                    at = step;
                }
                Ok(0)
            }
            Fill::Written => {
                let mut at = old;
                while at < self.to {
                    let step = (at + WRITE_BYTES).min(self.to);
                    self.room.grow_written(step)?;
                    if self.room.len_bytes() < step {
                        break;
                    }
                    at = step;
                    clock.sleep(WRITE_PAUSE);
                }
                Ok(at - old)
            }
        }
    }
}
