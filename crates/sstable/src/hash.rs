//! The hash by which filters and blocks know a user key (`docs/format/sstable.md`). It lies in `esker-format`, since memtables are
//! searched by it as well.

pub use esker_format::KeyHash;
