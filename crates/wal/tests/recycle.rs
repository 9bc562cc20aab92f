//! The second life of a log's file: what it held before never passes, never counts as left out, and costs little to read past.

mod support;

use esker_vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, TraceVfs, Vfs};
use esker_wal::{
    Backend, EndCause, FILE_HEADER_BYTES, Fill, GroupSync, Lsn, Prepared, RESERVE_BYTES, Reader, RecordKind, Reserve,
    WalError, Writer, vouched,
};
use std::sync::Arc;
use support::{append, bytes_of, create_by, header, path, read_all, read_bytes, recycle};

/// Log 1, full of records that were synced as they came, sealed and no longer needed.
fn old_log(vfs: &dyn Vfs, group: &Arc<GroupSync>, payload: &[u8]) -> Lsn {
    let mut log = create_by(Backend::Mapped, vfs, 1, Lsn::ZERO, group);
    for n in 0..200 {
        append(&mut log, payload);
        if n % 7 == 0 {
            log.sync().unwrap();
        }
    }
    let end = log.seal().unwrap();
    group.retire(end);
    end
}

fn recycled(vfs: &dyn Vfs, payload: &[u8]) -> (Arc<GroupSync>, Writer) {
    let group = GroupSync::new(Lsn::ZERO);
    let end = old_log(vfs, &group, payload);
    let log = recycle(vfs, 1, 2, end, &group);
    (group, log)
}

#[test]
fn a_stale_tail_is_a_plain_end_wherever_the_new_log_ends() {
    for len in [0, 1, 8, 100, 104, 105, 500] {
        let vfs = MemVfs::new();
        let (_, mut log) = recycled(&*vfs, &[0xaa; 100]);
        for n in 0..50 {
            let (records, end) = read_all(vfs.open_read(&path(2)).unwrap()).unwrap();
            assert_eq!((records.len(), end.position, end.cause, end.leftover), (n, log.end(), EndCause::Zeros, false));
            assert!(end.vouched <= end.position);
            append(&mut log, &vec![7; len]);
        }
        assert!(vfs.list("/".as_ref()).unwrap() == ["000002.wal"]);
    }
}

/// Records of the same lengths lie at the same offsets in both lives, whole but for the file's id.
#[test]
fn a_stale_record_where_the_next_one_would_be_does_not_pass() {
    let vfs = MemVfs::new();
    let (_, mut log) = recycled(&*vfs, &[0xaa; 100]);
    append(&mut log, &[7; 100]);
    // The end mark is gone, as if its sector had been lost.
    let mut bytes = bytes_of(&*vfs, &path(2));
    let old = bytes_of(&*vfs, &path(2));
    let at = log.bytes() as usize;
    let record = FILE_HEADER_BYTES + 2 * 128;
    assert_ne!(at, record);
    bytes[at..at + 24].copy_from_slice(&old[record..record + 24]);
    let (records, end) = read_bytes(&bytes).unwrap();
    assert_eq!((records.len(), end.position), (1, log.end()));
    assert!(matches!(end.cause, EndCause::Torn { .. }) && end.vouched <= end.position);
}

#[test]
fn of_its_own_records_behind_a_hole_a_recycled_log_says_so() {
    for synced in [false, true] {
        let vfs = MemVfs::new();
        let (group, mut log) = recycled(&*vfs, &[0xaa; 100]);
        for n in 0..20 {
            if synced && n == 10 {
                log.sync().unwrap();
            }
            append(&mut log, &[n; 200]);
        }
        let mut bytes = bytes_of(&*vfs, &path(2));
        bytes[1024..2048].fill(0);
        let (records, end) = read_bytes(&bytes).unwrap();
        assert!(records.len() < 10 && end.leftover);
        assert_eq!(end.vouched > end.position, synced);
        if synced {
            assert_eq!(end.vouched, group.durable());
        }
    }
}

/// Every subset of the sectors of the last append, over what the file held before.
#[test]
fn a_tail_torn_at_any_subset_of_sectors_is_left_out() {
    let vfs = MemVfs::new();
    let (_, mut log) = recycled(&*vfs, &[0xaa; 100]);
    append(&mut log, &[1; 300]);
    log.sync().unwrap();
    let safe = log.end();
    let before = bytes_of(&*vfs, &path(2));
    append(&mut log, &[2; 2600]);
    let behind = bytes_of(&*vfs, &path(2));
    let sectors: Vec<usize> = (0..before.len() / 512)
        .filter(|sector| before[sector * 512..][..512] != behind[sector * 512..][..512])
        .collect();
    assert_eq!(sectors.len(), 6);
    for subset in 0..1_u32 << sectors.len() {
        let mut bytes = before.clone();
        for (bit, sector) in sectors.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1) {
            assert!(bit < 8);
            bytes[sector * 512..][..512].copy_from_slice(&behind[sector * 512..][..512]);
        }
        let (records, end) = read_bytes(&bytes).unwrap();
        let whole = end.position == log.end();
        assert!(whole || end.position == safe, "{subset:b}: {}", end.position);
        assert_eq!(records.len(), if whole { 2 } else { 1 });
        assert!(end.vouched <= end.position, "{subset:b}");
        // All but the last sector, which holds the end mark alone or with the record's end, make it whole.
        assert!(!whole || (subset | 1 << (sectors.len() - 1)) + 1 == 1 << sectors.len(), "{subset:b}");
    }
}

/// A crash at every operation of the change to a second life, and of what is written in it.
#[test]
fn whatever_a_power_cut_leaves_of_a_second_life_what_was_synced_is_there() {
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn::ZERO);
    let end = old_log(&*vfs, &group, &[0xaa; 100]);
    let before = vfs.operations();
    let mut log = recycle(&*vfs, 1, 2, end, &group);
    let mut synced = vec![(before, Lsn::ZERO)];
    for n in 1..30 {
        append(&mut log, &vec![n; 40 * usize::from(n)]);
        if n % 4 == 0 {
            log.sync().unwrap();
            synced.push((vfs.operations(), log.end()));
        }
    }
    for operations in before..=vfs.operations() {
        let safe = synced.iter().take_while(|(done, _)| *done <= operations).last().unwrap().1;
        let subsets = (0..12).map(|seed| CrashPolicy::Subset(seed * 7919 + operations as u64));
        for policy in [CrashPolicy::SyncedOnly, CrashPolicy::All, CrashPolicy::TornLast].into_iter().chain(subsets) {
            let after = vfs.crash_image(operations, policy);
            let file = match after.open_read(&path(2)) {
                Ok(file) => file,
                Err(_) => {
                    assert_eq!(safe, Lsn::ZERO, "{policy:?} after {operations}: the name is gone");
                    continue;
                }
            };
            let claimed = match vouched(file.clone(), "x") {
                Err(WalError::NoHeader { .. }) => {
                    assert_eq!(safe, Lsn::ZERO);
                    continue;
                }
                claimed => claimed.unwrap(),
            };
            let number = esker_wal::Reader::open(file.clone(), "x").unwrap().header().number.0;
            if number == 1 {
                // Not begun yet, or its header is lost with all that was never synced.
                assert_eq!(safe, Lsn::ZERO, "{policy:?} after {operations}: the header is the old one");
                continue;
            }
            let (records, found) = read_all(file).unwrap();
            assert!(found.position >= safe, "{policy:?} after {operations}: {} of {safe}", found.position);
            assert!(claimed <= found.position && found.vouched <= found.position);
            for (n, record) in records.iter().enumerate() {
                assert!(record.payload == vec![n as u8 + 1; 40 * (n + 1)]);
            }
        }
    }
}

#[test]
fn the_new_name_is_durable_before_the_log_begins() {
    let vfs = TraceVfs::new(MemVfs::new());
    let (_, mut log) = recycled(&*vfs, b"old");
    append(&mut log, b"new");
    log.sync().unwrap();
    vfs.assert_synced_before("/000002.wal", vfs.count());
    let renamed = vfs.find(Operation::Rename, "*")[0];
    let begun = vfs.find(Operation::Store, "/000002.wal")[0];
    assert!(vfs.find(Operation::SyncDir, "/").iter().any(|synced| (renamed..begun).contains(synced)));
    assert!(vfs.find(Operation::RemoveFile, "*").is_empty());
}

#[test]
fn a_second_life_that_can_not_begin_is_an_error() {
    for operation in [Operation::Rename, Operation::SyncDir, Operation::OpenLog, Operation::Grow] {
        let vfs = FaultVfs::new(MemVfs::new());
        let group = GroupSync::new(Lsn::ZERO);
        let log = create_by(Backend::Mapped, &*vfs, 1, Lsn::ZERO, &group);
        let mut log = log;
        log.trim().unwrap();
        let end = log.seal().unwrap();
        let rule = vfs.add(Rule::new(operation, Fault::EIO));
        assert!(Prepared::reuse(&*vfs, &path(1), &path(2)).is_err(), "{operation:?}");
        vfs.remove(rule);
        let (old, new) = (vfs.metadata(&path(1)).is_ok(), vfs.metadata(&path(2)).is_ok());
        assert!(old != new, "{operation:?}");
        create_by(Backend::Mapped, &*vfs, 3, end, &group);
    }
}

/// A reader that had opened a log failed with an unexpected end of file when the log was cut to what it holds.
#[test]
fn a_log_may_be_cut_to_its_records_while_it_is_read() {
    for backend in [Backend::Mapped, Backend::Write] {
        let vfs = MemVfs::new();
        let group = GroupSync::new(Lsn::ZERO);
        let mut log = create_by(backend, &*vfs, 1, Lsn::ZERO, &group);
        for _ in 0..300 {
            append(&mut log, &[7; 1000]);
        }
        log.push().unwrap();
        let mut reader = Reader::open(vfs.open_read(&path(1)).unwrap(), "000001.wal").unwrap();
        assert_eq!(reader.next().unwrap().unwrap().payload, [7; 1000]);
        let end = log.seal_trimmed().unwrap();
        assert_eq!(vfs.metadata(&path(1)).unwrap().len_bytes, end.0);
        let mut records = 1;
        while reader.next().unwrap().is_some() {
            records += 1;
        }
        assert_eq!((records, reader.end().unwrap().position), (300, end), "{backend:?}");
        assert!(!reader.end().unwrap().leftover);
    }
}

#[test]
fn the_mapped_backend_writes_what_the_other_writes() {
    let vfs = MemVfs::new();
    let mut ends = Vec::new();
    for (number, backend) in [(1, Backend::Mapped), (2, Backend::Write)] {
        let group = GroupSync::new(Lsn(800));
        let prepared = Prepared::create(&*vfs, &path(number), backend).unwrap();
        let mut log = prepared.begin(header(1, Lsn(800), Lsn(800)), &group).unwrap();
        for len in (0..3000).step_by(77).chain([700_000, 5, 9_000_000]) {
            let payload: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
            let parts: Vec<&[u8]> = payload.chunks(1 + len / 6).collect();
            log.append(RecordKind::Data, &parts, Reserve::Keep).unwrap();
            if len % 5 == 0 {
                log.sync().unwrap();
            }
        }
        log.append(RecordKind::Marker, &[], Reserve::Use).unwrap();
        log.push().unwrap();
        ends.push(log.bytes() as usize);
    }
    let (mapped, written) = (bytes_of(&*vfs, &path(1)), bytes_of(&*vfs, &path(2)));
    assert_eq!(ends[0], ends[1]);
    assert!(mapped[..ends[0]] == written[..ends[0]]);
}

#[test]
fn without_maps_the_mapped_backend_is_the_other() {
    let vfs = FaultVfs::new(MemVfs::new().with_maps(false));
    let group = GroupSync::new(Lsn::ZERO);
    let mut log = create_by(Backend::Mapped, &*vfs, 1, Lsn::ZERO, &group);
    append(&mut log, b"by write(2)");
    assert!(log.ahead(u64::MAX).is_none());
    log.sync().unwrap();
    assert_eq!((vfs.count(Operation::Store), vfs.count(Operation::Append)), (0, 2));
    assert_eq!(read_all(vfs.open_read(&path(1)).unwrap()).unwrap().0.len(), 1);
}

#[test]
fn an_append_to_a_mapped_log_is_pushed_at_once_and_makes_no_call() {
    let vfs = FaultVfs::new(MemVfs::new());
    let group = GroupSync::new(Lsn::ZERO);
    let mut log = create_by(Backend::Mapped, &*vfs, 1, Lsn::ZERO, &group);
    vfs.add(Rule::any(Fault::EIO));
    let stores = vfs.count(Operation::Store);
    let end = append(&mut log, b"with the kernel");
    assert_eq!(vfs.count(Operation::Store) - stores, 2);
    vfs.clear();
    assert_eq!(read_all(vfs.open_read(&path(1)).unwrap()).unwrap().0.len(), 1);
    group.sync_to(end).unwrap();
}

#[test]
fn room_is_made_ahead_when_half_of_it_is_used() {
    for fill in [Fill::Populated, Fill::Written] {
        let vfs = MemVfs::new();
        let group = GroupSync::new(Lsn::ZERO);
        let prepared = Prepared::create(&*vfs, &path(1), Backend::Mapped).unwrap();
        let small = vfs.used_bytes();
        assert!(small < 2 * RESERVE_BYTES, "a new log takes {small} bytes");
        let written = prepared.ahead(1 << 20).unwrap().make(fill, vfs.clock()).unwrap();
        assert_eq!((vfs.used_bytes(), written), (1 << 20, if fill == Fill::Written { (1 << 20) - small } else { 0 }));
        prepared.sync().unwrap();
        let mut log = prepared.begin(header(1, Lsn::ZERO, Lsn::ZERO), &group).unwrap();
        let mut lengths = vec![];
        while log.bytes() < 10 << 20 {
            append(&mut log, &[1; 10_000]);
            if let Some(ahead) = log.ahead(8 << 20) {
                ahead.make(fill, vfs.clock()).unwrap();
            }
            lengths.push(vfs.used_bytes() >> 20);
        }
        lengths.dedup();
        // Beyond what was asked for ahead the writer makes room itself.
        assert_eq!(lengths, [1, 2, 4, 8, 12], "{fill:?}");
        log.push().unwrap();
        assert_eq!(read_all(vfs.open_read(&path(1)).unwrap()).unwrap().1.position, log.end());
    }
}

#[test]
fn a_full_disk_leaves_a_mapped_log_as_it_was_and_its_reserve_usable() {
    let space = (1 << 20) + 200_000;
    let vfs = MemVfs::new().with_space(space);
    let mut log = create_by(Backend::Mapped, &*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    let error = loop {
        let before = log.end();
        if let Err(error) = log.append(RecordKind::Data, &[&[1; 10_000]], Reserve::Keep) {
            assert_eq!(log.end(), before);
            break error;
        }
    };
    assert!(error.is_no_space() && log.failed().is_none(), "{error}");
    assert!(space - log.bytes() < RESERVE_BYTES + 20_000, "all but the reserve is used: {}", log.bytes());
    let ahead = log.ahead(u64::MAX);
    assert!(ahead.is_none_or(|ahead| ahead.make(Fill::Populated, vfs.clock()).is_err()));
    let mut used = 0;
    while log.append(RecordKind::Data, &[&[2; 1000]], Reserve::Use).is_ok() {
        used += 1;
    }
    assert!(used >= RESERVE_BYTES / 1100, "{used} records");
    vfs.set_space(None);
    append(&mut log, b"goes on");
    log.sync().unwrap();
    assert_eq!(read_all(vfs.open_read(&path(1)).unwrap()).unwrap().1.position, log.end());
}

#[test]
fn a_trimmed_mapped_log_ends_with_its_last_record_and_may_go_on() {
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn::ZERO);
    let mut log = create_by(Backend::Mapped, &*vfs, 1, Lsn::ZERO, &group);
    append(&mut log, b"a");
    log.trim().unwrap();
    assert_eq!(bytes_of(&*vfs, &path(1)).len() as u64, log.bytes());
    append(&mut log, b"b");
    log.sync().unwrap();
    assert_eq!(read_all(vfs.open_read(&path(1)).unwrap()).unwrap().0.len(), 2);
}

/// A pause in writing gives room back; the log goes on where it was, asks for room anew, and whatever a crash leaves of it is a prefix.
#[test]
fn room_that_was_given_back_is_made_anew() {
    let vfs = MemVfs::new();
    let (group, mut log) = recycled(&*vfs, &[0xaa; 5000]);
    let long = bytes_of(&*vfs, &path(2)).len();
    append(&mut log, &[1; 3000]);
    log.sync().unwrap();
    log.give_back_room().unwrap();
    let kept = bytes_of(&*vfs, &path(2)).len() as u64;
    assert!(kept < long as u64 && kept >= log.bytes() + RESERVE_BYTES, "{kept} of {long}, used {}", log.bytes());
    log.give_back_room().unwrap();
    assert_eq!(bytes_of(&*vfs, &path(2)).len() as u64, kept, "there is no more to give back");
    append(&mut log, &[2; 100]);
    assert!(log.asks_for_room());
    assert!(log.ahead(4 << 20).is_some());
    let before = vfs.operations();
    for n in 0..400 {
        append(&mut log, &[n as u8; 3000]);
    }
    assert!(bytes_of(&*vfs, &path(2)).len() > 400 * 3000);
    let (records, end) = read_all(vfs.open_read(&path(2)).unwrap()).unwrap();
    assert_eq!((records.len(), end.position, end.cause), (402, log.end(), EndCause::Zeros));
    for operations in (before..=vfs.operations()).step_by(37) {
        for policy in [CrashPolicy::SyncedOnly, CrashPolicy::All, CrashPolicy::Subset(operations as u64)] {
            let image = vfs.crash_image(operations, policy);
            let (left, end) = read_all(image.open_read(&path(2)).unwrap()).unwrap();
            assert!(!left.is_empty() && left[..] == records[..left.len()] && end.vouched <= end.position);
        }
    }
    log.sync().unwrap();
    assert_eq!(group.durable(), log.end());
}

#[test]
fn room_that_cannot_be_given_back_stays() {
    let memory = MemVfs::new();
    let vfs = FaultVfs::new(memory.clone());
    let (_, mut log) = recycled(&*vfs, &[0xaa; 5000]);
    vfs.add(Rule::new(Operation::Trim, Fault::EIO));
    append(&mut log, &[1; 3000]);
    log.give_back_room().unwrap_err();
    append(&mut log, &[2; 3000]);
    let (records, end) = read_all(memory.open_read(&path(2)).unwrap()).unwrap();
    assert_eq!((records.len(), end.position), (2, log.end()));
}
