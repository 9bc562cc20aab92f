//! CURRENT: one line that names the manifest, and a checksum of the name.
//!
//! ```text
//! MANIFEST-000001 5f4e3a21\n           CRC-32C of the name, eight hex digits
//! ```
//! It is replaced as a whole (temporary file, sync, rename, sync of the directory), so it always names a manifest that was on
//! stable storage before. A directory without it is either new or damaged, and [`probe`] tells which.

use crate::error::ManifestError;
use crate::replay;
use esker_format::checksum::crc32c;
use esker_format::{FileKind, FileNo};
use esker_vfs::{Vfs, read_file, replace_file};
use esker_wal::WalError;
use std::io;
use std::path::Path;

/// More than the longest CURRENT has: a name with a 20-digit number and a checksum.
const CURRENT_BYTES_MAX: u64 = 64;

/// The manifest that every creation starts with.
pub(crate) const FIRST_MANIFEST: FileNo = FileNo(1);

/// What [`probe`] found in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No engine, or one whose creation was interrupted before it held anything.
    Nothing,
    /// An engine; whether it is whole, [`crate::VersionSet::recover`] tells.
    Engine,
}

/// Tells whether an engine was created in `directory`. Changes nothing.
///
/// CURRENT is the last thing that creation makes, before any log or table. So where it is missing, nothing but a first manifest with a single edit may
/// have been left behind by an interrupted creation; if there is more, CURRENT was lost, and making an engine anew would bury what is there.
///
/// # Errors
/// [`ManifestError::CurrentMissing`] then; [`ManifestError::Io`] if the directory can't be read, or does not exist.
pub fn probe(vfs: &dyn Vfs, directory: &Path) -> Result<Found, ManifestError> {
    let names = vfs.list(directory).map_err(ManifestError::io_at("list", directory))?;
    let kinds = || names.iter().filter_map(|name| FileKind::parse(name));
    if kinds().any(|kind| kind == FileKind::Current) {
        return Ok(Found::Engine);
    }
    for kind in kinds() {
        let evidence = match kind {
            FileKind::Lock | FileKind::Temp | FileKind::Options(_) | FileKind::Current => false,
            FileKind::Manifest(FIRST_MANIFEST) => !is_interrupted_creation(vfs, directory)?,
            FileKind::Manifest(_) => true,
            FileKind::Wal(_) | FileKind::WalAside(_) | FileKind::Table(_) | FileKind::Blob(_) => true,
        };
        if evidence {
            let path = FileKind::Current.path(directory);
            return Err(ManifestError::CurrentMissing { path, found: kind.name() });
        }
    }
    Ok(Found::Nothing)
}

/// Whether the first manifest holds no more than creation puts there, perhaps less.
fn is_interrupted_creation(vfs: &dyn Vfs, directory: &Path) -> Result<bool, ManifestError> {
    match replay::replay(vfs, directory, FIRST_MANIFEST) {
        Ok(recovered) => Ok(recovered.edits == 1),
        Err(ManifestError::NoEdit { .. } | ManifestError::Wal(WalError::NoHeader { .. })) => Ok(true),
        Err(error) if error.io().is_some() => Err(error),
        Err(_) => Ok(false),
    }
}

/// The manifest that CURRENT names.
pub(crate) fn read(vfs: &dyn Vfs, directory: &Path) -> Result<FileNo, ManifestError> {
    let path = FileKind::Current.path(directory);
    let damaged = |found: &[u8]| ManifestError::Current { path: path.clone(), found: found.escape_ascii().to_string() };
    let bytes = match read_file(vfs, &path, CURRENT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(damaged(b"...")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match probe(vfs, directory)? {
                Found::Nothing => Err(ManifestError::NoEngine(directory.to_owned())),
                Found::Engine => Err(ManifestError::io_at("read", &path)(error)),
            };
        }
        Err(error) => return Err(ManifestError::io_at("read", &path)(error)),
    };
    parse(&bytes).ok_or_else(|| damaged(&bytes))
}

/// Makes CURRENT name `manifest`, durably.
pub(crate) fn write(vfs: &dyn Vfs, directory: &Path, manifest: FileNo) -> Result<(), ManifestError> {
    let path = FileKind::Current.path(directory);
    replace_file(vfs, &path, line(manifest).as_bytes()).map_err(ManifestError::io_at("replace", &path))
}

fn line(manifest: FileNo) -> String {
    let name = FileKind::Manifest(manifest).name();
    format!("{name} {:08x}\n", crc32c(name.as_bytes()))
}

fn parse(bytes: &[u8]) -> Option<FileNo> {
    let (name, _) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    match FileKind::parse(name)? {
        FileKind::Manifest(number) if line(number).as_bytes() == bytes => Some(number),
        _ => None,
    }
}
