//! The room of a log: when more is asked for, what is made and given back, and that all of it can be used.

mod support;

use esker_vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
use esker_wal::{
    Backend, FILE_HEADER_BYTES, Fill, GroupSync, Lsn, Prepared, RECORD_HEADER_BYTES, RESERVE_BYTES, RecordKind,
    Reserve, Writer,
};
use support::{append, create, create_by, header, path, read_all};

const MIB: u64 = 1 << 20;

/// A mapped log for which room for `len` bytes was made before it began.
fn roomy(vfs: &dyn Vfs, len: u64) -> Writer {
    let prepared = Prepared::create(vfs, &path(1), Backend::Mapped).unwrap();
    prepared.ahead(len).unwrap().make(Fill::Populated, vfs.clock()).unwrap();
    prepared.begin(header(1, Lsn::ZERO, Lsn::ZERO), &GroupSync::new(Lsn::ZERO)).unwrap()
}

/// Appends one record that makes the log `bytes` longer.
fn lengthen(log: &mut Writer, bytes: u64) {
    let before = log.bytes();
    append(log, &vec![7; bytes as usize - RECORD_HEADER_BYTES]);
    assert_eq!(log.bytes(), before + bytes);
}

#[test]
fn room_is_asked_for_when_half_is_used_the_reserve_with_it() {
    for early in [false, true] {
        let vfs = MemVfs::new();
        let mut log = roomy(&*vfs, 4 * MIB);
        if early {
            assert!(!log.asks_for_room(), "there is plenty");
        }
        let half = 2 * MIB - RESERVE_BYTES;
        let bytes = half - log.bytes();
        lengthen(&mut log, bytes);
        assert!(log.ahead(8 * MIB).is_none() && !log.asks_for_room(), "no more than half is used");
        append(&mut log, b"");
        assert!(log.asks_for_room());
        assert!(log.ahead(4 * MIB).is_none(), "it is as long as it may become");
        log.ahead(6 * MIB).unwrap().make(Fill::Populated, vfs.clock()).unwrap();
        assert_eq!(vfs.metadata(&path(1)).unwrap().len_bytes, 6 * MIB);
        assert!(log.ahead(6 * MIB).is_none() && !log.asks_for_room());
    }
}

#[test]
fn room_asked_for_in_vain_is_asked_for_again_before_long() {
    let vfs = MemVfs::new();
    let mut log = roomy(&*vfs, MIB);
    lengthen(&mut log, MIB / 2);
    assert!(log.asks_for_room());
    assert!(!log.asks_for_room(), "once is enough");
    lengthen(&mut log, RESERVE_BYTES);
    assert!(!log.asks_for_room());
    append(&mut log, b"");
    assert!(log.asks_for_room());
    assert!(!log.asks_for_room());
}

#[test]
fn a_log_that_makes_its_own_room_asks_for_none() {
    let vfs = MemVfs::new();
    let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    append(&mut log, &[7; 900_000]);
    assert!(!log.asks_for_room() && log.ahead(u64::MAX).is_none());
}

#[test]
fn what_is_kept_when_room_is_given_back_is_the_reserve_and_little_more() {
    let vfs = MemVfs::new();
    let mut log = roomy(&*vfs, 8 * MIB);
    lengthen(&mut log, MIB);
    log.give_back_room().unwrap();
    let kept = vfs.metadata(&path(1)).unwrap().len_bytes - log.bytes();
    assert!((RESERVE_BYTES..RESERVE_BYTES + (16 << 10)).contains(&kept), "{kept}");
    // On a full disk it is there for whom it was kept.
    vfs.set_space(Some(0));
    let payload = vec![7; RESERVE_BYTES as usize - RECORD_HEADER_BYTES];
    log.append(RecordKind::Data, &[&payload], Reserve::Use).unwrap();
}

/// What ends the log must fit behind the last record too.
#[test]
fn the_reserve_can_be_used_to_its_last_bytes() {
    for backend in [Backend::Mapped, Backend::Write] {
        let vfs = MemVfs::new();
        let mut log = create_by(backend, &*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
        vfs.set_space(Some(vfs.used_bytes()));
        let len = vfs.metadata(&path(1)).unwrap().len_bytes;
        log.append(RecordKind::Data, &[&vec![7; len as usize - 2048]], Reserve::Use).unwrap();
        let mut records = 1;
        let error = loop {
            match log.append(RecordKind::Data, &[], Reserve::Use) {
                Ok(_) => records += 1,
                Err(error) => break error,
            }
        };
        assert!(error.is_no_space(), "{error}");
        assert!(len - log.bytes() <= 2 * RECORD_HEADER_BYTES as u64, "{} of {len}", log.bytes());
        log.sync().unwrap();
        let (read, end) = read_all(vfs.open_read(&path(1)).unwrap()).unwrap();
        assert_eq!((read.len(), end.position), (records, log.end()));
    }
}

#[test]
fn room_that_others_made_can_be_used_to_its_last_byte() {
    let vfs = MemVfs::new();
    let mut log = roomy(&*vfs, 0);
    // No multiple of what is allocated at a time.
    const LEN: u64 = 300_000;
    log.ahead(LEN).unwrap().make(Fill::Populated, vfs.clock()).unwrap();
    vfs.set_space(Some(0));
    let end_mark = RECORD_HEADER_BYTES as u64;
    let payload = vec![7; (LEN - log.bytes() - end_mark) as usize - RECORD_HEADER_BYTES];
    log.append(RecordKind::Data, &[&payload], Reserve::Use).unwrap();
    assert!(log.append(RecordKind::Data, &[], Reserve::Use).unwrap_err().is_no_space());
    log.sync().unwrap();
    assert_eq!(read_all(vfs.open_read(&path(1)).unwrap()).unwrap().0.len(), 1);
}

#[test]
fn a_prepared_log_says_how_it_is_written() {
    let vfs = MemVfs::new();
    assert!(Prepared::create(&*vfs, &path(1), Backend::Mapped).unwrap().is_mapped());
    assert!(!Prepared::create(&*vfs, &path(2), Backend::Write).unwrap().is_mapped());
    let vfs = vfs.with_maps(false);
    assert!(!Prepared::create(&*vfs, &path(3), Backend::Mapped).unwrap().is_mapped(), "the next best");
}

#[test]
fn only_a_lack_of_maps_or_of_space_has_a_next_best() {
    let vfs = FaultVfs::new(MemVfs::new());
    vfs.add(Rule::new(Operation::CreateLog, Fault::EIO).times(1));
    Prepared::create(&*vfs, &path(1), Backend::Mapped).unwrap_err();
    for (backend, operation) in [(Backend::Mapped, Operation::Grow), (Backend::Write, Operation::Preallocate)] {
        let vfs = FaultVfs::new(MemVfs::new());
        let mut log = create_by(backend, &*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
        vfs.add(Rule::new(operation, Fault::EIO).times(1));
        let payload = [7; 16 << 10];
        let failed = (0..1_000).any(|_| log.append(RecordKind::Data, &[&payload], Reserve::Keep).is_err());
        assert!(failed, "a device that fails is not asked for less");
    }
}

#[test]
fn a_prepared_log_that_was_synced_outlives_a_power_cut_with_its_room() {
    let memory = MemVfs::new();
    let vfs = FaultVfs::new(memory.clone());
    let prepared = Prepared::create(&*vfs, &path(1), Backend::Mapped).unwrap();
    prepared.ahead(MIB).unwrap().make(Fill::Written, vfs.clock()).unwrap();
    let left = |memory: &MemVfs| memory.crash_now(CrashPolicy::SyncedOnly).metadata(&path(1)).unwrap().len_bytes;
    assert!(left(&memory) < MIB);
    prepared.sync().unwrap();
    assert_eq!(left(&memory), MIB);
    vfs.add(Rule::new(Operation::Sync, Fault::EIO));
    let error = prepared.sync().unwrap_err().to_string();
    assert!(error.starts_with("log 000001.wal: sync at 0: "), "{error}");
}

#[test]
fn a_writer_says_what_it_failed_by() {
    let vfs = FaultVfs::new(MemVfs::new());
    let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
    append(&mut log, b"buffered");
    assert!(log.failed().is_none());
    let rule = vfs.add(Rule::new(Operation::Append, Fault::EIO));
    let error = log.push().unwrap_err().to_string();
    vfs.remove(rule);
    assert_eq!(log.failed().map(ToString::to_string), Some(error));
    assert_eq!(log.bytes(), (FILE_HEADER_BYTES + RECORD_HEADER_BYTES + 8) as u64);
}
