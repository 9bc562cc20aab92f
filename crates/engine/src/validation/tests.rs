use super::*;
use crate::background::Background;
use crate::engine::Engine;
use crate::options::WriteOptions;
use esker_vfs::MemVfs;

fn batch(keys: &[&[u8]]) -> EncodedBatch {
    let mut batch = EncodedBatch::new();
    keys.iter().for_each(|key| {
        batch.put(KeyspaceId::DEFAULT, key, b"v");
    });
    batch
}

fn seen(watch: &Watch, begun: u64) -> Option<Vec<Vec<u8>>> {
    Some(watch.since(begun)?.map(|written| written.key.to_vec()).collect())
}

#[test]
fn each_who_watches_sees_what_came_since_and_nobody_leaves_anything_behind() {
    let mut watch = Watch::default();
    assert!(!watch.is_on());
    let first = watch.begin(0);
    watch.note(&batch(&[b"a", b"b"]));
    let second = watch.begin(0);
    watch.note(&batch(&[b"c"]));
    assert_eq!(seen(&watch, first).unwrap(), [b"a", b"b", b"c"]);
    assert_eq!(seen(&watch, second).unwrap(), [b"c"]);
    watch.end(first);
    assert_eq!(watch.written.len(), 1, "nobody needs a and b any more");
    assert_eq!(seen(&watch, second).unwrap(), [b"c"]);
    let third = watch.begin(0);
    assert!(watch.is_on() && seen(&watch, third).unwrap().is_empty());
    watch.end(second);
    watch.end(third);
    assert!(!watch.is_on() && watch.written.is_empty() && watch.bytes == 0);
}

#[test]
fn too_much_to_remember_is_said_and_not_remembered() {
    let mut watch = Watch::default();
    let begun = watch.begin(0);
    let key = vec![7; 60_000];
    for _ in 0..20 {
        watch.note(&batch(&[&key]));
        assert!(watch.bytes <= WATCHED_BYTES);
    }
    assert_eq!(seen(&watch, begun), None);
    let again = watch.begin(1);
    (0..20).for_each(|_| watch.note(&batch(&[&key])));
    assert_eq!(seen(&watch, again).unwrap().len(), 20, "who begins again may have more");
    assert_eq!(seen(&watch, begun), None, "and what is lost stays lost");
    watch.end(begun);
    watch.end(again);
    assert!(watch.written.is_empty() && watch.bytes == 0 && watch.doubled == 0);
}

fn engine() -> Engine {
    Engine::builder("/db").vfs(MemVfs::new()).background(Background::Manual).open().unwrap()
}

/// While a look at tables goes on, others write: what it has read, something else, or more than is remembered.
#[test]
fn what_is_written_during_the_look_counts() {
    for (written, is_conflict) in [(&b"read"[..], true), (b"other", false)] {
        for many in [false, true] {
            let engine = engine();
            let core = &engine.handle.core;
            engine.put("read", "v").unwrap();
            let mut set = ReadSet::new(core);
            set.add_key(core.default_keyspace(), b"read");
            set.settle();
            let snapshot = engine.snapshot();
            engine.put("unread", "v").unwrap();
            engine.flush().unwrap();

            // As `lock_on_terms` does, step by step.
            let mut commit = core.commit.lock();
            let what = What::Set(&set);
            assert!(!core.stands_as_memory_tells(&commit, what, snapshot.taken().at.seq).unwrap(), "a table is newer");
            let watching = Watching::begin(core, &mut commit, 0);
            drop(commit);
            engine.put(written, "w").unwrap();
            if many {
                (0..60_000u32).for_each(|i| engine.put(i.to_be_bytes(), "").unwrap());
            }
            let mut commit = core.commit.lock();
            let known = watching.end(&mut commit, what);
            match (many, is_conflict) {
                (true, _) => assert!(!known.unwrap(), "more than is remembered, so it looks again"),
                (false, true) => assert_eq!(known.unwrap_err().kind(), ErrorKind::Conflict),
                (false, false) => assert!(known.unwrap()),
            }
            assert!(!commit.watch.is_on());
            drop(commit);
            let terms = Terms { reads: Some(ReadSince { what, at: snapshot.taken() }), turn: None };
            let mut batch = crate::WriteBatch::new();
            batch.put("k", "v");
            let result = core.write_on(&terms, &batch, &WriteOptions::default());
            assert_eq!(result.is_err(), is_conflict, "{result:?}");
        }
    }
}

#[test]
fn a_look_that_fails_ends_its_watch() {
    let engine = engine();
    let core = &engine.handle.core;
    let mut commit = core.commit.lock();
    let watching = Watching::begin(core, &mut commit, 0);
    assert!(commit.watch.is_on());
    drop(commit);
    drop(watching);
    assert!(!core.commit.lock().watch.is_on());
}

#[test]
fn a_range_that_was_deleted_meanwhile_meets_what_was_read_in_it() {
    let engine = engine();
    let keyspace = &engine.default.core;
    let mut written = EncodedBatch::new();
    written.delete_range(KeyspaceId::DEFAULT, b"c", b"f");
    written.delete_from(KeyspaceId::DEFAULT, b"x");
    let mut watch = Watch::default();
    let begun = watch.begin(0);
    watch.note(&written);
    let meets = |what: What<'_>| watch.since(begun).unwrap().any(|written| what.meets(written));
    for (key, is_met) in
        [("b", false), ("c", true), ("ez", true), ("f", false), ("w", false), ("x", true), ("zz", true)]
    {
        assert_eq!(meets(What::Key(keyspace, key.as_bytes())), is_met, "{key}");
        let mut set = ReadSet::new(&engine.handle.core);
        set.add_key(keyspace, key.as_bytes());
        set.settle();
        assert_eq!(meets(What::Set(&set)), is_met, "{key} in a set");
    }
    let other = engine.keyspace("other", Default::default()).unwrap();
    assert!(!meets(What::Key(&other.core, b"d")));
    watch.end(begun);
    assert!(watch.written.is_empty() && watch.bytes == 0);
}
