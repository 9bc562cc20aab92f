//! Compaction filters: what they are asked, what becomes of it, who sees it when, and that one that fails loses nothing.

use esker::vfs::{Clock, ManualClock, MemVfs, Vfs};
use esker::{
    Background, CompactionFilter, Engine, ErrorKind, Event, FilterDecision, KeyspaceOptions, LeveledOptions, Options,
    WriteOptions,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const DIR: &str = "/data";

fn small() -> Options {
    Options {
        memtable_bytes: Some(8 << 10),
        block_size_bytes: 256,
        blob_bytes_min: 500,
        compaction: LeveledOptions { table_bytes: 4 << 10, level_base_bytes: 16 << 10, ..Default::default() },
        ..Options::default()
    }
}

fn open(vfs: &Arc<MemVfs>, filter: impl CompactionFilter) -> Engine {
    Engine::builder(DIR)
        .vfs(Arc::clone(vfs) as Arc<dyn Vfs>)
        .options(small())
        .compaction_filter("filter", filter)
        .default_keyspace(named("filter"))
        .background(Background::Manual)
        .open()
        .unwrap()
}

fn named(filter: &str) -> KeyspaceOptions {
    KeyspaceOptions { compaction_filter: Some(filter.into()), ..Default::default() }
}

fn work(engine: &Engine) {
    while engine.step().unwrap() {}
}

fn keys(engine: &Engine) -> Vec<String> {
    engine.iter().keys().map(|key| String::from_utf8(key.unwrap().to_vec()).unwrap()).collect()
}

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn all(iter: esker::Iter) -> Contents {
    iter.map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

/// Removes what begins with `-`, doubles what begins with `2`, keeps the rest.
fn by_first_byte(_: u8, key: &[u8], value: &[u8]) -> FilterDecision {
    match key.first() {
        Some(b'-') => FilterDecision::Remove,
        Some(b'2') if !value.ends_with(b"!") => FilterDecision::Replace([value, b"!"].concat()),
        _ => FilterDecision::Keep,
    }
}

#[test]
fn what_is_kept_removed_and_replaced() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, by_first_byte);
    let large = vec![b'x'; 2_000];
    engine.put("-a", "older").unwrap();
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    assert!(engine.is_empty().unwrap());
    for key in ["-a", "-large", "2a", "2large", "keep"] {
        let value = if key.ends_with("large") { &large[..] } else { b"value" };
        engine.put(key, value).unwrap();
    }
    let hour = WriteOptions { ttl: Some(Duration::from_secs(3600)), ..Default::default() };
    engine.put_with("2t", "value", &hour).unwrap();
    let expiry = engine.get_with_expiry("2t").unwrap().unwrap().1;
    engine.flush().unwrap();
    assert_eq!(engine.iter().count(), 6, "a flush asks nobody");
    engine.compact_range(..).unwrap();
    let expected: Contents =
        [("2a", &b"value!"[..]), ("2large", &[&large[..], b"!"].concat()), ("2t", b"value!"), ("keep", b"value")]
            .map(|(key, value)| (key.as_bytes().to_vec(), value.to_vec()))
            .into();
    assert_eq!(all(engine.iter()), expected);
    assert_eq!(engine.get_with_expiry("2t").unwrap().unwrap().1, expiry, "a time stays");
    assert_eq!(engine.metrics().filtered_entries, 1 + 5);
    engine.close().unwrap();
    drop(engine);
    let engine = open(&vfs, by_first_byte);
    assert_eq!(all(engine.iter()), expected);
    assert!(engine.verify().unwrap().is_ok());
}

/// What is removed hides what lies beneath, in tables that the compaction does not touch and for snapshots.
#[test]
fn nothing_comes_up_from_beneath_and_no_snapshot_sees_a_difference() {
    let vfs = MemVfs::new();
    let removes = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&removes);
    let engine =
        open(&vfs, move |_: u8, _: &[u8], value: &[u8]| match flag.load(Ordering::SeqCst) && value == b"new" {
            true => FilterDecision::Remove,
            false => FilterDecision::Keep,
        });
    for i in 0..100u32 {
        engine.put(i.to_be_bytes(), "old").unwrap();
    }
    engine.compact_range(..).unwrap();
    let old = engine.snapshot();
    for i in 0..50u32 {
        engine.put(i.to_be_bytes(), "new").unwrap();
    }
    engine.flush().unwrap();
    let new = engine.snapshot();
    removes.store(true, Ordering::SeqCst);
    engine.compact_range(..).unwrap();
    let count = |contents: Contents, value: &[u8]| contents.values().filter(|found| *found == value).count();
    assert_eq!(count(all(engine.iter()), b"new"), 50, "a snapshot sees them");
    drop(new);
    engine.compact_range(..).unwrap();
    let now = all(engine.iter());
    assert_eq!((now.len(), count(now, b"new")), (50, 0));
    assert_eq!(count(all(old.iter()), b"old"), 100, "older than all of it");
    drop(old);
    engine.compact_range(..).unwrap();
    assert_eq!(engine.iter().count(), 50);
}

/// A snapshot that is taken while the filter works sees what was there, before and after.
#[test]
fn a_snapshot_taken_meanwhile_keeps_what_it_found() {
    static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);
    static TAKEN: Mutex<Vec<(esker::Snapshot, Contents)>> = Mutex::new(Vec::new());
    let vfs = MemVfs::new();
    let engine = open(&vfs, |_: u8, key: &[u8], _: &[u8]| {
        let engine = ENGINE.lock().unwrap().clone();
        if let Some(engine) = engine
            && key.ends_with(b"0")
        {
            let snapshot = engine.snapshot();
            let seen = all(snapshot.iter());
            TAKEN.lock().unwrap().push((snapshot, seen));
        }
        FilterDecision::Remove
    });
    for i in 0..200u32 {
        engine.put(format!("key{i:03}"), "v").unwrap();
    }
    engine.flush().unwrap();
    *ENGINE.lock().unwrap() = Some(engine.clone());
    engine.compact_range(..).unwrap();
    ENGINE.lock().unwrap().take();
    let taken = std::mem::take(&mut *TAKEN.lock().unwrap());
    assert!(taken.len() >= 20);
    engine.put("later", "v").unwrap();
    engine.flush().unwrap();
    for (snapshot, seen) in &taken {
        assert_eq!(all(snapshot.iter()), *seen);
        assert!(seen.iter().all(|(key, value)| snapshot.get(key).unwrap().as_deref() == Some(&value[..])));
    }
    assert_eq!(taken[0].1.len(), 200);
    drop(taken);
    engine.compact_range(..).unwrap();
    assert!(engine.is_empty().unwrap());
}

/// Nothing is written between, so that only the filter tells the snapshot from the newest state.
#[test]
fn what_is_known_of_the_newest_state_hides_nothing_from_a_snapshot_taken_meanwhile() {
    static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);
    static TAKEN: Mutex<Vec<esker::Snapshot>> = Mutex::new(Vec::new());
    let vfs = MemVfs::new();
    let engine = open(&vfs, |_: u8, key: &[u8], _: &[u8]| {
        if let Some(engine) = ENGINE.lock().unwrap().take() {
            TAKEN.lock().unwrap().push(engine.snapshot());
        }
        by_first_byte(0, key, b"")
    });
    // Deleted ones at both ends, held by an older snapshot, make it worth while to remember.
    let deleted = |i: u32| if i < 200 { format!(",{i:03}") } else { format!("~{i:03}") };
    (0..400).for_each(|i| engine.put(deleted(i), "v").unwrap());
    let _old = engine.snapshot();
    (0..400).for_each(|i| engine.delete(deleted(i)).unwrap());
    for key in ["-a", "-z"] {
        engine.put(key, "v").unwrap();
    }
    engine.flush().unwrap();
    *ENGINE.lock().unwrap() = Some(engine.clone());
    engine.compact_range(..).unwrap();
    let snapshot = TAKEN.lock().unwrap().pop().unwrap();
    for _ in 0..3 {
        assert!(engine.is_empty().unwrap() && engine.first().unwrap().is_none() && engine.last().unwrap().is_none());
    }
    assert_eq!(snapshot.iter().count(), 2);
    assert!(!snapshot.is_empty().unwrap());
    assert_eq!(snapshot.first().unwrap().unwrap().0, b"-a");
    assert_eq!(snapshot.last().unwrap().unwrap().0, b"-z");
}

/// Beside a map: overwritten, deleted, filtered by value, over tables of every level.
#[test]
fn as_a_map_says_after_everything_is_compacted() {
    let vfs = MemVfs::new();
    let odd = |_: u8, _: &[u8], value: &[u8]| match value[0] % 3 {
        0 => FilterDecision::Remove,
        1 => FilterDecision::Replace(vec![value[0] + 1; value.len()]),
        _ => FilterDecision::Keep,
    };
    let engine = open(&vfs, odd);
    let mut model = Contents::new();
    for i in 0..4_000u32 {
        let key = format!("key{:03}", i.wrapping_mul(2_654_435_761) % 500).into_bytes();
        let value = vec![(i % 250) as u8; [4, 60, 700][i as usize % 3]];
        loop {
            let written = if i % 7 == 0 { engine.delete(&key) } else { engine.put(&key, &value) };
            match written {
                Ok(()) => break,
                Err(error) => assert!(error.kind() == ErrorKind::Stalled && engine.step().unwrap(), "{error}"),
            }
        }
        if i % 7 == 0 {
            model.remove(&key)
        } else {
            model.insert(key, value)
        };
        if i % 100 == 0 {
            engine.step().unwrap();
        }
    }
    work(&engine);
    let of = |value: &Vec<u8>| match odd(0, b"", value) {
        FilterDecision::Keep => Some(value.clone()),
        FilterDecision::Replace(value) => Some(value),
        FilterDecision::Remove => None,
    };
    // Each is as it was, or as the filter has it.
    for (key, value) in &model {
        let found = engine.get(key).unwrap().map(|value| value.to_vec());
        assert!(found.as_ref() == Some(value) || found == of(value), "{}", key.escape_ascii());
    }
    engine.compact_range(..).unwrap();
    let expected: Contents = model.iter().filter_map(|(key, value)| Some((key.clone(), of(value)?))).collect();
    assert_eq!(all(engine.iter()), expected);
    assert!(engine.verify().unwrap().is_ok());
}

#[test]
fn a_filter_that_panics_fails_the_job_and_loses_nothing() {
    let vfs = MemVfs::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let engine = open(&vfs, move |_: u8, key: &[u8], _: &[u8]| {
        counted.fetch_add(1, Ordering::SeqCst);
        assert!(key != b"key050", "this key is not liked");
        FilterDecision::Keep
    });
    for round in 0..6 {
        for i in 0..100u32 {
            engine.put(format!("key{i:03}"), format!("{round}")).unwrap();
        }
        engine.flush().unwrap();
    }
    let tables =
        |engine: &Engine| engine.metrics().keyspaces[0].levels.iter().map(|level| level.tables).collect::<Vec<_>>();
    let before = tables(&engine);
    let error = engine.compact_range(..).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("this key is not liked"), "{error}");
    assert_eq!(tables(&engine), before);
    assert_eq!(engine.metrics().filter_failures, 1);
    let names = || vfs.list(std::path::Path::new(DIR)).unwrap();
    assert!(!names().iter().any(|name| name.ends_with(".tmp")), "{:?}", names());

    // In the background it rests, and compaction goes on without it.
    assert_eq!(engine.iter().count(), 100);
    let asked = calls.load(Ordering::SeqCst);
    work(&engine);
    assert_eq!(calls.load(Ordering::SeqCst), asked, "it rests");
    assert_eq!(tables(&engine)[0], 0, "compaction goes on");
    // By hand it is asked, and fails again.
    assert_eq!(engine.compact_range(..).unwrap_err().kind(), ErrorKind::Other);
    engine.put("key050", "6").unwrap();
    assert_eq!(engine.get("key050").unwrap().unwrap(), b"6");
    assert_eq!(engine.iter().count(), 100);
    engine.close().unwrap();
    drop(engine);
    let engine = open(&vfs, |_: u8, _: &[u8], _: &[u8]| FilterDecision::Keep);
    engine.compact_range(..).unwrap();
    assert_eq!(engine.iter().count(), 100);
}

/// In the background a failure is kept, told and shown by the next write, once.
#[test]
fn a_failure_in_the_background_is_shown() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, |_: u8, _: &[u8], _: &[u8]| panic!("never"));
    for i in 0..8u32 {
        engine.put(b"k", i.to_be_bytes()).unwrap();
        engine.flush().unwrap();
    }
    work(&engine);
    let error = engine.put("k", "v").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("never"));
    engine.put("k", "v").unwrap();
    assert_eq!((engine.metrics().background_errors, engine.metrics().filter_failures), (1, 1));
}

#[test]
fn a_filter_that_is_not_registered_is_told_of() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, by_first_byte);
    engine.keyspace("other", named("filter")).unwrap().put("-", "").unwrap();
    for wrong in ["no such filter", "", "in \"quotes\"", "two\nlines"] {
        let error = engine.keyspace("new", named(wrong)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong:?}");
    }
    assert_eq!(engine.keyspaces().len(), 2);
    engine.close().unwrap();
    drop(engine);

    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let without = Engine::builder(DIR)
        .vfs(Arc::clone(&vfs) as Arc<dyn Vfs>)
        .listener(move |event: &Event| {
            if let Event::CompactionFilterMissing { keyspace, filter } = event {
                told.lock().unwrap().push(format!("{keyspace}: {filter}"));
            }
        })
        .background(Background::Manual)
        .open()
        .unwrap();
    assert_eq!(*heard.lock().unwrap(), ["default: filter", "other: filter"]);
    let other = without.keyspace("other", KeyspaceOptions::default()).unwrap();
    other.compact_range(..).unwrap();
    assert!(other.contains_key("-").unwrap());
    let metrics = &without.metrics().keyspaces[1];
    assert_eq!((metrics.compaction_filter.as_deref(), metrics.compaction_filter_found), (Some("filter"), false));
    assert!(without.keyspace("other", named("filter")).is_err(), "whoever names it wants it");
    without.close().unwrap();
    drop(without);

    let engine = open(&vfs, by_first_byte);
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    other.compact_range(..).unwrap();
    assert!(other.is_empty().unwrap());
}

/// A large value that can't be read is kept, and nobody is asked.
#[test]
fn what_cannot_be_shown_is_kept() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, |_: u8, _: &[u8], _: &[u8]| FilterDecision::Remove);
    engine.put("large", vec![1; 2_000]).unwrap();
    engine.put("small", "1").unwrap();
    engine.flush().unwrap();
    engine.close().unwrap();
    drop(engine);
    let dir = std::path::Path::new(DIR);
    let blob = vfs.list(dir).unwrap().into_iter().find(|name| name.ends_with(".blob")).unwrap();
    vfs.edit(&dir.join(blob), |bytes| bytes[1_000] ^= 1).unwrap();
    let engine = open(&vfs, |_: u8, _: &[u8], _: &[u8]| FilterDecision::Remove);
    engine.compact_range(..).unwrap();
    assert_eq!(engine.iter().keys().count(), 1);
    assert_eq!(engine.get("large").unwrap_err().kind(), ErrorKind::Corruption);
}

/// A job that ran when the call came could not show the filter what a snapshot had held when it began, and what it wrote counted as seen.
#[test]
fn compact_range_asks_about_what_a_job_that_runs_already_writes() {
    let (blocked, is_blocked) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let (blocked, may_go) = (Mutex::new(blocked), Mutex::new(may_go));
    let is_first = AtomicBool::new(true);
    let filter = move |_: u8, key: &[u8], _: &[u8]| {
        if key == b"0" && is_first.swap(false, Ordering::SeqCst) {
            blocked.lock().unwrap().send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
        }
        if key == b"a" { FilterDecision::Remove } else { FilterDecision::Keep }
    };
    let options = KeyspaceOptions { compaction_filter: Some("filter".into()), ..Default::default() };
    let builder = Engine::builder("/data").vfs(MemVfs::new()).compaction_filter("filter", filter);
    let engine = builder.default_keyspace(options).background(Background::Manual).open().unwrap();
    engine.put("a", "1").unwrap();
    let snapshot = engine.snapshot();
    for n in 0..12 {
        engine.put("0", n.to_string()).unwrap();
        engine.put("z", n.to_string()).unwrap();
        engine.flush().unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| while engine.step().unwrap() {});
        is_blocked.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(snapshot);
        scope.spawn(|| engine.compact_range(..).unwrap());
        // It may come late, and then finds nothing running, which is as well.
        std::thread::sleep(Duration::from_millis(200));
        go.send(()).unwrap();
    });
    assert_eq!(engine.get("a").unwrap(), None);
}

/// While a filter rests behind a failure, the background compacts without it. What it wrote while `compact_range` was at work counted as shown to the filter, which was then never asked.
#[test]
fn compact_range_asks_about_what_the_background_writes_meanwhile_though_the_filter_rests() {
    #[derive(Clone, Copy)]
    enum Mood {
        Keeps,
        Fails,
        Removes,
    }
    let mood = Arc::new(Mutex::new(Mood::Keeps));
    let (blocked, is_blocked) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let (blocked, may_go) = (Mutex::new(blocked), Mutex::new(may_go));
    let (is_first, now) = (AtomicBool::new(true), Arc::clone(&mood));
    let filter = move |_: u8, _: &[u8], value: &[u8]| {
        let mood = *now.lock().unwrap();
        match mood {
            Mood::Keeps => return FilterDecision::Keep,
            Mood::Fails => panic!("not now"),
            Mood::Removes if !is_first.swap(false, Ordering::SeqCst) => {}
            Mood::Removes => {
                blocked.lock().unwrap().send(()).unwrap();
                may_go.lock().unwrap().recv().unwrap();
            }
        }
        if value == b"new" { FilterDecision::Keep } else { FilterDecision::Remove }
    };
    // By a clock that stands still, so that the rest has no end.
    let vfs = MemVfs::new().with_clock(Arc::new(ManualClock::new()) as Arc<dyn Clock>);
    let engine = open(&vfs, filter);
    for i in 0..400u32 {
        engine.put(format!("{i:03}"), [b'v'; 60]).unwrap();
    }
    engine.compact_range(..).unwrap();
    *mood.lock().unwrap() = Mood::Fails;
    assert_eq!(engine.compact_range(..).unwrap_err().kind(), ErrorKind::Other);
    *mood.lock().unwrap() = Mood::Removes;
    std::thread::scope(|scope| {
        let by_hand = scope.spawn(|| engine.compact_range(..).unwrap());
        is_blocked.recv_timeout(Duration::from_secs(60)).unwrap();
        // It is at the first table. Meanwhile the last one is merged with what is written there.
        let before = engine.metrics().compactions;
        for _ in 0..4 {
            engine.put("398a", "new").unwrap();
            engine.flush().unwrap();
        }
        work(&engine);
        assert!(engine.metrics().compactions > before, "the background had nothing to do");
        go.send(()).unwrap();
        by_hand.join().unwrap();
    });
    assert_eq!(keys(&engine), ["398a"]);
}

/// A filter was asked about a value that lay under an operand not among the inputs, and if it had that removed the operand was left alone: of 40 and +2 came 2, where nobody had asked about 42.
#[test]
fn a_value_under_an_operand_is_not_asked_about() {
    let vfs = MemVfs::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&asked);
    let filter = move |_: u8, key: &[u8], value: &[u8]| {
        note.lock().unwrap().push((key.to_vec(), value.to_vec()));
        if value == b"40" { FilterDecision::Remove } else { FilterDecision::Keep }
    };
    let options = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..named("filter") };
    let engine = Engine::builder(DIR)
        .vfs(Arc::clone(&vfs) as Arc<dyn Vfs>)
        .options(small())
        .compaction_filter("filter", filter)
        .default_keyspace(options)
        .background(Background::Manual)
        .open()
        .unwrap();
    // As many tables of level 0 as have them compacted, and operands in memory.
    for key in ["alone", "k", "m", "o", "q", "s"] {
        engine.put(key, "40").unwrap();
        engine.put("other", "x").unwrap();
        engine.flush().unwrap();
    }
    engine.merge("k", "+2").unwrap();
    work(&engine);
    assert!(engine.metrics().keyspaces[0].levels[0].tables == 0, "it was compacted");
    let about = |key: &str| {
        let asked = asked.lock().unwrap();
        asked.iter().filter(|(of, _)| of == key.as_bytes()).map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(about("alone"), [b"40"]);
    assert!(about("k").is_empty(), "{:?}", about("k"));
    assert_eq!(engine.get("alone").unwrap(), None);
    assert_eq!(engine.get("k").unwrap().unwrap(), b"40+2");
    // Merged it is whole.
    engine.compact_range(..).unwrap();
    assert!(about("k").iter().all(|value| value == b"40+2") && !about("k").is_empty());
    assert_eq!(engine.get("k").unwrap().unwrap(), b"40+2");
}

/// It comes upon what the filter leaves of what it was asked about already; what it was not yet asked about is another value by it, and is asked about next time.
#[test]
fn an_operand_that_is_written_while_a_filter_works() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (blocked, is_blocked) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let (note, blocked, may_go) = (Arc::clone(&asked), Mutex::new(blocked), Mutex::new(may_go));
    let filter = move |_: u8, key: &[u8], value: &[u8]| {
        note.lock().unwrap().push([key, value].concat());
        if (key, value) == (b"a", b"40") {
            blocked.lock().unwrap().send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
        }
        if value == b"40" { FilterDecision::Remove } else { FilterDecision::Keep }
    };
    let options = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..named("filter") };
    let engine = Engine::builder(DIR)
        .vfs(MemVfs::new())
        .options(small())
        .compaction_filter("filter", filter)
        .default_keyspace(options)
        .background(Background::Manual)
        .open()
        .unwrap();
    ["a", "k", "z"].iter().for_each(|key| engine.put(key, "40").unwrap());
    std::thread::scope(|scope| {
        let by_hand = scope.spawn(|| engine.compact_range(..).unwrap());
        is_blocked.recv_timeout(Duration::from_secs(60)).unwrap();
        ["a", "k"].iter().for_each(|key| engine.merge(key, "+2").unwrap());
        assert_eq!(engine.get("a").unwrap().unwrap(), b"40+2", "nothing has changed yet");
        go.send(()).unwrap();
        by_hand.join().unwrap();
    });
    let there = |engine: &Engine| all(engine.iter()).into_values().collect::<Vec<_>>();
    assert_eq!(*asked.lock().unwrap(), [b"a40", b"z40"]);
    assert_eq!(there(&engine), [&b"+2"[..], b"40+2"]);
    engine.compact_range(..).unwrap();
    let asked = asked.lock().unwrap();
    assert!(asked.contains(&b"a+2".to_vec()) && asked.contains(&b"k40+2".to_vec()) && asked.len() == 4, "{asked:?}");
    assert_eq!(there(&engine), [&b"+2"[..], b"40+2"]);
}

/// Whatever lies where, what a filter is asked about is what the key holds: nothing that operands lie upon, or that is hidden.
#[test]
fn where_operands_are_merged_a_filter_sees_whole_values_alone() {
    static HOLDS: Mutex<Contents> = Mutex::new(Contents::new());
    let (removed, replaced) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (gone, new) = (Arc::clone(&removed), Arc::clone(&replaced));
    let filter = move |_: u8, key: &[u8], value: &[u8]| {
        let mut holds = HOLDS.lock().unwrap();
        assert_eq!(holds.get(key).map(|value| &value[..]), Some(value), "{}", key.escape_ascii());
        match value.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 5 {
            0 => {
                gone.fetch_add(1, Ordering::Relaxed);
                holds.remove(key);
                FilterDecision::Remove
            }
            1 => {
                new.fetch_add(1, Ordering::Relaxed);
                holds.insert(key.to_vec(), b"a".to_vec());
                FilterDecision::Replace(b"a".to_vec())
            }
            _ => FilterDecision::Keep,
        }
    };
    let compaction = LeveledOptions {
        l0_trigger: 2,
        level_base_bytes: 1 << 10,
        level_ratio: 2,
        table_bytes: 512,
        ..LeveledOptions::default()
    };
    let options = Options { compaction, blob_bytes_min: 60, ..small() };
    let appends = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..named("filter") };
    let engine = Engine::builder(DIR)
        .vfs(MemVfs::new())
        .options(options)
        .compaction_filter("filter", filter)
        .default_keyspace(appends)
        .background(Background::Manual)
        .open()
        .unwrap();
    let mut state = 7u64;
    let mut random = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    for step in 0..6_000u32 {
        let key = format!("k{:02}", random(60)).into_bytes();
        match random(40) {
            0..16 => {
                let operand = step.to_string();
                engine.merge(&key, &operand).unwrap();
                HOLDS.lock().unwrap().entry(key).or_default().extend_from_slice(operand.as_bytes());
            }
            16..24 => {
                let value = step.to_string().repeat(1 + random(9) as usize).into_bytes();
                engine.put(&key, &value).unwrap();
                HOLDS.lock().unwrap().insert(key, value);
            }
            24..27 => {
                engine.delete(&key).unwrap();
                HOLDS.lock().unwrap().remove(&key);
            }
            27..32 => engine.flush().unwrap(),
            32..39 => {
                engine.step().unwrap();
            }
            _ => {
                let to = format!("k{:02}", random(60)).into_bytes();
                engine.compact_range(&key..&key.clone().max(to)).unwrap();
            }
        }
        while engine.metrics().keyspaces[0].levels[0].tables > 8 {
            assert!(engine.step().unwrap());
        }
        if step % 50 == 0 {
            assert_eq!(all(engine.iter()), *HOLDS.lock().unwrap(), "step {step}");
        }
    }
    assert_eq!(all(engine.iter()), *HOLDS.lock().unwrap());
    assert_eq!(engine.metrics().filter_failures, 0);
    let (removed, replaced) = (removed.load(Ordering::Relaxed), replaced.load(Ordering::Relaxed));
    assert!(removed > 50 && replaced > 50, "{removed} removed, {replaced} replaced: that is hardly a test");
}

/// Opening with a filter that nobody had registered was refused, and left a new engine that had it.
#[test]
fn an_open_that_is_refused_makes_no_engine() {
    let vfs = MemVfs::new();
    let builder = || Engine::builder("/data").vfs(Arc::clone(&vfs) as Arc<dyn Vfs>).background(Background::Manual);
    let error = builder().default_keyspace(named("nobody")).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let error = builder().options(Options { create_if_missing: false, ..Options::default() }).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
