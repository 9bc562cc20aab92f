//! [`Store`]: what a store must do to be measured.
//!
//! Workloads are generic over it, so that no call through a table of functions stands between them and the store.

mod esker;
#[cfg(feature = "rivals")]
mod fjall;

pub use esker::Esker;
#[cfg(feature = "rivals")]
pub use fjall::Fjall;

use crate::Result;
use crate::args::Settings;
use crate::data::Key;
use std::path::Path;
use std::time::{Duration, Instant};

/// An entry of a batch.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Vec<u8>,
}

/// An ordered map on disk.
///
/// Implementations take memtable and cache sizes, codec and durability from the settings and leave everything else at the store's defaults.
pub trait Store: Sized + Send + Sync {
    /// Opens a new store in an empty directory.
    ///
    /// # Errors
    /// The store's; so for all that follow.
    fn open(dir: &Path, settings: &Settings) -> Result<Self>;

    /// Puts one entry, as durable as the settings say.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Puts one entry, durable against power loss.
    fn put_sync(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Puts entries in one atomic batch.
    fn put_batch(&self, entries: &[Entry]) -> Result<()>;

    /// Deletes a key.
    fn delete(&self, key: &[u8]) -> Result<()>;

    /// Shows the value of a key to `look`; `None` if there is none.
    fn get<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>>;

    /// Shows up to `limit` entries from the first at or behind `key`, of the newest state.
    fn scan_from(&self, key: &[u8], limit: u64, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()>;

    /// Shows all entries, from the first.
    fn scan(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()>;

    /// Shows all entries, from the last.
    fn scan_reverse(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()>;

    /// Writes all that is in memory as tables.
    fn flush(&self) -> Result<()>;

    /// Whether flushes or compactions run or wait.
    fn is_busy(&self) -> bool;

    /// Bytes written to logs and tables since the store was made, if it counts them.
    fn written_bytes(&self) -> Option<u64> {
        None
    }

    /// Closes the store in order.
    fn close(self) -> Result<()>;
}

/// A store counts as settled when it was not busy this often in a row.
const IDLE_LOOKS: u32 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(20);
const SETTLE_TIME_MAX: Duration = Duration::from_secs(300);

/// Waits until nothing runs in the background.
///
/// # Errors
/// It still does after five minutes.
pub fn settle(store: &impl Store) -> Result<()> {
    let start = Instant::now();
    let mut idle_looks = 0;
    while idle_looks < IDLE_LOOKS {
        if start.elapsed() > SETTLE_TIME_MAX {
            return Err(format!("background work did not end within {} s", SETTLE_TIME_MAX.as_secs()).into());
        }
        std::thread::sleep(LOOK_EVERY);
        idle_looks = if store.is_busy() { 0 } else { idle_looks + 1 };
    }
    Ok(())
}
