//! Versions of an LSM tree, and the crash-safe log of edits between them.
//!
//! A [`Version`] says which tables make up each level of each keyspace, and how far the engine's counters are. It never changes: a
//! [`VersionEdit`] makes the next one. The [`VersionSet`] writes each edit to the *manifest*, a record log, and hands out the new version only
//! once the edit is on stable storage. `CURRENT` names the manifest in use. The bytes are in `docs/format/manifest.md`.
//!
//! | module | holds |
//! |---|---|
//! | `table`, `version` | [`TableMeta`], [`KeyspaceVersion`], [`Version`] |
//! | `edit`, `text` | [`VersionEdit`], its bytes, its text form |
//! | `apply` | what an edit makes of a version, and every invariant of versions |
//! | `current` | CURRENT, and what its absence means |
//! | `replay` | reading a manifest |
//! | `salvage` | what can be learned from manifests that are damaged |
//! | `set` | [`VersionSet`]: create, recover, commit, rewrite, restart |
//!
//! Deliberately absent: this crate opens no table, removes no table or log, and takes no lock. Who uses it holds the directory's lock, and
//! removes files once no version needs them.
//!
//! ```
//! use esker_format::SeqNo;
//! use esker_manifest::{Level, VersionEdit, VersionSet};
//! use esker_vfs::{MemVfs, Vfs};
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! let vfs: Arc<dyn Vfs> = MemVfs::new();
//! let directory = Path::new("/data");
//! vfs.create_dir_all(directory)?;
//!
//! let mut set = VersionSet::create(Arc::clone(&vfs), directory)?;
//! set.commit(VersionEdit { reserve_seq: Some(SeqNo(1000)), ..VersionEdit::default() })?;
//! let number = set.new_file_no()?;
//! let table = format!("add 0 L0 {number} apple#1,PUT .. pear#9,PUT entries 9");
//! let version = set.commit(table.parse()?)?;
//! drop(set);
//!
//! let (set, recovered) = VersionSet::recover(vfs, directory)?;
//! assert_eq!(recovered.version, version);
//! let default = &set.current().keyspace_named("default").unwrap();
//! assert_eq!(default.level(Level(0))[0].number, number);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod apply;
mod current;
mod edit;
mod error;
mod replay;
mod salvage;
mod set;
mod table;
mod text;
mod version;

pub use current::{Found, probe};
pub use edit::{COMPARATOR, CleanClose, FORMAT_VERSION, VersionEdit};
pub use error::{EditError, ManifestError, RecordError};
pub use esker_wal::Lsn;
pub use replay::{EditReader, Recovered};
pub use salvage::{Salvaged, is_outdated, salvage, salvage_edits};
pub use set::{REWRITE_BYTES, VersionSet};
pub use table::{BlobMeta, BlobState, BlobUse, IngestMeta, LEVELS, Level, RangeUse, TableMeta};
pub use text::ParseEditError;
pub use version::{DEFAULT_KEYSPACE, KeyspaceVersion, Version};
