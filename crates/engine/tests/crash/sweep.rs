//! The crash sweep: a run is recorded once, then the file system that a power cut after each of its operations would leave is opened.
//!
//! What was synced must be there, the rest must be a prefix of the writes with batches whole, a reader must see the same and change no file, what is written
//! then must be found by a second open, and a crash during recovery must change nothing.

use crate::driver::{Driver, Living, by_space, contents, copy, open, open_read_only};
use crate::options;
use esker::vfs::{CrashPolicy, MemVfs, Vfs, read_file};
use esker::{Engine, ErrorKind, Options, WriteOptions};
use esker_testkit::model::{Contents, Mix, Model, Op, seeded_ops};
use esker_testkit::random::Random;
use esker_testkit::stress;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

/// What was so after so many operations of the file system, between two operations of the run.
pub(crate) struct Moment {
    pub(crate) operations: usize,
    pub(crate) synced: usize,
    pub(crate) pushed: usize,
    pub(crate) commits: usize,
    pub(crate) living: Living,
    /// What the filter was seen to have done by then.
    pub(crate) look: usize,
}

pub(crate) struct Run {
    pub(crate) vfs: Arc<MemVfs>,
    options: Options,
    model: Model,
    pub(crate) moments: Vec<Moment>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) images: usize,
    pub(crate) nested: usize,
}

/// What an image may hold.
pub(crate) struct Allowed<'a> {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) look: usize,
    pub(crate) living: Vec<&'a Living>,
}

/// Says which image it was if the test fails.
pub(crate) struct Context(pub(crate) String);

impl Drop for Context {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in {}", self.0);
        }
    }
}

pub(crate) fn record(ops: &[Op], options: Options) -> Run {
    let mut driver = Driver::new(options.clone());
    let mut moments = Vec::new();
    let mut note = |driver: &Driver| {
        let (synced, pushed) = driver.safe();
        let (commits, living) = (driver.model.commits(), driver.model.living());
        let look = driver.model.now().look;
        moments.push(Moment { operations: driver.vfs.operations(), synced, pushed, commits, living, look });
    };
    note(&driver);
    for op in ops {
        driver.apply(op);
        note(&driver);
    }
    // Every image is opened as of the end.
    driver.set_clock_right();
    let (vfs, model) = (Arc::clone(&driver.vfs), driver.model.clone());
    // The run ends with the lights going out, not with a close.
    let end = vfs.operations();
    drop(driver);
    assert_eq!(moments.last().expect("there is the first").operations, end);
    Run { vfs, options, model, moments }
}

impl Run {
    pub(crate) fn operations(&self) -> usize {
        self.moments.last().expect("there is the first").operations
    }

    /// The first one that comes after so many operations.
    fn next_moment(&self, operations: usize) -> usize {
        self.moments.partition_point(|moment| moment.operations <= operations)
    }

    fn allowed(&self, operations: usize, policy: CrashPolicy) -> Allowed<'_> {
        let next = self.next_moment(operations);
        let in_flight = self.moments.get(next);
        let Some(now) = next.checked_sub(1).map(|now| &self.moments[now]) else {
            // The engine is being made.
            return Allowed { from: 0, to: 0, look: 0, living: vec![&self.moments[0].living] };
        };
        Allowed {
            from: if policy == CrashPolicy::All { now.pushed } else { now.synced },
            to: in_flight.map_or(now.commits, |moment| moment.commits),
            look: now.look,
            living: [Some(now), in_flight].into_iter().flatten().map(|moment| &moment.living).collect(),
        }
    }

    /// Crashes it after each operation from number `first` on, and leaves so many subsets of what was not synced; of one image in so many, counted from some number, the recovery is crashed too.
    pub(crate) fn crash_from(
        &self,
        first: usize,
        seed: u64,
        (subsets, from, one_in): (u64, usize, usize),
        counts: &mut Counts,
    ) {
        let mut seen = HashSet::new();
        for k in first..=self.operations() {
            let next = self.next_moment(k);
            let subset = |nth| CrashPolicy::Subset((seed << 32 | k as u64).wrapping_add(nth << 48));
            let all = [CrashPolicy::SyncedOnly, CrashPolicy::All, CrashPolicy::TornLast];
            for (nth, policy) in all.into_iter().chain((0..subsets).map(subset)).enumerate() {
                let _context = Context(format!("run {seed}, crashed after operation {k}, {policy:?}"));
                let nested = (k + nth + from) % one_in == 0;
                let image = Arc::new(self.vfs.crash_image(k, policy));
                let allowed = self.allowed(k, policy);
                // The same files, of which no more and no less is expected, tell nothing new.
                if seen.insert((fingerprint(&image), next, allowed.from)) || nested {
                    self.check_image(&image, &allowed, nested, counts);
                }
            }
        }
    }

    pub(crate) fn check_image(&self, image: &Arc<MemVfs>, allowed: &Allowed<'_>, nested: bool, counts: &mut Counts) {
        let read_only = read_without_change(image, &self.options);
        let untouched = copy(image);

        let engine = open(image, &self.options).unwrap();
        let found = contents(&engine).unwrap();
        // A reader makes no engine: where creation was cut short, it finds none.
        assert!(read_only.is_none_or(|read_only| read_only == found), "a reader sees what a writer sees");
        self.check_prefix(&found, allowed);
        check_feed(&engine);

        while let Err(error) = engine.put_with("written after", "the crash", &WriteOptions::sync()) {
            assert!(error.kind() == ErrorKind::Stalled && engine.step().unwrap(), "{error}");
        }
        let expected = contents(&engine).unwrap();
        let again = Arc::new(image.crash_now(CrashPolicy::SyncedOnly));
        drop(engine);
        let engine = open(&again, &self.options).unwrap();
        assert_eq!(contents(&engine).unwrap(), expected, "the second open finds what the first did");
        counts.images += 1;

        if nested {
            let (in_recovery, operations) = reopened(&untouched, &self.options, &found);
            for k in 0..=operations {
                for policy in [CrashPolicy::SyncedOnly, CrashPolicy::Subset(k as u64)] {
                    let _context = Context(format!("recovery, crashed after operation {k}, {policy:?}"));
                    let twice = Arc::new(in_recovery.crash_image(k, policy));
                    let (in_second, operations) = reopened(&twice, &self.options, &found);
                    let thrice = Arc::new(in_second.crash_image(operations / 2, CrashPolicy::Subset(k as u64 + 1)));
                    let engine = open(&thrice, &self.options).unwrap();
                    assert_eq!(contents(&engine).unwrap(), found, "after three crashes");
                    counts.nested += 2;
                }
            }
        }
    }

    fn check_prefix(&self, found: &[(usize, Contents)], allowed: &Allowed<'_>) {
        let fits = allowed.living.iter().any(|living| {
            let names: Vec<usize> = found.iter().map(|(name, _)| *name).collect();
            let expected: Vec<usize> = (0..living.len()).filter(|name| living[*name].is_some()).collect();
            if names != expected {
                return false;
            }
            let spaces = by_space(found.to_vec(), living);
            self.model.find(&spaces, allowed.from..=allowed.to, allowed.look).is_some()
        });
        assert!(fits, "no state from {} to {} is {found:?}", allowed.from, allowed.to);
    }
}

/// What the feed of changes tells after a crash is whole, or a gap that says where it begins: never damage, since nothing was damaged.
fn check_feed(engine: &Engine) {
    let from = match engine.changes_since(0) {
        Ok(_) => 0,
        Err(error) if error.kind() == ErrorKind::Gap => error.changes_from().expect("a gap has an end"),
        Err(error) => panic!("{error}"),
    };
    let mut last = from;
    for change in engine.changes_since(from).unwrap() {
        match change {
            Ok(change) => {
                assert!(change.seq() > last, "in order");
                last = change.seq();
            }
            Err(error) => {
                // Logs that were to be removed may have gone in any order.
                assert_eq!(error.kind(), ErrorKind::Gap, "{error}");
                let from = error.changes_from().expect("a gap has an end");
                assert!(from > last);
                last = from;
            }
        }
    }
    assert!(last <= engine.metrics().last_seq);
}

/// Opens, so that the operations of recovery are there to be crashed; also how many there were. What follows them is the close. It holds what was found before.
fn reopened(image: &Arc<MemVfs>, options: &Options, found: &[(usize, Contents)]) -> (Arc<MemVfs>, usize) {
    let vfs = copy(image);
    let engine = open(&vfs, options).unwrap();
    let operations = vfs.operations();
    assert_eq!(contents(&engine).unwrap(), found, "opened after a crash in recovery");
    drop(engine);
    (vfs, operations)
}

/// What a reader sees; `None` if there is no engine.
fn read_without_change(image: &Arc<MemVfs>, options: &Options) -> Option<Vec<(usize, Contents)>> {
    let operations = image.operations();
    let found = match open_read_only(image, options) {
        Ok(engine) => Some(contents(&engine).unwrap()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            None
        }
    };
    assert_eq!(image.operations(), operations, "a reader changes nothing, makes nothing, and syncs nothing");
    found
}

/// Crashes one run after each of its operations, and leaves so many subsets of what was not synced.
fn sweep_one(seed: u64, len: usize, options: &Options, subsets: u64, counts: &mut Counts) -> usize {
    let run = record(&seeded_ops(Mix::Writes, len, seed), options.clone());
    run.crash_from(0, seed, (subsets, 0, 256), counts);
    run.operations()
}

/// A number that stands for all files, their names and bytes.
pub(crate) fn fingerprint(vfs: &MemVfs) -> u64 {
    const CHUNK_BYTES: usize = 4 << 10;
    let mut hasher = DefaultHasher::new();
    let mut dirs = vec![PathBuf::from("/")];
    while let Some(dir) = dirs.pop() {
        for path in vfs.list(&dir).unwrap().into_iter().map(|name| dir.join(name)) {
            path.hash(&mut hasher);
            let found = vfs.metadata(&path).unwrap();
            if found.is_dir {
                dirs.push(path);
                continue;
            }
            found.len_bytes.hash(&mut hasher);
            let bytes = read_file(vfs, &path, u64::MAX).unwrap();
            // Most of a log is zeros.
            for (nth, chunk) in
                bytes.chunks(CHUNK_BYTES).enumerate().filter(|(_, chunk)| *chunk != &[0; CHUNK_BYTES][..chunk.len()])
            {
                (nth, chunk).hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

fn sweep(seeds: std::ops::Range<u64>, len: usize, options: &Options) {
    let mut counts = Counts::default();
    let operations: usize = seeds.clone().map(|seed| sweep_one(seed, len, options, 1, &mut counts)).sum();
    eprintln!(
        "{} runs, {operations} operations: {} images, and {} of crashes in recovery",
        seeds.count(),
        counts.images,
        counts.nested
    );
}

#[test]
fn crashes_with_batches_over_two_keyspaces() {
    sweep(0..3, 60, &options::sets()[0]);
}

#[test]
fn crashes_with_the_smallest_memtables() {
    sweep(100..103, 60, &options::sets()[1]);
}

#[test]
fn crashes_with_short_logs_and_much_compaction() {
    sweep(200..203, 60, &options::sets()[4]);
}

#[test]
fn crashes_with_blob_files_that_are_collected() {
    sweep(300..303, 60, &options::sets()[5]);
}

/// The long form: all option sets in turn, and 16 subsets for each operation. The run of `cargo test` is short, and one in four of the others; what is longer comes to flushes, compactions and several logs.
#[test]
fn crashes_anywhere() {
    let sets = options::sets();
    for round in stress::rounds("crash", 1) {
        let (seed, mut counts) = (round.seed(), Counts::default());
        let len = if seed == 0 || Random::new(seed).one_in(4) { 15 } else { 60 };
        sweep_one(seed, len, &sets[seed as usize % sets.len()], 16, &mut counts);
        round.tried((counts.images + counts.nested) as u64);
    }
}
