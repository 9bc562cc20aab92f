//! What opening costs after a close in order: it reads. An engine makes no file and syncs nothing before somebody writes, and then everything is as if it had begun at once.

use esker::vfs::{CrashPolicy, Fault, FaultVfs, ManualClock, MemVfs, Rule, TraceVfs, Vfs, read_file};
use esker::{Background, Engine, ErrorKind, Event, KeyspaceOptions, Options, WriteBatch, WriteOptions};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

const DIR: &str = "/data";

fn small() -> Options {
    Options { memtable_bytes: Some(64 << 10), memory_budget_bytes: 1 << 20, ..Options::default() }
}

fn open_with(vfs: Arc<dyn Vfs>, options: Options) -> Engine {
    Engine::builder(DIR).vfs(vfs).options(options).background(Background::Manual).open().unwrap()
}

fn open(vfs: Arc<dyn Vfs>) -> Engine {
    open_with(vfs, small())
}

fn put(engine: &Engine, keys: std::ops::Range<u32>) {
    keys.for_each(|i| engine.put(i.to_be_bytes(), [i as u8; 100]).unwrap());
}

#[track_caller]
fn holds(engine: &Engine, keys: u32) {
    let found: Vec<_> = engine.iter().keys().map(|key| key.unwrap().to_vec()).collect();
    assert_eq!(found, (0..keys).map(|i| i.to_be_bytes().to_vec()).collect::<Vec<_>>());
}

/// A hundred keys in tables, another keyspace, and a close in order.
fn closed() -> Arc<MemVfs> {
    let vfs = MemVfs::new();
    let engine = open(vfs.clone());
    engine.keyspace("old", KeyspaceOptions::default()).unwrap().put("k", "v").unwrap();
    put(&engine, 0..100);
    engine.close().unwrap();
    vfs
}

fn names(vfs: &dyn Vfs) -> Vec<String> {
    vfs.list(Path::new(DIR)).unwrap()
}

#[test]
fn who_only_reads_leaves_the_directory_as_it_was() {
    let vfs = closed();
    let before = (names(&*vfs), vfs.operations());
    for _ in 0..3 {
        let trace = TraceVfs::new(vfs.clone());
        let engine = open(trace.clone());
        holds(&engine, 100);
        assert_eq!(engine.keyspace("old", KeyspaceOptions::default()).unwrap().get("k").unwrap().unwrap(), b"v");
        assert!(engine.keyspace("", KeyspaceOptions::default()).is_err());
        engine.sync().unwrap();
        engine.flush().unwrap();
        engine.write_with(WriteBatch::new(), &WriteOptions::sync()).unwrap();
        assert!(engine.verify().unwrap().is_ok());
        engine.resume().unwrap();
        while engine.step().unwrap() {}
        assert_eq!(engine.metrics().logs, 0);
        engine.close().unwrap();
        assert_eq!(engine.put("k", "v").unwrap_err().kind(), ErrorKind::Closed);
        let done: Vec<_> = trace.events().into_iter().filter(|event| !event.path.ends_with("LOCK")).collect();
        assert!(done.is_empty(), "{done:?}");
    }
    assert_eq!((names(&*vfs), vfs.operations()), before);
}

/// Whoever changes options has them stored, rest or not.
#[test]
fn changed_options_are_stored_at_once() {
    let vfs = closed();
    let other = Options { filter_bits_per_key: 7, ..small() };
    drop(open_with(vfs.clone(), other.clone()));
    let stored = names(&*vfs).into_iter().rfind(|name| name.starts_with("OPTIONS")).unwrap();
    let stored = read_file(&*vfs, &Path::new(DIR).join(stored), 1 << 20).unwrap();
    assert!(String::from_utf8(stored).unwrap().contains("filter_bits_per_key = 7\n"));
    let before = vfs.operations();
    holds(&open_with(vfs.clone(), other), 100);
    assert_eq!(vfs.operations(), before);
}

type First = (&'static str, fn(&Engine) -> esker::Result<()>);

/// All that may be the first to write.
fn firsts() -> Vec<First> {
    vec![
        ("put", |engine| engine.put(100_u32.to_be_bytes(), "v")),
        ("synced put", |engine| engine.put_with(100_u32.to_be_bytes(), "v", &WriteOptions::sync())),
        ("delete", |engine| engine.delete(99_u32.to_be_bytes())),
        ("new keyspace", |engine| {
            engine.keyspace("new", KeyspaceOptions::default())?.put_with("k", "v", &WriteOptions::sync())
        }),
        ("dropped keyspace", |engine| engine.drop_keyspace("old")),
        ("compaction", |engine| engine.compact_range(..)),
        ("checkpoint", |engine| engine.checkpoint("/copy")),
    ]
}

#[derive(Debug, PartialEq)]
struct Found {
    keys: Vec<Vec<u8>>,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

fn found(engine: &Engine) -> Found {
    let of = |name: &str| {
        let there = engine.keyspaces().iter().any(|there| there == name);
        there.then(|| engine.keyspace(name, KeyspaceOptions::default()).unwrap().get("k").unwrap().map(|v| v.to_vec()))
    };
    Found {
        keys: engine.iter().keys().map(|key| key.unwrap().to_vec()).collect(),
        old: of("old").flatten(),
        new: of("new").flatten(),
    }
}

/// The power goes at each operation of whatever is first to write, and of the next open: there is what was there before or after, and it can be written on.
#[test]
fn a_crash_while_it_begins_loses_nothing() {
    for (name, first) in firsts() {
        let vfs = closed();
        let engine = open(vfs.clone());
        let (before, from) = (found(&engine), vfs.operations());
        first(&engine).unwrap();
        let (after, to) = (found(&engine), vfs.operations());
        assert!(to > from, "{name}");
        std::mem::forget(engine);
        for operations in from..=to {
            for policy in [CrashPolicy::SyncedOnly, CrashPolicy::All]
                .into_iter()
                .chain((0..8).map(|seed| CrashPolicy::Subset(seed + 100 * operations as u64)))
            {
                let at = format!("{name}, operation {operations} of {from} to {to}, {policy:?}");
                let image = Arc::new(vfs.crash_image(operations, policy));
                let engine = Engine::builder(DIR).vfs(image.clone()).options(small()).background(Background::Manual);
                let engine = engine.open().unwrap_or_else(|error| panic!("{at}: {error}"));
                let now = found(&engine);
                assert!(now == before || now == after || (now.keys == before.keys && now.old == before.old), "{at}");
                engine.put_with("later", "v", &WriteOptions::sync()).unwrap();
                let seq = engine.metrics().last_seq;
                assert!(seq > 101, "{at}: numbers go on");
                std::mem::forget(engine);
                let again = open(Arc::new(image.crash_now(CrashPolicy::SyncedOnly)));
                assert_eq!(again.get("later").unwrap().unwrap(), b"v", "{at}");
                assert!(again.metrics().last_seq >= seq, "{at}");
            }
        }
    }
}

/// Each operation in turn fails, for want of space or otherwise, as it begins. It can be tried again (after `resume` if writing has stopped), and all that was there is.
#[test]
fn beginning_that_fails_is_tried_again() {
    for fault in [Fault::ENOSPC, Fault::EIO, Fault::EMFILE, Fault::DONE] {
        for (name, first) in firsts() {
            for nth in 1.. {
                let vfs = closed();
                let faults = FaultVfs::new(vfs.clone());
                let engine = open(faults.clone());
                let before = found(&engine);
                let rule = faults.add(Rule::any(fault).path("/data/*").nth(nth));
                let result = first(&engine);
                let at = format!("{name}, {fault:?} at {nth}");
                let fired = faults.rules()[0].2 > 0;
                faults.remove(rule);
                assert!(found(&engine).keys.len().abs_diff(before.keys.len()) <= 1, "{at}");
                if let Err(error) = result {
                    if engine.metrics().writing_stopped.is_some() {
                        engine.resume().unwrap_or_else(|error| panic!("{at}: {error}"));
                    }
                    assert_ne!(error.kind(), ErrorKind::Corruption, "{at}: {error}");
                }
                engine.put_with("later", "v", &WriteOptions::sync()).unwrap_or_else(|error| panic!("{at}: {error}"));
                std::mem::forget(engine);
                for policy in [CrashPolicy::SyncedOnly, CrashPolicy::All] {
                    let image = Arc::new(vfs.crash_now(policy));
                    let again = Engine::builder(DIR).vfs(image).options(small()).background(Background::Manual);
                    let again = again.open().unwrap_or_else(|error| panic!("{at}: {error}"));
                    assert_eq!(again.get("later").unwrap().unwrap(), b"v", "{at}");
                    assert_eq!(again.get(5_u32.to_be_bytes()).unwrap().unwrap(), [5; 100], "{at}");
                }
                if !fired {
                    break;
                }
            }
        }
    }
}

/// A full disk is met by the first write, not by the open, and by none that comes when there is space.
#[test]
fn a_full_disk_opens_and_takes_writes_when_it_is_full_no_more() {
    let vfs = closed();
    let faults = FaultVfs::new(vfs.clone());
    let full = faults.add(Rule::any(Fault::ENOSPC).path("*.wal"));
    let engine = open(faults.clone());
    holds(&engine, 100);
    for _ in 0..3 {
        assert_eq!(engine.put("k", "v").unwrap_err().kind(), ErrorKind::NoSpace);
    }
    // There is no log yet, so there is no reserve in it either.
    assert_eq!(engine.delete(5_u32.to_be_bytes()).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(engine.drop_keyspace("old").unwrap_err().kind(), ErrorKind::NoSpace);
    faults.remove(full);
    put(&engine, 100..110);
    holds(&engine, 110);
    engine.close().unwrap();
    holds(&open(vfs), 110);
}

/// With threads at work: many open and close it, and none waits for a tick of theirs.
#[test]
fn opening_and_closing_by_turns_neither_writes_nor_waits() {
    let vfs = closed();
    let before = vfs.operations();
    let stopped = Arc::new(Mutex::new(Vec::new()));
    let begin = std::time::Instant::now();
    for _ in 0..20 {
        let heard = Arc::clone(&stopped);
        let engine = Engine::builder(DIR)
            .vfs(vfs.clone())
            .options(small())
            .listener(move |event: &Event| heard.lock().unwrap().push(format!("{event:?}")))
            .open()
            .unwrap();
        assert_eq!(engine.get(7_u32.to_be_bytes()).unwrap().unwrap(), [7; 100]);
        engine.close().unwrap();
    }
    assert_eq!(vfs.operations(), before);
    assert!(stopped.lock().unwrap().is_empty());
    // A tick has 250 ms; with one in each round it would be 5 s.
    assert!(begin.elapsed() < std::time::Duration::from_secs(4), "{:?}", begin.elapsed());
}

/// Where the log of the first write found no space, numbers had been reserved already: the close after that left a manifest that was not closed, and with the disk still full the next
/// open, which after a close in order needs no space, was refused.
#[test]
fn a_close_after_a_beginning_that_was_refused_is_in_order_too() {
    let vfs = closed();
    let faults = FaultVfs::new(vfs.clone());
    let full = faults.add(Rule::any(Fault::ENOSPC).path("*.wal"));
    for _ in 0..3 {
        let engine = open(faults.clone());
        holds(&engine, 100);
        assert_eq!(engine.put("k", "v").unwrap_err().kind(), ErrorKind::NoSpace);
        engine.close().unwrap();
    }
    let before = vfs.operations();
    drop(open(faults.clone()));
    assert_eq!(vfs.operations(), before, "the next open rests again");
    faults.remove(full);
    let engine = open(faults);
    let seq = engine.metrics().last_seq;
    put(&engine, 100..110);
    assert!(engine.metrics().last_seq > seq);
    engine.close().unwrap();
    holds(&open(vfs), 110);
}

/// Compaction that is due does not wait for a write.
#[test]
fn what_presses_is_compacted_though_nobody_writes() {
    let vfs = MemVfs::new();
    let engine = open(vfs.clone());
    for round in 0..4 {
        put(&engine, 0..100 - round);
        if round < 3 {
            engine.flush().unwrap();
        }
    }
    engine.close().unwrap();
    let before = vfs.operations();
    let engine = open(vfs.clone());
    assert_eq!((engine.metrics().keyspaces[0].levels[0].tables, vfs.operations()), (4, before));
    while engine.step().unwrap() {}
    assert_eq!(engine.metrics().keyspaces[0].levels[0].tables, 0);
    assert!(vfs.operations() > before);
    holds(&engine, 100);
}

/// Each operation in turn fails as it begins, and then nobody tries again: the engine is closed, with the fault gone or not, or the power goes. What was there is there, by a second open too.
#[test]
fn after_a_beginning_that_failed_it_opens_again() {
    for fault in [Fault::ENOSPC, Fault::EIO, Fault::DONE] {
        for (name, first) in firsts() {
            for nth in 1.. {
                let vfs = closed();
                let faults = FaultVfs::new(vfs.clone());
                let engine = open(faults.clone());
                let before = found(&engine);
                let last = engine.metrics().last_seq;
                faults.add(Rule::any(fault).path("/data/*").nth(nth));
                let result = first(&engine);
                let at = format!("{name}, {fault:?} at {nth}, {result:?}");
                if faults.rules()[0].2 == 0 {
                    break;
                }
                let outcome = found(&engine);
                let check = |vfs: Arc<dyn Vfs>, how: &str| {
                    for round in 0..2 {
                        let builder = Engine::builder(DIR).vfs(vfs.clone()).options(small());
                        let again = builder.background(Background::Manual).open();
                        let again = again.unwrap_or_else(|error| panic!("{at}, {how}, round {round}: {error}"));
                        let now = found(&again);
                        let kept = now == before || now == outcome || result.is_err();
                        assert!(kept, "{at}, {how}: {before:?}, {outcome:?}, {now:?}");
                        assert!(now.keys.len() >= 99, "{at}, {how}");
                        assert!(again.metrics().last_seq >= last, "{at}, {how}");
                        again.put_with("later", "v", &WriteOptions::sync()).unwrap();
                        again.delete_with("later", &WriteOptions::sync()).unwrap();
                        again.close().unwrap();
                    }
                };
                for policy in [CrashPolicy::SyncedOnly, CrashPolicy::All, CrashPolicy::Subset(nth)] {
                    check(Arc::new(vfs.crash_now(policy)), "crash");
                }
                let _ = engine.close();
                check(Arc::new(vfs.crash_now(CrashPolicy::SyncedOnly)), "close and crash");
                check(vfs, "close");
            }
        }
    }
}

/// Writers, a keyspace that comes and goes, a checkpoint, a compaction and in every other round a close, all at once, and any of them the first: what was acknowledged is there when it is
/// opened again, and numbers go on.
#[test]
fn many_are_first_at_once() {
    const DOERS: usize = 6;
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| Engine::builder(dir.path().join(name)).options(small()).open().unwrap();
    let mut expected = BTreeSet::new();
    let mut last_seq = 0;
    for round in 0..40_u32 {
        let engine = open("db");
        let found: BTreeSet<_> = engine.iter().keys().map(|key| key.unwrap().to_vec()).collect();
        assert_eq!(found, expected, "round {round}");
        assert!(engine.metrics().last_seq >= last_seq, "round {round}");
        let copy = format!("copy {round}");
        let barrier = Barrier::new(DOERS);
        let begin = || {
            barrier.wait();
            &engine
        };
        // Whether it was done; only the close may refuse.
        let done = |result: esker::Result<()>| match result {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::Closed && round % 2 == 0 => false,
            Err(error) => panic!("round {round}: {error}"),
        };
        let copied = thread::scope(|scope| {
            let writers = [WriteOptions::default(), WriteOptions::sync()].map(|options| {
                scope.spawn(move || {
                    let synced = if options == WriteOptions::sync() { "synced" } else { "" };
                    let keys = (0..20 * (round % 3) + 1).map(|i| format!("{round} {synced} {i}").into_bytes());
                    let engine = begin();
                    keys.take_while(|key| done(engine.put_with(key, "v", &options))).collect::<Vec<_>>()
                })
            });
            scope.spawn(|| {
                let engine = begin();
                done(engine.keyspace("passing", KeyspaceOptions::default()).map(drop))
                    && done(engine.drop_keyspace("passing"))
            });
            let copied = scope.spawn(|| done(begin().checkpoint(dir.path().join(&copy))));
            scope.spawn(|| {
                let engine = begin();
                done(engine.sync()) && done(engine.flush()) && done(engine.compact_range(..))
            });
            scope.spawn(|| {
                let engine = begin();
                if round % 2 == 0 {
                    engine.close().unwrap();
                }
            });
            writers.into_iter().for_each(|writer| expected.extend(writer.join().unwrap()));
            copied.join().unwrap()
        });
        last_seq = engine.metrics().last_seq;
        engine.close().unwrap();
        if copied {
            let copy = open(&copy);
            assert!(copy.verify().unwrap().is_ok());
            copy.put("k", "v").unwrap();
        }
    }
}

/// Logs that the feed has kept too long went while the engine rested; when they stayed, as what a power cut leaves may need them, one that was only read never gave their space back.
#[test]
fn logs_kept_too_long_go_though_nothing_is_written() {
    let clock = Arc::new(ManualClock::new());
    let vfs = MemVfs::new().with_clock(Arc::clone(&clock) as _);
    let options = Options { wal_retain_age: Some(Duration::from_secs(60)), ..small() };
    let logs = || names(&*vfs).into_iter().filter(|name| name.ends_with(".wal")).count();
    let engine = open_with(vfs.clone(), options.clone());
    for _ in 0..10 {
        put(&engine, 0..1000);
        engine.flush().unwrap();
    }
    engine.close().unwrap();
    assert!(logs() > 5, "{}", logs());

    let engine = open_with(vfs.clone(), options);
    while engine.step().unwrap() {}
    assert!(logs() > 5, "they are young");
    clock.advance(Duration::from_secs(61));
    holds(&engine, 1000);
    while engine.step().unwrap() {}
    engine.close().unwrap();
    assert!(logs() <= 2, "{}", logs());
    holds(&open_with(vfs.clone(), small()), 1000);
}
