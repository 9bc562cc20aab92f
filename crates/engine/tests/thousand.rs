//! A thousand keyspaces. Alone in its binary, since it counts the threads and files of the process.

use esker::{Engine, KeyspaceOptions};
use std::fs;

fn count(dir: &str) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

#[test]
fn a_thousand_keyspaces_cost_no_thread_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path()).unwrap();
    engine.put("k", "v").unwrap();
    let (threads, files) = (count("/proc/self/task"), count("/proc/self/fd"));
    for i in 0..1000 {
        let keyspace = engine.keyspace(format!("keyspace-{i}"), KeyspaceOptions::default()).unwrap();
        keyspace.put("k", format!("v{i}")).unwrap();
    }
    assert_eq!(count("/proc/self/task"), threads);
    assert_eq!(count("/proc/self/fd"), files);
    assert!(engine.metrics().memtable_bytes < 32 << 20, "{}", engine.metrics().memtable_bytes);
    engine.close().unwrap();
    drop(engine);

    let engine = Engine::open(dir.path()).unwrap();
    assert_eq!(engine.keyspaces().len(), 1001);
    for i in 0..1000 {
        let keyspace = engine.keyspace(format!("keyspace-{i}"), KeyspaceOptions::default()).unwrap();
        assert_eq!(keyspace.get("k").unwrap().unwrap(), format!("v{i}").as_bytes());
    }
}
