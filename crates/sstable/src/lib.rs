//! An immutable sorted table: a file of versions in internal-key order, built once, read by any number of threads.
//!
//! | type | does |
//! |---|---|
//! | [`Builder`] | writes a table, front to back |
//! | [`Table`] | opens one; point look-ups, iterators, verification |
//! | [`TableIter`] | walks over all versions, both ways |
//! | [`BlockCache`] | holds blocks that are not read from a map in place |
//! | [`KeyHash`] | the hash of a user key, computed once for a look-up in many tables |
//!
//! The bytes are described in `docs/format/sstable.md`. Opening a table reads its footer and properties and decodes nothing else: index
//! and filter are used in place from the map. Nothing here knows of levels, snapshots or other files.
//!
//! ```
//! use esker_format::{FileId, InternalKey, SeqNo, ValueKind};
//! use esker_sstable::{BlockCache, Builder, BuilderOptions, KeyHash, ReadMode, Table, TableOptions, Verify};
//! use esker_vfs::{MemVfs, Vfs};
//! use std::path::Path;
//!
//! let vfs = MemVfs::new();
//! let path = Path::new("000001.sst");
//! let options = BuilderOptions { file_id: FileId(vfs.random()), ..Default::default() };
//! let mut builder = Builder::new(vfs.create_new(path)?, "000001.sst", options)?;
//! builder.add(InternalKey::new(b"apple", SeqNo(7), ValueKind::Put), b"green")?;
//! builder.add(InternalKey::new(b"apple", SeqNo(3), ValueKind::Put), b"red")?;
//! builder.add(InternalKey::new(b"pear", SeqNo(5), ValueKind::Delete), b"")?;
//! builder.finish()?;
//!
//! let options =
//!     TableOptions { verify: Verify::FirstUse, read_mode: ReadMode::Map, cache: BlockCache::new(8 << 20), expect: None };
//! let table = Table::open(vfs.open_read(path)?, "000001.sst", options)?;
//! let get = |key: &[u8], seq| table.get(key, KeyHash::of(key), SeqNo(seq));
//! assert_eq!(get(b"apple", 9)?.unwrap().1, b"green");
//! assert_eq!(get(b"apple", 6)?.unwrap().1, b"red");
//! assert_eq!(get(b"apple", 2)?, None);
//! assert_eq!(get(b"pear", 9)?.unwrap().0.kind(), ValueKind::Delete);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod block;
mod builder;
mod cache;
mod error;
mod fetch;
mod filter;
mod footer;
mod frame;
mod hash;
mod in_block;
mod index;
mod iter;
mod properties;
mod ranges;
mod read_ahead;
mod salvage;
mod share;
mod source;
mod table;
mod verify;
mod words;

pub use builder::{Builder, BuilderOptions, Built};
pub use cache::BlockCache;
pub use error::TableError;
/// The contract of [`TableIter`], so that a table can be walked without naming another crate.
pub use esker_iterator::InternalIterator;
pub use frame::{BlockKind, Codec};
pub use hash::KeyHash;
pub use in_block::InBlock;
pub use iter::TableIter;
pub use properties::{COMPARATOR, Properties};
pub use salvage::{Salvage, Skipped, salvage, told_file_id};
pub use table::{Expect, ReadMode, Spot, Table, TableOptions, Verify};
pub use verify::VerifyReport;

/// The README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
