//! Transactions by example: what they see, what makes them conflict and what does not, across keyspaces, flush, crash and close.

use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{
    Background, Engine, Error, ErrorKind, KEY_BYTES_MAX, Keyspace, KeyspaceOptions, Options, ReadOptions, Result,
    Transaction, WriteOptions,
};
use std::ops::Bound;
use std::sync::Arc;

fn open(vfs: &Arc<MemVfs>) -> Engine {
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    Engine::builder("data").vfs(vfs).background(Background::Manual).open().unwrap()
}

fn engine() -> Engine {
    open(&MemVfs::new())
}

fn users(engine: &Engine) -> Keyspace {
    engine.keyspace("users", KeyspaceOptions::default()).unwrap()
}

#[track_caller]
fn conflicts(tx: Transaction) {
    let error = tx.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[test]
fn nobody_else_sees_it_before_it_commits() -> Result<()> {
    let engine = engine();
    let users = users(&engine);
    engine.put("a", "old")?;
    let mut tx = engine.transaction();
    tx.put("a", "new")?;
    tx.put_in(&users, "id", "ada")?;
    tx.delete_in(&users, "nobody")?;
    assert_eq!(tx.get("a")?.unwrap(), b"new");
    assert_eq!(tx.multi_get(["b", "a", "b"])?.iter().flatten().count(), 1);
    assert!(tx.of(&users).contains_key("id")?);
    assert_eq!(engine.get("a")?.unwrap(), b"old");
    assert_eq!(users.get("id")?, None);
    let seq = engine.metrics().last_seq;
    tx.commit()?;
    assert_eq!(engine.metrics().last_seq, seq + 3, "one batch");
    assert_eq!(engine.get("a")?.unwrap(), b"new");
    assert_eq!(users.get("id")?.unwrap(), b"ada");
    assert_eq!(engine.metrics().snapshots, 0);

    let mut tx = engine.transaction();
    tx.put("a", "never")?;
    tx.rollback();
    let mut tx = engine.transaction();
    tx.put("a", "never")?;
    drop(tx);
    assert_eq!(engine.get("a")?.unwrap(), b"new");
    Ok(())
}

#[test]
fn what_conflicts_and_what_does_not() -> Result<()> {
    let engine = engine();
    for key in ["a", "b", "c", "d", "e"] {
        engine.put(key, "0")?;
    }
    let with = |read: &dyn Fn(&mut Transaction) -> Result<()>, write: &dyn Fn() -> Result<()>| -> Result<Transaction> {
        let mut tx = engine.transaction();
        read(&mut tx)?;
        tx.put("mine", "1")?;
        write()?;
        Ok(tx)
    };
    let get = |tx: &mut Transaction| tx.get("b").map(drop);
    let miss = |tx: &mut Transaction| tx.get("bb").map(drop);
    let two = |tx: &mut Transaction| tx.range("b".."e").take(2).try_for_each(|item| item.map(drop));

    conflicts(with(&get, &|| engine.put("b", "1"))?);
    conflicts(with(&get, &|| engine.put("b", "1").and_then(|()| engine.flush()))?);
    conflicts(with(&get, &|| engine.put("b", "1").and_then(|()| engine.compact_range(..)))?);
    conflicts(with(&miss, &|| engine.put("bb", "1"))?);
    conflicts(with(&miss, &|| engine.delete("bb"))?);
    conflicts(with(&get, &|| {
        engine.insert_if_absent("x", "y").and_then(|_| engine.fetch_update("b", |_| Some("2"))).map(drop)
    })?);
    with(&get, &|| engine.put("c", "1"))?.commit()?;
    with(&get, &|| engine.flush())?.commit()?;

    // A scan has read as far as it came, the gaps included: here b and c, and what might be between.
    conflicts(with(&two, &|| engine.put("bx", "phantom"))?);
    engine.delete("bx")?;
    conflicts(with(&two, &|| engine.delete("c"))?);
    engine.put("c", "0")?;
    with(&two, &|| engine.put("ca", "behind"))?.commit()?;
    with(&two, &|| engine.put("az", "before"))?.commit()?;

    // Only written: the last one to commit wins.
    with(&|_| Ok(()), &|| engine.put("mine", "2"))?.commit()?;
    assert_eq!(engine.get("mine")?.unwrap(), b"1");
    // What it wrote itself it did not read from others.
    let own = |tx: &mut Transaction| {
        tx.put("d", "own")?;
        assert_eq!(tx.get("d")?.unwrap(), b"own");
        assert_eq!(tx.range("d"..="d").count(), 1);
        Ok(())
    };
    with(&own, &|| engine.put("d", "1"))?.commit()?;
    assert_eq!(engine.get("d")?.unwrap(), b"own");
    Ok(())
}

/// It may be in any of the tables that are younger than the transaction, and not in the youngest.
#[test]
fn what_was_written_since_is_found_under_younger_tables() -> Result<()> {
    let engine = engine();
    let mut both = [engine.transaction(), engine.transaction()];
    for (tx, key) in both.iter_mut().zip(["m", "n"]) {
        tx.get(key)?;
        tx.put("mine", "1")?;
    }
    for keys in [["a", "m"], ["b", "z"], ["c", "x"]] {
        keys.iter().try_for_each(|key| engine.put(key, "1"))?;
        engine.flush()?;
    }
    assert_eq!(engine.metrics().keyspaces[0].levels[0].tables, 3);
    let [read_m, read_n] = both;
    conflicts(read_m);
    read_n.commit()
}

#[test]
fn of_two_that_read_what_the_other_writes_one_commits() -> Result<()> {
    let engine = engine();
    let on_call = ["ada", "grace"];
    on_call.iter().try_for_each(|name| engine.put(name, "on call"))?;
    let mut both = on_call.map(|_| engine.transaction());
    for (tx, name) in both.iter_mut().zip(on_call) {
        assert_eq!(tx.iter().count(), 2);
        tx.delete(name)?;
    }
    let [first, second] = both;
    first.commit()?;
    conflicts(second);
    assert_eq!(engine.iter().count(), 1, "somebody is on call");
    Ok(())
}

#[test]
fn who_only_reads_never_aborts() -> Result<()> {
    let engine = engine();
    engine.put("a", "0")?;
    let tx = engine.transaction();
    assert_eq!(tx.get("a")?.unwrap(), b"0");
    engine.put("a", "1")?;
    engine.put("b", "1")?;
    assert_eq!(tx.iter().count(), 1);
    tx.commit()?;
    // One that has taken back all that it wrote too.
    let mut tx = engine.transaction();
    assert_eq!(tx.get("a")?.unwrap(), b"1");
    let savepoint = tx.savepoint();
    tx.put("a", "2")?;
    tx.rollback_to(savepoint)?;
    engine.put("a", "3")?;
    tx.commit()
}

#[test]
fn iterators_see_its_own_writes_and_it_writes_while_they_walk() -> Result<()> {
    let engine = engine();
    for i in 0..10u8 {
        engine.put([i], [i])?;
    }
    let mut tx = engine.transaction();
    tx.delete([3])?;
    tx.put([4], "own")?;
    tx.put([20], "own")?;
    let seen = |tx: &Transaction| tx.iter().keys().map(|key| key.unwrap()[0]).collect::<Vec<_>>();
    assert_eq!(seen(&tx), [0, 1, 2, 4, 5, 6, 7, 8, 9, 20]);
    assert_eq!(tx.iter().rev().map(|item| item.unwrap().0[0]).collect::<Vec<_>>(), [20, 9, 8, 7, 6, 5, 4, 2, 1, 0]);
    assert_eq!(tx.prefix([4]).next().unwrap()?.1, b"own");
    for item in tx.range([0]..[5]) {
        let (key, _) = item?;
        tx.delete(&key)?;
        tx.put([key[0] + 100], "moved")?;
    }
    assert_eq!(seen(&tx), [5, 6, 7, 8, 9, 20, 100, 101, 102, 104]);

    let bounds = ReadOptions { lower: Bound::Excluded(vec![5]), upper: Bound::Included(vec![20]) };
    let mut cursor = tx.cursor_with(bounds);
    cursor.seek([0])?;
    assert_eq!(cursor.key(), [6]);
    cursor.prev()?;
    assert!(!cursor.valid());
    cursor.seek_for_prev([200])?;
    assert_eq!((cursor.key(), cursor.value()?), (&[20][..], &b"own"[..]));
    cursor.prev()?;
    cursor.next()?;
    assert_eq!(cursor.key(), [20]);
    cursor.next()?;
    assert!(!cursor.valid());
    drop(cursor);
    tx.commit()?;
    assert_eq!(engine.iter().count(), 10);
    Ok(())
}

/// An iterator that is forgotten, and so never ends, has read all the same.
#[test]
fn a_scan_that_is_never_ended_is_not_lost() -> Result<()> {
    let engine = engine();
    engine.put("a", "0")?;
    let mut tx = engine.transaction();
    let mut iter = tx.range("a".."c");
    while iter.next().is_some() {}
    std::mem::forget(iter);
    tx.put("mine", "1")?;
    engine.put("b", "phantom")?;
    conflicts(tx);
    Ok(())
}

#[test]
fn savepoints() -> Result<()> {
    let engine = engine();
    engine.put("a", "0")?;
    let mut tx = engine.transaction();
    let nothing = tx.savepoint();
    tx.put("a", "1")?;
    let one = tx.savepoint();
    tx.delete("a")?;
    tx.put("b", "2")?;
    let two = tx.savepoint();
    tx.put("b", "3")?;
    tx.rollback_to(two)?;
    assert_eq!((tx.get("a")?, tx.get("b")?.unwrap()), (None, b"2"[..].into()));
    tx.rollback_to(one)?;
    assert_eq!((tx.get("a")?.unwrap(), tx.get("b")?), (b"1"[..].into(), None));
    tx.put("b", "4")?;
    tx.rollback_to(one)?;
    assert_eq!(tx.get("b")?, None, "a savepoint can be gone back to again");
    assert_eq!(tx.rollback_to(two).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(engine.transaction().rollback_to(one).unwrap_err().kind(), ErrorKind::InvalidArgument);
    tx.rollback_to(nothing)?;
    assert_eq!(tx.get("a")?.unwrap(), b"0");
    // What was read while it was undone stays read.
    tx.put("mine", "1")?;
    engine.put("b", "5")?;
    conflicts(tx);
    Ok(())
}

#[test]
fn keyspaces_made_and_dropped_meanwhile() -> Result<()> {
    let engine = engine();
    let users = users(&engine);
    let mut tx = engine.transaction();
    let later = engine.keyspace("later", KeyspaceOptions::default())?;
    later.put("k", "v")?;
    assert_eq!(tx.of(&later).iter().count(), 0, "it reads as empty");
    tx.put("mine", "1")?;
    conflicts(tx);

    let mut tx = engine.transaction();
    assert_eq!(tx.get_in(&users, "id")?, None);
    tx.put("mine", "1")?;
    engine.drop_keyspace("users")?;
    assert_eq!(tx.get_in(&users, "id").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tx.of(&users).iter().next().unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tx.put_in(&users, "id", "1").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(engine.get("mine")?, None);
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() -> Result<()> {
    let vfs = MemVfs::new();
    let engine = open(&vfs);
    let other = self::engine();
    let foreign = users(&other);
    let mut tx = engine.transaction();
    let long = vec![0; KEY_BYTES_MAX + 1];
    assert_eq!(tx.put(&long, "v").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(tx.delete(&long).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(tx.put_in(&foreign, "k", "v").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(tx.get_in(&foreign, "k").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(tx.range("b".."a").count(), 0);
    assert_eq!(tx.range((Bound::Excluded("a"), Bound::Excluded("a"))).count(), 0);
    tx.put("k", "v")?;
    tx.commit()?;
    assert_eq!(engine.iter().count(), 1);

    let mut open_at_close = engine.transaction();
    open_at_close.put("k", "w")?;
    let mut iter = open_at_close.iter();
    engine.close()?;
    assert_eq!(open_at_close.get("k2").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(iter.next().unwrap()?.1, b"w", "iterators stay valid");
    assert_eq!(open_at_close.commit().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(engine.transact(|tx| tx.put("k", "w")).unwrap_err().kind(), ErrorKind::Closed);

    let reader = Engine::builder("data").vfs(vfs).read_only(true).open()?;
    let mut tx = reader.transaction();
    assert_eq!(tx.get("k")?.unwrap(), b"v");
    tx.put("k", "w")?;
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::ReadOnly);
    reader.transaction().commit()
}

/// A transaction keeps the engine open, as any handle does, and so does not keep it from being closed in the end.
#[test]
fn it_holds_the_engine_open() -> Result<()> {
    let vfs = MemVfs::new();
    let engine = open(&vfs);
    let mut tx = engine.transaction();
    drop(engine);
    let again = || Engine::builder("data").vfs(Arc::clone(&vfs) as Arc<dyn Vfs>).background(Background::Manual).open();
    assert_eq!(again().unwrap_err().kind(), ErrorKind::Locked);
    tx.put("k", "v")?;
    let iter = tx.iter();
    tx.commit()?;
    assert_eq!(again()?.get("k")?.unwrap(), b"v");
    assert_eq!(iter.count(), 1);
    Ok(())
}

#[test]
fn durability_is_chosen_at_commit() -> Result<()> {
    let vfs = MemVfs::new();
    let engine = open(&vfs);
    let users = users(&engine);
    let mut tx = engine.transaction();
    tx.put("a", "1")?;
    tx.put_in(&users, "b", "1")?;
    tx.commit_with(&WriteOptions::sync())?;
    engine.transact_with(&WriteOptions::sync(), |tx| tx.put("c", "1"))?;
    let crashed = open(&Arc::new(vfs.crash_now(CrashPolicy::SyncedOnly)));
    assert_eq!(crashed.iter().count(), 2);
    assert_eq!(self::users(&crashed).iter().count(), 1);
    Ok(())
}

/// What it has read was then told on, and a power loss could undo it.
#[test]
fn a_commit_with_sync_that_writes_nothing_has_what_it_saw_on_stable_storage() -> Result<()> {
    let vfs = MemVfs::new();
    let engine = open(&vfs);
    let kept = |vfs: &MemVfs| open(&Arc::new(vfs.crash_now(CrashPolicy::SyncedOnly))).iter().count();
    engine.put("a", "1")?;
    let tx = engine.transaction();
    tx.get("a")?;
    tx.commit()?;
    assert_eq!(kept(&vfs), 0, "nobody asked");
    let mut tx = engine.transaction();
    let before = tx.savepoint();
    tx.put("never", "1")?;
    tx.rollback_to(before)?;
    tx.commit_with(&WriteOptions::sync())?;
    assert_eq!(kept(&vfs), 1);
    let syncs = engine.metrics().log_syncs;
    engine.transact_with(&WriteOptions::sync(), |tx| tx.get("a"))?;
    engine.exclusive().commit_with(&WriteOptions::sync())?;
    assert_eq!(engine.metrics().log_syncs, syncs, "there is nothing new");

    engine.put("b", "2")?;
    assert!(engine.compare_and_swap_with("not there", None, None, &WriteOptions::sync())?);
    assert_eq!(kept(&vfs), 2);
    engine.close()?;
    let vfs = Arc::clone(&vfs) as Arc<dyn Vfs>;
    let engine = Engine::builder("data").vfs(vfs).read_only(true).open()?;
    engine.transaction().commit_with(&WriteOptions::sync())
}

#[test]
fn transact_runs_it_again_until_it_wins() -> Result<()> {
    let engine = engine();
    let mut runs = 0;
    let done = engine.transact(|tx| {
        runs += 1;
        let before = tx.get("k")?;
        if runs <= 3 {
            engine.put("k", format!("{runs}"))?;
        }
        tx.put("seen", before.unwrap_or_default())?;
        Ok(runs)
    })?;
    assert_eq!((done, engine.get("seen")?.unwrap()), (4, b"3"[..].into()));
    assert_eq!(engine.metrics().conflicts, 3);

    // Its own failure ends it, and nothing is written.
    let mut runs = 0;
    let failed = engine.transact(|tx| -> Result<()> {
        runs += 1;
        tx.put("k", "never")?;
        Err(Error::other("no"))
    });
    assert_eq!((failed.unwrap_err().kind(), runs), (ErrorKind::Other, 1));
    assert_eq!(engine.get("k")?.unwrap(), b"3");
    Ok(())
}

/// Others write what it reads whenever it runs, so it would lose for ever; who has lost sixteen times has them wait. Where nobody was fast enough it never came to that, and nothing failed when it could not.
#[test]
fn transact_comes_to_its_end_however_much_others_write() {
    let engine = Engine::builder("data").vfs(MemVfs::new()).open().unwrap();
    let (mut tries, mut other) = (0, None);
    let done = engine.transact(|tx| {
        tries += 1;
        tx.get("k")?;
        if tries <= 16 {
            engine.put("k", "by others")?;
        } else if other.is_none() {
            let engine = engine.clone();
            other = Some(std::thread::spawn(move || engine.put("k", "later").unwrap()));
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        tx.put("k", "mine")
    });
    done.unwrap();
    assert_eq!(tries, 17);
    other.unwrap().join().unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"later");
}

/// A long transaction over more than memory for reads allows; then everything that it has read still counts, and its memory is given back.
#[test]
fn tracking_is_bounded() -> Result<()> {
    const BYTES: usize = 16 << 10;
    let options = Options { transaction_tracking_bytes: BYTES, ..Options::default() };
    let builder = Engine::builder("data").vfs(MemVfs::new()).options(options);
    let engine = builder.background(Background::Manual).open()?;
    let key = |i: u32| i.wrapping_mul(0x9e37_79b9).to_be_bytes();
    let mut tx = engine.transaction();
    for i in 0..20_000 {
        assert_eq!(tx.get(key(i))?, None);
        assert!(engine.metrics().transaction_tracking_bytes <= BYTES + (4 << 10));
    }
    tx.put("mine", "1")?;
    engine.put(key(777), "v")?;
    conflicts(tx);
    assert_eq!(engine.metrics().transaction_tracking_bytes, 0);
    Ok(())
}

/// A range that is deleted is written to, all of it: keys that are there, keys that are not, and what was scanned; from memory, and from tables.
#[test]
fn a_range_deleted_since_conflicts_with_what_was_read_in_it() -> Result<()> {
    type Read = fn(&Transaction) -> Result<()>;
    let inside: [(&str, Read); 4] = [
        ("a key", |tx| tx.get("m").map(drop)),
        ("a miss", |tx| tx.get("nothing").map(drop)),
        ("a scan", |tx| tx.range("l".."p").try_for_each(|item| item.map(drop))),
        ("a scan across the end", |tx| tx.range("o".."z").rev().try_for_each(|item| item.map(drop))),
    ];
    let outside: [(&str, Read); 3] = [
        ("a key before", |tx| tx.get("c").map(drop)),
        ("the end", |tx| tx.get("p").map(drop)),
        ("a scan around", |tx| tx.range("a".."k").chain(tx.range("p"..)).try_for_each(|item| item.map(drop))),
    ];
    for flushed in [false, true] {
        let engine = engine();
        let keep = |engine: &Engine| ["c", "m", "p"].iter().try_for_each(|key| engine.put(key, "v"));
        for (what, read, conflict) in inside
            .iter()
            .map(|(what, read)| (what, read, true))
            .chain(outside.iter().map(|(what, read)| (what, read, false)))
        {
            keep(&engine)?;
            let mut tx = engine.transaction();
            read(&tx)?;
            tx.put("written", what)?;
            engine.delete_range("k", "p")?;
            if flushed {
                engine.flush()?;
            }
            match tx.commit() {
                Ok(()) => assert!(!conflict, "{what}, flushed {flushed}: no conflict"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict);
                    assert!(conflict, "{what}, flushed {flushed}: {error}");
                }
            }
        }
        keep(&engine)?;
        let mut tx = engine.transaction();
        tx.get("c")?;
        tx.put("written", "after")?;
        engine.clear()?;
        if flushed {
            engine.flush()?;
        }
        conflicts(tx);
        assert!(engine.insert_if_absent("c", "new")? && !engine.insert_if_absent("c", "newer")?);
        assert!(engine.compare_and_swap("m", None, Some(b"1"))?);
    }
    Ok(())
}
