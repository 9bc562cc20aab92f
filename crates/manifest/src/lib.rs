//! placeholder docs
#![forbid(unsafe_code)]

mod apply;
mod edit;
mod error;
mod soon;
mod table;
mod text;
mod version;

pub use edit::{COMPARATOR, CleanClose, FORMAT_VERSION, VersionEdit};
pub use error::{EditError, ManifestError, RecordError};
pub use soon::Lsn;
pub use table::{LEVELS, Level, TableMeta};
pub use text::ParseEditError;
pub use version::{DEFAULT_KEYSPACE, KeyspaceVersion, Version};
