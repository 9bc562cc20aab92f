//! Merges within transactions, as stories: who conflicts with whom, what is seen of what, what an operator that fails costs, and what is committed.

use esker::operators::Append;
use esker::vfs::{MemVfs, Vfs};
use esker::{
    Background, Builder, Change, Engine, Error, ErrorKind, KeyspaceOptions, MergeOperator, Operands, Operation,
    OperatorError, Options, ReadOptions, Slice, Transaction, WriteOptions,
};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn with(operator: &str) -> KeyspaceOptions {
    KeyspaceOptions { merge_operator: Some(operator.into()), ..Default::default() }
}

fn builder(vfs: &Arc<MemVfs>) -> Builder {
    let options = Options { blob_bytes_min: 64, block_size_bytes: 64, ..Options::default() };
    Engine::builder("/db").vfs(Arc::clone(vfs) as Arc<dyn Vfs>).options(options).background(Background::Manual)
}

fn open(operator: &str) -> Engine {
    builder(&MemVfs::new()).default_keyspace(with(operator)).open().unwrap()
}

fn number(n: i64) -> [u8; 8] {
    n.to_le_bytes()
}

fn of_number(found: Option<Slice>) -> Option<i64> {
    found.map(|bytes| i64::from_le_bytes(bytes[..].try_into().unwrap()))
}

type Pairs = Vec<(String, String)>;

fn pair((key, value): (Slice, Slice)) -> (String, String) {
    (String::from_utf8(key.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap())
}

/// All that a transaction sees, the same by every way of reading.
fn seen(tx: &Transaction) -> Pairs {
    let pairs: Pairs = tx.iter().map(|item| pair(item.unwrap())).collect();
    let mut back: Pairs = tx.iter().rev().map(|item| pair(item.unwrap())).collect();
    back.reverse();
    assert_eq!(back, pairs);
    let mut keys: Vec<String> = tx.iter().keys().map(|key| String::from_utf8(key.unwrap().to_vec()).unwrap()).collect();
    assert!(keys.iter().eq(pairs.iter().map(|(key, _)| key)));
    keys.push("not there".into());
    let together = tx.multi_get(&keys).unwrap();
    for (nth, key) in keys.iter().enumerate() {
        let expected = pairs.get(nth).map(|(_, value)| value.as_bytes());
        assert_eq!(tx.get(key).unwrap().as_deref(), expected, "{key}");
        assert_eq!(together[nth].as_deref(), expected, "{key}");
        assert_eq!(tx.contains_key(key).unwrap(), expected.is_some());
    }
    assert_eq!(tx.first().unwrap().map(pair).as_ref(), pairs.first());
    assert_eq!(tx.last().unwrap().map(pair).as_ref(), pairs.last());
    assert_eq!(tx.is_empty().unwrap(), pairs.is_empty());
    let mut cursor = tx.cursor();
    for (key, value) in &pairs {
        cursor.seek_for_prev(key).unwrap();
        assert_eq!((cursor.key(), cursor.value().unwrap()), (key.as_bytes(), value.as_bytes()));
        // There and back.
        cursor.next().unwrap();
        if cursor.valid() {
            cursor.prev().unwrap();
            assert_eq!((cursor.key(), cursor.value().unwrap()), (key.as_bytes(), value.as_bytes()));
        }
    }
    pairs
}

fn pairs(expected: &[(&str, &str)]) -> Pairs {
    expected.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[test]
fn merging_reads_nothing_and_asking_for_the_value_does() {
    let engine = open("esker.counter");
    engine.put("n", number(10)).unwrap();
    let adds = |n| {
        let mut tx = engine.transaction();
        tx.merge("n", number(n)).unwrap();
        tx
    };
    let value = || of_number(engine.get("n").unwrap());
    // Two that only merge, and whoever writes meanwhile.
    let (first, second) = (adds(1), adds(2));
    engine.merge("n", number(100)).unwrap();
    first.commit().unwrap();
    second.commit().unwrap();
    assert_eq!(value(), Some(113));
    let blind = adds(5);
    engine.put("n", number(0)).unwrap();
    blind.commit().unwrap();
    assert_eq!(value(), Some(5));
    let blind = adds(5);
    engine.delete("n").unwrap();
    blind.commit().unwrap();
    assert_eq!(value(), Some(5));

    // That the key is there is known without a look; over keys alone nobody asks for a value.
    let knows = adds(1);
    assert!(knows.contains_key("n").unwrap());
    assert_eq!(knows.range("n"..="n").keys().count(), 1);
    let mut cursor =
        knows.cursor_with(ReadOptions { lower: Bound::Included(b"n".to_vec()), upper: Bound::Included(b"n".to_vec()) });
    cursor.seek_to_first().unwrap();
    assert!(cursor.valid());
    drop(cursor);
    engine.merge("n", number(1)).unwrap();
    knows.commit().unwrap();
    assert_eq!(value(), Some(7));

    // Every way to ask for the value is a read.
    type Ask = fn(&Transaction) -> Option<Slice>;
    let ways: [(&str, Ask); 7] = [
        ("get", |tx| tx.get("n").unwrap()),
        ("multi_get", |tx| tx.multi_get(["n"]).unwrap().remove(0)),
        ("range", |tx| Some(tx.range("n"..="n").next().unwrap().unwrap().1)),
        ("back", |tx| Some(tx.range("n"..="n").next_back().unwrap().unwrap().1)),
        ("first", |tx| Some(tx.first().unwrap().unwrap().1)),
        ("last", |tx| Some(tx.last().unwrap().unwrap().1)),
        ("cursor", |tx| {
            let mut cursor = tx.cursor();
            cursor.seek("n").unwrap();
            Some(Slice::from(cursor.value().unwrap()))
        }),
    ];
    for (name, ask) in ways {
        let mut reads = adds(3);
        let before = value().unwrap();
        assert_eq!(of_number(ask(&reads)), Some(before + 3), "{name}");
        reads.merge("n", number(4)).unwrap();
        assert_eq!(of_number(ask(&reads)), Some(before + 7), "{name}");
        engine.merge("n", number(1)).unwrap();
        assert_eq!(reads.commit().unwrap_err().kind(), ErrorKind::Conflict, "{name}");
        assert_eq!(value(), Some(before + 1), "{name}");
    }

    // But where it has written what lies below itself.
    let mut knows = adds(1);
    knows.put("n", number(40)).unwrap();
    knows.merge("n", number(2)).unwrap();
    assert_eq!(of_number(knows.get("n").unwrap()), Some(42));
    assert_eq!(of_number(knows.first().unwrap().map(|(_, value)| value)), Some(42));
    engine.merge("n", number(1)).unwrap();
    knows.commit().unwrap();
    assert_eq!(value(), Some(42));
    let mut knows = adds(1);
    knows.delete("n").unwrap();
    knows.merge("n", number(2)).unwrap();
    assert_eq!(of_number(knows.get("n").unwrap()), Some(2));
    engine.merge("n", number(1)).unwrap();
    knows.commit().unwrap();
    assert_eq!(value(), Some(2));
}

#[test]
fn what_lies_below_is_its_own_or_the_snapshots() {
    let long = "x".repeat(100);
    let engine = open("esker.append");
    engine.put("blob", &long).unwrap();
    engine.put("a", "1").unwrap();
    engine.put("gone", "1").unwrap();
    engine.flush().unwrap();
    assert!(engine.metrics().keyspaces[0].blob_files > 0);
    engine.delete("gone").unwrap();
    engine.merge("a", "2").unwrap();
    engine.merge("m", "1").unwrap();
    let mut tx = engine.transaction();
    engine.clear().unwrap();
    for key in ["a", "blob", "gone", "m", "new"] {
        tx.merge(key, "+").unwrap();
        tx.merge(key, "-").unwrap();
    }
    let whole = format!("{long}+-");
    let all = [("a", "12+-"), ("blob", &whole), ("gone", "+-"), ("m", "1+-"), ("new", "+-")];
    assert_eq!(seen(&tx), pairs(&all));

    let before = tx.iter();
    let savepoint = tx.savepoint();
    tx.put("a", "own").unwrap();
    tx.merge("a", "!").unwrap();
    tx.delete("blob").unwrap();
    tx.delete_range("g", "n").unwrap();
    tx.merge("m", "again").unwrap();
    tx.merge("blob", "again").unwrap();
    tx.merge("new", "?").unwrap();
    assert_eq!(seen(&tx), pairs(&[("a", "own!"), ("blob", "again"), ("m", "again"), ("new", "+-?")]));
    let inner = tx.savepoint();
    tx.clear().unwrap();
    tx.merge("new", "est").unwrap();
    assert_eq!(seen(&tx), pairs(&[("new", "est")]));
    tx.rollback_to(inner).unwrap();
    assert_eq!(seen(&tx), pairs(&[("a", "own!"), ("blob", "again"), ("m", "again"), ("new", "+-?")]));
    tx.rollback_to(savepoint).unwrap();
    assert_eq!(seen(&tx), pairs(&all));
    assert_eq!(before.map(|item| pair(item.unwrap())).collect::<Pairs>(), pairs(&all), "made before all that");

    // All of it taken back: nothing to conflict with.
    let mut tx = engine.transaction();
    let savepoint = tx.savepoint();
    tx.merge("a", "1").unwrap();
    assert_eq!(tx.get("a").unwrap().unwrap(), b"1");
    engine.put("a", "else").unwrap();
    tx.rollback_to(savepoint).unwrap();
    assert_eq!(tx.get("a").unwrap(), None);
    tx.commit().unwrap();
    assert_eq!(engine.get("a").unwrap().unwrap(), b"else");

    // What was written before the savepoint is again what it was.
    let mut tx = engine.transaction();
    tx.delete("a").unwrap();
    tx.put("p", "own").unwrap();
    let savepoint = tx.savepoint();
    tx.merge("a", "1").unwrap();
    tx.merge("p", "1").unwrap();
    assert_eq!(seen(&tx), pairs(&[("a", "1"), ("p", "own1")]));
    tx.rollback_to(savepoint).unwrap();
    assert_eq!(seen(&tx), pairs(&[("p", "own")]));
    tx.commit().unwrap();
    assert_eq!(engine.get("a").unwrap(), None);
    assert_eq!(engine.get("p").unwrap().unwrap(), b"own");
}

#[test]
fn what_is_committed_is_one_batch_of_operands() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs).default_keyspace(with("esker.append")).open().unwrap();
    let other = engine.keyspace("other", with("esker.max")).unwrap();
    engine.put("a", "1").unwrap();
    engine.put("r/1", "1").unwrap();
    let from = engine.metrics().last_seq;
    let mut tx = engine.transaction();
    tx.merge("a", "2").unwrap();
    tx.merge("a", "3").unwrap();
    tx.put("b", "1").unwrap();
    tx.merge("b", "2").unwrap();
    tx.delete("c").unwrap();
    tx.merge("c", "3").unwrap();
    tx.delete_range("r/", "r0").unwrap();
    tx.merge("r/1", "4").unwrap();
    tx.merge_in(&other, "m", "5").unwrap();
    tx.merge_in(&other, "m", "4").unwrap();
    engine.merge("a", "meanwhile").unwrap();
    tx.commit().unwrap();
    let told: Vec<Vec<String>> = engine
        .changes_since(from)
        .unwrap()
        .map(|change| match change.unwrap() {
            Change::Batch(batch) => batch
                .operations()
                .map(|operation| match operation {
                    Operation::Put { key, value, .. } => format!("{}={}", key.escape_ascii(), value.escape_ascii()),
                    Operation::Merge { key, operand, .. } => {
                        format!("{}+{}", key.escape_ascii(), operand.escape_ascii())
                    }
                    Operation::Delete { key, .. } => format!("{} gone", key.escape_ascii()),
                    Operation::DeleteRange { begin, .. } => format!("{} cleared", begin.escape_ascii()),
                    other => panic!("{other:?}"),
                })
                .collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    let batch = ["r/ cleared", "a+2", "a+3", "b=1", "b+2", "c gone", "c+3", "r/1+4", "m+5", "m+4"];
    assert_eq!(told, [vec!["a+meanwhile"], batch.to_vec()]);

    let expected = pairs(&[("a", "1meanwhile23"), ("b", "12"), ("c", "3"), ("r/1", "4")]);
    let all = |engine: &Engine| engine.iter().map(|item| pair(item.unwrap())).collect::<Pairs>();
    assert_eq!(all(&engine), expected);
    drop((other, engine));
    // From the log, then from tables.
    for _ in 0..2 {
        let engine = builder(&vfs).open().unwrap();
        let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
        assert_eq!((all(&engine), other.get("m").unwrap().unwrap()), (expected.clone(), b"5"[..].into()));
        engine.compact_range(..).unwrap();
        drop((other, engine));
    }
}

#[test]
fn what_can_not_be_merged_is_refused_at_the_call() {
    let vfs = MemVfs::new();
    let known = || builder(&vfs).merge_operator("mine", Append::new());
    let engine = known().default_keyspace(with("esker.counter")).open().unwrap();
    let plain = engine.keyspace("plain", KeyspaceOptions::default()).unwrap();
    engine.keyspace("mine", with("mine")).unwrap().merge("k", "1").unwrap();
    let gone = engine.keyspace("gone", with("esker.append")).unwrap();
    let seq = engine.metrics().last_seq;
    let mut tx = engine.transaction();
    let refused = |result: esker::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    refused(tx.merge_in(&plain, "k", number(1)));
    refused(tx.merge("k", "not a number"));
    refused(tx.merge(vec![0; esker::KEY_BYTES_MAX + 1], number(1)));
    let elsewhere = open("esker.counter");
    refused(tx.merge_in(&elsewhere.keyspace("default", Default::default()).unwrap(), "k", number(1)));
    assert!(tx.is_empty().unwrap() && tx.of(&plain).is_empty().unwrap());
    engine.put("k", number(1)).unwrap();
    tx.commit().unwrap();
    assert_eq!(engine.metrics().last_seq, seq + 1, "it has written nothing");

    // One that was made since is empty, one that was dropped is not there.
    let mut tx = engine.transaction();
    let later = engine.keyspace("later", with("esker.append")).unwrap();
    later.put("k", "theirs").unwrap();
    tx.merge_in(&later, "k", "ours").unwrap();
    assert_eq!(tx.get_in(&later, "k").unwrap().unwrap(), b"ours");
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict, "it was put since, and read");
    let mut tx = engine.transaction();
    tx.merge_in(&gone, "k", "1").unwrap();
    engine.drop_keyspace("gone").unwrap();
    assert_eq!(tx.merge_in(&gone, "k", "1").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::NotFound);
    drop((plain, gone, later, engine));

    // Nobody has registered it.
    let engine = builder(&vfs).open().unwrap();
    let mine = engine.keyspace("mine", KeyspaceOptions::default()).unwrap();
    let mut tx = engine.transaction();
    assert_eq!(tx.merge_in(&mine, "k", "2").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(tx.get_in(&mine, "k").unwrap_err().kind(), ErrorKind::Unsupported);
    tx.put_in(&mine, "k", "2").unwrap();
    assert_eq!(tx.get_in(&mine, "k").unwrap().unwrap(), b"2");
    tx.commit().unwrap();
}

/// Appends, but nothing with a `?` in it, and panics at a `!`.
struct Picky;

impl MergeOperator for Picky {
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        let whole = Append::new().merge(key, base, operands)?;
        assert!(!whole.contains(&b'!'), "a merge's panic, which the test asks for");
        if whole.contains(&b'?') { Err("not this".into()) } else { Ok(whole) }
    }
}

#[test]
fn an_operator_that_fails_costs_the_reads_that_need_it_alone() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs).merge_operator("picky", Picky).default_keyspace(with("picky")).open().unwrap();
    engine.put("k", "base").unwrap();
    for bad in ["?", "!"] {
        let mut tx = engine.transaction();
        tx.merge("a", "1").unwrap();
        tx.merge("k", bad).unwrap();
        tx.merge("z", "9").unwrap();
        let fails = |result: Result<(), Error>| {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Other);
            assert!(error.to_string().contains("picky, key k"), "{error}");
        };
        fails(tx.get("k").map(drop));
        fails(tx.multi_get(["a", "k"]).map(drop));
        assert!(tx.contains_key("k").unwrap());
        let items: Vec<_> = tx.iter().collect();
        assert!(items.len() == 2 && items[0].is_ok() && items[1].is_err(), "an iterator ends there");
        let items: Vec<_> = tx.iter().rev().collect();
        assert!(items.len() == 2 && items[0].is_ok() && items[1].is_err());
        assert_eq!(tx.iter().keys().filter(Result::is_ok).count(), 3);
        let mut cursor = tx.cursor();
        cursor.seek("b").unwrap();
        assert_eq!(cursor.key(), b"k");
        fails(cursor.value().map(drop));
        fails(cursor.value().map(drop));
        cursor.next().unwrap();
        assert_eq!((cursor.key(), cursor.value().unwrap()), (&b"z"[..], &b"9"[..]), "a cursor goes on");
        cursor.prev().unwrap();
        fails(cursor.value().map(drop));
        drop(cursor);
        // It goes on: another value mends it, and so does a way back.
        let savepoint = tx.savepoint();
        tx.put("k", "mended").unwrap();
        tx.merge("k", "+").unwrap();
        assert_eq!(tx.get("k").unwrap().unwrap(), b"mended+");
        tx.rollback_to(savepoint).unwrap();
        fails(tx.get("k").map(drop));
        // What nobody could fold is committed as it is.
        tx.commit().unwrap();
        assert_eq!(engine.get("z").unwrap().unwrap(), b"9");
        assert_eq!(engine.get("k").unwrap_err().kind(), ErrorKind::Other);
        engine.delete_range("l", "zz").unwrap();
    }
    drop(engine);
    let engine = builder(&vfs).merge_operator("picky", Append::new()).open().unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"base?!", "nothing is lost");
}

/// What fails halfway and not at last is read as it will be read when it was committed: all operands at once.
#[test]
fn operands_are_folded_with_those_of_the_snapshot() {
    let engine = open("esker.counter");
    engine.put("n", number(i64::MAX)).unwrap();
    engine.merge("n", number(5)).unwrap();
    assert_eq!(engine.get("n").unwrap_err().kind(), ErrorKind::Other);
    let mut tx = engine.transaction();
    tx.merge("n", number(5)).unwrap();
    assert_eq!(tx.get("n").unwrap_err().kind(), ErrorKind::Other);
    tx.merge("n", number(-12)).unwrap();
    assert_eq!(of_number(tx.get("n").unwrap()), Some(i64::MAX - 2));
    assert_eq!(of_number(tx.first().unwrap().map(|(_, value)| value)), Some(i64::MAX - 2));
    tx.commit().unwrap();
    assert_eq!(of_number(engine.get("n").unwrap()), Some(i64::MAX - 2));
}

#[test]
fn operands_have_no_time_to_live() {
    let engine = open("esker.append");
    let plain = engine.keyspace("plain", KeyspaceOptions::default()).unwrap();
    let hour = WriteOptions { ttl: Some(Duration::from_secs(3600)), ..Default::default() };
    let seq = engine.metrics().last_seq;
    let mut tx = engine.transaction();
    tx.put_in(&plain, "k", "1").unwrap();
    tx.merge("k", "1").unwrap();
    assert_eq!(tx.commit_with(&hour).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let transacted = engine.transact_with(&hour, |tx| tx.merge("k", "1"));
    assert_eq!(transacted.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(engine.metrics().last_seq, seq);
    assert!(engine.is_empty().unwrap() && plain.is_empty().unwrap());
}

#[test]
fn exclusive_ones_merge_too() {
    let engine = open("esker.append");
    engine.merge("k", "1").unwrap();
    let mut tx = engine.exclusive();
    tx.merge("k", "2").unwrap();
    assert_eq!(tx.get("k").unwrap().unwrap(), b"12");
    assert_eq!(seen(&tx), pairs(&[("k", "12")]));
    assert_eq!(engine.merge("k", "3").unwrap_err().kind(), ErrorKind::InvalidArgument, "beside it");
    tx.commit().unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"12");
}

/// Threads that each write a key of their own and add to one that all share: nobody ever loses.
#[test]
fn a_shared_counter_costs_no_conflict() {
    const THREADS: u32 = 4;
    const EACH: u32 = 200;
    let options = Options { memtable_bytes: Some(8 << 10), ..Options::default() };
    let engine = Engine::builder("/db").vfs(MemVfs::new()).options(options);
    let engine = engine.default_keyspace(with("esker.counter")).open().unwrap();
    let tries = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, tries) = (&engine, &tries);
            scope.spawn(move || {
                for n in 0..EACH {
                    let insert = |tx: &mut Transaction| {
                        tries.fetch_add(1, Ordering::Relaxed);
                        let key = format!("of {thread}");
                        let before = of_number(tx.get(&key)?).unwrap_or_default();
                        assert_eq!(before, n.into());
                        tx.put(&key, number(before + 1))?;
                        tx.merge("all", number(1))
                    };
                    engine.transact(insert).unwrap();
                }
            });
        }
    });
    assert_eq!(of_number(engine.get("all").unwrap()), Some((THREADS * EACH).into()));
    assert_eq!((tries.load(Ordering::Relaxed), engine.metrics().conflicts), ((THREADS * EACH) as usize, 0));
}
