//! Nothing is left out in silence: what is missing of logs, or is no longer kept, is a gap; what is damaged or was never logged, an error.

use super::*;

/// From each number on there is either a gap, or all up to `newest` is told.
fn assert_nothing_is_left_out(engine: &Engine, newest: u64) {
    for since in 0..=newest {
        let changes = match engine.changes_since(since) {
            Ok(changes) => changes,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Gap, "{error}");
                continue;
            }
        };
        let mut at = since;
        for change in changes {
            let (first, last) = match change.unwrap() {
                Change::Batch(batch) => (batch.first_seq(), batch.last_seq()),
                Change::Ingest(ingest) => (ingest.seq, ingest.seq),
                other => panic!("{other:?}"),
            };
            assert!(first <= at + 1, "since {since}: {} to {} are left out", at + 1, first - 1);
            at = last;
        }
        assert_eq!(at, newest, "since {since}");
    }
}

/// A log of 1 to 10, an ingest at 11, and 12 to 40, which goes with a flush unless it is kept; and a log of 41 to 43.
fn over_an_ingest(vfs: &Arc<dyn Vfs>, options: &Options) -> Engine {
    let engine = open(vfs, options);
    for i in 0..10 {
        engine.put(format!("a{i}"), [7; 300]).unwrap();
    }
    engine.ingest([table(vfs, "t.sst", &["m", "n"])], &IngestOptions::default()).unwrap();
    for i in 0..29 {
        engine.put(format!("b{i}"), [7; 300]).unwrap();
    }
    engine.flush().unwrap();
    for i in 0..3 {
        engine.put(format!("c{i}"), "1").unwrap();
    }
    assert_eq!(engine.metrics().last_seq, 43);
    engine
}

/// The ingest, which the manifest still had, was taken for where the line begins, and what came between it and the first log was left out.
#[test]
fn an_ingest_is_no_proof_that_the_log_around_it_is_there() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = over_an_ingest(&vfs, &small());
    assert_nothing_is_left_out(&engine, 43);
    engine.sync().unwrap();
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    assert_nothing_is_left_out(&open(&image, &small()), 43);
}

/// As above: a checkpoint has the ingests and not the logs that are kept.
#[test]
fn a_copy_tells_nothing_of_logs_that_it_has_not() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let options = retaining();
    let engine = over_an_ingest(&vfs, &options);
    assert_nothing_is_left_out(&engine, 43);
    engine.checkpoint("/copy").unwrap();
    let copy = Engine::builder("/copy").vfs(Arc::clone(&vfs)).options(options.clone());
    let copy = copy.background(Background::Manual).open().unwrap();
    for i in 0..3 {
        copy.put(format!("d{i}"), "1").unwrap();
    }
    let told = |since| match copy.changes_since(since) {
        Ok(changes) => format!("{:?}", changes.map(|c| c.unwrap().seq()).collect::<Vec<_>>()),
        Err(error) => format!("{error}"),
    };
    let text = told(10);
    assert!(!text.starts_with('['), "the copy has no log of 12..=43, and tells {text}");
}

/// As above, where the logs that opening has found go one after the other.
#[test]
fn nothing_is_left_out_when_kept_logs_go_after_opening() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let options = Options { wal_retain_bytes: Some(24 << 10), ..small() };
    let engine = over_an_ingest(&vfs, &options);
    engine.close().unwrap();
    drop(engine);
    let engine = open(&vfs, &options);
    assert_nothing_is_left_out(&engine, 43);
    for i in 0..70 {
        engine.put(format!("e{i}"), [7; 300]).unwrap();
        if i % 35 == 34 {
            engine.flush().unwrap();
        }
    }
    assert_nothing_is_left_out(&engine, 113);
}

/// What was told and durable was said to have been lost.
#[test]
fn who_was_told_an_ingest_last_goes_on_from_it_after_a_crash() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let options = retaining();
    let engine = open(&vfs, &options);
    engine.put("a", "1").unwrap();
    engine.ingest([table(&vfs, "t.sst", &["m", "n"])], &IngestOptions::default()).unwrap();
    let last = engine.changes_since(0).unwrap().last().unwrap().unwrap().seq();
    assert_eq!(last, 2);
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    let engine = open(&image, &options);
    let told = |since| engine.changes_since(since).map(|changes| changes.count()).map_err(|e| e.to_string());
    assert_eq!(told(2), Ok(0), "nothing is missing: 2 was durable and told");
}

/// The mark of the manifest, below which nothing is told, was taken for a place behind which all is there.
#[test]
fn a_mark_is_no_proof_that_the_logs_behind_it_are_there() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = open(&vfs, &small());
    for i in 0..200 {
        engine.put(format!("a{i}"), [7; 300]).unwrap();
    }
    engine.sync().unwrap();
    let image = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    let vfs: Arc<dyn Vfs> = Arc::clone(&image) as _;
    // As after a failed sync: what is replayed becomes tables, and the mark is set.
    drop(vfs.create_new("/data/000000.wal.tmp".as_ref()).unwrap());
    let engine = open(&vfs, &small());
    let mark = engine.changes_since(0).unwrap_err().changes_from().unwrap();
    assert_eq!(engine.changes_since(mark).unwrap().count(), 0);
    for i in 0..40 {
        engine.put(format!("b{i}"), [7; 300]).unwrap();
    }
    engine.flush().unwrap();
    engine.put("c", "1").unwrap();
    assert_eq!(engine.changes_since(mark).unwrap_err().kind(), ErrorKind::Gap);
    engine.sync().unwrap();
    let image: Arc<dyn Vfs> = Arc::new(image.crash_now(CrashPolicy::SyncedOnly));
    let engine = open(&image, &small());
    match engine.changes_since(mark) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Gap),
        Ok(changes) => {
            let told: Vec<u64> = changes.map(|change| change.unwrap().seq() - mark).collect();
            panic!("since the mark + {told:?}: 1..=40 are left out");
        }
    }
}

/// The last of the kept logs is gone: who only reads took what was left for all.
#[test]
fn a_last_log_that_is_missing_shows_to_who_only_reads() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let options = retaining();
    over_an_ingest(&vfs, &options).close().unwrap();
    let mut logs = vfs.list("/data".as_ref()).unwrap();
    logs.retain(|name| name.ends_with(".wal"));
    logs.sort();
    let last = format!("/data/{}", logs.last().unwrap());
    vfs.remove_file(last.as_ref()).unwrap();
    for read_only in [false, true] {
        let engine = Engine::builder("/data").vfs(Arc::clone(&vfs)).options(options.clone());
        let engine = engine.background(Background::Manual).read_only(read_only).open().unwrap();
        let told: Result<Vec<_>, _> = engine.changes_since(0).and_then(|changes| changes.collect());
        let told = told.map(|changes| changes.last().map(Change::seq)).map_err(|error| error.kind());
        assert!(told.is_err(), "read only {read_only}: {told:?}");
        engine.close().unwrap();
    }
}

/// A log that a crash left empty was taken for one that ends with number 0, and so for the end of all that had come before: what was in tables and in no log any more was left out.
#[test]
fn an_empty_log_is_no_proof_that_nothing_came_before() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = open(&vfs, &small());
    for i in 0..40 {
        engine.put(format!("a{i}"), [7; 300]).unwrap();
    }
    engine.flush().unwrap();
    engine.checkpoint("/copy").unwrap();
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    for dir in ["/data", "/copy"] {
        let builder = Engine::builder(dir).vfs(Arc::clone(&image)).options(retaining());
        let engine = builder.background(Background::Manual).open().unwrap();
        let begin = engine.metrics().last_seq;
        assert_eq!(gap(&engine, 0), begin, "{dir}: 1..=40 are in no log");
        engine.put("b", "1").unwrap();
        assert_eq!(gap(&engine, 0), begin, "{dir}");
        assert_eq!(since(&engine, begin), [format!("{}[b=1]", begin + 1)], "{dir}");
        // Nor is it when it goes.
        engine.close().unwrap();
        drop(engine);
        let options = Options { wal_retain_bytes: Some(1), ..small() };
        let builder = Engine::builder(dir).vfs(Arc::clone(&image)).options(options);
        let engine = builder.background(Background::Manual).open().unwrap();
        assert!(gap(&engine, 0) >= begin, "{dir}");
    }
}

/// Who only reads let go of the kept logs with the first feed that ended, by its own options: the next one met a gap.
#[test]
fn a_reader_tells_what_there_is_again_and_again() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    over_an_ingest(&vfs, &retaining()).close().unwrap();
    let names = vfs.list("/data".as_ref()).unwrap();
    let reader = Engine::builder("/data").vfs(Arc::clone(&vfs)).read_only(true).open().unwrap();
    let all = since(&reader, 0);
    assert_eq!(all.len(), 43);
    assert_eq!(gap(&reader, 44), 43);
    assert_eq!(since(&reader, 0), all);
    drop(reader.hold_changes(11).unwrap());
    assert_eq!(since(&reader, 10), all[10..]);
    reader.close().unwrap();
    assert_eq!(vfs.list("/data".as_ref()).unwrap(), names);
}

/// A feed between two changes of one log that held nothing else let go of it: used again and written over meanwhile, it was told to be damaged.
#[test]
fn a_log_is_not_used_again_while_it_is_read() {
    let vfs: Arc<dyn Vfs> = MemVfs::new();
    let options = Options { memtable_bytes: Some(256 << 10), ..Options::default() };
    let engine = open(&vfs, &options);
    let hold = engine.hold_changes(0).unwrap();
    // Too long to be used again itself.
    engine.put("a", [1; 600 << 10]).unwrap();
    engine.flush().unwrap();
    engine.put("b", [2; 200 << 10]).unwrap();
    engine.sync().unwrap();
    // At rest it says how far it is durable, so that something is left to be read behind the change.
    (0..5).for_each(|_| _ = engine.step().unwrap());
    engine.flush().unwrap();
    engine.put("c", [3; 200 << 10]).unwrap();
    let mut changes = engine.changes_since(0).unwrap();
    drop(hold);
    let mut next = || changes.next().unwrap().unwrap().seq();
    assert_eq!((next(), next()), (1, 2));
    for i in 0..6 {
        engine.put(format!("d{i}"), [3; 240 << 10]).unwrap();
        (0..5).for_each(|_| _ = engine.step().unwrap());
    }
    assert_eq!(next(), 3);
}

/// Logs that go with the engine were told of as a gap, from a number on that nobody could be asked any more.
#[test]
fn what_is_not_told_when_the_engine_closes_is_closed() {
    let vfs: Arc<dyn Vfs> = MemVfs::new();
    let engine = open(&vfs, &small());
    let mut changes = engine.changes_since(0).unwrap();
    assert!(changes.next().is_none());
    for i in 0..100 {
        engine.put(format!("{i}"), [7; 900]).unwrap();
        while engine.step().unwrap() {}
    }
    assert_eq!(changes.next().unwrap().unwrap().seq(), 1);
    engine.close().unwrap();
    let last = changes.by_ref().last().unwrap();
    assert_eq!(last.unwrap_err().kind(), ErrorKind::Closed);
}

/// Records that pass their checksums and are no batches: the first had the feed panic, the second was told as damage.
#[test]
fn what_no_engine_logs_is_an_error() {
    let batch = |first: u64, kind: u8| {
        let operation = [kind, 0, 1, b'k', 1, b'v'];
        [&first.to_le_bytes()[..], &2u32.to_le_bytes(), &operation, &operation].concat()
    };
    for (record, expected) in [(batch(0, 1), ErrorKind::Corruption), (batch(1, 99), ErrorKind::Unsupported)] {
        let vfs: Arc<dyn Vfs> = MemVfs::new();
        let options = Options { log_backend: LogBackend::Write, ..retaining() };
        over_an_ingest(&vfs, &options).close().unwrap();
        let mut logs = vfs.list("/data".as_ref()).unwrap();
        logs.retain(|name| name.ends_with(".wal"));
        logs.sort();
        let path = std::path::Path::new("/data").join(&logs[0]);
        let header = *Reader::open(vfs.open_read(&path).unwrap(), "log").unwrap().header();
        vfs.remove_file(&path).unwrap();
        let mut log = Writer::create(&*vfs, &path, header, &GroupSync::new(header.durable)).unwrap();
        log.append(RecordKind::Data, &[&record], Reserve::Keep).unwrap();
        log.sync().unwrap();
        let engine = open(&vfs, &options);
        assert_eq!(engine.changes_since(0).unwrap_err().kind(), expected);
        assert_eq!(engine.get("c1").unwrap().unwrap(), b"1", "the engine itself needs no such log");
    }
}

/// A flush whose table nobody else's data lies below does not sync the log: a power cut took the newest changes from it, and a feed left them out, though their table was there.
#[test]
fn what_a_power_cut_left_in_tables_alone_is_a_gap() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = open(&vfs, &small());
    engine.put("a", "1").unwrap();
    engine.sync().unwrap();
    engine.put("b", "1").unwrap();
    // It keeps so short a log.
    engine.flush().unwrap();
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    for read_only in [true, false] {
        let builder = Engine::builder("/data").vfs(Arc::clone(&image)).options(retaining()).read_only(read_only);
        let engine = builder.background(Background::Manual).open().unwrap();
        assert_eq!(engine.get("b").unwrap().unwrap(), b"1");
        let newest = engine.metrics().last_seq;
        for since in [0, 1] {
            let told: Result<Vec<_>, _> = engine.changes_since(since).and_then(|changes| changes.collect());
            let error = told.unwrap_err();
            assert_eq!((error.kind(), error.changes_from()), (ErrorKind::Gap, Some(newest)), "since {since}: {error}");
        }
        assert!(since(&engine, newest).is_empty());
    }
}

/// A gap named what follows on it, and asked from there it was the next gap: the manifest's mark lay farther on than where the logs go on, or a log was missing behind the mark. Logs that were let go of are there again
/// after a power cut, but for what of them had not got to the disk.
#[test]
fn from_where_a_gap_says_so_changes_can_be_told() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = open(&vfs, &Options { wal_retain_bytes: Some(24 << 10), log_backend: LogBackend::Write, ..small() });
    let mut logs = BTreeMap::new();
    for i in 0..240 {
        engine.put(format!("a{i:03}"), [7; 300]).unwrap();
        for name in vfs.list("/data".as_ref()).unwrap().into_iter().filter(|name| name.ends_with(".wal")) {
            let path = std::path::Path::new("/data").join(name);
            logs.insert(path.clone(), esker::vfs::read_file(&*vfs, &path, 1 << 20).unwrap());
        }
        if i == 50 {
            engine.ingest([table(&vfs, "t.sst", &["m", "n"])], &IngestOptions::default()).unwrap();
        }
        if i % 35 == 34 {
            engine.flush().unwrap();
        }
    }
    let newest = engine.metrics().last_seq;
    let mut gaps = Vec::new();
    // The last two hold what no table has: it is damage if one is missing.
    for missing in logs.keys().rev().skip(2) {
        let image: Arc<dyn Vfs> = Arc::new(vfs_crash(&vfs));
        for (path, bytes) in logs.iter().filter(|(path, _)| image.metadata(path).is_err()) {
            image.create_new(path).unwrap().append(bytes).unwrap();
        }
        image.remove_file(missing).unwrap();
        let reader = Engine::builder("/data").vfs(image).read_only(true).background(Background::Manual).open().unwrap();
        for since in 0..newest {
            let Err(error) = reader.changes_since(since) else { continue };
            let from = error.changes_from().unwrap_or_else(|| panic!("{error}"));
            let told = reader.changes_since(from);
            assert!(told.is_ok(), "without {missing:?}: since {since}: {error}; then: {}", told.unwrap_err());
            gaps.push(from);
        }
    }
    gaps.dedup();
    assert!(gaps.len() > 2, "at the mark, and where a log is missing: {gaps:?}");
}

/// To who only reads it was damage that a log, flushed without a sync, ended short of where the next one began, of which nothing had got to the disk.
#[test]
fn what_a_power_cut_took_off_the_end_of_the_logs_is_a_gap_to_who_only_reads() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = open(&vfs, &small());
    engine.put("a", "1").unwrap();
    engine.sync().unwrap();
    for i in 0..40 {
        engine.put(format!("b{i}"), [7; 300]).unwrap();
    }
    engine.flush().unwrap();
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    let builder = Engine::builder("/data").vfs(image).options(small()).read_only(true);
    let reader = builder.background(Background::Manual).open().unwrap();
    assert_eq!(reader.get("b39").unwrap().unwrap(), [7; 300]);
    let newest = reader.metrics().last_seq;
    let mut changes = reader.changes_since(0).unwrap();
    assert_eq!(shown(&changes.next().unwrap().unwrap()), "1[a=1]");
    for error in [changes.next().unwrap().unwrap_err(), reader.changes_since(1).unwrap_err()] {
        assert_eq!((error.kind(), error.changes_from()), (ErrorKind::Gap, Some(newest)), "{error}");
    }
    assert!(since(&reader, newest).is_empty());
}
