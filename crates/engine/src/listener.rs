//! [`Listener`]: hears what the engine does in the background.

use crate::error::Error;
use esker_format::FileNo;
use std::path::PathBuf;
use std::time::Duration;

/// Something that happened in the background.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Memtables of a keyspace became a table.
    Flushed {
        /// The keyspace's name.
        keyspace: String,
        /// Entries in the table.
        entries: u64,
        /// The table's size, in bytes.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// Tables were merged.
    Compacted {
        /// The keyspace's name.
        keyspace: String,
        /// The level written to.
        level: u8,
        /// Bytes read.
        read_bytes: u64,
        /// Bytes written; 0 if the tables only moved down.
        written_bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// Tables that were built outside were taken in.
    Ingested {
        /// The keyspace's name.
        keyspace: String,
        /// How many tables.
        tables: u64,
        /// Entries in them.
        entries: u64,
        /// Their size, in bytes.
        bytes: u64,
        /// How long it took, without copying and checking them.
        took: Duration,
    },
    /// Background work failed. It is tried again where that may help.
    BackgroundError(Error),
    /// A table or blob file that is damaged, or that its device can't read, was taken out of use. Keys in its range answer with `Corruption` or `Io`, all others as ever.
    Quarantined {
        /// The table or blob file.
        table: FileNo,
        /// What is wrong with it.
        error: Error,
    },
    /// A keyspace was stored with a compaction filter that is not registered: it is compacted without one until the engine is opened with it.
    CompactionFilterMissing {
        /// The keyspace's name.
        keyspace: String,
        /// The filter's.
        filter: String,
    },
    /// Recovery put a log, or the end of one, aside: nothing in it was promised, or `RecoveryMode::Salvage` was asked for.
    SetAside {
        /// What the log is called now.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Writing stopped after a failure.
    WritingStopped(Error),
    /// Writing goes on after [`crate::Engine::resume`], or after a full disk has space again.
    WritingResumed,
}

/// Hears what the engine does in the background.
///
/// Called with no lock held, on a thread of the engine between two pieces of work or on one whose call is about to return, never within another call of it on that thread; so it may call the engine.
/// It should return soon. A write that would have to wait for room, or for the end of an exclusive transaction, is `Stalled` on a thread of the engine, as with
/// [`WriteOptions::no_stall`](crate::WriteOptions::no_stall): who waited there would keep from working who makes room. A panic in it ends there.
pub trait Listener: Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync + 'static> Listener for F {
    fn on_event(&self, event: &Event) {
        self(event);
    }
}
