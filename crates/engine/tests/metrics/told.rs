//! What the engine tells its listener, added up.

use esker::Event;
use std::sync::{Arc, Mutex, MutexGuard};

/// Sums of events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    pub(crate) flushes: u64,
    pub(crate) flush_bytes: u64,
    pub(crate) compactions: u64,
    pub(crate) compaction_read_bytes: u64,
    pub(crate) compaction_written_bytes: u64,
    pub(crate) ingested_tables: u64,
    pub(crate) ingested_bytes: u64,
    pub(crate) background_errors: u64,
    pub(crate) quarantined: Vec<u64>,
    /// The times that writing has stopped, without those that it went on.
    pub(crate) stopped: i64,
}

/// The sums, to be read while a listener adds to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Sums>>);

impl Told {
    pub(crate) fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap()
    }

    pub(crate) fn listener(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let told = self.clone();
        move |event| told.add(event)
    }

    fn add(&self, event: &Event) {
        let sums = &mut *self.sums();
        match event {
            Event::Flushed { bytes, .. } => {
                sums.flushes += 1;
                sums.flush_bytes += bytes;
            }
            Event::Compacted { read_bytes, written_bytes, .. } => {
                sums.compactions += 1;
                sums.compaction_read_bytes += read_bytes;
                sums.compaction_written_bytes += written_bytes;
            }
            Event::Ingested { tables, bytes, .. } => {
                sums.ingested_tables += tables;
                sums.ingested_bytes += bytes;
            }
            Event::BackgroundError(_) => sums.background_errors += 1,
            Event::Quarantined { table, .. } => sums.quarantined.push(table.0),
            Event::WritingStopped(_) => sums.stopped += 1,
            Event::WritingResumed => sums.stopped -= 1,
            _ => {}
        }
    }
}
