//! Bytes that change behind an open blob file, and files of another length than expected: which of it is found, and when.

use esker_blob::{Access, BlobError, BlobFile, BlobRef, Expect, Writer};
use esker_format::{FileId, FileNo};
use esker_vfs::{FaultVfs, MemVfs, Operation, OsVfs, Vfs, read_file};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

const ID: FileId = FileId(0x0123_4567_89ab_cdef);
const ALL: [Access; 3] = [Access::Mapped, Access::Copied, Access::Guarded];

/// Below and above what has a bit of its own.
const LENGTHS: [usize; 4] = [0, 100, 5000, 9000];

fn value(i: usize) -> Vec<u8> {
    vec![i as u8 + 1; LENGTHS[i]]
}

/// A file in `vfs`: what the manifest would say, and where the values lie.
fn build(vfs: &dyn Vfs, path: &Path) -> (Expect, Vec<BlobRef>) {
    let mut writer = Writer::new(vfs.create_new(path).unwrap(), "000009.blob", FileNo(9), ID);
    let references = (0..LENGTHS.len()).map(|i| writer.add(&value(i)).unwrap()).collect();
    let built = writer.finish().unwrap();
    (Expect { number: FileNo(9), file_id: ID, file_bytes: built.file_bytes, records: built.records }, references)
}

fn open(vfs: &dyn Vfs, path: &Path, access: Access, expect: Expect) -> Result<Arc<BlobFile>, BlobError> {
    BlobFile::open(vfs.open_read(path).unwrap(), "000009.blob", access, Some(expect))
}

/// The value of a record is right, or it is refused; whether it is read.
fn is_readable(found: Result<esker_format::Slice, BlobError>, i: usize) -> bool {
    match found {
        Ok(found) => {
            assert_eq!(found, value(i)[..]);
            true
        }
        Err(error) => {
            assert!(error.is_corruption(), "{error}");
            false
        }
    }
}

/// Each byte flipped: of a record that is copied at its next read, of a mapped one at its first, and in any case by whoever checks anew.
#[test]
fn no_byte_is_used_before_its_checksum_whenever_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("000009.blob");
    let (expect, references) = build(&OsVfs, &path);
    let bytes = read_file(&OsVfs, &path, u64::MAX).unwrap();
    let below = File::options().write(true).open(&path).unwrap();
    // Record and value that a byte is of; zeros behind a value belong to none.
    let owner = |at: usize| {
        let covers = |i: &usize| (0..8 + LENGTHS[*i]).contains(&at.wrapping_sub(references[*i].offset as usize));
        (0..LENGTHS.len()).find(covers)
    };
    for access in ALL {
        let used = open(&OsVfs, &path, access, expect).unwrap();
        let whole = |file: &BlobFile| (0..LENGTHS.len()).all(|i| is_readable(file.get(references[i]), i));
        assert!(whole(&used));
        for at in (0..bytes.len()).filter(|at| at % 7 == 0 || bytes[*at] != bytes[at.saturating_sub(1)]) {
            let fresh = open(&OsVfs, &path, access, expect).unwrap();
            below.write_all_at(&[bytes[at] ^ 1 << (at % 8)], at as u64).unwrap();
            for (i, reference) in references.iter().enumerate() {
                let is_hit = owner(at) == Some(i);
                assert_eq!(is_readable(fresh.get(*reference), i), !is_hit, "{access:?}, byte {at}, value {i}");
                assert_eq!(is_readable(used.get_checked(*reference), i), !is_hit, "{access:?}, byte {at}, value {i}");
                if access != Access::Mapped {
                    assert_eq!(is_readable(used.get(*reference), i), !is_hit, "{access:?}, byte {at}, value {i}");
                }
            }
            assert!(used.verify().unwrap_err().is_corruption(), "{access:?}, byte {at}");
            below.write_all_at(&bytes[at..=at], at as u64).unwrap();
            assert!(whole(&fresh) && whole(&used), "{access:?}, byte {at}: no failure is remembered");
        }
        used.verify().unwrap();
    }
}

#[test]
fn a_file_of_another_length_is_neither_mapped_nor_read() {
    let path = Path::new("000009.blob");
    let memory = MemVfs::new();
    let (expect, _) = build(&*memory, path);
    let bytes = read_file(&*memory, path, u64::MAX).unwrap();
    for access in ALL {
        for len in [0, 1, 39, 80, bytes.len() - 1, bytes.len() + 1, bytes.len() + 4096] {
            memory.edit(path, |bytes| bytes.resize(len, 0)).unwrap();
            let vfs = FaultVfs::new(memory.clone());
            let error = open(&*vfs, path, access, expect).unwrap_err();
            assert!(matches!(error, BlobError::Mismatch { what: "file length", .. }), "{access:?}: {error}");
            assert_eq!((vfs.count(Operation::Map), vfs.count(Operation::Read)), (0, 0), "{access:?}, {len} bytes");
        }
        memory.edit(path, |found| found.clone_from(&bytes)).unwrap();
        assert!(open(&*memory, path, access, expect).is_ok());
    }
}
