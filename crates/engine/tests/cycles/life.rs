//! One life of the engine: what is done while it is open, and how it ends.

use crate::{dirs::Dirs, options};
use esker::vfs::{Fault, FaultVfs, Rule, Vfs};
use esker::{
    Engine, ErrorKind, IngestOptions, Iter, Keyspace, KeyspaceOptions, Options, Slice, SstOptions, SstWriter,
    WriteBatch,
};
use esker_testkit::random::Random;
use std::sync::Arc;

/// Few, so that files stay few.
const KEYS: u64 = 64;
/// The key that tells how many lives there were.
const LIVES: &str = "lives";

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    Drop,
    /// Iterators, cursors and slices are used when the engine is gone.
    Outlived,
    /// Every operation of the file system fails from some moment on.
    Failing,
}

/// What may be used when the engine is gone.
struct Outlives {
    iter: Iter,
    keys: usize,
    slice: Option<Slice>,
}

fn key(random: &mut Random) -> Vec<u8> {
    vec![b'k', random.below(KEYS) as u8]
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

/// How many lives the directory remembers.
pub(crate) fn lives(engine: &Engine) -> u64 {
    engine.get(LIVES).unwrap().map_or(0, |bytes| number(&bytes))
}

/// Opens the engine, does something, and ends; how.
pub(crate) fn live(dirs: &Dirs, faults: &FaultVfs, vfs: &Arc<dyn Vfs>, seed: u64) -> End {
    let mut random = Random::new(seed);
    let engine = Engine::builder(&dirs.db).options(options(random.one_in(2))).vfs(Arc::clone(vfs)).open().unwrap();
    let before = lives(&engine);
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    let merged = KeyspaceOptions { merge_operator: Some("esker.counter".into()), ..KeyspaceOptions::default() };
    let sums = engine.keyspace("sums", merged).unwrap();
    for _ in 0..random.below(8) {
        act(dirs, &engine, &other, &sums, &mut random);
    }
    engine.put(LIVES, (before + 1).to_be_bytes()).unwrap();
    assert_eq!(lives(&engine), before + 1);
    let end = [End::Close, End::Drop, End::Outlived, End::Failing][random.below(4) as usize];
    match end {
        End::Close => engine.close().unwrap(),
        End::Drop => {}
        End::Outlived => {
            let mut iter = other.iter();
            let keys = other.iter().count();
            let read = iter.by_ref().take(random.below(4) as usize).map(Result::unwrap).count();
            let outlives = Outlives { iter, keys: keys - read, slice: engine.get(LIVES).unwrap() };
            if random.one_in(2) {
                engine.close().unwrap();
            }
            drop((engine, other, sums));
            let Outlives { iter, keys, slice } = outlives;
            assert_eq!(iter.map(Result::unwrap).count(), keys, "seed {seed}");
            assert_eq!(number(&slice.unwrap()), before + 1);
        }
        End::Failing => {
            faults.add(Rule::any(Fault::EIO).from_nth(1 + random.below(20)));
            for _ in 0..random.below(6) {
                // It may be too late for it.
                let _ = engine.put(key(&mut random), value(&mut random));
                let _ = engine.flush();
            }
            if random.one_in(2) {
                let _ = engine.close();
            }
            drop((engine, other, sums));
            faults.clear();
        }
    }
    end
}

/// From some bytes to more than what a blob file takes.
fn value(random: &mut Random) -> Vec<u8> {
    vec![random.next() as u8; random.below(600) as usize]
}

/// Any one of the things that take descriptors, maps, threads or files.
fn act(dirs: &Dirs, engine: &Engine, other: &Keyspace, sums: &Keyspace, random: &mut Random) {
    match random.below(16) {
        0..4 => {
            let mut batch = WriteBatch::new();
            for _ in 0..random.below(20) {
                batch.put(key(random), value(random)).put_in(other, key(random), value(random));
                batch.merge_in(sums, key(random), 1i64.to_le_bytes()).delete(key(random));
            }
            engine.write(&batch).unwrap();
        }
        4 => engine.flush().unwrap(),
        5 => engine.compact_range(..).unwrap(),
        6 => other.clear().unwrap(),
        7 => {
            let mut tx = engine.transaction();
            tx.get(key(random)).unwrap();
            let written = tx.iter().count();
            tx.put("transaction", written.to_be_bytes()).unwrap();
            if random.one_in(2) { tx.commit().unwrap() } else { drop(tx) }
        }
        8 => {
            let mut tx = engine.exclusive();
            tx.put("exclusive", value(random)).unwrap();
            tx.commit().unwrap();
        }
        9 => {
            let snapshot = engine.snapshot();
            engine.put(key(random), value(random)).unwrap();
            let mut cursor = engine.cursor();
            cursor.seek_to_last().unwrap();
            assert!(snapshot.iter().all(|item| item.is_ok()));
        }
        10 => {
            let hold = engine.hold_changes(engine.snapshot().seq()).unwrap();
            engine.put(key(random), value(random)).unwrap();
            let seq = engine.snapshot().seq() - 1;
            assert_eq!(engine.changes_since(seq).unwrap().map(Result::unwrap).count(), 1);
            drop(hold);
        }
        11 => {
            let _ = std::fs::remove_file(&dirs.table);
            let mut table = SstWriter::create(&dirs.table, &SstOptions::default()).unwrap();
            table.put("ingested", value(random)).unwrap();
            table.finish().unwrap();
            other.ingest([&dirs.table], &IngestOptions { move_files: random.one_in(2) }).unwrap();
        }
        12 => {
            other.bulk_load((0..9u8).map(|i| ([b'l', i], [i; 300]))).unwrap();
        }
        13 => {
            let temporary = engine.keyspace("temporary", KeyspaceOptions::default()).unwrap();
            temporary.put(key(random), value(random)).unwrap();
            if random.one_in(2) {
                engine.flush().unwrap();
            }
            engine.drop_keyspace("temporary").unwrap();
        }
        14 => {
            engine.checkpoint(&dirs.copy).unwrap();
            let copy = Engine::builder(&dirs.copy).options(options(true)).read_only(random.one_in(2)).open().unwrap();
            assert_eq!(lives(&copy), lives(engine));
            drop(copy);
            std::fs::remove_dir_all(&dirs.copy).unwrap();
        }
        _ => refused(dirs),
    }
}

/// What does not open leaves nothing behind either.
fn refused(dirs: &Dirs) {
    let kind = |builder: esker::Builder| builder.open().unwrap_err().kind();
    assert_eq!(kind(Engine::builder(&dirs.db).options(options(true))), ErrorKind::Locked);
    assert_eq!(kind(Engine::builder(&dirs.db).options(options(true)).read_only(true)), ErrorKind::Locked);
    let wrong = Options { background_threads: 0, ..options(true) };
    assert_eq!(kind(Engine::builder(&dirs.copy).options(wrong)), ErrorKind::InvalidArgument);
    assert_eq!(kind(Engine::builder(&dirs.damaged).options(options(true))), ErrorKind::Corruption);
}
