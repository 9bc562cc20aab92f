//! Compaction that reads ask for: when seeks and walks have paid for runs that overlap as much as it costs to merge them, they are merged, and not before.

use esker::vfs::MemVfs;
use esker::{Background, Codec, Engine, LEVELS, LeveledOptions, Options};
use std::time::{Duration, Instant};

const ENTRIES: u32 = 2_000;

fn options() -> Options {
    Options { compression: [Codec::None; LEVELS], ..Options::default() }
}

fn manual(options: Options) -> Engine {
    Engine::builder("/db").options(options).vfs(MemVfs::new()).background(Background::Manual).open().unwrap()
}

fn key(i: u32) -> [u8; 4] {
    i.to_be_bytes()
}

fn value(i: u32, round: u32) -> Vec<u8> {
    format!("value {i} of round {round}").into_bytes()
}

/// Every `rounds`-th key from a different one on, in a table of its own for each round: so that all of them overlap.
fn flush_rounds(engine: &Engine, rounds: u32) {
    for round in 0..rounds {
        for i in (round..ENTRIES).step_by(rounds as usize) {
            engine.put(key(i), value(i, round)).unwrap();
        }
        engine.flush().unwrap();
    }
}

fn tables(engine: &Engine) -> Vec<usize> {
    engine.metrics().keyspaces[0].levels.iter().map(|level| level.tables).collect()
}

fn for_reads(engine: &Engine) -> u64 {
    engine.metrics().compactions_for_reads
}

fn walk(engine: &Engine) {
    let walked: esker::Result<Vec<_>> = engine.iter().collect();
    assert_eq!(walked.unwrap().len(), ENTRIES as usize);
}

fn work(engine: &Engine) {
    while engine.step().unwrap() {}
}

#[test]
fn walks_over_several_runs_have_them_merged_and_ask_for_nothing_more() {
    let engine = manual(options());
    flush_rounds(&engine, 3);
    work(&engine);
    assert_eq!(tables(&engine)[0], 3, "three tables are below the trigger");
    walk(&engine);
    work(&engine);
    assert_eq!(for_reads(&engine), 0, "one walk costs less than a compaction");
    for _ in 0..10 {
        walk(&engine);
    }
    assert_eq!(for_reads(&engine), 0, "an engine without threads does nothing between steps");
    work(&engine);
    assert_eq!((tables(&engine), for_reads(&engine)), (vec![0, 0, 0, 0, 0, 0, 1], 1));
    for _ in 0..20 {
        walk(&engine);
        work(&engine);
    }
    assert_eq!((for_reads(&engine), engine.metrics().compactions), (1, 1), "one run asks for nothing");
    assert_eq!(engine.get(key(7)).unwrap().as_deref(), Some(&value(7, 1)[..]));
    assert!(engine.verify().unwrap().is_ok());
}

#[test]
fn steps_backward_and_seeks_pay_too_and_so_do_cursors_of_snapshots() {
    let ways: [fn(&Engine); 3] = [
        |engine| assert_eq!(engine.iter().rev().count(), ENTRIES as usize),
        |engine| {
            for i in 0..1_000 {
                let mut cursor = engine.cursor();
                cursor.seek(key(i)).unwrap();
                assert_eq!(cursor.key(), key(i));
            }
        },
        |engine| {
            let mut cursor = engine.snapshot().cursor();
            cursor.seek_to_first().unwrap();
            while cursor.valid() {
                cursor.next().unwrap();
            }
        },
    ];
    for way in ways {
        let engine = manual(options());
        flush_rounds(&engine, 2);
        for _ in 0..10 {
            way(&engine);
        }
        work(&engine);
        assert_eq!((tables(&engine)[0], for_reads(&engine)), (0, 1));
    }
}

#[test]
fn point_reads_single_runs_and_those_who_may_not_ask_bring_nothing_about() {
    let gets = manual(options());
    flush_rounds(&gets, 3);
    for i in (0..ENTRIES).cycle().take(100_000) {
        assert!(gets.get(key(i)).unwrap().is_some());
    }
    let single = manual(options());
    flush_rounds(&single, 1);
    let off =
        manual(Options { compaction: LeveledOptions { compact_for_reads: false, ..Default::default() }, ..options() });
    flush_rounds(&off, 3);
    let apart = manual(options());
    for table in 0..3 {
        for i in 0..ENTRIES / 3 + 1 {
            let i = table * (ENTRIES / 3 + 1) + i;
            if i < ENTRIES {
                apart.put(key(i), value(i, 0)).unwrap();
            }
        }
        apart.flush().unwrap();
    }
    let bounded = manual(options());
    flush_rounds(&bounded, 1);
    bounded.put(key(ENTRIES - 1), "newer").unwrap();
    bounded.flush().unwrap();
    for engine in [&single, &off, &apart] {
        (0..100).for_each(|_| walk(engine));
    }
    for _ in 0..1_000 {
        // Looks into one table only: the other begins behind.
        assert_eq!(bounded.range(..key(100)).count(), 100);
    }
    for (engine, l0) in [(&gets, 3), (&single, 1), (&off, 3), (&apart, 3), (&bounded, 2)] {
        work(engine);
        assert_eq!((tables(engine)[0], engine.metrics().compactions), (l0, 0));
    }
}

/// Walks that looked into two lower levels, and into nothing of level 0, paid for a merge of level 0 that spared them nothing.
#[test]
fn who_looks_into_nothing_of_level_0_does_not_pay_for_it() {
    let compaction = LeveledOptions { level_base_bytes: 4 << 10, ..Default::default() };
    let engine = manual(Options { compaction, ..options() });
    flush_rounds(&engine, 1);
    engine.compact_range(..).unwrap();
    for i in 0..4 {
        engine.put(key(i), "newer").unwrap();
        engine.put(key(ENTRIES - 1 - i), "newer").unwrap();
        engine.flush().unwrap();
    }
    work(&engine);
    for _ in 0..2 {
        engine.put(key(ENTRIES), "behind").unwrap();
        engine.put(key(ENTRIES + 1), "behind").unwrap();
        engine.flush().unwrap();
    }
    work(&engine);
    let before = tables(&engine);
    assert!(before[0] == 2 && before[1..].iter().filter(|tables| **tables > 0).count() == 2, "{before:?}");
    for _ in 0..1_000 {
        assert_eq!(engine.range(..key(ENTRIES)).count(), ENTRIES as usize);
    }
    work(&engine);
    assert_eq!((tables(&engine), for_reads(&engine)), (before, 0));
    for _ in 0..1_000 {
        assert_eq!(engine.range(key(ENTRIES)..).count(), 2);
    }
    work(&engine);
    assert_eq!((tables(&engine)[0], for_reads(&engine)), (0, 1), "those who gain do");
}

/// While a snapshot kept what a range tombstone hides, reads that leapt over it paid to have both merged into one table, in which everything that is hidden is gone over one by one: they asked
/// for what made them slower by as many entries.
#[test]
fn reads_do_not_ask_for_what_is_deleted_to_be_laid_beside_its_tombstone() {
    let engine = manual(options());
    flush_rounds(&engine, 1);
    engine.compact_range(..).unwrap();
    let snapshot = engine.snapshot();
    engine.put(key(0), "written anew, and so looked into").unwrap();
    engine.delete_range(key(1), key(ENTRIES - 1)).unwrap();
    engine.flush().unwrap();
    let before = tables(&engine);
    for _ in 0..20_000 {
        assert_eq!(engine.iter().count(), 2);
    }
    work(&engine);
    assert_eq!((tables(&engine), for_reads(&engine)), (before, 0));
    assert_eq!(snapshot.iter().count(), ENTRIES as usize);
    drop(snapshot);
    work(&engine);
    let levels = &engine.metrics().keyspaces[0].levels;
    let left: u64 = levels.iter().map(|level| level.entries + level.range_tombstones).sum();
    assert_eq!((left, for_reads(&engine)), (2, 0), "without it, it is done at once and for nothing");
}

/// Two range deletes of one key each, at either end, were taken for one that hides everything between, and reads got nothing for what they paid as long as a snapshot was held.
#[test]
fn ranges_that_hide_next_to_nothing_stop_no_reads_from_asking() {
    let engine = manual(options());
    flush_rounds(&engine, 1);
    engine.compact_range(..).unwrap();
    let snapshot = engine.snapshot();
    for round in 0..3 {
        for i in (round..ENTRIES).step_by(3) {
            engine.put(key(i), value(i, round)).unwrap();
        }
        engine.delete_range(key(0), key(1)).unwrap();
        engine.delete_range(key(ENTRIES - 1), key(ENTRIES)).unwrap();
        engine.flush().unwrap();
    }
    work(&engine);
    assert_eq!((tables(&engine)[0], for_reads(&engine)), (3, 0));
    for _ in 0..200 {
        assert_eq!(engine.iter().count(), ENTRIES as usize - 2);
    }
    work(&engine);
    assert_eq!((tables(&engine)[0], for_reads(&engine)), (0, 1));
    assert_eq!(snapshot.iter().count(), ENTRIES as usize);
}

#[test]
fn what_is_merged_for_reads_is_not_compressed_unless_it_meets_what_is() {
    let mut options = options();
    options.compression[2..].fill(Codec::Lz4);
    let engine = manual(options);
    flush_rounds(&engine, 3);
    (0..10).for_each(|_| walk(&engine));
    work(&engine);
    assert_eq!((tables(&engine), for_reads(&engine)), (vec![1, 0, 0, 0, 0, 0, 0], 1));
    engine.compact_range(..).unwrap();
    assert_eq!(tables(&engine), [0, 0, 0, 0, 0, 0, 1]);
    engine.put(key(3), "new").unwrap();
    engine.flush().unwrap();
    (0..10).for_each(|_| walk(&engine));
    work(&engine);
    assert_eq!((tables(&engine), for_reads(&engine)), (vec![0, 0, 0, 0, 0, 0, 1], 2));
    assert_eq!(engine.get(key(3)).unwrap().as_deref(), Some(&b"new"[..]));
}

#[test]
fn what_was_paid_before_a_flush_counts_after_it() {
    let engine = manual(options());
    flush_rounds(&engine, 2);
    let mut walks = 0;
    // With a table more the price is higher, and nearly all of it is paid.
    while for_reads(&engine) == 0 {
        walk(&engine);
        walks += 1;
        if walks == 3 {
            engine.put(key(5), "late").unwrap();
            engine.flush().unwrap();
        }
        work(&engine);
    }
    let fresh = manual(options());
    flush_rounds(&fresh, 2);
    fresh.put(key(5), "late").unwrap();
    fresh.flush().unwrap();
    let mut after = 0;
    while for_reads(&fresh) == 0 {
        walk(&fresh);
        after += 1;
        work(&fresh);
    }
    assert!(walks < 3 + after, "{walks} walks, three of them before the flush; {after} where all came after it");
}

#[test]
fn threads_do_it_while_others_read_and_write() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).options(options()).open().unwrap();
    flush_rounds(&engine, 3);
    let begin = Instant::now();
    let mut late = ENTRIES;
    while for_reads(&engine) == 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", engine.metrics());
        engine.put(key(late), value(late, 9)).unwrap();
        late += 1;
        let mut next = 0;
        for item in engine.iter() {
            let (found, _) = item.unwrap();
            assert_eq!(&found[..], key(next));
            next += 1;
        }
        assert_eq!(next, late);
    }
    assert_eq!(tables(&engine)[0], 0);
    assert!(engine.verify().unwrap().is_ok());
}
