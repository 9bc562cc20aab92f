//! Ranges deleted within transactions: what they and others see, order, savepoints, what conflicts and what does not, and what a walk over one costs.

use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{
    Background, Engine, ErrorKind, KEY_BYTES_MAX, KeyspaceOptions, Options, ReadMode, Result, Transaction, WriteBatch,
    WriteOptions,
};
use std::sync::Arc;

fn open(vfs: &Arc<MemVfs>) -> Engine {
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    Engine::builder("data").vfs(vfs).background(Background::Manual).open().unwrap()
}

/// With the keys `a` to `j`.
fn engine() -> Engine {
    let engine = open(&MemVfs::new());
    ('a'..='j').for_each(|key| engine.put(key.to_string(), "old").unwrap());
    engine
}

fn forward(tx: &Transaction) -> String {
    tx.iter().keys().map(|key| String::from_utf8(key.unwrap().to_vec()).unwrap()).collect()
}

fn backward(tx: &Transaction) -> String {
    tx.iter().keys().rev().map(|key| String::from_utf8(key.unwrap().to_vec()).unwrap()).collect()
}

#[track_caller]
fn sees(tx: &Transaction, keys: &str) {
    assert_eq!(forward(tx), keys);
    assert_eq!(backward(tx), keys.chars().rev().collect::<String>());
    for key in 'a'..='j' {
        assert_eq!(tx.contains_key(key.to_string()).unwrap(), keys.contains(key), "{key}");
    }
}

fn left(engine: &Engine) -> String {
    engine.iter().keys().map(|key| String::from_utf8(key.unwrap().to_vec()).unwrap()).collect()
}

#[track_caller]
fn conflicts(tx: Transaction) {
    let error = tx.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[test]
fn what_it_sees_and_leaves() -> Result<()> {
    for flushed in [false, true] {
        let engine = engine();
        if flushed {
            engine.flush()?;
        }
        let mut tx = engine.transaction();
        tx.put("d", "early")?;
        tx.delete_range("c", "g")?;
        sees(&tx, "abghij");
        let walks = tx.iter();
        tx.put("e", "late")?;
        sees(&tx, "abeghij");
        tx.delete_range("a", "b")?;
        tx.delete_range("g", "h")?;
        tx.delete("h")?;
        sees(&tx, "beij");
        assert_eq!(walks.count(), 6, "it shows what there was when it was made");
        assert_eq!(tx.multi_get(["a", "d", "e", "i"])?.iter().flatten().count(), 2);
        assert_eq!((tx.first()?.unwrap().0, tx.last()?.unwrap().0), (b"b"[..].into(), b"j"[..].into()));
        assert_eq!(left(&engine), "abcdefghij", "nobody else sees it");
        let snapshot = engine.snapshot();
        let seq = engine.metrics().last_seq;
        tx.commit()?;
        assert_eq!(engine.metrics().last_seq, seq + 4, "what touches is one range: a..b, c..h; then e and h");
        assert_eq!(left(&engine), "beij");
        assert_eq!(engine.get("e")?.unwrap(), b"late");
        assert_eq!(snapshot.iter().count(), 10);
    }
    Ok(())
}

#[test]
fn clear_and_other_keyspaces() -> Result<()> {
    let vfs = MemVfs::new();
    let engine = open(&vfs);
    let users = engine.keyspace("users", KeyspaceOptions::default())?;
    for key in [&b""[..], b"a", b"z", &[0xff; KEY_BYTES_MAX]] {
        engine.put(key, "old")?;
        users.put(key, "old")?;
    }
    let mut tx = engine.transaction();
    tx.clear()?;
    assert!(tx.is_empty()? && !tx.of(&users).is_empty()?);
    tx.put("m", "new")?;
    tx.delete_range_in(&users, "a", "z")?;
    assert_eq!((forward(&tx), tx.of(&users).iter().count()), ("m".into(), 3));
    let mut cursor = tx.cursor();
    cursor.seek("n")?;
    assert!(!cursor.valid());
    cursor.seek_for_prev("n")?;
    assert_eq!(cursor.key(), b"m");
    cursor.prev()?;
    assert!(!cursor.valid());
    drop(cursor);
    tx.commit_with(&WriteOptions::sync())?;
    let engine = open(&Arc::new(vfs.crash_now(CrashPolicy::SyncedOnly)));
    assert_eq!(left(&engine), "m");
    let users = engine.keyspace("users", KeyspaceOptions::default())?;
    assert_eq!(users.iter().count(), 3);
    Ok(())
}

#[test]
fn savepoints_bring_back_what_a_range_took_away() -> Result<()> {
    let engine = engine();
    let mut tx = engine.transaction();
    tx.delete_range("b", "d")?;
    tx.delete("h")?;
    let first = tx.savepoint();
    tx.put("c", "own")?;
    let second = tx.savepoint();
    tx.delete_range("a", "f")?;
    tx.put("e", "own")?;
    sees(&tx, "efgij");
    tx.rollback_to(second)?;
    sees(&tx, "acdefgij");
    assert_eq!(tx.get("c")?.unwrap(), b"own");
    tx.clear()?;
    sees(&tx, "");
    tx.rollback_to(first)?;
    sees(&tx, "adefgij");
    tx.commit()?;
    assert_eq!(left(&engine), "adefgij");

    // All taken back is nothing written, so it never aborts.
    let mut tx = engine.transaction();
    tx.get("a")?;
    let nothing = tx.savepoint();
    tx.delete_range("a", "c")?;
    tx.rollback_to(nothing)?;
    engine.put("a", "other")?;
    tx.commit()
}

/// Deleting a range reads nothing; what it then sees there it has not from others. What lies around, it has.
#[test]
fn what_conflicts_and_what_does_not() -> Result<()> {
    let engine = engine();
    // Blind: what came meanwhile goes.
    let mut tx = engine.transaction();
    tx.delete_range("b", "e")?;
    engine.put("c", "meanwhile")?;
    engine.put("cc", "meanwhile")?;
    tx.commit()?;
    assert_eq!(left(&engine), "aefghij");

    let looks: [fn(&Transaction) -> Result<()>; 4] = [
        |tx| tx.get("f").map(drop),
        |tx| tx.multi_get(["f", "g"]).map(drop),
        |tx| tx.range("f".."h").try_for_each(|item| item.map(drop)),
        |tx| tx.range("f".."h").rev().try_for_each(|item| item.map(drop)),
    ];
    for look in looks {
        let mut tx = engine.transaction();
        tx.delete_range("f", "h")?;
        look(&tx)?;
        engine.put("f", "meanwhile")?;
        engine.put("gg", "meanwhile")?;
        tx.commit()?;
        assert!(!engine.contains_key("f")? && !engine.contains_key("gg")?);
        // Looked at before it was deleted.
        let mut tx = engine.transaction();
        look(&tx)?;
        tx.delete_range("f", "h")?;
        engine.put("f", "meanwhile")?;
        conflicts(tx);
    }
    // A scan across it has read what lies before and behind.
    for (other, is_conflict) in [("e", true), ("ee", true), ("f", false), ("gz", false), ("h", true)] {
        let mut tx = engine.transaction();
        tx.delete_range("f", "h")?;
        assert_eq!(tx.range("e"..).count(), 4);
        engine.put(other, "meanwhile")?;
        assert_eq!(tx.commit().is_err(), is_conflict, "{other}");
        engine.delete("ee")?;
    }
    // Two that delete what the other reads: write skew by ranges.
    let (mut one, mut two) = (engine.transaction(), engine.transaction());
    assert_eq!((one.range("a".."f").count(), two.range("h"..).count()), (2, 3));
    one.delete_range("h", "z")?;
    two.delete_range("a", "f")?;
    one.commit()?;
    conflicts(two);
    assert_eq!(left(&engine), "ae");
    Ok(())
}

#[test]
fn alone_and_run_again() -> Result<()> {
    let engine = engine();
    let mut tx = engine.exclusive();
    tx.delete_range("a", "d")?;
    tx.put("b", "kept")?;
    sees(&tx, "bdefghij");
    tx.commit()?;
    let mut times = 0;
    engine.transact(|tx| {
        times += 1;
        let last = tx.last()?.expect("it is there").0;
        tx.delete_range("b", &last)?;
        if times == 1 {
            engine.put("k", "meanwhile")?;
        }
        Ok(())
    })?;
    assert_eq!((times, left(&engine)), (2, "k".into()));
    Ok(())
}

#[test]
fn what_is_no_range_is_refused_and_changes_nothing() -> Result<()> {
    let engine = engine();
    let foreign = self::engine().keyspace("users", KeyspaceOptions::default())?;
    let mut tx = engine.transaction();
    let long = vec![b'z'; KEY_BYTES_MAX + 1];
    let refused = |result: Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    refused(tx.delete_range("b", "b"));
    refused(tx.delete_range("c", "b"));
    refused(tx.delete_range("", ""));
    refused(tx.delete_range("a", &long));
    refused(tx.delete_range(&long, "a"));
    refused(tx.delete_range_in(&foreign, "a", "b"));
    refused(tx.clear_in(&foreign));
    sees(&tx, "abcdefghij");
    tx.get("a")?;
    engine.put("a", "other")?;
    tx.commit()?;
    let dropped = engine.keyspace("dropped", KeyspaceOptions::default())?;
    let mut tx = engine.transaction();
    tx.clear_in(&dropped)?;
    engine.drop_keyspace("dropped")?;
    assert_eq!(tx.delete_range_in(&dropped, "a", "b").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::NotFound);
    Ok(())
}

/// Keys that it has deleted are passed, not walked over, wherever they are; both ways.
#[test]
fn a_walk_does_not_visit_what_was_deleted() -> Result<()> {
    // Block by block, so that the metrics tell how many blocks a walk looked at.
    let options =
        Options { read_mode: ReadMode::Pread, block_cache_bytes: Some(0), block_size_bytes: 512, ..Options::default() };
    let vfs: Arc<dyn Vfs> = MemVfs::new();
    let engine = Engine::builder("data").vfs(vfs).options(options).background(Background::Manual).open()?;
    let key = |i: u32| format!("{i:06}");
    let mut batch = WriteBatch::new();
    for i in 0..20_000 {
        batch.put(key(i), "value of some length");
    }
    engine.write(&batch)?;
    engine.flush()?;
    let looked_at = |what: &mut dyn FnMut()| {
        let before = engine.metrics().block_cache_misses;
        what();
        engine.metrics().block_cache_misses - before
    };
    let mut tx = engine.transaction();
    let all = looked_at(&mut || assert_eq!(tx.iter().count(), 20_000));
    tx.delete_range(key(10), key(19_990))?;
    tx.put(key(10_000), "own")?;
    for backward in [false, true] {
        let blocks = looked_at(&mut || {
            let count = if backward { tx.iter().rev().count() } else { tx.iter().count() };
            assert_eq!(count, 21);
        });
        assert!(blocks < 20, "{blocks} blocks of {all}, backward: {backward}");
    }
    let blocks = looked_at(&mut || {
        assert_eq!(tx.range(key(500)..).next().unwrap().unwrap().0, key(10_000));
        assert_eq!(tx.range(..key(15_000)).next_back().unwrap().unwrap().0, key(10_000));
    });
    assert!(blocks < 20, "{blocks} blocks");
    tx.commit()
}
