//! Every fuzz target over its corpus, over changes of it, and over nothing: no panic, no hang, no more memory than it may have.
//!
//! The heap is counted by the testkit's allocator, each thread's by itself.

use esker_fuzz::{Random, TARGETS, Target, mutated};
use esker_testkit::heap::{Counting, measured};
use esker_testkit::stress;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn corpus_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz")
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = corpus_dir().join(target.name);
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs the target, and tells of the data if it fails.
fn run(target: &Target, data: &[u8]) {
    let made = (target.make)(data);
    let len = made.len();
    let (result, heap) = measured(|| catch_unwind(AssertUnwindSafe(|| (target.attack)(made))));
    let result = result.and_then(|()| {
        let most = target.heap.max_bytes(len);
        catch_unwind(|| assert!(heap <= most, "{heap} bytes of heap for {len} of input, more than {most}"))
    });
    if let Err(panic) = result {
        let path = std::env::temp_dir().join(format!("esker-fuzz-{}-{}", target.name, std::process::id()));
        let saved = fs::write(&path, data).is_ok();
        println!(
            "target {} failed; data {}in {}: {:?}",
            target.name,
            if saved { "" } else { "not " },
            path.display(),
            data
        );
        resume_unwind(panic);
    }
}

#[test]
fn the_corpus_is_small_and_passes() {
    let mut total = 0;
    for target in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        // What a target makes ready once is no part of what it takes for a file.
        target.run(&[]);
        run(target, &[]);
        for data in files {
            total += data.len();
            run(target, &data);
        }
    }
    assert!(total < 200 << 10, "{total} bytes of corpus");
    let dirs = fs::read_dir(corpus_dir()).unwrap().count();
    assert_eq!(dirs, TARGETS.len(), "a corpus that no target is for");
}

/// A round: some changes of a file of each target.
fn one_case(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut tried = 0;
    for target in TARGETS {
        let files = corpus(target);
        for _ in 0..if ["engine", "directory"].contains(&target.name) { 4 } else { 8 } {
            let (data, other) = (&files[random.below(files.len())], &files[random.below(files.len())]);
            run(target, &mutated(data, other, &mut random));
            tried += 1;
        }
    }
    tried
}

#[test]
fn changed_files_pass() {
    for target in TARGETS {
        target.run(&[]);
    }
    for round in stress::rounds("fuzz", 12) {
        round.tried(one_case(round.seed()));
    }
}
