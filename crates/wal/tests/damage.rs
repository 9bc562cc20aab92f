//! A damaged log reads as an error or a prefix, and what vouched for the lost bytes is found.

mod support;

use esker_vfs::{MemVfs, Vfs};
use esker_wal::{
    EndCause, FILE_HEADER_BYTES, GroupSync, LogEnd, Lsn, RECORD_HEADER_BYTES, Reader, RecordKind, Reserve, WalError,
    vouched,
};
use std::sync::Arc;
use support::{Bytes, Owned, append, bytes_of, create, path, read_bytes};

const START: Lsn = Lsn(1000);

struct Log {
    /// The file, some zeros behind the last record included.
    bytes: Vec<u8>,
    records: Vec<Owned>,
}

/// Six records: `a`, sync, `b`, a sync that covers it, a marker, `c`, `d`, an empty one. So `c` and what follows vouch up to the marker.
fn small_log() -> Log {
    let vfs = MemVfs::new();
    let group = GroupSync::new(START);
    let mut log = create(&*vfs, 3, START, &group);
    append(&mut log, b"a: the first record");
    log.sync().unwrap();
    append(&mut log, b"b: thirty-two bytes, no padding.");
    log.sync().unwrap();
    log.append(RecordKind::Marker, &[b"!"], Reserve::Keep).unwrap();
    append(&mut log, &[b'c'; 77]);
    append(&mut log, b"d: ends in zeros\0\0\0");
    append(&mut log, b"");
    log.push().unwrap();
    let mut bytes = bytes_of(&*vfs, &path(3));
    bytes.truncate(log.bytes() as usize + 64);
    let (records, end) = read_bytes(&bytes).unwrap();
    assert_eq!(records.len(), 6);
    assert_eq!((end.position, end.cause, end.leftover), (log.end(), EndCause::Zeros, false));
    assert_eq!(end.vouched, records[1].end);
    Log { bytes, records }
}

impl Log {
    fn offset(&self, record: &Owned) -> usize {
        (record.position.0 - START.0) as usize
    }

    fn end_offset(&self, record: &Owned) -> usize {
        (record.end.0 - START.0) as usize
    }

    /// Where the header and payload of a record end.
    fn payload_end(&self, record: &Owned) -> usize {
        self.offset(record) + RECORD_HEADER_BYTES + record.payload.len()
    }

    /// The largest durable position among those of `headers`, and the file's own.
    fn vouched_by<'a>(&self, headers: impl IntoIterator<Item = &'a Owned>) -> Lsn {
        headers.into_iter().map(|record| record.durable).fold(START, Lsn::max)
    }

    /// Reads damaged bytes, in which the first `whole` records must be as they were.
    fn expect_prefix(&self, bytes: &[u8], whole: usize) -> LogEnd {
        let (records, end) = read_bytes(bytes).unwrap();
        assert_eq!(records, self.records[..whole]);
        assert_eq!(end.position, records.last().map_or(START + FILE_HEADER_BYTES as u64, |record| record.end));
        end
    }
}

#[test]
fn a_last_record_torn_at_any_byte_is_left_out() {
    let mut log = small_log();
    log.records.truncate(4);
    let last = log.records[3].clone();
    let (from, to) = (log.offset(&last), log.payload_end(&last));
    for kept in from..to {
        // Space had been allocated: what was not written reads as zeros.
        let mut bytes = log.bytes.clone();
        bytes[kept..].fill(0);
        let end = log.expect_prefix(&bytes, 3);
        assert_eq!(end.leftover, kept > from, "kept {}", kept - from);
        match end.cause {
            EndCause::Zeros => assert_eq!(kept, from),
            EndCause::Torn { offset, .. } if kept < from + RECORD_HEADER_BYTES => assert_eq!(offset, from as u64),
            EndCause::Torn { offset, .. } => assert_eq!(offset, (from + RECORD_HEADER_BYTES) as u64),
            other => panic!("kept {}: {other}", kept - from),
        }
        assert!(end.vouched <= end.position, "a torn tail is not damage");

        // It had not: the file ends.
        bytes.truncate(kept);
        let end = log.expect_prefix(&bytes, 3);
        match end.cause {
            EndCause::EndOfFile => assert_eq!(kept, from),
            EndCause::ShortRecord { offset, need, have } => {
                assert_eq!((offset, have), (from as u64, (kept - from) as u64));
                assert!(have < need);
            }
            other => panic!("kept {}: {other}", kept - from),
        }
    }
}

#[test]
fn any_flipped_byte_gives_an_error_or_a_prefix_and_is_vouched_against() {
    let log = small_log();
    for at in 0..log.bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = log.bytes.clone();
            bytes[at] ^= mask;
            if at < FILE_HEADER_BYTES {
                assert!(matches!(read_bytes(&bytes), Err(WalError::NoHeader { .. })), "byte {at}");
                continue;
            }
            let Some(hit) = log.records.iter().position(|record| at < log.end_offset(record)) else {
                let end = log.expect_prefix(&bytes, 6);
                assert_eq!(end.behind, 0);
                // In the place of the next header it is torn; behind that it is no byte of this log.
                assert_eq!(end.leftover, matches!(end.cause, EndCause::Torn { .. }), "byte {at} lies behind the end");
                assert_eq!(end.leftover, at < log.end_offset(&log.records[5]) + RECORD_HEADER_BYTES);
                continue;
            };
            let record = &log.records[hit];
            if at >= log.payload_end(record) {
                log.expect_prefix(&bytes, 6); // Padding.
                continue;
            }
            let end = log.expect_prefix(&bytes, hit);
            assert!(matches!(end.cause, EndCause::Torn { expected, found, .. } if expected != found));
            assert!(end.leftover);
            assert_eq!(end.behind, (log.records.len() - hit - 1) as u64, "byte {at}");
            // The header that was hit does not vouch; that of a hit payload does, and so do all the others.
            let header_hit = at < log.offset(record) + RECORD_HEADER_BYTES;
            let headers = log.records.iter().enumerate().filter(|(n, _)| *n != hit || !header_hit).map(|(_, r)| r);
            assert_eq!(end.vouched, log.vouched_by(headers), "byte {at}");
            // `a` and `b` were synced before the marker was written: without them the log is damaged, not torn.
            assert_eq!(end.vouched > end.position, hit < 2, "byte {at}");
        }
    }
}

/// For whoever makes do with what is left: all records but the one that was hit.
#[test]
fn behind_a_break_all_other_records_are_found() {
    let log = small_log();
    for at in FILE_HEADER_BYTES..log.bytes.len() {
        let mut bytes = log.bytes.clone();
        bytes[at] ^= 0x80;
        let mut reader = Reader::open(Arc::new(Bytes(bytes)), "the log").unwrap();
        let (mut found, mut breaks) = (Vec::new(), 0);
        loop {
            if let Some(record) = reader.next().unwrap() {
                let (kind, position, end, durable) = (record.kind, record.position, record.end, record.durable);
                found.push(Owned { kind, position, end, durable, payload: record.payload.to_vec() });
            } else if reader.skip_break().unwrap().is_some() {
                breaks += 1;
            } else {
                break;
            }
        }
        assert!(reader.next().unwrap().is_none() && reader.skip_break().unwrap().is_none());
        let hit = log.records.iter().position(|record| at >= log.offset(record) && at < log.payload_end(record));
        let left: Vec<_> =
            log.records.iter().enumerate().filter(|(n, _)| Some(*n) != hit).map(|(_, r)| r.clone()).collect();
        assert_eq!(found, left, "byte {at}");
        assert_eq!(breaks, u32::from(hit.is_some_and(|hit| hit < 5)), "byte {at}");
    }
}

#[test]
fn a_log_of_any_length_reads_as_a_prefix() {
    let log = small_log();
    for len in 0..log.bytes.len() {
        let bytes = &log.bytes[..len];
        if len < FILE_HEADER_BYTES {
            let error = read_bytes(bytes).unwrap_err();
            let want_short = len > 0;
            assert_eq!(
                matches!(error, WalError::NoHeader { cause: EndCause::ShortRecord { .. }, .. }),
                want_short,
                "{error}"
            );
            continue;
        }
        let whole = log.records.iter().filter(|record| log.end_offset(record) <= len).count();
        let end = log.expect_prefix(bytes, whole);
        let headers = log.records.iter().filter(|record| log.offset(record) + RECORD_HEADER_BYTES <= len);
        assert_eq!(end.vouched, log.vouched_by(headers), "length {len}");
        let rest = &log.bytes[log.records[..whole].last().map_or(FILE_HEADER_BYTES, |r| log.end_offset(r))..len];
        match end.cause {
            EndCause::EndOfFile => assert!(rest.is_empty()),
            EndCause::Zeros => assert!(rest.iter().all(|byte| *byte == 0)),
            EndCause::ShortRecord { need, have, .. } => {
                assert!(have == rest.len() as u64 && have < need && whole < 6);
            }
            EndCause::Torn { .. } => panic!("nothing is torn"),
        }
        assert_eq!(end.leftover, rest.iter().any(|byte| *byte != 0));
    }
}

#[test]
fn a_hole_of_any_sectors_is_told_from_a_tail() {
    // Whole records behind a hole are normal where nothing was synced, and damage where it was.
    for synced in [false, true] {
        let vfs = MemVfs::new();
        let group = GroupSync::new(Lsn::ZERO);
        let mut log = create(&*vfs, 1, Lsn::ZERO, &group);
        for n in 0..40 {
            if synced && n == 30 {
                log.sync().unwrap();
            }
            append(&mut log, &[n; 200]);
        }
        log.push().unwrap();
        let whole = bytes_of(&*vfs, &path(1));
        for sector in 1..6 {
            let mut bytes = whole.clone();
            bytes[sector * 512..(sector + 1) * 512].fill(0);
            let (records, end) = read_bytes(&bytes).unwrap();
            assert!(records.len() < 30);
            assert!(end.leftover);
            assert_eq!(end.vouched > end.position, synced, "sector {sector}");
        }
    }
}

#[test]
fn a_vouching_header_is_found_far_behind_the_break_and_with_a_torn_payload() {
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn::ZERO);
    let mut log = create(&*vfs, 1, Lsn::ZERO, &group);
    append(&mut log, &[1; 5000]);
    append(&mut log, &[2; 700_000]);
    log.sync().unwrap();
    let last = log.end();
    append(&mut log, &[3; 300_000]);
    log.push().unwrap();
    let mut bytes = bytes_of(&*vfs, &path(1));
    bytes[100] ^= 1; // in the first payload
    bytes[6000] ^= 1; // in the second
    bytes[last.0 as usize + 5000] ^= 1; // in the third
    let (records, end) = read_bytes(&bytes).unwrap();
    assert_eq!((records.len(), end.vouched), (0, last));
    // So it is when headers are gone too, and the next one has to be looked for.
    bytes[FILE_HEADER_BYTES..FILE_HEADER_BYTES + RECORD_HEADER_BYTES].fill(0);
    bytes[5092..5092 + RECORD_HEADER_BYTES].fill(0x55);
    let (records, end) = read_bytes(&bytes).unwrap();
    assert_eq!((records.len(), end.vouched, end.cause), (0, last, EndCause::Zeros));
    assert_eq!(vouched(Arc::new(Bytes(bytes)), "x").unwrap(), last);
}

#[test]
fn another_files_records_never_pass() {
    let vfs = MemVfs::new();
    let log = |number: u64, payload: &[u8]| {
        let group = GroupSync::new(START);
        let mut log = create(&*vfs, number, START, &group);
        append(&mut log, payload);
        append(&mut log, payload);
        log.push().unwrap();
        let mut bytes = bytes_of(&*vfs, &path(number));
        bytes.truncate(log.bytes() as usize);
        bytes
    };
    let (new, old) = (log(1, b"a record of 32 bytes, padding 0."), log(2, b"the same length, another file's."));
    assert_eq!(new.len(), old.len());
    // The file is a recycled one, and the old records lie where new ones would.
    let recycled = [&new[..FILE_HEADER_BYTES + 56], &old[FILE_HEADER_BYTES + 56..]].concat();
    let (records, end) = read_bytes(&recycled).unwrap();
    assert_eq!(records.len(), 1);
    assert!(matches!(end.cause, EndCause::Torn { .. }) && end.leftover);
    // Right file, wrong place.
    let twice = [&new[..FILE_HEADER_BYTES + 56], &new[FILE_HEADER_BYTES..FILE_HEADER_BYTES + 56]].concat();
    assert_eq!(read_bytes(&twice).unwrap().0.len(), 1);
    let swapped = [&new[..FILE_HEADER_BYTES], &new[FILE_HEADER_BYTES + 56..], &new[FILE_HEADER_BYTES..]].concat();
    let (records, end) = read_bytes(&swapped).unwrap();
    assert_eq!((records.len(), end.position), (0, START + FILE_HEADER_BYTES as u64));
}

#[test]
fn a_record_within_a_payload_does_not_vouch() {
    // A value holds what looks like a record of this very file, at the place where it lies; and the record that holds it is torn.
    let mut log = small_log();
    let offset = log.offset(&log.records[3]);
    let at = offset + RECORD_HEADER_BYTES + 8;
    log.bytes[at..at + 20].copy_from_slice(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0");
    let claim = START.0 + at as u64;
    log.bytes[at + 8..at + 16].copy_from_slice(&claim.to_le_bytes());
    sign_record(&mut log.bytes, at);
    let end = log.expect_prefix(&log.bytes, 3);
    assert_eq!(end.vouched, log.records[1].end, "what the records say, not what a value says");
    assert!(end.leftover);
    // Nor when the record that holds it is itself found behind a break.
    let earlier = log.offset(&log.records[2]);
    log.bytes[earlier] ^= 1;
    assert_eq!(log.expect_prefix(&log.bytes, 2).vouched, log.records[1].end);
    log.bytes[earlier] ^= 1;
    // It would have passed.
    log.bytes[offset] ^= 1;
    assert_eq!(log.expect_prefix(&log.bytes, 3).vouched, Lsn(claim));
}

#[test]
fn what_a_newer_version_writes_is_refused_by_name() {
    let crc = esker_format::checksum::crc32c;
    let log = small_log();
    for (at, what) in [(8, "format version"), (12, "flags"), (50, "reserved field")] {
        let mut bytes = log.bytes.clone();
        bytes[at] = 9;
        let sum = crc(&bytes[..60]);
        bytes[60..64].copy_from_slice(&sum.to_le_bytes());
        let error = read_bytes(&bytes).unwrap_err();
        assert!(error.is_unsupported() && error.to_string().contains(what), "{error}");
    }
    for (at, byte) in [(16, 0), (16, 3), (16, 255), (17, 1), (19, 1)] {
        let mut bytes = log.bytes.clone();
        let record = &log.records[3];
        let offset = log.offset(record);
        bytes[offset + at] = byte;
        sign_record(&mut bytes, offset);
        let error = read_bytes(&bytes).unwrap_err();
        assert!(error.is_unsupported(), "{error}");
        let wanted = u32::from_le_bytes(bytes[offset + 16..offset + 20].try_into().unwrap());
        assert!(error.to_string().ends_with(&format!("at {offset} is not known to this version: {wanted}")), "{error}");
    }
}

/// As [`support::sign_record`], in a [`small_log`].
fn sign_record(bytes: &mut [u8], offset: usize) {
    support::sign_record(bytes, 3, START, offset);
}

#[test]
fn impossible_claims_are_refused_even_if_signed() {
    let log = small_log();
    let offset = log.offset(&log.records[3]);
    // A record that vouches for bytes behind itself.
    let mut bytes = log.bytes.clone();
    bytes[offset + 8..offset + 16].copy_from_slice(&u64::MAX.to_le_bytes());
    sign_record(&mut bytes, offset);
    assert!(matches!(read_bytes(&bytes), Err(WalError::Invalid { what: "durable position", found: u64::MAX, .. })));
    // It does not vouch behind a break either.
    bytes[log.offset(&log.records[2])] ^= 1;
    assert_eq!(read_bytes(&bytes).unwrap().1.vouched, log.records[1].end);

    // A length beyond the file's.
    let mut bytes = log.bytes.clone();
    bytes[offset..offset + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    sign_record(&mut bytes, offset);
    let end = log.expect_prefix(&bytes, 3);
    assert!(matches!(end.cause, EndCause::ShortRecord { need: 0x1_0000_0018, .. }), "{}", end.cause);

    // A file that starts where offsets overflow, one that is durable beyond its start, and one that is no log.
    let (start, durable, magic) = (u64::MAX.to_le_bytes(), (START.0 + 1).to_le_bytes(), *b"ESKERSST");
    for (at, field, what) in [(32, start, "start"), (40, durable, "durable position"), (0, magic, "magic")] {
        let mut bytes = log.bytes.clone();
        bytes[at..at + 8].copy_from_slice(&field);
        let crc = esker_format::checksum::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        match read_bytes(&bytes) {
            Err(WalError::Invalid { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_file_of_zeros_has_no_header() {
    for len in [0, 1, 64, 4096] {
        let error = read_bytes(&vec![0; len]).unwrap_err();
        let cause = if len == 0 { EndCause::EndOfFile } else { EndCause::Zeros };
        assert!(matches!(error, WalError::NoHeader { cause: found, .. } if found == cause), "{error}");
    }
}

#[test]
fn errors_name_file_offset_and_checksums() {
    let log = small_log();
    let mut bytes = log.bytes.clone();
    bytes[20] ^= 1;
    let stored = u32::from_le_bytes(bytes[60..64].try_into().unwrap());
    let found = esker_format::checksum::crc32c(&bytes[..60]);
    assert_eq!(
        read_bytes(&bytes).unwrap_err().to_string(),
        format!("log the log: the file header is not whole: at 0: checksum {found:#010x}, expected {stored:#010x}")
    );
}

#[test]
fn an_io_error_is_reported_and_the_next_call_tries_again() {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Debug)]
    struct Flaky(Bytes, AtomicBool);
    impl esker_vfs::ReadableFile for Flaky {
        fn len_bytes(&self) -> io::Result<u64> {
            self.0.len_bytes()
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            if self.1.load(Ordering::SeqCst) {
                Err(io::Error::other("EIO"))
            } else {
                self.0.read_exact_at(buffer, offset)
            }
        }
        fn map(&self) -> io::Result<esker_vfs::Map> {
            self.0.map()
        }
    }

    // Longer than what is read at once.
    let vfs: Arc<dyn Vfs> = MemVfs::new();
    let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    append(&mut log, &[1; 100]);
    append(&mut log, &[2; 300_000]);
    log.push().unwrap();
    let file = Arc::new(Flaky(Bytes(bytes_of(&*vfs, &path(1))), AtomicBool::new(false)));
    let mut reader = esker_wal::Reader::open(file.clone(), "x").unwrap();
    assert_eq!(reader.next().unwrap().unwrap().payload, [1; 100]);
    file.1.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(reader.next().unwrap_err().io().unwrap().to_string(), "EIO");
        assert!(reader.end().is_none(), "an error is not an end");
    }
    file.1.store(false, Ordering::SeqCst);
    assert_eq!(reader.next().unwrap().unwrap().payload, [2; 300_000]);
    assert!(reader.next().unwrap().is_none());
}
