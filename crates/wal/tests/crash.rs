//! The promise to recovery: whatever a power cut leaves, what was acknowledged as synced is read back, the rest is a prefix, and
//! nothing vouches for what was never safe.

mod support;

use esker_vfs::{CrashPolicy, MemVfs, Vfs};
use esker_wal::{Backend, FILE_HEADER_BYTES, GroupSync, Lsn, RecordKind, Reserve, WalError, Writer, vouched};
use proptest::prelude::*;
use std::sync::Arc;
use support::{Owned, create_by, header, path, read_all};

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Marker,
    Push,
    Sync,
    Rotate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop_oneof![4 => 0usize..1000, 1 => 30_000usize..100_000].prop_map(Step::Append),
        1 => Just(Step::Marker),
        4 => Just(Step::Push),
        2 => Just(Step::Sync),
        1 => Just(Step::Rotate),
    ];
    prop::collection::vec(step, 1..40)
}

fn backend() -> impl Strategy<Value = Backend> {
    prop_oneof![Just(Backend::Mapped), Just(Backend::Write)]
}

/// A run of the steps: what was appended, and what was durable after how many operations of the file system.
struct Run {
    vfs: Arc<MemVfs>,
    logs: u64,
    appended: Vec<Vec<u8>>,
    synced: Vec<(usize, Lsn)>,
}

fn run(steps: &[Step], backend: Backend) -> Run {
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn::ZERO);
    let mut log = create_by(backend, &*vfs, 1, Lsn::ZERO, &group);
    let mut logs = 1;
    let (mut appended, mut synced) = (Vec::new(), Vec::new());
    for (n, step) in steps.iter().enumerate() {
        match step {
            Step::Append(len) => {
                let payload = vec![n as u8; *len];
                log.append(RecordKind::Data, &[&payload[..len / 3], &payload[len / 3..]], Reserve::Keep).unwrap();
                appended.push(payload);
            }
            Step::Marker => {
                log.append(RecordKind::Marker, &[], Reserve::Keep).unwrap();
                appended.push(Vec::new());
            }
            Step::Push => log.push().unwrap(),
            Step::Sync => {
                log.sync().unwrap();
                synced.push((vfs.operations(), log.end()));
            }
            Step::Rotate => {
                logs += 1;
                let end = log.seal().unwrap();
                log = create_by(backend, &*vfs, logs, end, &group);
            }
        }
    }
    log.push().unwrap();
    Run { vfs, logs, appended, synced }
}

/// What recovery finds: the records up to the first break, where that is, and the largest position vouched for anywhere.
fn recover(vfs: &dyn Vfs, logs: u64) -> (Vec<Owned>, Lsn, Lsn) {
    let (mut records, mut position, mut claimed, mut broken) = (Vec::new(), Lsn::ZERO, Lsn::ZERO, false);
    for number in 1..=logs {
        let Ok(file) = vfs.open_read(&path(number)) else {
            broken = true;
            continue;
        };
        claimed = claimed.max(match vouched(file.clone(), "x") {
            Ok(claim) => claim,
            Err(WalError::NoHeader { .. }) => {
                broken = true;
                continue;
            }
            Err(error) => panic!("{error}"),
        });
        let (read, end) = read_all(file.clone()).unwrap();
        let start = esker_wal::Reader::open(file, "x").unwrap().header().start;
        assert!(end.vouched <= claimed);
        broken |= start != position;
        if !broken {
            records.extend(read);
            position = end.position;
        }
    }
    (records, position, claimed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn after_a_power_cut_synced_records_are_there_and_the_rest_is_a_prefix(steps in steps(), seed: u64, backend in backend()) {
        let run = run(&steps, backend);
        for operations in 0..=run.vfs.operations() {
            let safe = run.synced.iter().take_while(|(done, _)| *done <= operations).last().map_or(Lsn::ZERO, |(_, lsn)| *lsn);
            let policies = [
                CrashPolicy::SyncedOnly,
                CrashPolicy::All,
                CrashPolicy::TornLast,
                CrashPolicy::Subset(seed ^ operations as u64),
                CrashPolicy::Subset(!seed ^ operations as u64),
            ];
            for policy in policies {
                let after = run.vfs.crash_image(operations, policy);
                let (records, position, claimed) = recover(&after, run.logs);
                prop_assert!(position >= safe, "{policy:?} after {operations}: {position}, but {safe} was synced");
                prop_assert!(claimed <= position, "{policy:?} after {operations}: {position}, but {claimed} is vouched for");
                prop_assert!(records.len() <= run.appended.len());
                for (record, payload) in records.iter().zip(&run.appended) {
                    prop_assert!(record.payload == *payload);
                }
            }
        }
    }

    #[test]
    fn what_was_vouched_for_is_missed_when_it_is_gone(steps in steps(), at: prop::sample::Index, backend in backend()) {
        // After the run, a sync and a marker behind it. Then some byte of what was synced goes bad.
        let run = run(&steps, backend);
        let (records, end, _) = recover(&*run.vfs, run.logs);
        let group = GroupSync::new(end);
        let mut log = Writer::create(&*run.vfs, &path(run.logs + 1), header(run.logs + 1, end, end), &group).unwrap();
        log.append(RecordKind::Marker, &[], Reserve::Keep).unwrap();
        log.push().unwrap();
        prop_assume!(!records.is_empty());
        let hit = at.get(&records);
        let number = (1..=run.logs)
            .rev()
            .find(|n| {
                let file = run.vfs.open_read(&path(*n)).unwrap();
                esker_wal::Reader::open(file, "x").unwrap().header().start <= hit.position
            })
            .unwrap();
        let start = esker_wal::Reader::open(run.vfs.open_read(&path(number)).unwrap(), "x").unwrap().header().start;
        let offset = (hit.position.0 - start.0) as usize;
        prop_assert!(offset >= FILE_HEADER_BYTES);
        run.vfs.edit(&path(number), |bytes| bytes[offset + 9] ^= 4).unwrap();
        let (_, position, claimed) = recover(&*run.vfs, run.logs + 1);
        prop_assert_eq!(position, hit.position);
        prop_assert!(claimed > position);
    }
}
