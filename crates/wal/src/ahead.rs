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

#[cfg(test)]
mod tests {
    use super::*;
    use esker_vfs::ManualClock;
    use std::ops::Range;
    use std::sync::Mutex;

    /// A log's room, which notes how it is made.
    #[derive(Debug)]
    struct Noting {
        len: Mutex<u64>,
        /// Beyond this it does not grow, as if the log had ended there.
        len_max: u64,
        grown: Mutex<Vec<u64>>,
        populated: Mutex<Vec<Range<u64>>>,
    }

    impl Noting {
        fn new(len: u64, len_max: u64) -> Arc<Self> {
            Arc::new(Self { len: Mutex::new(len), len_max, grown: Mutex::default(), populated: Mutex::default() })
        }
    }

    impl LogRoom for Noting {
        fn len_bytes(&self) -> u64 {
            *self.len.lock().unwrap()
        }

        fn grow(&self, len_bytes: u64) -> io::Result<()> {
            self.grown.lock().unwrap().push(len_bytes);
            let mut len = self.len.lock().unwrap();
            *len = len_bytes.min(self.len_max).max(*len);
            Ok(())
        }

        fn grow_written(&self, len_bytes: u64) -> io::Result<()> {
            self.grow(len_bytes)
        }

        fn populate(&self, from: u64, to: u64) {
            self.populated.lock().unwrap().push(from..to);
        }
    }

    const TO: u64 = 3 * POPULATE_BYTES + 8192;

    #[test]
    fn room_is_populated_in_steps_also_where_the_log_is_long_enough() {
        for len in [0, 8192, 2 * POPULATE_BYTES, TO, 2 * TO] {
            let room = Noting::new(len, u64::MAX);
            assert_eq!(Ahead::new(room.clone(), 0, TO).make(Fill::Populated, &ManualClock::new()).unwrap(), 0);
            let populated = room.populated.lock().unwrap();
            assert_eq!((populated[0].start, populated[3].end, populated.len()), (0, TO, 4));
            assert!(populated.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(room.len_bytes(), len.max(TO));
        }
    }

    #[test]
    fn zeros_are_written_in_steps_with_a_pause_behind_each() {
        let (room, clock) = (Noting::new(8192, u64::MAX), ManualClock::new());
        let began = clock.now();
        let zeros = Ahead::new(room.clone(), 0, TO).make(Fill::Written, &clock).unwrap();
        assert_eq!((zeros, room.len_bytes()), (TO - 8192, TO));
        let grown = room.grown.lock().unwrap();
        assert!(grown.windows(2).all(|pair| pair[1] - pair[0] <= WRITE_BYTES) && grown[0] <= 8192 + WRITE_BYTES);
        assert_eq!(clock.now() - began, WRITE_PAUSE * grown.len() as u32);
    }

    #[test]
    fn once_the_log_has_ended_no_more_is_made() {
        const LEN: u64 = 4096;
        for (fill, from, step) in [(Fill::Populated, 0, POPULATE_BYTES), (Fill::Written, LEN, WRITE_BYTES)] {
            let room = Noting::new(LEN, LEN + step);
            let zeros = Ahead::new(room.clone(), 0, TO).make(fill, &ManualClock::new()).unwrap();
            assert_eq!(zeros, if fill == Fill::Written { step } else { 0 }, "what was written, not what was to be");
            assert_eq!(*room.grown.lock().unwrap(), [from + step, from + 2 * step]);
            assert!(room.populated.lock().unwrap().iter().all(|range| range.end <= LEN + step));
        }
    }
}
