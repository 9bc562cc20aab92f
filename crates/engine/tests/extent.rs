//! `first`, `last`, `is_empty` on everything that reads, and estimates beside the counts.

use esker::vfs::MemVfs;
use esker::{Background, Codec, Engine, ErrorKind, KeyspaceOptions, LEVELS, LeveledOptions, Options, Result};
use std::ops::Bound;

fn options() -> Options {
    let compaction = LeveledOptions {
        l0_trigger: 2,
        level_base_bytes: 64 << 10,
        level_ratio: 2,
        table_bytes: 16 << 10,
        ..LeveledOptions::default()
    };
    Options { memtable_bytes: Some(32 << 10), block_size_bytes: 512, compaction, ..Options::default() }
}

fn engine(options: Options) -> Engine {
    Engine::builder("data").vfs(MemVfs::new()).options(options).background(Background::Manual).open().unwrap()
}

fn settle(engine: &Engine) {
    engine.flush().unwrap();
    while engine.step().unwrap() {}
}

#[test]
fn the_ends_of_whatever_is_read() -> Result<()> {
    let engine = engine(options());
    let users = engine.keyspace("users", KeyspaceOptions::default())?;
    let keys = |first: Option<(esker::Slice, esker::Slice)>| first.map(|(key, value)| (key.to_vec(), value.to_vec()));
    assert!(engine.is_empty()? && users.is_empty()? && engine.snapshot().is_empty()?);
    assert_eq!((engine.first()?, engine.last()?), (None, None));
    for key in ["b", "a", "c"] {
        users.put(key, key)?;
    }
    settle(&engine);
    let snapshot = engine.snapshot();
    users.delete("a")?;
    users.put("d", vec![7; 10_000])?;
    settle(&engine);
    assert!(engine.is_empty()? && !users.is_empty()?);
    assert_eq!(keys(users.first()?), Some((b"b".to_vec(), b"b".to_vec())));
    assert_eq!(keys(users.last()?), Some((b"d".to_vec(), vec![7; 10_000])));
    assert_eq!(keys(snapshot.of(&users).first()?).unwrap().0, b"a");
    assert_eq!(keys(snapshot.of(&users).last()?).unwrap().0, b"c");

    let mut tx = engine.transaction();
    tx.put_in(&users, "", "own")?;
    tx.delete_in(&users, "d")?;
    assert_eq!(keys(tx.of(&users).first()?).unwrap().1, b"own");
    assert_eq!(keys(tx.of(&users).last()?).unwrap().0, b"c");
    assert!(tx.is_empty()? && tx.first()?.is_none());
    engine.put("k", "v")?;
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict, "that it was empty was read");
    engine.close()?;
    assert_eq!(users.first().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(users.is_empty().unwrap_err().kind(), ErrorKind::Closed);
    Ok(())
}

#[test]
fn estimates_are_about_right_wherever_the_data_lie() -> Result<()> {
    const KEYS: u32 = 4_000;
    for compression in [Codec::None, Codec::Lz4] {
        let engine = engine(Options { compression: [compression; LEVELS], ..options() });
        let key = |i: u32| (i * 7).to_be_bytes();
        let check = |engine: &Engine, what: &str| -> Result<()> {
            for (from, to) in [(0, KEYS), (0, KEYS / 2), (KEYS / 3, KEYS / 2), (100, 110), (KEYS - 5, KEYS), (7, 7)] {
                let exact = engine.range(key(from)..key(to)).count() as i64;
                let estimate = engine.approximate_len(key(from)..key(to))? as i64;
                let off = (estimate - exact).abs();
                assert!(off <= 40 + exact / 10, "{what}: {estimate} for {exact} from {from} to {to}");
            }
            Ok(())
        };
        for i in 0..KEYS {
            engine.put(key(i.wrapping_mul(2_654_435_761) % KEYS), [i as u8; 50]).or_else(|error| {
                assert_eq!(error.kind(), ErrorKind::Stalled);
                settle(&engine);
                engine.put(key(i.wrapping_mul(2_654_435_761) % KEYS), [i as u8; 50])
            })?;
            if i == 500 {
                assert!((400..=501).contains(&engine.approximate_len(..)?), "in memory it is counted");
            }
        }
        engine.compact_range(..)?;
        let all = engine.approximate_len(..)?;
        assert_eq!(all, engine.iter().count() as u64, "compacted, the whole is exact");
        check(&engine, "compacted")?;
        settle(&engine);
        check(&engine, "in levels")?;

        let tables: u64 = engine.metrics().keyspaces[0].table_bytes();
        assert_eq!(engine.approximate_size(..)?, tables);
        let half = engine.approximate_size(..key(KEYS / 2))?;
        assert!((tables / 3..tables * 2 / 3).contains(&half), "{half} of {tables}");
        // Deleted and not compacted away, they are gone by the count.
        for i in 0..KEYS / 2 {
            engine.delete(key(i))?;
        }
        assert!(engine.approximate_len(..key(KEYS / 2))? < 200);
        engine.compact_range(..)?;
        assert_eq!(engine.approximate_len(..)?, engine.iter().count() as u64);
    }
    Ok(())
}

#[test]
fn large_values_count_and_odd_ranges_hold_nothing() -> Result<()> {
    let engine = engine(Options { blob_bytes_min: 1 << 10, ..options() });
    for i in 0..20u8 {
        engine.put([i], vec![i; 4 << 10])?;
    }
    engine.flush()?;
    let size = engine.approximate_size(..)?;
    assert!((20 * (4 << 10)..22 * (4 << 10)).contains(&size), "{size}");
    assert!((9..=11).contains(&(engine.approximate_size(..[10])? / (4 << 10))));
    for range in [(Bound::Included([5]), Bound::Excluded([5])), (Bound::Excluded([6]), Bound::Included([5]))] {
        assert_eq!(engine.approximate_len(range)?, 0);
        assert_eq!(engine.approximate_size(range)?, 0);
    }
    assert_eq!(engine.approximate_len([5]..=[5])?, 1);
    assert_eq!(engine.approximate_len([200]..)?, 0);
    let dropped = engine.keyspace("dropped", KeyspaceOptions::default())?;
    assert_eq!((dropped.approximate_len(..)?, dropped.approximate_size(..)?), (0, 0));
    engine.drop_keyspace("dropped")?;
    assert_eq!(dropped.approximate_len(..).unwrap_err().kind(), ErrorKind::NotFound);
    engine.close()?;
    assert_eq!(engine.approximate_size(..).unwrap_err().kind(), ErrorKind::Closed);
    Ok(())
}
