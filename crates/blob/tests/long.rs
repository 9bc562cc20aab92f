//! Blob files over 4 GiB: others have cut their offsets to 32 bits.

use esker_blob::{Access, BlobFile, Writer};
use esker_format::{FileId, FileNo};
use esker_testkit::sparse::SparseFile;
use std::sync::Arc;

#[test]
fn what_lies_beyond_4_gib_of_a_blob_file_is_found() {
    let file = SparseFile::default();
    let mut writer = Writer::new(Box::new(file.clone()), "000009.blob", FileNo(9), FileId(1));
    let first = writer.add(b"the first").unwrap();
    let large = vec![b'v'; 4 << 20];
    let references: Vec<_> = (0..1030).map(|_| writer.add(&large).unwrap()).collect();
    let last = writer.add(b"the last").unwrap();
    assert!(writer.finish().unwrap().file_bytes > 1 << 32);

    let file = BlobFile::open(Arc::new(file), "000009.blob", Access::Copied, None).unwrap();
    assert_eq!(file.get(first).unwrap(), b"the first"[..]);
    assert!(file.get(references[1029]).unwrap() == large[..]);
    assert_eq!(file.get(last).unwrap(), b"the last"[..]);
    file.read_back().unwrap();
}
