//! Many threads that sync share their syncs, and nobody is told of one that was not made.

use esker::vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
use esker::{Background, Durability, Engine, ErrorKind, LogBackend, Options, Result, WriteOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn sixteen_threads_take_fewer_than_a_fifth_as_many_syncs_as_writes() {
    const THREADS: usize = 16;
    const WRITES: usize = 40;
    let memory = MemVfs::new().with_clock(Arc::new(esker::vfs::SystemClock::new()));
    let faults = FaultVfs::new(memory);
    faults.add(Rule::new(Operation::Sync, Fault::Delay(Duration::from_millis(5))).path("*.wal"));
    let engine = Engine::builder("data").vfs(Arc::clone(&faults) as Arc<dyn Vfs>).open().unwrap();
    let before = engine.metrics().log_syncs;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let engine = engine.clone();
            scope.spawn(move || {
                for i in 0..WRITES {
                    engine.put_with(format!("{thread}-{i}"), "v", &WriteOptions::sync()).unwrap();
                }
            });
        }
    });
    let syncs = engine.metrics().log_syncs - before;
    let writes = (THREADS * WRITES) as u64;
    println!("{writes} writes, {syncs} syncs");
    assert!(syncs * 5 < writes, "{syncs} syncs for {writes} writes");
    assert!(syncs > 0);
}

/// A disk on which a sync of the log takes so long that others come meanwhile.
fn slow() -> (Arc<MemVfs>, Arc<FaultVfs>) {
    let memory = MemVfs::new().with_clock(Arc::new(esker::vfs::SystemClock::new()));
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    faults.add(Rule::new(Operation::Sync, Fault::Delay(Duration::from_millis(2))).path("*.wal"));
    (memory, faults)
}

fn open(vfs: Arc<dyn Vfs>, log_backend: LogBackend, background: Background) -> Engine {
    let options = Options { log_backend, ..Options::default() };
    Engine::builder("data").options(options).vfs(vfs).background(background).open().unwrap()
}

/// What a power cut would leave now.
fn after_a_cut(memory: &MemVfs) -> Engine {
    open(Arc::new(memory.crash_now(CrashPolicy::SyncedOnly)), LogBackend::Mapped, Background::Manual)
}

fn keys(engine: &Engine) -> Vec<Vec<u8>> {
    engine.iter().map(|item| item.unwrap().0.to_vec()).collect()
}

/// Writes `key`, in the way of its number, and has it synced.
fn write(engine: &Engine, key: &str, i: usize) -> Result<()> {
    let sync = WriteOptions::sync();
    match i % 5 {
        0 => engine.put_with(key, "v", &sync),
        1 => engine.transact_with(&sync, |tx| {
            // So that some commits conflict.
            tx.get("newest")?;
            tx.put("newest", key)?;
            tx.put(key, "v")
        }),
        2 => {
            let mut tx = engine.exclusive();
            tx.put(key, "v")?;
            tx.commit_with(&sync)
        }
        3 => engine.insert_if_absent_with(key, "v", &sync).map(drop),
        _ => {
            engine.put_with(key, "v", &WriteOptions { durability: Durability::Os, ..WriteOptions::default() })?;
            engine.sync()
        }
    }
}

/// Whoever comes while another's sync is under way was acknowledged without one, in a build broken by hand, and no test saw it: all counted syncs, or wrote in one thread.
#[test]
fn what_is_acknowledged_among_threads_outlasts_a_power_cut() {
    for backend in [LogBackend::Mapped, LogBackend::Write] {
        let (memory, faults) = slow();
        let engine = open(faults, backend, Background::Threads);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (engine, memory) = (&engine, &memory);
                scope.spawn(move || {
                    for i in 0..15 {
                        let key = format!("{thread}-{i}");
                        write(engine, &key, i + thread).unwrap();
                        let again = after_a_cut(memory);
                        for before in 0..=i {
                            let key = format!("{thread}-{before}");
                            assert!(
                                again.contains_key(&key).unwrap(),
                                "{backend:?}: {key} was acknowledged, and is gone"
                            );
                        }
                    }
                });
            }
        });
    }
}

/// A sync fails, and the next one would "succeed" without what the first has lost: of all who wait or come behind it none may be acknowledged, until `resume` has written everything anew.
#[test]
fn behind_a_failed_sync_nobody_is_acknowledged() {
    const THREADS: usize = 4;
    let (mut acknowledged_in_all, mut failed_in_all) = (0, 0);
    for (backend, nth) in [LogBackend::Mapped, LogBackend::Write].into_iter().flat_map(|b| (1..=8).map(move |n| (b, n)))
    {
        let what = format!("{backend:?}, sync {nth}");
        let (memory, faults) = slow();
        let engine = open(Arc::clone(&faults) as Arc<dyn Vfs>, backend, Background::Manual);
        engine.put_with("first", "v", &WriteOptions::sync()).unwrap();
        faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").nth(nth));
        // Who was acknowledged, and how many were told of the sync itself.
        let unknown = AtomicU64::new(0);
        let acknowledged: Vec<Vec<String>> = std::thread::scope(|scope| {
            let writer = |thread: usize| {
                let (engine, unknown) = (&engine, &unknown);
                scope.spawn(move || {
                    let mut acknowledged = Vec::new();
                    for i in 0..50 {
                        let key = format!("{thread}-{i}");
                        match write(engine, &key, i + thread) {
                            Ok(()) => acknowledged.push(key),
                            Err(error) => {
                                assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::ReadOnly), "{error}");
                                unknown.fetch_add(u64::from(error.outcome_unknown()), Ordering::Relaxed);
                                break;
                            }
                        }
                    }
                    // What comes now is refused, however often it is tried.
                    for i in 0..5 {
                        assert_eq!(write(engine, "late", i).unwrap_err().kind(), ErrorKind::ReadOnly);
                    }
                    acknowledged
                })
            };
            let writers: Vec<_> = (0..THREADS).map(writer).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert!(unknown.into_inner() > 0, "{what}: nobody was told");
        let acknowledged: Vec<String> = acknowledged.into_iter().flatten().collect();
        let check = |when: &str| {
            let again = after_a_cut(&memory);
            assert!(again.contains_key("first").unwrap() && !again.contains_key("late").unwrap(), "{what}, {when}");
            for key in &acknowledged {
                assert!(again.contains_key(key).unwrap(), "{what}, {when}: {key} was acknowledged, and is gone");
            }
            again
        };
        check("stopped");
        engine.resume().unwrap();
        write(&engine, "after", 0).unwrap();
        let visible = keys(&engine);
        let again = check("resumed");
        assert_eq!(keys(&again), visible, "{what}: resume has everything that was seen on stable storage");
        acknowledged_in_all += acknowledged.len();
        failed_in_all += visible.iter().filter(|key| key.contains(&b'-')).count() - acknowledged.len();
    }
    println!("{acknowledged_in_all} acknowledged, {failed_in_all} written and not acknowledged");
    // Others waited for the syncs that failed, and some came before these.
    assert!(acknowledged_in_all > 32 && failed_in_all > 16, "{acknowledged_in_all}, {failed_in_all}");
}
