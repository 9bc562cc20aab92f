//! What the writer promises: positions, buffering, big records, full disks, failed writes.

mod support;

use esker_vfs::{Fault, FaultVfs, MemVfs, Operation, Rule, TraceVfs, Vfs};
use esker_wal::{
    Backend, EndCause, FILE_HEADER_BYTES, GroupSync, Lsn, Prepared, RECORD_HEADER_BYTES, RESERVE_BYTES, RecordKind,
    Reserve, WalError, Writer,
};
use std::path::Path;
use support::{append, bytes_of, create, header, path, read_all};

const MIB: u64 = 1 << 20;

#[test]
fn records_lie_one_behind_the_other_on_the_line() {
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn(500));
    let mut log = create(&*vfs, 4, Lsn(500), &group);
    assert_eq!((log.number().0, log.start(), log.end(), log.bytes()), (4, Lsn(500), Lsn(564), 64));
    let mut at = log.end();
    for len in 0..40 {
        let end = append(&mut log, &vec![7; len]);
        assert_eq!(end, at + (RECORD_HEADER_BYTES + len.next_multiple_of(8)) as u64);
        at = end;
    }
    log.append(RecordKind::Marker, &[b"idle"], Reserve::Keep).unwrap();
    log.push().unwrap();
    let (records, end) = read_all(vfs.open_read(&path(4)).unwrap()).unwrap();
    assert_eq!((records.len(), end.position, end.cause), (41, log.end(), EndCause::Zeros));
    assert!(records.windows(2).all(|pair| pair[0].end == pair[1].position));
    assert!((0..40).all(|len| records[len].payload == vec![7; len]));
    assert_eq!((records[40].kind, &records[40].payload[..]), (RecordKind::Marker, &b"idle"[..]));
}

#[test]
fn a_record_is_in_this_process_until_it_is_pushed() {
    let vfs = MemVfs::new();
    let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    append(&mut log, b"not yet");
    assert_eq!(read_all(vfs.open_read(&path(1)).unwrap()).unwrap().0.len(), 0);
    log.push().unwrap();
    assert_eq!(read_all(vfs.open_read(&path(1)).unwrap()).unwrap().0.len(), 1);
    // Many are handed over when the buffer is full, without being asked.
    let before = log.bytes();
    while log.bytes() - before < 300_000 {
        append(&mut log, &[1; 1000]);
    }
    let there = read_all(vfs.open_read(&path(1)).unwrap()).unwrap().1.position;
    assert!(log.end().0 - there.0 < 70_000, "{there} of {} are there", log.end());
}

#[test]
fn small_records_share_a_write_and_a_push_without_records_makes_none() {
    let vfs = FaultVfs::new(MemVfs::new());
    let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    assert_eq!(vfs.count(Operation::Append), 1, "the header");
    for _ in 0..100 {
        append(&mut log, &[0; 100]);
    }
    log.push().unwrap();
    log.push().unwrap();
    assert_eq!(vfs.count(Operation::Append), 2);
}

#[test]
fn a_record_larger_than_buffer_and_extent_is_handed_over_in_its_parts() {
    let vfs = FaultVfs::new(MemVfs::new());
    let group = GroupSync::new(Lsn::ZERO);
    let mut log = create(&*vfs, 1, Lsn::ZERO, &group);
    append(&mut log, b"before");
    let parts: Vec<Vec<u8>> = [3, 9_000_000, 0, 70_001, 65_536, 5].iter().map(|len| vec![*len as u8; *len]).collect();
    let slices: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
    let writes = vfs.count(Operation::Append);
    log.append(RecordKind::Data, &slices, Reserve::Keep).unwrap();
    // What was gathered before the first big part, the three big parts, and the rest at the push.
    log.push().unwrap();
    assert_eq!(vfs.count(Operation::Append) - writes, 5);
    append(&mut log, b"behind");
    log.sync().unwrap();
    let (records, end) = read_all(vfs.open_read(&path(1)).unwrap()).unwrap();
    let payloads: Vec<&[u8]> = records.iter().map(|record| &record.payload[..]).collect();
    assert!(payloads == [&b"before"[..], &parts.concat(), b"behind"]);
    assert_eq!(end.position, log.end());
}

#[test]
fn a_payload_beyond_32_bits_is_refused_and_nothing_changes() {
    let vfs = MemVfs::new();
    let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    // 2^32 bytes, by naming 64 MiB of them again and again.
    let part = vec![0; 64 << 20];
    let parts = vec![&part[..]; 64];
    let before = log.end();
    let error = log.append(RecordKind::Data, &parts, Reserve::Keep).unwrap_err();
    assert!(matches!(error, WalError::TooLong { bytes: 0x1_0000_0000, .. }), "{error}");
    assert_eq!(log.end(), before);
    append(&mut log, b"small");
    log.sync().unwrap();
    assert_eq!(read_all(vfs.open_read(&path(1)).unwrap()).unwrap().0.len(), 1);
}

#[test]
fn space_is_allocated_ahead_in_growing_extents() {
    let vfs = MemVfs::new();
    let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    let mut lengths = vec![];
    for _ in 0..170 {
        append(&mut log, &[1; 100_000]);
        lengths.push(vfs.metadata(&path(1)).unwrap().len_bytes / MIB);
    }
    lengths.dedup();
    assert_eq!(lengths, [1, 2, 4, 8, 12, 16, 20]);
}

#[test]
fn a_full_disk_refuses_then_lets_the_reserve_be_used_and_goes_on_when_there_is_space() {
    let vfs = MemVfs::new().with_space(MIB + 200_000);
    let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    let mut kept = 0;
    let error = loop {
        let before = log.end();
        match log.append(RecordKind::Data, &[&[1; 10_000]], Reserve::Keep) {
            Ok(_) => kept += 1,
            Err(error) => {
                assert_eq!(log.end(), before, "nothing has changed");
                break error;
            }
        }
    };
    assert!(error.is_no_space(), "{error}");
    assert!(MIB + 200_000 - log.bytes() < RESERVE_BYTES + 2 * 10_000, "all but the reserve is used: {}", log.bytes());
    assert!(log.append(RecordKind::Data, &[&[1; 10_000]], Reserve::Keep).unwrap_err().is_no_space());

    // What frees space may still be written.
    let mut used = 0;
    while log.append(RecordKind::Data, &[&[2; 1000]], Reserve::Use).is_ok() {
        used += 1;
    }
    assert!(used >= RESERVE_BYTES / 1100, "{used} records");
    log.sync().unwrap();

    vfs.set_space(None);
    append(&mut log, b"goes on");
    log.sync().unwrap();
    let (records, end) = read_all(vfs.open_read(&path(1)).unwrap()).unwrap();
    assert_eq!((records.len() as u64, end.position), (kept + used + 1, log.end()));
}

#[test]
fn a_failed_append_poisons_the_writer() {
    for fault in [Fault::EIO, Fault::ENOSPC, Fault::SHORT] {
        let vfs = FaultVfs::new(MemVfs::new());
        let group = GroupSync::new(Lsn::ZERO);
        let mut log = create(&*vfs, 1, Lsn::ZERO, &group);
        append(&mut log, b"safe");
        log.sync().unwrap();
        let safe = log.end();
        vfs.add(Rule::new(Operation::Append, fault).nth(1));
        append(&mut log, b"buffered");
        let error = log.push().unwrap_err();
        assert_eq!(error.is_no_space(), fault != Fault::EIO, "{error}");
        let text = error.to_string();
        assert!(text.starts_with("log 000001.wal: write at "), "{text}");
        // The file system works again; the writer does not.
        assert_eq!(log.push().unwrap_err().to_string(), text);
        assert_eq!(log.sync().unwrap_err().to_string(), text);
        assert_eq!(log.append(RecordKind::Data, &[b"x"], Reserve::Use).unwrap_err().to_string(), text);
        assert_eq!(log.seal().unwrap_err().to_string(), text);
        // What was synced before stays so, and what was pushed can still be synced.
        group.sync_to(safe).unwrap();
        let (records, end) = read_all(vfs.open_read(&path(1)).unwrap()).unwrap();
        assert_eq!((records.len(), end.position), (1, safe));
    }
}

#[test]
fn a_big_record_that_fails_half_way_poisons_too() {
    let vfs = FaultVfs::new(MemVfs::new());
    let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    append(&mut log, b"whole");
    vfs.add(Rule::new(Operation::Append, Fault::SHORT).nth(2));
    let error = log.append(RecordKind::Data, &[&[7; 200_000]], Reserve::Keep).unwrap_err();
    assert!(error.is_no_space());
    assert!(log.push().is_err());
    let (records, end) = read_all(vfs.open_read(&path(1)).unwrap()).unwrap();
    assert_eq!(records.len(), 1);
    assert!(matches!(end.cause, EndCause::Torn { .. }), "{}", end.cause);
}

#[test]
fn an_allocation_that_fails_otherwise_poisons() {
    let vfs = FaultVfs::new(MemVfs::new());
    let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    vfs.add(Rule::new(Operation::Preallocate, Fault::EIO));
    let error = log.append(RecordKind::Data, &[&vec![7; 2 << 20]], Reserve::Keep).unwrap_err();
    assert!(error.to_string().contains("allocate") && !error.is_no_space(), "{error}");
    assert!(log.push().is_err());
}

#[test]
fn a_log_that_can_not_be_made_leaves_no_file_and_the_group_as_it_was() {
    for operation in [Operation::CreateNew, Operation::Preallocate, Operation::SyncDir, Operation::Append] {
        let vfs = FaultVfs::new(MemVfs::new());
        let group = GroupSync::new(Lsn::ZERO);
        vfs.add(Rule::new(operation, Fault::ENOSPC));
        let error = Writer::create(&*vfs, &path(1), header(1, Lsn::ZERO, Lsn::ZERO), &group).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        assert!(vfs.list(Path::new("/")).unwrap().is_empty(), "{operation:?}");
        vfs.clear();
        create(&*vfs, 1, Lsn::ZERO, &group).sync().unwrap();
    }
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn::ZERO);
    let log = create(&*vfs, 1, Lsn::ZERO, &group);
    let error = Writer::create(&*vfs, &path(1), header(1, log.end(), Lsn::ZERO), &group).unwrap_err();
    assert_eq!(error.io().unwrap().kind(), std::io::ErrorKind::AlreadyExists);
    assert!(vfs.metadata(&path(1)).is_ok(), "another's file is left alone");
}

#[test]
fn the_directory_is_synced_before_a_record_can_be() {
    let vfs = TraceVfs::new(MemVfs::new());
    let group = GroupSync::new(Lsn::ZERO);
    let mut log = create(&*vfs, 1, Lsn::ZERO, &group);
    append(&mut log, b"x");
    log.sync().unwrap();
    vfs.assert_synced_before("/000001.wal", vfs.count());
}

#[test]
fn a_prepared_log_takes_its_place_without_touching_the_file_system() {
    for backend in [Backend::Mapped, Backend::Write] {
        let vfs = FaultVfs::new(MemVfs::new());
        let group = GroupSync::new(Lsn::ZERO);
        let mut old = create(&*vfs, 1, Lsn::ZERO, &group);
        let next = Prepared::create(&*vfs, &path(2), backend).unwrap();
        append(&mut old, b"grows on");
        old.push().unwrap();
        let rule = vfs.add(Rule::any(Fault::EIO));
        let end = old.seal().unwrap();
        let mut new = next.begin(header(2, end, group.durable()), &group).unwrap();
        append(&mut new, b"x");
        vfs.remove(rule);
        new.sync().unwrap();
        assert_eq!(new.end(), end + (FILE_HEADER_BYTES + RECORD_HEADER_BYTES + 8) as u64);
        assert_eq!(read_all(vfs.open_read(&path(2)).unwrap()).unwrap().0.len(), 1);
        // One that was never begun is all zeros.
        Prepared::create(&*vfs, &path(3), backend).unwrap();
        let error = read_all(vfs.open_read(&path(3)).unwrap()).unwrap_err();
        assert!(matches!(error, WalError::NoHeader { cause: EndCause::Zeros, .. }), "{error}");
    }
}

#[test]
fn a_log_that_was_trimmed_ends_with_its_last_record_and_may_go_on() {
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn::ZERO);
    let mut log = create(&*vfs, 1, Lsn::ZERO, &group);
    append(&mut log, b"a");
    log.trim().unwrap();
    assert_eq!(bytes_of(&*vfs, &path(1)).len() as u64, log.bytes());
    append(&mut log, b"b");
    log.sync().unwrap();
    assert!(bytes_of(&*vfs, &path(1)).len() as u64 > log.bytes(), "allocated ahead again");
    let (records, _) = read_all(vfs.open_read(&path(1)).unwrap()).unwrap();
    assert_eq!(records.len(), 2);
}

#[test]
fn a_log_out_of_line_is_refused() {
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn(100));
    let begin =
        |number, start, durable| Writer::create(&*vfs, &path(number), header(number, Lsn(start), Lsn(durable)), &group);
    assert!(matches!(begin(1, 99, 99), Err(WalError::OutOfLine { end: Some(Lsn(100)), .. })));
    assert!(matches!(begin(2, 100, 101), Err(WalError::Invalid { what: "durable position", .. })));
    assert!(matches!(begin(3, u64::MAX, 100), Err(WalError::Invalid { what: "start", .. })));
    let log = begin(4, 100, 100).unwrap();
    let error = begin(5, 10_000, 100).unwrap_err();
    assert!(error.to_string().ends_with("the logs before it are not sealed"), "{error}");
    let end = log.seal().unwrap();
    let error = begin(6, 163, 100).unwrap_err();
    assert!(error.to_string().ends_with("starts at 163, but the logs before it are sealed at 164"), "{error}");
    assert_eq!(end, Lsn(164));
    begin(7, 164, 100).unwrap();
    assert_eq!(vfs.list(Path::new("/")).unwrap(), ["000004.wal", "000007.wal"], "what is refused leaves no file");
}

#[test]
fn each_record_says_what_was_durable_when_it_was_appended() {
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn::ZERO);
    let mut log = create(&*vfs, 1, Lsn::ZERO, &group);
    let a = append(&mut log, b"a");
    let b = append(&mut log, b"b");
    log.sync().unwrap();
    let c = append(&mut log, b"c");
    log.push().unwrap();
    append(&mut log, b"d");
    group.sync_to(c).unwrap(); // `d` is not pushed: nothing vouches for it
    append(&mut log, b"e");
    log.push().unwrap();
    let bytes = bytes_of(&*vfs, &path(1));
    let (records, end) = support::read_bytes(&bytes).unwrap();
    let durable: Vec<Lsn> = records.iter().map(|record| record.durable).collect();
    assert!(a < b && b < c);
    assert_eq!(durable, [Lsn::ZERO, Lsn::ZERO, b, b, c]);
    assert_eq!(end.vouched, c);
}
