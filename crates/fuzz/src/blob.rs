//! Blob files, and references into them.

use crate::bytes::Bytes;
use esker_blob::{Access, BlobFile, BlobRef};
use esker_format::FileNo;

/// Reads all records in order and by their references, mapped and copied: both ways agree.
pub(crate) fn attack(bytes: Vec<u8>) {
    let len = bytes.len() as u64;
    let file = Bytes::new(bytes);
    let open = |access| BlobFile::open(file.clone(), "blob", access, None);
    let (mapped, copied) = (open(Access::Mapped), open(Access::Copied));
    assert_eq!(mapped.is_ok(), copied.is_ok(), "both ways read header and footer");
    let (Ok(mapped), Ok(copied)) = (mapped, copied) else { return };
    let is_whole = mapped.verify().is_ok();
    assert_eq!(is_whole, copied.verify().is_ok());
    assert!(!is_whole || mapped.read_back().is_ok());
    let mut count = 0;
    for record in mapped.records() {
        let Ok((reference, value)) = record else {
            assert!(!is_whole, "verify found it whole");
            break;
        };
        assert!(reference.offset + reference.record_bytes() <= len);
        assert!(mapped.get(reference).expect("a record that was just read") == value[..]);
        assert!(copied.get_checked(reference).expect("a record that was just read") == value[..]);
        for (offset, value_bytes) in [(8, 0), (0, 8), (0, u32::MAX - reference.value_bytes)] {
            let offset = reference.offset.wrapping_add(offset);
            let other = BlobRef { offset, value_bytes: reference.value_bytes.wrapping_add(value_bytes), ..reference };
            assert_eq!(mapped.get(other).is_ok(), copied.get(other).is_ok(), "{other:?}");
        }
        count += 1;
    }
    assert!(!is_whole || count == mapped.record_count());
    for offset in [0, 40, 41, len, u64::MAX - 7] {
        for value_bytes in [0, 1, u32::MAX] {
            let reference = BlobRef { file: mapped.number(), offset, value_bytes };
            assert_eq!(mapped.get(reference).is_ok(), copied.get(reference).is_ok());
            let other = BlobRef { file: FileNo(mapped.number().0.wrapping_add(1)), ..reference };
            let _ = (mapped.get(other), copied.get_checked(other));
        }
    }
}

/// Decodes a reference. It has one form.
pub(crate) fn attack_reference(bytes: Vec<u8>) {
    let Ok(reference) = BlobRef::decode(&bytes) else { return };
    let mut encoded = Vec::new();
    reference.encode_into(&mut encoded);
    assert_eq!(encoded, bytes, "a reference of two forms");
}
