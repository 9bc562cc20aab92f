//! Esker: an embedded, ordered, log-structured key-value engine.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use esker::{Engine, WriteBatch, WriteOptions};
//!
//! let engine = Engine::open(dir.path())?;
//! engine.put("user:1", "ada")?;
//! engine.put_with("user:2", "grace", &WriteOptions::sync())?;
//!
//! let mut batch = WriteBatch::new();
//! batch.put("user:3", "edsger").delete("user:1");
//! engine.write(&batch)?;
//!
//! let snapshot = engine.snapshot();
//! engine.delete("user:2")?;
//! assert_eq!(snapshot.get("user:2")?.unwrap(), b"grace");
//!
//! let names: Vec<_> = engine.prefix("user:").rev().map(|item| item.map(|(_, name)| name)).collect::<Result<_, _>>()?;
//! assert_eq!(names, [b"edsger"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is promised is in `docs/guarantees.md`, how it is built in `docs/architecture.md`. In short: a write goes to a log and a memtable, full memtables become sorted
//! tables in the background, and compaction keeps the tables in levels; reads look through all of them, newest first, and take no lock.
//!
//! | page | about |
//! |---|---|
//! | [`Engine`], [`Builder`], [`Options`] | opening, settings |
//! | [`WriteBatch`], [`WriteOptions`], [`Durability`] | writing |
//! | [`Iter`], [`Cursor`], [`Snapshot`], [`Slice`] | reading |
//! | [`Transaction`], [`Exclusive`], [`Engine::fetch_update`] | reading and writing in one step |
//! | [`SstWriter`], [`Engine::ingest`], [`Engine::bulk_writer`] | tables built outside, loads in order |
//! | [`Engine::merge`], [`MergeOperator`], [`operators`] | changing values without reading them |
//! | [`Engine::changes_since`] | what was committed, in order |
//! | [`Keyspace`] | several maps in one engine |
//! | [`Error`], [`ErrorKind`] | what can go wrong, and what to do |
//! | [`Metrics`], [`Listener`], [`VerifyReport`], [`verify_deep`] | looking into it |
//! | [`repair`] | what to do when all else fails |
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct WorkspaceReadme;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/cookbook.md")]
struct Cookbook;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/transactions.md")]
struct Transactions;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/ttl.md")]
struct TimeToLive;

mod background;
mod batch;
mod begin;
mod blobs;
mod bulk;
mod change;
mod changes;
mod checkpoint;
mod commit;
mod compact;
mod conditional;
mod core;
mod cursor;
mod ddl;
mod deep;
mod edges;
mod ends;
mod engine;
mod error;
mod exclusive;
mod expiry;
mod extent;
mod feed;
mod filter;
mod finding;
mod flush;
mod gap;
mod ingest;
mod install;
mod instants;
mod instants_model;
mod iter;
mod keyspace;
mod lifecycle;
mod listener;
mod locate;
mod logs;
mod memory;
mod merging;
mod metrics;
mod new_dir;
mod open;
mod options;
mod options_text;
mod publish;
mod publish_model;
mod range;
mod read;
mod read_set;
mod reads;
mod recovery;
mod refill;
mod removals;
mod removals_model;
mod repair;
mod snapshot;
mod source;
mod sst_writer;
mod stall;
mod sync;
mod tables;
mod toll;
mod transaction;
mod validation;
mod verify;
mod walk;

pub use background::Background;
pub use batch::WriteBatch;
pub use bulk::BulkWriter;
pub use change::{Change, ChangedBatch, ChangedKeyspace, IngestedChange, Operation};
pub use changes::{ChangeOptions, Changes, ChangesHold};
pub use cursor::Cursor;
pub use deep::{DeepReport, verify_deep};
pub use engine::{Builder, Engine};
pub use error::{Error, ErrorKind, Result};
pub use esker_compaction::{CompactionFilter, FilterDecision, LeveledOptions};
pub use esker_format::{KEY_BYTES_MAX, KeyspaceId, Slice, VALUE_BYTES_MAX};
pub use esker_iterator::{MergeOperator, Operands, OperatorError, operators};
pub use esker_manifest::LEVELS;
pub use esker_sstable::{Codec, ReadMode, Verify};
pub use esker_vfs as vfs;
pub use exclusive::Exclusive;
pub use finding::{Finding, Gravity, Progress};
pub use ingest::{IngestOptions, Ingested, IngestedTable};
pub use iter::{Iter, Keys};
pub use keyspace::Keyspace;
pub use listener::{Event, Listener};
pub use metrics::{KeyspaceMetrics, LevelMetrics, Metrics};
pub use options::{Durability, KeyspaceOptions, LogBackend, Options, ReadOptions, RecoveryMode, WriteOptions};
pub use range::KeyRange;
pub use repair::{Loss, RepairReport, RepairedKeyspace, repair};
pub use snapshot::{Snapshot, SnapshotOf};
pub use sst_writer::{SstFacts, SstOptions, SstWriter};
pub use transaction::{Savepoint, Transaction, TransactionCursor, TransactionIter, TransactionKeys, TransactionOf};
pub use verify::VerifyReport;
