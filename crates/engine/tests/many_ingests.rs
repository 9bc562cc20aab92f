//! The feed of changes over more ingests than the manifest tells of.

use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{Background, Change, Engine, ErrorKind, Options};
use std::sync::Arc;

fn open(vfs: &Arc<dyn Vfs>, options: &Options) -> Engine {
    let builder = Engine::builder("/data").vfs(Arc::clone(vfs)).options(options.clone());
    builder.background(Background::Manual).open().unwrap()
}

/// From where on it can be told, where `since` is too early.
fn gap(engine: &Engine, since: u64) -> u64 {
    let error = engine.changes_since(since).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gap, "{error}");
    error.changes_from().unwrap()
}

/// How many changes are told up to `newest`, of which none is left out; `None` for a gap.
fn told(engine: &Engine, since: u64, newest: u64) -> Option<usize> {
    let changes = match engine.changes_since(since) {
        Ok(changes) => changes,
        Err(error) if error.kind() == ErrorKind::Gap => return None,
        Err(error) => panic!("{error}"),
    };
    let (mut at, mut count) = (since, 0);
    for change in changes {
        let (first, last) = match change.unwrap() {
            Change::Batch(batch) => (batch.first_seq(), batch.last_seq()),
            Change::Ingest(ingest) => (ingest.seq, ingest.seq),
            other => panic!("{other:?}"),
        };
        assert_eq!(first, at + 1, "since {since}: some are left out");
        (at, count) = (last, count + 1);
    }
    assert_eq!(at, newest, "since {since}");
    Some(count)
}

/// The manifest told of each for ever, since what ends a list is a log that goes, and ingests write to no log.
#[test]
fn the_list_does_not_grow_without_end() {
    for options in [Options::default(), Options { wal_retain_bytes: Some(u64::MAX), ..Options::default() }] {
        let memory = MemVfs::new();
        let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
        let engine = open(&vfs, &options);
        let load = |n: u32| drop(engine.bulk_load([(format!("k{n:06}"), "1")]).unwrap());
        for n in 0..1_100 {
            // Some of what is forgotten lies between batches of a log that recovery needs.
            if n % 100 == 0 {
                engine.put("a", "1").unwrap();
            }
            load(n);
        }
        let newest = engine.metrics().last_seq;
        let from = gap(&engine, 0);
        assert!((500..=newest - 512).contains(&from), "from {from} of {newest}");
        let check = |engine: &Engine| {
            for since in [1, 2, 300, from - 1] {
                assert_eq!(told(engine, since, newest), None, "since {since}");
                assert_eq!(gap(engine, since), from);
            }
            for since in [from, from + 1, newest - 3, newest] {
                assert_eq!(told(engine, since, newest), Some((newest - since) as usize), "each has one number");
            }
        };
        check(&engine);
        let crashed: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
        let crashed = open(&crashed, &options);
        for since in [0, 2, 300, from - 1, from, from + 1, newest - 3, newest] {
            let told = told(&crashed, since, newest);
            assert!(told.is_none() || since >= from, "since {since}: {told:?}");
        }

        if options.wal_retain_bytes.is_some() {
            continue;
        }
        let hold = engine.hold_changes(newest).unwrap();
        (1_100..2_130).for_each(load);
        assert_eq!(told(&engine, newest, newest + 1_030), Some(1_030), "what is held is told of, however much it is");
        drop(hold);
        load(2_130);
        assert!(gap(&engine, newest) > newest);
    }
}
