//! Group sync over real logs: many threads, few syncs, and nothing acknowledged that a power cut takes.

mod support;

use esker_vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, SystemClock, Vfs};
use esker_wal::{GroupSync, Lsn, RecordKind, Reserve};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use support::{append, create, path, read_all};

const THREADS: usize = 16;
const WRITES_EACH: usize = 25;

/// Sixteen threads of synced writes, each sync taking 5 ms. The log is sealed and a new one begun every so many records.
fn write_from_threads(records_per_log: usize) -> (Arc<MemVfs>, Arc<GroupSync>, u64) {
    let mem = MemVfs::new().with_clock(Arc::new(SystemClock::new()));
    let vfs = FaultVfs::new(mem.clone());
    vfs.add(Rule::new(Operation::Sync, Fault::Delay(Duration::from_millis(5))));
    let group = GroupSync::new(Lsn::ZERO);
    let log = Mutex::new((Some(create(&*vfs, 1, Lsn::ZERO, &group)), 0));
    thread::scope(|s| {
        for id in 0..THREADS {
            let (vfs, mem, group, log) = (&vfs, &mem, &group, &log);
            s.spawn(move || {
                for n in 0..WRITES_EACH {
                    let payload = format!("{id} {n}");
                    let end = {
                        let (slot, records) = &mut *log.lock().unwrap();
                        if *records == records_per_log {
                            let old = slot.take().unwrap();
                            let next = old.number().0 + 1;
                            *slot = Some(create(&**vfs, next, old.seal().unwrap(), group));
                            *records = 0;
                        }
                        *records += 1;
                        let log = slot.as_mut().unwrap();
                        let end = append(log, payload.as_bytes());
                        log.push().unwrap();
                        end
                    };
                    group.sync_to(end).unwrap();
                    if n == WRITES_EACH / 2 {
                        let after = mem.crash_now(CrashPolicy::SyncedOnly);
                        assert!(payloads(&after).contains(&payload), "{payload} was acknowledged");
                    }
                }
            });
        }
    });
    let logs = log.into_inner().unwrap().0.unwrap().number().0;
    (mem, group, logs)
}

/// What the logs of a file system hold, one behind the other.
fn payloads(vfs: &dyn Vfs) -> Vec<String> {
    let mut payloads = Vec::new();
    let mut position = Lsn::ZERO;
    for number in 1.. {
        let Ok(file) = vfs.open_read(&path(number)) else { break };
        let Ok((records, end)) = read_all(file) else { break };
        payloads.extend(records.into_iter().map(|record| String::from_utf8(record.payload).unwrap()));
        assert!(end.position > position);
        position = end.position;
    }
    payloads
}

#[test]
fn sixteen_threads_share_their_syncs() {
    let (vfs, group, _) = write_from_threads(usize::MAX);
    let writes = (THREADS * WRITES_EACH) as u64;
    assert!(group.syncs() * 5 < writes, "{} syncs for {writes} writes", group.syncs());
    assert_eq!(payloads(&vfs.crash_now(CrashPolicy::SyncedOnly)).len() as u64, writes);
}

#[test]
fn a_change_of_logs_loses_nothing_that_was_acknowledged() {
    let (vfs, group, logs) = write_from_threads(37);
    let writes = (THREADS * WRITES_EACH) as u64;
    assert_eq!(logs, writes.div_ceil(37));
    assert!(group.syncs() * 2 < writes, "{} syncs for {writes} writes in {logs} logs", group.syncs());
    assert_eq!(payloads(&vfs.crash_now(CrashPolicy::SyncedOnly)).len() as u64, writes);
}

#[test]
fn a_sealed_log_is_synced_before_the_next_one_counts() {
    let mem = MemVfs::new();
    let group = GroupSync::new(Lsn::ZERO);
    let mut old = create(&*mem, 1, Lsn::ZERO, &group);
    append(&mut old, b"in the old log");
    let end = old.seal().unwrap();
    assert_eq!(group.durable(), Lsn::ZERO, "sealed is not synced");
    let mut new = create(&*mem, 2, end, &group);
    append(&mut new, b"in the new log");
    new.sync().unwrap();
    assert_eq!((group.syncs(), group.durable()), (2, new.end()));
    assert_eq!(payloads(&mem.crash_now(CrashPolicy::SyncedOnly)), ["in the old log", "in the new log"]);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_though_the_file_system_recovers() {
    let mem = MemVfs::new();
    let vfs = FaultVfs::new(mem.clone());
    let group = GroupSync::new(Lsn::ZERO);
    let mut log = create(&*vfs, 1, Lsn::ZERO, &group);
    append(&mut log, b"safe");
    log.sync().unwrap();
    let safe = group.durable();
    vfs.add(Rule::new(Operation::Sync, Fault::EIO).nth(1));
    append(&mut log, b"unknown");
    let error = log.sync().unwrap_err().to_string();
    assert!(error.starts_with("log 000001.wal: sync at 128: "), "{error}");
    append(&mut log, b"refused");
    assert_eq!(log.sync().unwrap_err().to_string(), error);
    assert_eq!(group.durable(), safe);
    // Records go on to say what was durable before, so recovery does not miss what was never there.
    log.append(RecordKind::Marker, &[], Reserve::Keep).unwrap();
    log.push().unwrap();
    let (records, end) = read_all(vfs.open_read(&path(1)).unwrap()).unwrap();
    assert_eq!((records.len(), end.vouched), (4, safe));
    assert_eq!(payloads(&mem.crash_now(CrashPolicy::SyncedOnly)), ["safe"]);
}
