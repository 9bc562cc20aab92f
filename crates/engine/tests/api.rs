//! Every call that users and outside tests rely on, in the shape in which they rely on it.

use esker::vfs::{MemVfs, Vfs};
use esker::{
    Background, Durability, Engine, Error, ErrorKind, Event, Iter, KeyspaceOptions, Options, ReadOptions, Slice,
    WriteBatch, WriteOptions,
};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn memory() -> Arc<dyn Vfs> {
    MemVfs::new()
}

fn engine() -> Engine {
    Engine::builder("data").vfs(memory()).open().unwrap()
}

#[test]
fn open_and_builder() -> Result<(), Error> {
    let vfs = memory();
    let heard = Arc::new(AtomicUsize::new(0));
    let listener = {
        let heard = Arc::clone(&heard);
        move |_: &Event| {
            heard.fetch_add(1, Ordering::SeqCst);
        }
    };
    let options = Options { durability: Durability::Sync, ..Default::default() };
    let engine = Engine::builder("data")
        .options(options.clone())
        .vfs(Arc::clone(&vfs))
        .listener(listener)
        .background(Background::Manual)
        .open()?;
    engine.put(b"k", b"v")?;
    while engine.step()? {}
    engine.flush()?;
    assert!(heard.load(Ordering::SeqCst) > 0, "a flush is an event");
    assert_eq!(*engine.options(), options);
    engine.close()?;

    let reader = Engine::builder("data").vfs(vfs).read_only(true).open()?;
    assert_eq!(reader.get(b"k")?.unwrap(), b"v");
    assert_eq!(reader.put(b"k", b"w").unwrap_err().kind(), ErrorKind::ReadOnly);
    Ok(())
}

#[test]
fn single_keys() -> Result<(), Error> {
    let engine = engine();
    engine.put(b"k", b"v")?;
    engine.put("a", String::from("1"))?;
    let v: Option<Slice> = engine.get(b"k")?;
    assert_eq!(v.unwrap(), b"v");
    let values: Vec<Option<Slice>> = engine.multi_get(["a", "bb"])?;
    assert_eq!(values, [Some(Slice::from(b"1")), None]);
    assert!(engine.contains_key(b"k")?);
    engine.delete(b"k")?;
    assert!(!engine.contains_key(b"k")?);
    engine.put_with(b"k", b"v", &WriteOptions::sync())?;
    engine.delete_with(b"k", &WriteOptions { no_stall: true, ..Default::default() })?;
    engine.sync()?;
    Ok(())
}

#[test]
fn batches() -> Result<(), Error> {
    let engine = engine();
    let users = engine.keyspace("users", KeyspaceOptions::default())?;
    let mut batch = WriteBatch::new();
    batch.put(b"a", b"1").delete(b"b");
    batch.put_in(&users, b"id", b"ada");
    engine.write(&batch)?;
    engine.write_with(&batch, &WriteOptions { durability: Durability::Sync, ..Default::default() })?;
    engine.write(batch)?;
    assert_eq!(users.get(b"id")?.unwrap(), b"ada");

    let mut batch = WriteBatch::new();
    batch.put("fine", "1").put(vec![0; 65_536], "too long");
    assert_eq!(engine.write(&batch).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(engine.get("fine")?, None, "nothing of a refused batch is written");
    batch.clear();
    engine.write(&batch)?;
    Ok(())
}

#[test]
fn ranges_and_cursors() -> Result<(), Error> {
    let engine = engine();
    for key in ["a", "b", "m", "user:1", "user:2", "z"] {
        engine.put(key, key.to_uppercase())?;
    }
    for item in engine.range("a".."m") {
        let (key, value): (Slice, Slice) = item?;
        assert_eq!(value, key.to_ascii_uppercase());
    }
    let count = |iter: Iter| iter.count();
    let from = String::from("b");
    assert_eq!(count(engine.range(b"a"..b"m")), 2);
    assert_eq!(count(engine.range(&from..)), 5);
    assert_eq!(count(engine.range(..)), 6);
    assert_eq!(count(engine.range(..="m")), 3);
    assert_eq!(count(engine.range("a"..="m")), 3);
    assert_eq!(count(engine.range(.."m")), 2);
    assert_eq!(count(engine.range((Bound::Excluded("a"), Bound::<&[u8]>::Unbounded))), 5);
    assert_eq!(engine.prefix("user:").rev().map(|item| item.unwrap().0).collect::<Vec<_>>(), [b"user:2", b"user:1"]);
    assert_eq!(engine.iter().keys().count(), 6);

    let mut cursor = engine.cursor();
    assert!(!cursor.valid());
    cursor.seek(b"m")?;
    assert_eq!(cursor.key(), b"m");
    cursor.seek_for_prev(b"l")?;
    assert_eq!(cursor.key(), b"b");
    cursor.seek_to_last()?;
    cursor.prev()?;
    assert_eq!(cursor.key(), b"user:2");
    cursor.seek_to_first()?;
    let mut seen = 0;
    while cursor.valid() {
        let key: &[u8] = cursor.key();
        let value: &[u8] = cursor.value()?;
        assert_eq!(key.to_ascii_uppercase(), value);
        seen += 1;
        cursor.next()?;
    }
    assert_eq!(seen, 6);
    cursor.next()?;
    cursor.prev()?;
    assert!(!cursor.valid(), "only a seek leaves the end");
    engine.put("aa", "AA")?;
    cursor.refresh()?;
    cursor.seek("aa")?;
    assert_eq!(cursor.key(), b"aa");

    let bounds = ReadOptions { lower: Bound::Included(b"b".to_vec()), upper: Bound::Excluded(b"z".to_vec()) };
    let mut cursor = engine.cursor_with(bounds);
    cursor.seek("a")?;
    assert_eq!(cursor.key(), b"b");
    cursor.seek_for_prev("zz")?;
    assert_eq!(cursor.key(), b"user:2");
    Ok(())
}

#[test]
fn snapshots_and_keyspaces() -> Result<(), Error> {
    let engine = engine();
    let users = engine.keyspace("users", KeyspaceOptions::default())?;
    users.put("id", "ada")?;
    let snapshot = engine.snapshot();
    users.put("id", "grace")?;
    engine.put("k", "later")?;
    assert_eq!(snapshot.of(&users).get(b"id")?.unwrap(), b"ada");
    assert_eq!(snapshot.get("k")?, None);
    assert_eq!(snapshot.iter().count() + snapshot.prefix("k").count() + snapshot.range("a"..).count(), 0);
    let later = engine.keyspace("later", KeyspaceOptions::default())?;
    later.put("k", "v")?;
    assert_eq!(snapshot.of(&later).iter().count(), 0, "a keyspace made later reads as empty");
    assert_eq!(engine.keyspaces(), ["default", "later", "users"]);
    engine.drop_keyspace("users")?;
    assert_eq!(engine.keyspaces(), ["default", "later"]);
    assert_eq!(users.put("id", "x").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(engine.drop_keyspace("users").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(engine.drop_keyspace("default").unwrap_err().kind(), ErrorKind::InvalidArgument);
    Ok(())
}

#[test]
fn transactions() -> Result<(), Error> {
    let engine = engine();
    let users = engine.keyspace("users", KeyspaceOptions::default())?;
    engine.put(b"k", b"v")?;
    let mut tx = engine.transaction();
    let v: Option<Slice> = tx.get(b"k")?;
    assert_eq!(v.unwrap(), b"v");
    assert!(tx.contains_key(b"k")?);
    assert_eq!(tx.multi_get(["k", "none"])?.len(), 2);
    tx.put(b"a", b"1")?;
    tx.delete(b"k")?;
    tx.put_in(&users, b"id", b"ada")?;
    tx.delete_in(&users, b"none")?;
    assert_eq!(tx.get_in(&users, b"id")?.unwrap(), b"ada");
    assert_eq!(tx.of(&users).prefix("i").rev().count(), 1);
    for item in tx.range("a".."m") {
        let (key, value): (Slice, Slice) = item?;
        assert_eq!((key, value), (b"a"[..].into(), b"1"[..].into()));
    }
    assert_eq!(tx.iter().keys().count(), 1);
    let mut cursor = tx.cursor_with(ReadOptions { lower: Bound::Included(b"a".to_vec()), ..Default::default() });
    cursor.seek_to_last()?;
    assert_eq!((cursor.key(), cursor.value()?), (&b"a"[..], &b"1"[..]));
    let savepoint = tx.savepoint();
    tx.put(b"a", b"2")?;
    tx.rollback_to(savepoint)?;
    tx.commit()?;
    assert_eq!(engine.get(b"a")?.unwrap(), b"1");

    engine.transact(|tx| {
        tx.put(b"a", b"1")?;
        Ok(())
    })?;
    let failed = engine.transact(|_| Err::<(), _>(Error::other("no")));
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Other);
    let mut tx = engine.exclusive();
    tx.put(b"a", b"3")?;
    tx.commit_with(&WriteOptions::sync())?;

    let tx = engine.transaction();
    tx.rollback();
    let mut tx = engine.transaction();
    tx.get(b"a")?;
    engine.put(b"a", b"4")?;
    tx.put(b"b", b"1")?;
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);

    assert!(engine.insert_if_absent(b"c", b"1")?);
    assert!(users.compare_and_swap(b"id", Some(b"ada"), Some(b"grace"))?);
    assert_eq!(engine.fetch_update(b"c", |value| value.map(<[u8]>::to_vec))?.unwrap(), b"1");
    assert_eq!(users.first()?.unwrap().1, b"grace");
    assert!(!engine.is_empty()? && engine.last()?.is_some());
    assert!(engine.approximate_len(..)? > 0 && engine.approximate_size("a"..)? > 0);
    Ok(())
}

#[test]
fn looking_after_it() -> Result<(), Error> {
    let vfs = memory();
    let engine = Engine::builder("data").vfs(Arc::clone(&vfs)).open()?;
    engine.put("k", "v")?;
    engine.flush()?;
    engine.compact_range(..)?;
    engine.compact_range("a".."b")?;
    engine.checkpoint("copy")?;
    assert!(engine.verify()?.is_ok());
    engine.resume()?;
    let metrics = engine.metrics();
    assert_eq!(metrics.keyspaces[0].name, "default");
    engine.close()?;
    engine.close()?;
    assert_eq!(engine.put("k", "v").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(engine.get("k").unwrap_err().kind(), ErrorKind::Closed);
    assert!(vfs.list(std::path::Path::new("copy")).unwrap().iter().any(|name| name.starts_with("OPTIONS-")));
    let copy = Engine::builder("copy").vfs(vfs).open()?;
    assert_eq!(copy.get("k")?.unwrap(), b"v");
    Ok(())
}

#[test]
fn errors_tell_what_they_are() {
    let error = Error::other("out of stock");
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Other, false));
    let again: Error = error.clone();
    let boxed: Box<dyn std::error::Error + Send + Sync> = Box::new(again);
    assert_eq!(boxed.to_string(), "out of stock");
    assert!(error.path().is_none() && error.offset().is_none());
}
