//! What the header of a log's file may say, and what is told of one that is not whole.

mod support;

use esker_vfs::{MemVfs, Vfs};
use esker_wal::{Backend, EndCause, FILE_HEADER_BYTES, GroupSync, Lsn, Prepared, Reader, WalError};
use std::sync::Arc;
use support::{Bytes, append, bytes_of, create, create_by, header, path, read_all, read_bytes};

#[test]
fn a_log_may_start_at_the_last_position_and_not_behind_it() {
    for backend in [Backend::Mapped, Backend::Write] {
        let vfs = MemVfs::new();
        let group = GroupSync::new(Lsn::START_MAX);
        let mut log = create_by(backend, &*vfs, 1, Lsn::START_MAX, &group);
        append(&mut log, b"far out");
        log.sync().unwrap();
        let (records, end) = read_all(vfs.open_read(&path(1)).unwrap()).unwrap();
        assert_eq!((records.len(), end.position), (1, log.end()));
        let behind = log.seal().unwrap();
        let error = Prepared::create(&*vfs, &path(2), backend).unwrap().begin(header(2, behind, behind), &group);
        assert!(matches!(error, Err(WalError::Invalid { what: "start", .. })));
    }
}

#[test]
fn what_no_log_holds_is_not_held_for_a_newer_version() {
    let vfs = MemVfs::new();
    drop(create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO)));
    let mut bytes = bytes_of(&*vfs, &path(1))[..FILE_HEADER_BYTES].to_vec();
    let sign = |bytes: &mut [u8]| {
        let crc = esker_format::checksum::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
    };
    bytes[32..40].copy_from_slice(&(Lsn::START_MAX.0 + 1).to_le_bytes());
    sign(&mut bytes);
    let error = read_bytes(&bytes).unwrap_err();
    assert!(matches!(error, WalError::Invalid { what: "start", .. }) && !error.is_unsupported(), "{error}");
    bytes[8] = 2;
    sign(&mut bytes);
    assert!(read_bytes(&bytes).unwrap_err().is_unsupported());
    bytes[60] ^= 1;
    assert!(!read_bytes(&bytes).unwrap_err().is_unsupported(), "its checksum does not pass");
}

/// The magic is taken away first and written last, over whatever the file held: a crash may leave any part of it.
#[test]
fn a_log_without_its_whole_magic_was_not_begun() {
    let vfs = MemVfs::new();
    drop(create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO)));
    let whole = bytes_of(&*vfs, &path(1));
    let cause_of = |bytes: Vec<u8>| match Reader::open(Arc::new(Bytes(bytes)), "x") {
        Err(WalError::NoHeader { cause, .. }) => cause,
        other => panic!("{other:?}"),
    };
    for at in 0..8 {
        let mut bytes = whole.clone();
        bytes[at] = 0;
        assert_eq!(cause_of(bytes.clone()), EndCause::Zeros, "byte {at}");
        bytes[at] = b'x';
        assert!(matches!(cause_of(bytes), EndCause::Torn { offset: 0, .. }), "byte {at} is of something else");
    }
    let mut bytes = whole;
    bytes[20] ^= 1;
    assert!(matches!(cause_of(bytes), EndCause::Torn { .. }), "it was begun, and is damaged");
}
