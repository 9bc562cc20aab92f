//! Names and numbers of an engine's files (`docs/format/files.md`).

use std::fmt;
use std::path::{Path, PathBuf};

/// A file's number. One line of numbers serves all kinds of file, and none is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileNo(pub u64);

impl fmt::Display for FileNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// A file's random id. Block and record checksums cover it, so bytes of another file never pass for bytes of this one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileId(pub u64);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

/// What a file in an engine's directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// `LOCK`: held while the engine is open.
    Lock,
    /// `CURRENT`: names the manifest.
    Current,
    /// `MANIFEST-NNNNNN`: the log of version edits.
    Manifest(FileNo),
    /// `OPTIONS-NNNNNN`: the options, as readable text.
    Options(FileNo),
    /// `NNNNNN.wal`: a write-ahead log.
    Wal(FileNo),
    /// `NNNNNN.wal.aside`: a log, or the end of one, that recovery did not replay.
    WalAside(FileNo),
    /// `NNNNNN.sst`: a sorted table.
    Table(FileNo),
    /// `NNNNNN.blob`: large values.
    Blob(FileNo),
    /// `NAME.tmp`, with any other name of ours: a file that was being written; swept at open.
    Temp,
}

impl FileKind {
    /// The file's name. A [`FileKind::Temp`] has none of its own; see [`temp_path`].
    ///
    /// # Panics
    /// For [`FileKind::Temp`].
    pub fn name(self) -> String {
        match self {
            Self::Lock => "LOCK".into(),
            Self::Current => "CURRENT".into(),
            Self::Manifest(n) => format!("MANIFEST-{n}"),
            Self::Options(n) => format!("OPTIONS-{n}"),
            Self::Wal(n) => format!("{n}.wal"),
            Self::WalAside(n) => format!("{n}.wal.aside"),
            Self::Table(n) => format!("{n}.sst"),
            Self::Blob(n) => format!("{n}.blob"),
            Self::Temp => panic!("a temporary file is named after what it becomes"),
        }
    }

    /// What the file `name` is; `None` if it is none of ours, and then it is left alone.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(stem) = name.strip_suffix(".tmp") {
            return Self::parse(stem).filter(|kind| *kind != Self::Temp).map(|_| Self::Temp);
        }
        let kind = match name {
            "LOCK" => Self::Lock,
            "CURRENT" => Self::Current,
            _ => {
                if let Some(n) = name.strip_prefix("MANIFEST-") {
                    Self::Manifest(number(n)?)
                } else if let Some(n) = name.strip_prefix("OPTIONS-") {
                    Self::Options(number(n)?)
                } else {
                    let (n, extension) = name.split_once('.')?;
                    let n = number(n)?;
                    match extension {
                        "wal" => Self::Wal(n),
                        "wal.aside" => Self::WalAside(n),
                        "sst" => Self::Table(n),
                        "blob" => Self::Blob(n),
                        _ => return None,
                    }
                }
            }
        };
        Some(kind)
    }

    /// The file's path in `directory`.
    pub fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.name())
    }

    /// The number in the name, if it has one.
    pub fn number(self) -> Option<FileNo> {
        match self {
            Self::Manifest(n)
            | Self::Options(n)
            | Self::Wal(n)
            | Self::WalAside(n)
            | Self::Table(n)
            | Self::Blob(n) => Some(n),
            Self::Lock | Self::Current | Self::Temp => None,
        }
    }
}

/// The name under which `path` is written before it is renamed: `path` and `.tmp`.
pub fn temp_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// At least six digits, no sign, no needless zeros beyond the sixth digit: one number has one name.
fn number(digits: &str) -> Option<FileNo> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits.len() == 6 || (digits.len() > 6 && !digits.starts_with('0'));
    if plain && canonical { digits.parse().ok().map(FileNo) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_past_six_digits() {
        for n in [0, 1, 999_999, 1_000_000, u64::MAX] {
            let n = FileNo(n);
            for kind in [
                FileKind::Manifest(n),
                FileKind::Options(n),
                FileKind::Wal(n),
                FileKind::WalAside(n),
                FileKind::Table(n),
                FileKind::Blob(n),
                FileKind::Lock,
                FileKind::Current,
            ] {
                assert_eq!(FileKind::parse(&kind.name()), Some(kind));
                assert_eq!(FileKind::parse(&format!("{}.tmp", kind.name())), Some(FileKind::Temp));
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        for name in [
            "",
            "notes.txt",
            "1.sst",
            "0000001.sst",
            "+00001.sst",
            "000001.sst.bak",
            "lock",
            "x.tmp",
            "LOCK.tmp.tmp",
            ".tmp",
            "MANIFEST-",
            "99999999999999999999.sst",
        ] {
            assert_eq!(FileKind::parse(name), None, "{name}");
        }
    }
}
