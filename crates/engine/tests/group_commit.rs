//! Many threads that sync share their syncs.

use esker::vfs::{Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
use esker::{Engine, WriteOptions};
use std::sync::Arc;
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
