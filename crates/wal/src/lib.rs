//! A crash-safe record log.
//!
//! Records of any bytes are appended to a file, synced by one thread for many, and read back after a crash up to the first that is not
//! whole, together with what is needed to tell a torn tail from damage. The format is `docs/format/wal.md`.
//!
//! - [`Writer`] appends; [`GroupSync`] puts what was appended on stable storage, over a series of logs that share one line of positions
//!   ([`Lsn`]).
//! - [`Backend`] says how bytes get to the operating system: by copying into a mapped file, which may have been another log's before, or by
//!   `write(2)`.
//! - [`Reader`] returns whole records, then [`LogEnd`]: where and why they end. It reports and never decides.
//!
//! Deliberately absent: the order of logs, their removal, and what records mean; that is the caller's.
//!
//! ```
//! use esker_format::{FileId, FileNo};
//! use esker_vfs::{OsVfs, Vfs};
//! use esker_wal::{GroupSync, LogHeader, Lsn, Reader, RecordKind, Reserve, Writer};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("000001.wal");
//!
//! let vfs = OsVfs::default();
//! let group = GroupSync::new(Lsn::ZERO);
//! let header = LogHeader { file_id: FileId(vfs.random()), number: FileNo(1), start: Lsn::ZERO, durable: Lsn::ZERO };
//! let mut log = Writer::create(&vfs, &path, header, &group)?;
//! log.append(RecordKind::Data, &[b"hello, ", b"log"], Reserve::Keep)?;
//! log.sync()?;
//!
//! let mut reader = Reader::open(vfs.open_read(&path)?, "000001.wal")?;
//! let record = reader.next()?.expect("one was appended");
//! assert_eq!(record.payload, b"hello, log");
//! assert!(reader.next()?.is_none());
//! let end = reader.end().expect("the reader is at the end");
//! assert_eq!(end.position, log.end());
//! assert!(end.vouched <= end.position, "nothing that was durable is missing");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod ahead;
mod error;
mod frame;
mod group;
mod group_model;
// Beside the module, which is compiled a second time by its model.
#[cfg(test)]
#[path = "group/tests.rs"]
mod group_tests;
mod reader;
mod segment;
mod sync;
mod window;
mod writer;

pub use ahead::{Ahead, Fill};
pub use error::{WalError, is_no_space};
pub use frame::{FILE_HEADER_BYTES, LogHeader, Lsn, RECORD_HEADER_BYTES, RecordKind};
pub use group::GroupSync;
pub use reader::{EndCause, LogEnd, Reader, Record, vouched};
pub use segment::{Backend, RESERVE_BYTES, Reserve};
pub use writer::{Prepared, Writer};
