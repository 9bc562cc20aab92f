//! Manifests: the log of edits, the edits, and CURRENT.

use crate::Heap;
use crate::bytes::Bytes;
use crate::sign::u64_at;
use esker_format::{FileKind, FileNo};
use esker_manifest::{EditReader, Version, VersionEdit, VersionSet};
use esker_vfs::{MemVfs, Vfs};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A version is held as structures, of which a table with keys of one byte takes some hundred bytes and in the file some thirty; beside it, while an edit is applied, the one before.
pub(crate) const HEAP: Heap = Heap { ratio: 64, fixed_bytes: 64 << 10 };
/// As that, in a directory in memory, whose files come on top.
pub(crate) const DIRECTORY_HEAP: Heap = Heap { fixed_bytes: 1 << 20, ..HEAP };

pub(crate) const DIR: &str = "/m";

pub(crate) fn write(vfs: &dyn Vfs, name: &str, bytes: &[u8]) {
    let mut file = vfs.create_new(&Path::new(DIR).join(name)).expect("a new name");
    file.append(bytes).expect("memory takes it");
}

pub(crate) fn directory() -> Arc<MemVfs> {
    let vfs = MemVfs::new();
    vfs.create_dir_all(Path::new(DIR)).expect("a new directory");
    vfs
}

/// Has CURRENT name a manifest.
pub(crate) fn name(vfs: &dyn Vfs, number: FileNo) {
    let name = FileKind::Manifest(number).name();
    write(vfs, "CURRENT", format!("{name} {:08x}\n", esker_format::checksum::crc32c(name.as_bytes())).as_bytes());
}

/// Reads a manifest edit by edit, and as the manifest of an engine; what it makes passes the check of versions, and survives being written anew.
pub(crate) fn attack(bytes: Vec<u8>) {
    let number = FileNo(u64_at(&bytes, 24).unwrap_or(1));
    let vfs = directory();
    write(&*vfs, &FileKind::Manifest(number).name(), &bytes);
    name(&*vfs, number);
    if let Ok(mut reader) = EditReader::open(Bytes::new(bytes), "m") {
        while let Ok(Some((_, edit))) = reader.next_edit() {
            check_edit(&edit);
        }
    }
    let Ok(recovered) = VersionSet::read(&*vfs, Path::new(DIR)) else { return };
    recovered.version.check().expect("replay checks each edit");
    check_edit(&recovered.version.snapshot());
    let recovered_too = VersionSet::recover(vfs.clone(), Path::new(DIR)).expect("it was read").1;
    assert!(recovered_too.version == recovered.version);
    let copy = Path::new("/copy");
    vfs.create_dir_all(copy).expect("a new directory");
    if VersionSet::create_from(vfs.clone(), copy, &recovered.version).is_ok() {
        VersionSet::recover(vfs, copy).expect("what was written is read");
    }
}

/// Decodes an edit, and applies it to a new version.
pub(crate) fn attack_edit(bytes: Vec<u8>) {
    let Ok(edit) = VersionEdit::decode(&bytes) else { return };
    check_edit(&edit);
    for version in [Version::new(), Version::with_default("ttl = 5 ms\n")] {
        if let Ok(next) = version.apply(&edit) {
            next.check().expect("applying checks");
        }
    }
}

/// What decodes is decoded again from what it is encoded as, and is printed and parsed.
fn check_edit(edit: &VersionEdit) {
    let again = VersionEdit::decode(&edit.encode()).expect("what was encoded decodes");
    assert!(again == *edit, "an edit that changes when it is written");
    assert!(edit.to_string().len() >= usize::from(!edit.is_empty()));
}

/// Reads CURRENT, beside a whole manifest.
pub(crate) fn attack_current(bytes: Vec<u8>) {
    static MANIFEST: OnceLock<Vec<u8>> = OnceLock::new();
    let manifest = MANIFEST.get_or_init(|| {
        let vfs = directory();
        VersionSet::create(vfs.clone(), Path::new(DIR)).expect("memory takes it");
        let path = Path::new(DIR).join("MANIFEST-000001");
        let mut bytes = esker_vfs::read_file(&*vfs, &path, 1 << 24).expect("it is there");
        bytes.truncate(1 << 10);
        bytes
    });
    let vfs = directory();
    write(&*vfs, "MANIFEST-000001", manifest);
    write(&*vfs, "CURRENT", &bytes);
    let right = b"MANIFEST-000001 7ed3298a\n";
    assert_eq!(VersionSet::read(&*vfs, Path::new(DIR)).is_ok(), bytes == right, "CURRENT has one form");
}
