//! A keyspace that is dropped: while a write waits for room in it, behind what was written before.

use esker::vfs::{CrashPolicy, MemVfs, SystemClock, Vfs};
use esker::{
    Background, Durability, Engine, ErrorKind, FilterDecision, IngestOptions, Keyspace, KeyspaceOptions,
    LeveledOptions, Options, Result, SstOptions, SstWriter, WriteBatch, WriteOptions,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

type Write = fn(&Engine, &Keyspace) -> Result<()>;

/// What waited for the compaction of a keyspace that was dropped waited until the engine was closed; an exclusive transaction, and so all other writers too (found in review).
#[test]
fn who_waits_for_room_in_it_is_told() {
    let writes: [(&str, Write); 4] = [
        ("put", |_, doomed| doomed.put("k", "v")),
        ("batch", |engine, doomed| {
            let mut batch = WriteBatch::new();
            batch.put("k", "v").put_in(doomed, "k", "v");
            engine.write(&batch)
        }),
        ("ingest", |_, doomed| doomed.ingest(["/outside.sst"], &IngestOptions::default()).map(drop)),
        ("exclusive", |engine, doomed| {
            let mut tx = engine.exclusive();
            tx.put_in(doomed, "k", "v")?;
            tx.commit()
        }),
    ];
    for (what, write) in writes {
        let vfs = MemVfs::new().with_clock(Arc::new(SystemClock::new())) as Arc<dyn Vfs>;
        let mut outside = SstWriter::create_on(Arc::clone(&vfs), "/outside.sst", &SstOptions::default()).unwrap();
        outside.put("k", "v").unwrap();
        outside.finish().unwrap();
        // Compaction of it goes on when the gate is open.
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let is_asked = Arc::new(AtomicBool::new(false));
        let of_filter = (Arc::clone(&gate), Arc::clone(&is_asked));
        let filter = move |_: u8, _: &[u8], _: &[u8]| {
            let (gate, is_asked) = &of_filter;
            is_asked.store(true, Ordering::SeqCst);
            let (is_open, opened) = &**gate;
            drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
            FilterDecision::Keep
        };
        let compaction = LeveledOptions { l0_trigger: 1, l0_slowdown: 1, l0_stop: 2, ..LeveledOptions::default() };
        let options = Options { compaction, background_threads: 1, ..Options::default() };
        let builder = Engine::builder("/db").vfs(vfs).options(options).compaction_filter("slow", filter);
        let engine = builder.open().unwrap();
        let slow = KeyspaceOptions { compaction_filter: Some("slow".into()), ..Default::default() };
        let doomed = engine.keyspace("doomed", slow).unwrap();
        let is_full = || engine.metrics().keyspaces.iter().any(|found| found.levels[0].tables >= 2);
        // A compaction that begins beside the snapshot of an exclusive transaction asks nobody, and makes room.
        while !is_full() || !is_asked.load(Ordering::SeqCst) {
            if is_full() {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            doomed.put("k", "v").unwrap();
            engine.flush().unwrap();
        }

        let (tell, told) = mpsc::channel();
        let writer = std::thread::spawn({
            let (engine, doomed) = (engine.clone(), doomed.clone());
            move || tell.send(write(&engine, &doomed)).unwrap()
        });
        let early = told.recv_timeout(Duration::from_millis(200));
        assert!(early.is_err(), "{what}: it waits for room, and not {early:?}");
        engine.drop_keyspace("doomed").unwrap();
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        let found = told.recv_timeout(LONG).unwrap_or_else(|_| panic!("{what}: it waits for ever"));
        assert_eq!(found.unwrap_err().kind(), ErrorKind::NotFound, "{what}");
        writer.join().unwrap();
        engine.put("others", "write").unwrap();
        assert_eq!(engine.get("k").unwrap(), None, "{what}: a batch is whole or not at all");
        engine.close().unwrap();
    }
}

/// A keyspace that was dropped was gone behind a power cut, and what had been copied out of it before, at a level that does not sync, was not there yet.
#[test]
fn what_was_written_before_a_keyspace_is_dropped_outlasts_it() {
    let vfs = MemVfs::new();
    let builder =
        |vfs: &Arc<MemVfs>| Engine::builder("/db").vfs(Arc::clone(vfs) as Arc<dyn Vfs>).background(Background::Manual);
    let engine = builder(&vfs).open().unwrap();
    let [old, new] = ["old", "new"].map(|name| engine.keyspace(name, KeyspaceOptions::default()).unwrap());
    old.put_with("k", "v", &WriteOptions::sync()).unwrap();
    let memory = WriteOptions { durability: Durability::Memory, ..WriteOptions::default() };
    new.put_with("k", old.get("k").unwrap().unwrap(), &memory).unwrap();
    engine.drop_keyspace("old").unwrap();
    let image = Arc::new(vfs.crash_now(CrashPolicy::SyncedOnly));
    let engine = builder(&image).open().unwrap();
    assert_eq!(engine.keyspaces(), ["default", "new"]);
    let new = engine.keyspace("new", KeyspaceOptions::default()).unwrap();
    assert_eq!(new.get("k").unwrap().unwrap(), b"v");
}
