//! Kinds of operations, and patterns of paths, by which rules and traces tell operations apart.

use std::path::Path;

/// A kind of operation on a [`Vfs`](crate::Vfs) or one of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Operation {
    CreateNew,
    /// [`Vfs::create_log`](crate::Vfs::create_log).
    CreateLog,
    /// [`Vfs::open_log`](crate::Vfs::open_log).
    OpenLog,
    OpenRead,
    Rename,
    HardLink,
    RemoveFile,
    RemoveDir,
    CreateDirAll,
    List,
    Metadata,
    SyncDir,
    Lock,
    FreeSpace,
    Append,
    /// [`LogMap::store`](crate::LogMap::store).
    Store,
    /// [`LogMap::grow`](crate::LogMap::grow) and [`LogRoom::grow`](crate::LogRoom::grow), when it is not that long yet.
    Grow,
    /// [`LogRoom::grow_written`](crate::LogRoom::grow_written).
    GrowWritten,
    /// [`WritableFile::begin_write_out`](crate::WritableFile::begin_write_out).
    WriteOut,
    Preallocate,
    Trim,
    Sync,
    /// [`ReadableFile::len_bytes`](crate::ReadableFile::len_bytes).
    LenBytes,
    /// [`ReadableFile::read_exact_at`](crate::ReadableFile::read_exact_at).
    Read,
    Map,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::CreateNew,
        Self::CreateLog,
        Self::OpenLog,
        Self::OpenRead,
        Self::Rename,
        Self::HardLink,
        Self::RemoveFile,
        Self::RemoveDir,
        Self::CreateDirAll,
        Self::List,
        Self::Metadata,
        Self::SyncDir,
        Self::Lock,
        Self::FreeSpace,
        Self::Append,
        Self::Store,
        Self::Grow,
        Self::GrowWritten,
        Self::WriteOut,
        Self::Preallocate,
        Self::Trim,
        Self::Sync,
        Self::LenBytes,
        Self::Read,
        Self::Map,
    ];
}

/// Whether `path` is of the form `pattern`, where `*` stands for any characters, `/` among them.
pub(crate) fn matches(pattern: &str, path: &Path) -> bool {
    let path = path.to_string_lossy();
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(mut path) = path.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The first place that fits each part leaves most for those behind it.
    for part in middle.split('*') {
        match path.find(part) {
            Some(at) => path = &path[at + part.len()..],
            None => return false,
        }
    }
    path.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, path, expected) in [
            ("/db/CURRENT", "/db/CURRENT", true),
            ("/db/CURRENT", "/db/CURRENT.tmp", false),
            ("*", "", true),
            ("*", "/db/a", true),
            ("*.wal", "/db/000001.wal", true),
            ("*.wal", "/db/000001.wal.tmp", false),
            ("/db/*", "/db/sub/a", true),
            ("/db/*", "/other/a", false),
            ("*MANIFEST-*", "/db/MANIFEST-000001", true),
            ("/a*b*c", "/abbc", true),
            ("/a*b*c", "/acb", false),
            ("a*a", "a", false),
            ("*ab*ab*", "abxab", true),
            ("*ab*ab*", "abxb", false),
        ] {
            assert_eq!(matches(pattern, Path::new(path)), expected, "{pattern} {path}");
        }
    }
}
