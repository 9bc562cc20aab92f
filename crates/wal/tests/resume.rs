//! Reading on: at a place that is known, behind a break, and over what a search must not take for a record.

mod support;

use esker_format::checksum::Crc;
use esker_vfs::{Map, MemVfs, ReadableFile};
use esker_wal::{EndCause, FILE_HEADER_BYTES, GroupSync, Lsn, RECORD_HEADER_BYTES, Reader, WalError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::{Bytes, append, bytes_of, create, header, path, read_bytes, sign_record};

const START: Lsn = Lsn(1000);

/// A log of the payloads, with nothing behind the last, and where in the file each record begins.
fn log_of(payloads: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let vfs = MemVfs::new();
    let mut log = create(&*vfs, 1, START, &GroupSync::new(START));
    let mut offsets = Vec::new();
    for payload in payloads {
        offsets.push(log.bytes() as usize);
        append(&mut log, payload);
    }
    log.trim().unwrap();
    (bytes_of(&*vfs, &path(1)), offsets)
}

fn reader(bytes: &[u8]) -> Reader {
    Reader::open(Arc::new(Bytes(bytes.to_vec())), "x").unwrap()
}

/// Reads up to the end or the first break.
fn read_out(reader: &mut Reader) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        payloads.push(record.payload.to_vec());
    }
    payloads
}

fn position(offset: usize) -> Lsn {
    START + offset as u64
}

#[test]
fn reading_goes_on_wherever_a_record_ended() {
    let payloads: [&[u8]; 3] = [b"one", b"two", b"three"];
    let (bytes, mut offsets) = log_of(&payloads);
    offsets.push(bytes.len());
    let mut reader = reader(&bytes);
    // To and fro, and from the end as well.
    for n in [1, 3, 0, 2, 3, 1] {
        reader.skip_to(position(offsets[n])).unwrap();
        assert!(reader.end().is_none());
        assert_eq!(read_out(&mut reader), payloads[n..]);
        assert_eq!(reader.end().unwrap().position, position(bytes.len()));
    }
    reader.skip_to(position(offsets[2])).unwrap();
    for outside in [0, START.0 - 1, START.0, START.0 + 63, START.0 + bytes.len() as u64 + 1, u64::MAX] {
        match reader.skip_to(Lsn(outside)) {
            Err(WalError::Invalid { found, .. }) => assert_eq!(found, outside),
            other => panic!("{outside}: {other:?}"),
        }
    }
    assert_eq!(read_out(&mut reader), payloads[2..], "a place that is none changes nothing");
}

#[test]
fn records_are_found_far_behind_a_break() {
    let words = |word: u64, bytes: usize| word.to_le_bytes().repeat(bytes / 8);
    // What no record header looks like, and what all but the checksum says is one.
    for lost in [words(u64::MAX, 400_000), words(1, 4000), words(1, 300_000)] {
        let (mut bytes, offsets) = log_of(&[b"first", &lost, b"torn", b"last"]);
        bytes[offsets[1]] ^= 1;
        // Its header passes, its payload does not: it is not whole.
        bytes[offsets[2] + RECORD_HEADER_BYTES] ^= 1;
        let mut reader = reader(&bytes);
        assert_eq!(read_out(&mut reader), [b"first"]);
        assert_eq!(reader.skip_break().unwrap(), Some(position(offsets[3])));
        assert_eq!(read_out(&mut reader), [b"last"]);
        assert_eq!(reader.skip_break().unwrap(), None);
    }
}

/// A file is searched piece by piece; a header may lie in two of them.
#[test]
fn a_header_is_found_at_any_place_of_the_pieces_that_are_searched() {
    const PIECE: usize = 128 << 10;
    for at in (PIECE - 64..=PIECE + 64).step_by(8) {
        let (mut bytes, offsets) = log_of(&[&vec![0xff; at - FILE_HEADER_BYTES - RECORD_HEADER_BYTES], b"found"]);
        assert_eq!(offsets[1], at);
        bytes[offsets[0]] ^= 1;
        // So it vouches, for what lies before it.
        bytes[at + 8..at + 16].copy_from_slice(&position(at).0.to_le_bytes());
        sign_record(&mut bytes, 1, START, at);
        let mut reader = reader(&bytes);
        assert!(reader.next().unwrap().is_none());
        assert_eq!(reader.end().unwrap().vouched, position(at));
        assert_eq!(reader.skip_break().unwrap(), Some(position(at)));
        assert_eq!(read_out(&mut reader), [b"found"]);
    }
}

#[test]
fn headers_are_looked_for_right_behind_zeros() {
    let (mut bytes, offsets) = log_of(&[&[7; 1000], b"", b"vouches"]);
    bytes[offsets[1]..offsets[2]].fill(0);
    bytes[offsets[2] + 8..offsets[2] + 16].copy_from_slice(&position(offsets[1]).0.to_le_bytes());
    sign_record(&mut bytes, 1, START, offsets[2]);
    let (records, end) = read_bytes(&bytes).unwrap();
    assert_eq!((records.len(), end.cause), (1, EndCause::Zeros));
    assert_eq!((end.vouched, end.leftover), (position(offsets[1]), true));
}

/// The last word of a payload and what is left of the torn header behind it look like a whole record: it begins before the break, where all was read.
#[test]
fn nothing_that_begins_before_a_break_is_found_behind_it() {
    let (mut bytes, offsets) = log_of(&[&[7; 40], b"torn"]);
    let at = offsets[1] - 8;
    let mut forged = [0; RECORD_HEADER_BYTES];
    let file_id = header(1, START, START).file_id.0;
    let payload_crc = Crc::new().u64(file_id).u64(position(at).0).bytes(&[1, 0, 0, 0, 0]).finish();
    forged[4..8].copy_from_slice(&payload_crc.to_le_bytes());
    forged[8..16].copy_from_slice(&(START.0 + 64).to_le_bytes());
    forged[16] = 1;
    // The first record holds its first word from the beginning, and is whole.
    let payload = [&[7; 32], &forged[..8]].concat();
    let rewritten = log_of(&[&payload, b"torn"]).0;
    bytes[..offsets[1]].copy_from_slice(&rewritten[..offsets[1]]);
    bytes[offsets[1]..][..16].copy_from_slice(&forged[8..]);
    sign_record(&mut bytes, 1, START, at);
    let mut reader = reader(&bytes);
    assert_eq!(read_out(&mut reader), [payload]);
    assert_eq!(reader.end().unwrap().vouched, START);
    assert_eq!(reader.skip_break().unwrap(), None);
    // It would have passed.
    reader.skip_to(position(at)).unwrap();
    assert_eq!(read_out(&mut reader), [b""]);
}

#[test]
fn a_header_of_any_kind_vouches_and_one_without_a_kind_does_not() {
    let (whole, offsets) = log_of(&[b"torn", b"claims"]);
    let claim = position(offsets[1]);
    for (kind, vouched) in [(1_u32, claim), (2, claim), (255, claim), (0, START), (256, START), (u32::MAX, START)] {
        let mut bytes = whole.clone();
        bytes[offsets[0]] ^= 1;
        bytes[offsets[1] + 8..offsets[1] + 16].copy_from_slice(&claim.0.to_le_bytes());
        bytes[offsets[1] + 16..offsets[1] + 20].copy_from_slice(&kind.to_le_bytes());
        sign_record(&mut bytes, 1, START, offsets[1]);
        assert_eq!(read_bytes(&bytes).unwrap().1.vouched, vouched, "kind {kind}");
    }
}

/// What a log was cut by while it is read reads as zeros; what the device can't read does not.
#[test]
fn an_error_of_the_device_is_none_of_a_log_that_was_cut() {
    #[derive(Debug)]
    struct Cut {
        bytes: Bytes,
        len: AtomicU64,
        error: io::ErrorKind,
    }
    impl ReadableFile for Cut {
        fn len_bytes(&self) -> io::Result<u64> {
            Ok(self.len.load(Ordering::SeqCst))
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            if !buffer.is_empty() && offset + buffer.len() as u64 > self.len_bytes()? {
                return Err(self.error.into());
            }
            self.bytes.read_exact_at(buffer, offset)
        }
        fn map(&self) -> io::Result<Map> {
            self.bytes.map()
        }
    }

    let vfs = MemVfs::new();
    let mut log = create(&*vfs, 1, START, &GroupSync::new(START));
    let end = append(&mut log, &[7; 1000]);
    log.push().unwrap();
    let bytes = bytes_of(&*vfs, &path(1));
    for error in [io::ErrorKind::UnexpectedEof, io::ErrorKind::Other] {
        let len = AtomicU64::new(bytes.len() as u64);
        let file = Arc::new(Cut { bytes: Bytes(bytes.clone()), len, error });
        let mut reader = Reader::open(file.clone(), "x").unwrap();
        assert_eq!(reader.next().unwrap().unwrap().payload, [7; 1000]);
        file.len.store(log.bytes(), Ordering::SeqCst);
        match reader.next() {
            Ok(None) => assert_eq!(error, io::ErrorKind::UnexpectedEof),
            Err(WalError::Io { source, .. }) => assert_eq!((source.kind(), error), (error, io::ErrorKind::Other)),
            other => panic!("{other:?}"),
        }
        assert!(reader.end().is_none_or(|found| found.position == end && found.cause == EndCause::Zeros));
    }
}
