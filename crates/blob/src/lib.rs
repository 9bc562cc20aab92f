//! Blob files: large values in files of their own, so that sorting them moves references and not bytes.
//!
//! | type | does |
//! |---|---|
//! | [`Writer`] | writes a file, front to back, and says where each value lies |
//! | [`BlobRef`] | where a value lies: what a table stores in the value's place |
//! | [`BlobFile`] | opens a file; reads values, all records in order, verifies |
//!
//! The bytes are described in `docs/format/blob.md`. A file is written once and never changed; which values are still needed is not known here, and is the business
//! of whoever holds the references.
//!
//! ```
//! use esker_blob::{Access, BlobFile, Writer};
//! use esker_format::{FileId, FileNo};
//! use esker_vfs::{MemVfs, Vfs};
//! use std::path::Path;
//!
//! let vfs = MemVfs::new();
//! let path = Path::new("000001.blob");
//! let mut writer = Writer::new(vfs.create_new(path)?, "000001.blob", FileNo(1), FileId(vfs.random()));
//! let photo = writer.add(&[7; 10_000])?;
//! let letter = writer.add(b"Dear all")?;
//! writer.finish()?;
//!
//! let file = BlobFile::open(vfs.open_read(path)?, "000001.blob", Access::Mapped, None)?;
//! assert_eq!(file.get(letter)?, b"Dear all");
//! assert!(file.get(photo)?.is_pinned(), "the value is read where it lies in the map");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod error;
mod file;
mod frame;
mod records;
mod reference;
mod writer;

pub use error::{BlobError, Part};
pub use file::{Access, BlobFile, Expect, number_of};
pub use frame::{FOOTER_BYTES, HEADER_BYTES};
pub use records::Records;
pub use reference::BlobRef;
pub use writer::{Built, Writer};

/// The README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
