//! The first things a user does.

use esker::{Background, Engine, ErrorKind, KeyspaceOptions, Options, WriteBatch};
use std::collections::BTreeMap;

fn small() -> Options {
    Options { memtable_bytes: Some(64 << 10), ..Options::default() }
}

#[test]
fn what_is_put_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3u32 {
        let engine = Engine::open(dir.path()).unwrap();
        for i in 0..round * 100 {
            assert_eq!(engine.get(format!("k{i:05}")).unwrap().unwrap(), format!("v{i}").as_bytes());
        }
        for i in round * 100..(round + 1) * 100 {
            engine.put(format!("k{i:05}"), format!("v{i}")).unwrap();
        }
        engine.close().unwrap();
    }
}

#[test]
fn many_small_memtables_flush_compact_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).options(small()).open().unwrap();
    let mut model = BTreeMap::new();
    let mut x = 1u64;
    for i in 0..60_000u64 {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let key = format!("{:06}", (x >> 33) % 20_000);
        if i % 7 == 0 {
            engine.delete(&key).unwrap();
            model.remove(&key);
        } else {
            let value = format!("value-{i}-{}", "x".repeat((x % 50) as usize));
            engine.put(&key, &value).unwrap();
            model.insert(key, value);
        }
    }
    let check = |engine: &Engine| {
        let read: Vec<_> = engine.iter().map(Result::unwrap).collect();
        assert_eq!(read.len(), model.len());
        for ((key, value), (k, v)) in read.iter().zip(&model) {
            assert_eq!((&**key, &**value), (k.as_bytes(), v.as_bytes()));
        }
        let mut back: Vec<_> = engine.iter().rev().map(Result::unwrap).collect();
        back.reverse();
        assert_eq!(back, read);
        for i in 0..20_000 {
            let key = format!("{i:06}");
            assert_eq!(engine.get(&key).unwrap().as_deref(), model.get(&key).map(String::as_bytes), "{key}");
        }
    };
    check(&engine);
    engine.compact_range(..).unwrap();
    check(&engine);
    assert!(engine.verify().unwrap().is_ok());
    let metrics = engine.metrics();
    assert_eq!(metrics.keyspaces[0].levels[0].tables, 0, "{metrics:#?}");
    engine.close().unwrap();
    check(&Engine::open(dir.path()).unwrap());
}

#[test]
fn keyspaces_batches_and_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).background(Background::Manual).open().unwrap();
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    let mut batch = WriteBatch::new();
    batch.put("a", "1").put_in(&users, "a", "u1");
    engine.write(&batch).unwrap();
    let snapshot = engine.snapshot();
    engine.delete("a").unwrap();
    users.put("b", "u2").unwrap();
    while engine.step().unwrap() {}
    engine.flush().unwrap();
    assert_eq!(snapshot.get("a").unwrap().unwrap(), b"1");
    assert_eq!(snapshot.of(&users).iter().count(), 1);
    assert_eq!(engine.get("a").unwrap(), None);
    engine.drop_keyspace("users").unwrap();
    assert_eq!(users.get("a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(snapshot.of(&users).get("a").unwrap().unwrap(), b"u1");
    let again = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    assert_eq!(again.iter().count(), 0);
}
