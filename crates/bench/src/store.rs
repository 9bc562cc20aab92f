//! [`Store`]: what a store must do to be measured.
//!
//! Workloads are generic over it, so that no call through a table of functions stands between them and the store.

mod esker;
#[cfg(feature = "rivals")]
mod fjall;
#[cfg(feature = "native")]
mod lmdb;
mod model;
#[cfg(feature = "rivals")]
mod redb;
#[cfg(feature = "native")]
mod rocksdb;
#[cfg(feature = "rivals")]
mod sled;
#[cfg(feature = "rivals")]
mod surrealkv;

pub use esker::Esker;
pub use model::{Change, DataModel, Layer, Layers};
#[cfg(feature = "rivals")]
pub use {fjall::Fjall, redb::Redb, sled::Sled, surrealkv::SurrealKv};
#[cfg(feature = "native")]
pub use {lmdb::Lmdb, rocksdb::RocksDb};

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
pub trait Store: DataModel + Sized + Send + Sync {
    /// Opens the store in `dir`; a new one if that is empty.
    ///
    /// # Errors
    /// The store's; so for all that follow.
    fn open(dir: &Path, settings: &Settings) -> Result<Self>;

    /// Puts one entry, as durable as the settings say.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Puts entries in one atomic batch.
    fn put_batch(&self, entries: &[Entry]) -> Result<()>;

    /// Puts entries that come in key order, as fast as the store can: `fill` makes the next one, until it says that there are no more.
    fn bulk_load(&self, fill: &mut dyn FnMut(&mut Entry) -> bool) -> Result<()> {
        let mut entries = Vec::new();
        let mut entry = Entry { key: crate::data::key(0), value: Vec::new() };
        while fill(&mut entry) {
            entries.push(entry.clone());
            if entries.len() as u64 == crate::workload::LOAD_BATCH_ENTRIES {
                self.put_batch(&entries)?;
                entries.clear();
            }
        }
        if entries.is_empty() { Ok(()) } else { self.put_batch(&entries) }
    }

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

/// Memtables that may be in memory at a time: the active one and those that wait to be flushed.
const MEMTABLES_MAX: usize = 4;

/// Tells background work of a store that doesn't say: it is busy while the process uses more than a tenth of a core.
#[cfg(feature = "rivals")]
#[derive(Debug)]
struct Quiet {
    last: std::sync::Mutex<(Instant, f64)>,
}

#[cfg(feature = "rivals")]
impl Default for Quiet {
    fn default() -> Self {
        Self { last: std::sync::Mutex::new((Instant::now(), 0.0)) }
    }
}

#[cfg(feature = "rivals")]
impl Quiet {
    /// Processor time is told in hundredths of a second, so it is looked at over a tenth or more; in between nothing is known, which counts as busy.
    fn is_busy(&self) -> bool {
        let Some(cpu_seconds) = crate::process::cpu_seconds() else { return false };
        let mut last = self.last.lock().expect("no look panicked");
        let seconds = last.0.elapsed().as_secs_f64();
        if seconds < 0.1 {
            return cpu_seconds - last.1 > 0.01;
        }
        let busy = cpu_seconds - last.1 > 0.1 * seconds;
        *last = (Instant::now(), cpu_seconds);
        busy
    }
}

/// A store counts as settled when it was not busy this often in a row.
const IDLE_LOOKS: u32 = 12;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until nothing runs in the background.
///
/// # Errors
/// It still does after five minutes, and one more for each million of `settings.num`.
pub fn settle(store: &impl Store, settings: &Settings) -> Result<()> {
    let time_max = Duration::from_secs(300 + settings.num / 1_000_000 * 60);
    let start = Instant::now();
    let mut idle_looks = 0;
    while idle_looks < IDLE_LOOKS {
        if start.elapsed() > time_max {
            return Err(format!("background work did not end within {} s", time_max.as_secs()).into());
        }
        std::thread::sleep(LOOK_EVERY);
        idle_looks = if store.is_busy() { 0 } else { idle_looks + 1 };
    }
    Ok(())
}
