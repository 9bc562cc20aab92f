//! Small directories with files of all kinds, damaged in every way, one damage at a time: each bit flipped, each length, each pair of blocks swapped, each file missing, stale or
//! swapped with another.
//!
//! Whatever it is, the answer is an error or the right one (or, where the newest log is damaged behind what was vouched for, that of an earlier moment), and nothing panics or takes
//! memory by what a damaged byte says. What `verify_deep` finds nothing wrong with must read without an error.
//!
//! A store has some ten thousands of damages, so a round does one in [`SLICES`] of one store's; [`STORES`] stores go in turn. As many rounds in a row as these make do all of theirs.

#[path = "flip/damage.rs"]
mod damage;
#[path = "flip/judge.rs"]
mod judge;
#[path = "model/options.rs"]
#[expect(dead_code, reason = "the sets of options are for other suites")]
mod options;
#[path = "flip/store.rs"]
mod store;
#[path = "flip/told.rs"]
mod told;

use damage::{Damage, damages};
use esker::ErrorKind;
use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker_testkit::heap::{Counting, measured};
use esker_testkit::stress;
use judge::Judge;
use std::sync::Arc;
use store::{DIR, Store};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// In so many parts are the damages of a store done,
const SLICES: u64 = 256;
/// and so many stores in turn.
const STORES: u64 = 4;
/// Of so many damages one is opened for writing too.
const WRITTEN: usize = 4;

/// What a search behind damage takes, whatever is there.
const WINDOW_BYTES: usize = 64 << 10;

/// Which store and which part of its damages a round is for.
fn place(seed: u64) -> (u64, u64) {
    (seed / (STORES * SLICES) * STORES + seed % STORES, seed / STORES % SLICES)
}

/// What came of one damage.
struct Outcome {
    /// Whether all could be read.
    is_whole: bool,
    /// Whether the feed of changes could, but for what is not kept any more.
    is_told: bool,
    /// States that everything that was read agrees with.
    fits: Vec<usize>,
    /// Most heap in use at once.
    heap_bytes: usize,
}

/// Reads a directory in every way, without changing it. `from` is the first state that may be found.
fn read(store: &Store, vfs: &Arc<MemVfs>, from: usize, what: &str) -> Outcome {
    let mut judge = Judge::new(store, from);
    let operations = vfs.operations();
    let ((), heap_bytes) = measured(|| match store.builder(vfs).read_only(true).open() {
        Ok(engine) => judge.read(&engine, what),
        Err(error) => judge.refused(&error),
    });
    assert_eq!(vfs.operations(), operations, "{what}: a reader changes something");
    Outcome { is_whole: judge.errors == 0, is_told: judge.feed_errors == 0, fits: judge.fits, heap_bytes }
}

/// Opens it for writing, goes on, and reads again.
fn go_on(store: &Store, vfs: &Arc<MemVfs>, from: usize, what: &str) -> Option<Vec<usize>> {
    let mut judge = Judge::new(store, from);
    let engine = match store.builder(vfs).open() {
        Ok(engine) => engine,
        Err(error) => {
            judge.refused(&error);
            return None;
        }
    };
    judge.read(&engine, &format!("{what}, a writer"));
    let report = engine.verify().unwrap();
    assert!(!report.is_ok() || judge.errors == 0, "{what}: `verify` finds nothing, and something can't be read");
    // Background work and compaction may fail, but must not make of damage an answer.
    while engine.step().unwrap_or(false) {}
    let _ = engine.compact_range(..);
    let _ = engine.flush();
    judge.read(&engine, &format!("{what}, compacted"));
    let _ = engine.close();
    drop(engine);
    if let Ok(engine) = store.builder(vfs).open() {
        judge.read(&engine, &format!("{what}, opened again"));
    }
    Some(judge.fits)
}

fn try_damage(store: &Store, damage: &Damage, writes: bool, sound_heap_bytes: usize) {
    let what = format!("store {}, {}", store.seed, damage.text(store));
    let vfs = store.copy();
    damage.apply(store, &vfs);
    let from = damage.oldest(store);
    let deep = {
        let vfs = Arc::clone(&vfs) as Arc<dyn Vfs>;
        esker::verify_deep(&vfs, DIR, &mut |_| {})
    };
    let outcome = read(store, &vfs, from, &what);
    match deep {
        Ok(deep) => {
            assert!(
                !deep.is_ok() || outcome.is_whole && outcome.is_told,
                "{what}: `verify_deep` finds nothing, and something can't be read"
            )
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Locked, "{what}: {error}"),
    }
    let most = sound_heap_bytes + 2 * store.used_bytes + WINDOW_BYTES;
    assert!(outcome.heap_bytes <= most, "{what}: {} bytes of heap, more than {most}", outcome.heap_bytes);
    if writes && let Some(fits) = go_on(store, &vfs, from, &what) {
        assert!(fits.iter().any(|fit| outcome.fits.contains(fit)), "{what}: a writer sees another state than a reader");
    }
}

#[test]
fn every_damage_is_an_error_or_changes_nothing() {
    for round in stress::rounds("flip", 2) {
        let (seed, slice) = place(round.seed());
        let store = Store::new(seed);
        let sound = read(&store, &store.copy(), store.last(), "undamaged");
        assert!(sound.is_whole && sound.is_told, "store {seed}: undamaged it can be read");
        assert!(go_on(&store, &store.copy(), store.last(), "undamaged").is_some());
        let all = damages(&store);
        let mine = all.iter().enumerate().filter(|(nth, _)| *nth as u64 % SLICES == slice);
        let mut tried = 0;
        for (nth, (_, damage)) in mine.enumerate() {
            try_damage(&store, damage, nth % WRITTEN == 0, sound.heap_bytes);
            tried += 1;
        }
        round.tried(tried);
    }
}

#[test]
fn rounds_come_to_all_damages_of_all_stores() {
    let places: std::collections::BTreeSet<_> = (0..2 * STORES * SLICES).map(place).collect();
    assert_eq!(places.len() as u64, 2 * STORES * SLICES);
    assert_eq!(places.last(), Some(&(2 * STORES - 1, SLICES - 1)));
    let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
    for seed in 0..8 {
        let store = Store::new(seed);
        store.files.iter().for_each(|file| *kinds.entry(file.kind()).or_default() += 1);
        for damage in damages(&store) {
            *kinds.entry(damage.kind()).or_default() += 1;
        }
    }
    println!("{kinds:?}");
    let all = [
        "CURRENT", "MANIFEST", "OPTIONS", "blob", "sst", "wal", "bit", "length", "blocks", "missing", "stale",
        "swapped",
    ];
    all.iter().for_each(|kind| assert!(kinds.contains_key(kind), "no {kind} in {kinds:?}"));
}

/// The same files again, to be damaged.
fn copy(vfs: &MemVfs) -> Arc<MemVfs> {
    Arc::new(vfs.crash_now(CrashPolicy::All))
}
