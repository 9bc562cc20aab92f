//! What reopening after a crash costs, and that nothing is lost by what it leaves for later: it replays the logs into memory, goes on behind them, and writes no
//! table before it must.

use esker::vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, TraceVfs, Vfs};
use esker::{Background, Engine, KeyspaceOptions, Options, WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/data";

fn small() -> Options {
    Options { memtable_bytes: Some(64 << 10), memory_budget_bytes: 1 << 20, ..Options::default() }
}

fn open(vfs: Arc<dyn Vfs>) -> Engine {
    Engine::builder(DIR).vfs(vfs).options(small()).background(Background::Manual).open().unwrap()
}

fn put(engine: &Engine, keys: std::ops::Range<u32>) {
    keys.for_each(|i| engine.put(i.to_be_bytes(), [i as u8; 100]).unwrap());
}

#[track_caller]
fn holds(engine: &Engine, keys: u32) {
    let found: Vec<_> = engine.iter().keys().map(|key| key.unwrap().to_vec()).collect();
    assert_eq!(found, (0..keys).map(|i| i.to_be_bytes().to_vec()).collect::<Vec<_>>());
}

fn files(vfs: &dyn Vfs, ending: &str) -> Vec<String> {
    let names = vfs.list(Path::new(DIR)).unwrap();
    names.into_iter().filter(|name| name.ends_with(ending)).collect()
}

/// What `kill -9` leaves: all that the kernel had.
fn killed(vfs: &MemVfs) -> Arc<MemVfs> {
    Arc::new(vfs.crash_now(CrashPolicy::All))
}

#[test]
fn what_fits_in_memory_stays_there_and_is_replayed_again_after_the_next_crash() {
    let mut vfs = MemVfs::new();
    let engine = open(vfs.clone());
    put(&engine, 0..100);
    engine_left_behind(engine);
    for round in 1..=4 {
        vfs = killed(&vfs);
        let engine = open(vfs.clone());
        assert!(files(&*vfs, ".sst").is_empty(), "nothing is written before open returns");
        holds(&engine, round * 100);
        put(&engine, round * 100..(round + 1) * 100);
        holds(&engine, (round + 1) * 100);
        engine_left_behind(engine);
    }
    let logs = files(&*vfs, ".wal").len();
    vfs = killed(&vfs);
    let engine = open(vfs.clone());
    assert!(files(&*vfs, ".wal").len() > logs, "the logs of all lives are still needed");
    engine.flush().unwrap();
    while engine.step().unwrap() {}
    assert_eq!(files(&*vfs, ".sst").len(), 1);
    assert!(
        files(&*vfs, ".wal").len() <= 2,
        "gone once they are in a table, but for one that is kept to be used again"
    );
    holds(&engine, 500);
    engine.close().unwrap();
    holds(&open(killed(&vfs)), 500);
}

/// Leaves an engine as a dying process does: never closed, its files as they are.
fn engine_left_behind(engine: Engine) {
    std::mem::forget(engine);
}

#[test]
fn more_than_fits_in_memory_becomes_tables_at_once() {
    let vfs = MemVfs::new();
    // Written under a larger budget than it is opened with.
    let large = Options { memtable_bytes: Some(4 << 20), memory_budget_bytes: 64 << 20, ..Options::default() };
    let builder = Engine::builder(DIR).vfs(vfs.clone()).options(large).background(Background::Manual);
    let engine = builder.open().unwrap();
    put(&engine, 0..20_000);
    engine_left_behind(engine);
    let vfs = killed(&vfs);
    let engine = open(vfs.clone());
    assert!(!files(&*vfs, ".sst").is_empty());
    let metrics = engine.metrics();
    assert!(metrics.memtable_bytes < 1 << 20, "{}", metrics.memtable_bytes);
    holds(&engine, 20_000);
    let vfs = killed(&vfs);
    holds(&open(vfs), 20_000);
}

/// The kernel has what was replayed, the device perhaps not: whoever is promised that a write behind it survives power loss is promised all before it too.
#[test]
fn a_synced_write_after_reopening_syncs_the_logs_of_the_life_before() {
    let vfs = MemVfs::new();
    let engine = open(vfs.clone());
    put(&engine, 0..10);
    engine_left_behind(engine);
    let vfs = killed(&vfs);
    let log = format!("*/{}", files(&*vfs, ".wal")[0]);
    let trace = TraceVfs::new(vfs.clone());
    let engine = open(trace.clone());
    let before = trace.count();
    assert_eq!(trace.syncs(&log), 0, "open does not wait for the device");
    engine.put_with("k", "v", &WriteOptions::sync()).unwrap();
    assert_eq!(trace.syncs(&log), 1);
    let synced: Vec<_> =
        trace.events().into_iter().skip(before).filter(|event| event.operation == Operation::Sync).collect();
    assert!(synced[0].path.ends_with(&log[2..]), "the older log first: {synced:?}");
    engine.put_with("l", "v", &WriteOptions::sync()).unwrap();
    assert_eq!(trace.syncs(&log), 1, "once is enough");
}

/// A batch over two keyspaces is replayed; then one of them is flushed alone. Before its table is named, the log must be on the device up to the end of the batch, or
/// power loss could leave half of it. Recovery once counted operations one by one and forgot where their batch ends.
#[test]
fn half_of_a_replayed_batch_is_not_flushed_before_the_other_half_is_durable() {
    let vfs = MemVfs::new();
    let engine = open(vfs.clone());
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    let mut batch = WriteBatch::new();
    batch.put("a", "1").put_in(&other, "b", "1");
    engine.write(&batch).unwrap();
    engine_left_behind(engine);
    let vfs = killed(&vfs);
    let log = format!("*/{}", files(&*vfs, ".wal")[0]);
    let trace = TraceVfs::new(vfs.clone());
    let engine = open(trace.clone());
    assert_eq!(trace.syncs(&log), 0);
    // One keyspace after the other, `default` first.
    engine.flush().unwrap();
    assert_eq!(files(&*vfs, ".sst").len(), 2);
    assert_eq!(trace.syncs(&log), 1);
}

/// After a failed sync the kernel may show what the device never got, and take it for clean. The next process reads it from the kernel, and a sync of that log then
/// succeeds and proves nothing. Recovery once left it in the log all the same, and a synced write behind it was lost with it.
#[test]
fn what_a_failed_sync_may_have_lost_is_written_anew_by_the_next_open() {
    for closed in [false, true] {
        let memory = MemVfs::new();
        let faults = FaultVfs::new(memory.clone());
        let engine = open(faults.clone());
        put(&engine, 0..10);
        faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").times(1));
        if closed {
            engine.close().unwrap_err();
        } else {
            engine.sync().unwrap_err();
            drop(engine);
        }
        // The kernel lives on.
        let engine = open(memory.clone());
        holds(&engine, 10);
        engine.put_with(10_u32.to_be_bytes(), [10; 100], &WriteOptions::sync()).unwrap();
        engine_left_behind(engine);
        let vfs = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
        let engine = open(vfs.clone());
        holds(&engine, 11);
        assert!(vfs.list(Path::new(DIR)).unwrap().iter().all(|name| !name.ends_with(".tmp")), "the word is taken away");
    }
}

/// splitmix64
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut x = *state;
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Life after life, each ended by a power cut, a kill, or a failed sync in the midst of whatever: what was synced is there, what is there is a prefix, and batches are
/// whole. Logs rotate, are used again, and are left in use by recovery.
#[test]
fn what_was_synced_outlives_many_lives() {
    for seed in 0..40 {
        let mut state = seed;
        let mut vfs = MemVfs::new();
        let mut count = 0u32;
        for life in 0..8 {
            let at = format!("seed {seed}, life {life}");
            let faults = FaultVfs::new(vfs.clone());
            let engine = open(faults.clone());
            let found = engine.iter().keys().count() as u32;
            assert!(found >= count, "{at}: {found} of {count}");
            holds(&engine, found);
            count = found;
            let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
            assert_eq!(other.iter().keys().count() as u32, count, "{at}: other");
            let (mut next, mut synced) = (count, count);
            let mut kernel_lives = false;
            for _ in 0..random(&mut state) % 60 {
                match random(&mut state) % 16 {
                    0 => {
                        engine.sync().unwrap();
                        synced = next;
                    }
                    1 => {
                        engine.flush().unwrap();
                        synced = next;
                    }
                    2 => while engine.step().unwrap() {},
                    3..=5 => {
                        engine.step().unwrap();
                    }
                    6 if random(&mut state).is_multiple_of(4) => {
                        let rule = faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").times(1));
                        let failed = engine.sync().is_err();
                        faults.remove(rule);
                        if failed && random(&mut state).is_multiple_of(2) {
                            kernel_lives = true;
                            break;
                        }
                        if failed {
                            engine.resume().unwrap();
                        }
                        synced = next;
                    }
                    _ => {
                        for _ in 0..random(&mut state) % 40 {
                            let mut batch = WriteBatch::new();
                            batch.put(next.to_be_bytes(), [1; 500]).put_in(&other, next.to_be_bytes(), [2; 300]);
                            while engine.write(&batch).is_err() {
                                engine.step().unwrap();
                            }
                            next += 1;
                        }
                    }
                }
            }
            if kernel_lives {
                drop(other);
                drop(engine);
                count = next;
                continue;
            }
            let policy = match random(&mut state) % 4 {
                0 => CrashPolicy::All,
                1 => CrashPolicy::SyncedOnly,
                _ => CrashPolicy::Subset(random(&mut state)),
            };
            count = if policy == CrashPolicy::All { next } else { synced };
            let image = Arc::new(vfs.crash_now(policy));
            engine_left_behind(engine);
            vfs = image;
        }
    }
}

#[test]
fn what_was_replayed_into_a_keyspace_goes_with_it_and_a_checkpoint_has_the_rest() {
    let vfs = MemVfs::new();
    let engine = open(vfs.clone());
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    put(&engine, 0..10);
    other.put("a", "1").unwrap();
    engine_left_behind(engine);
    let vfs = killed(&vfs);
    let engine = open(vfs.clone());
    engine.drop_keyspace("other").unwrap();
    put(&engine, 10..20);
    engine_left_behind(engine);
    let vfs = killed(&vfs);
    let ro = Engine::builder(DIR)
        .vfs(Arc::new(vfs.crash_now(CrashPolicy::All)))
        .options(small())
        .read_only(true)
        .open()
        .unwrap();
    holds(&ro, 20);
    let engine = open(vfs.clone());
    holds(&engine, 20);
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    assert_eq!(other.get("a").unwrap(), None);
    put(&engine, 20..30);
    engine.checkpoint("/copy").unwrap();
    engine.flush().unwrap();
    while engine.step().unwrap() {}
    put(&engine, 30..40);
    engine_left_behind(engine);
    holds(&open(killed(&vfs)), 40);
    let copy = Engine::builder("/copy").vfs(killed(&vfs)).options(small()).open().unwrap();
    holds(&copy, 30);
}

/// Keyspaces by name, and their entries.
type Contents = Vec<(String, Vec<(Vec<u8>, Vec<u8>)>)>;

/// Replays with a thread beside, and with the one thread that is the plain form of it; what they find is the same, in contents and in words.
#[track_caller]
fn both_ways(vfs: &MemVfs, options: &Options) -> Result<Contents, String> {
    let mut found = [Background::Manual, Background::Threads].map(|background| {
        let copy = Arc::new(vfs.crash_now(CrashPolicy::All));
        let opened = Engine::builder(DIR).vfs(copy).options(options.clone()).background(background).open();
        opened.map_err(|error| format!("{:?}: {error}", error.kind())).map(|engine| {
            let names = engine.keyspaces().into_iter();
            let contents = names.map(|name| {
                let keyspace = engine.keyspace(&name, KeyspaceOptions::default()).unwrap();
                let entries = keyspace.iter().map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap());
                let entries: Vec<_> = entries.collect();
                for (key, value) in &entries {
                    assert_eq!(keyspace.get(key).unwrap().unwrap(), value[..], "a get agrees with the walk");
                }
                (name, entries)
            });
            contents.collect::<Vec<_>>()
        })
    });
    let [manual, threads] = &mut found;
    assert_eq!(manual, threads);
    std::mem::replace(manual, Err(String::new()))
}

/// Three keyspaces, one of them dropped in the end, written in batches across them: keys that come again and again, deletions, empty and long values, more than fits in many windows
/// and in several memtables.
fn written_at_random(seed: u64) -> (Arc<MemVfs>, Contents) {
    let mut state = seed;
    let vfs = MemVfs::new();
    let large = Options { memory_budget_bytes: 256 << 20, memtable_bytes: Some(64 << 20), ..Options::default() };
    let engine = Engine::builder(DIR).vfs(vfs.clone()).options(large).background(Background::Manual).open().unwrap();
    let names = ["default", "first", "second", "dropped"];
    let spaces = names.map(|name| engine.keyspace(name, KeyspaceOptions::default()).unwrap());
    let mut model = names.map(|_| BTreeMap::new());
    for _ in 0..600 {
        let mut batch = WriteBatch::new();
        for _ in 0..1 + random(&mut state) % 30 {
            let space = (random(&mut state) % 4) as usize;
            let key = format!("{:0width$}", random(&mut state) % 700, width = 1 + space * 9).into_bytes();
            if random(&mut state).is_multiple_of(5) {
                batch.delete_in(&spaces[space], &key);
                model[space].remove(&key);
            } else {
                let value_bytes = match random(&mut state) % 200 {
                    0 => 100_000,
                    short => short as usize % 120,
                };
                let value = vec![state as u8; value_bytes];
                batch.put_in(&spaces[space], &key, &value);
                model[space].insert(key, value);
            }
        }
        engine.write(&batch).unwrap();
    }
    engine.drop_keyspace("dropped").unwrap();
    engine_left_behind(engine);
    let named = names.into_iter().zip(model).filter(|(name, _)| *name != "dropped");
    let mut contents: Contents =
        named.map(|(name, entries)| (name.to_owned(), entries.into_iter().collect())).collect();
    contents.sort();
    (killed(&vfs), contents)
}

#[test]
fn windows_of_the_log_are_taken_in_as_if_one_by_one() {
    for seed in 0..6 {
        let (vfs, model) = written_at_random(seed);
        let tight = Options { memtable_bytes: Some(100 << 10), memory_budget_bytes: 2 << 20, ..Options::default() };
        let middle = Options { memtable_bytes: Some(300 << 10), memory_budget_bytes: 8 << 20, ..Options::default() };
        for options in [tight, middle, Options::default()] {
            let mut found = both_ways(&vfs, &options).unwrap();
            found.sort();
            assert!(found == model, "seed {seed}");
        }
    }
}

#[test]
fn damage_anywhere_in_a_long_log_is_told_in_the_same_words_by_one_thread_and_two() {
    let (vfs, _) = written_at_random(7);
    let log = Path::new(DIR).join(&files(&*vfs, ".wal")[0]);
    let options = Options { memtable_bytes: Some(100 << 10), memory_budget_bytes: 2 << 20, ..Options::default() };
    let len = vfs.metadata(&log).unwrap().len_bytes;
    let (mut opened, mut refused) = (0, 0);
    for at in (10..len).step_by(len as usize / 40) {
        let image = vfs.crash_now(CrashPolicy::All);
        image.edit(&log, |bytes| bytes[at as usize] ^= 0x10).unwrap();
        match both_ways(&image, &options) {
            Ok(_) => opened += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(opened > 0, "{opened} opened, {refused} refused");
    // A table that can't be written in the midst of it.
    for background in [Background::Manual, Background::Threads] {
        let faults = FaultVfs::new(Arc::new(vfs.crash_now(CrashPolicy::All)));
        faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.sst*").nth(2));
        let opened = Engine::builder(DIR).vfs(faults.clone()).options(options.clone()).background(background).open();
        assert_eq!(opened.unwrap_err().kind(), esker::ErrorKind::Io);
        faults.clear();
        drop(Engine::builder(DIR).vfs(faults).options(options.clone()).background(background).open().unwrap());
    }
}

/// What has to become tables follows from what the memtables hold, not from how much memory for them happens to lie ready.
#[test]
fn two_threads_write_no_more_tables_than_one() {
    let vfs = MemVfs::new();
    let large = Options { memtable_bytes: Some(64 << 20), memory_budget_bytes: 256 << 20, ..Options::default() };
    let engine = Engine::builder(DIR).vfs(vfs.clone()).options(large).background(Background::Manual).open().unwrap();
    let spaces: Vec<_> = (0..8).map(|i| engine.keyspace(i.to_string(), KeyspaceOptions::default()).unwrap()).collect();
    let mut state = 1;
    for _ in 0..20_000 {
        let mut batch = WriteBatch::new();
        for space in &spaces {
            batch.put_in(space, random(&mut state).to_be_bytes(), [7; 100]);
        }
        engine.write(&batch).unwrap();
    }
    engine_left_behind(engine);
    let options = Options { memtable_bytes: Some(4 << 20), memory_budget_bytes: 16 << 20, ..Options::default() };
    let tables = [Background::Manual, Background::Threads].map(|background| {
        let copy = killed(&vfs);
        let opened = Engine::builder(DIR).vfs(copy.clone()).options(options.clone()).background(background).open();
        let tables = files(&*copy, ".sst").len();
        drop(opened.unwrap());
        tables
    });
    assert!(tables[0] > 8 && tables[0] == tables[1], "{tables:?}");
}
