//! All short sequences of the operations that matter most, crashed after every operation of the file system.
//!
//! What an engine does comes of what it is told alone. So up to its last operation a sequence is what the one without it is, to the byte, and is crashed from there on only: before, the other was,
//! or will be. That this holds is checked of each: after all but the last operation both have the same files, with the same on stable storage.
//!
//! Sequence `n` of those of length `l` is `n` written with the operations as digits, behind all shorter ones; so a seed names one, and as many rounds as there are sequences come to all.

use crate::options;
use crate::sweep::{Counts, Run, fingerprint, record};
use esker::vfs::CrashPolicy;
use esker_testkit::model::Script;
use esker_testkit::stress;
use std::collections::HashMap;

const LEN_MAX: u32 = 4;
/// Of what was not synced, after each operation of the file system.
const SUBSETS: u64 = 1;
const OPERATIONS: [&str; 11] = [
    "write memory 0:k0=40",
    "write os 1:k1=40",
    "write sync 0:k1=40",
    "write memory 0:k0=-",
    "write os 0:k0=7 1:k1=- 1:k2=9",
    "write memory 0:k0..k2",
    "flush",
    "compact 0 - -",
    "sync",
    "take",
    "reopen",
];

/// How many there are in all.
fn count() -> u64 {
    (1..=LEN_MAX).map(|len| (OPERATIONS.len() as u64).pow(len)).sum()
}

fn sequence(seed: u64) -> String {
    let base = OPERATIONS.len() as u64;
    let (mut n, mut len) = (seed, 1);
    while n >= base.pow(len) {
        n -= base.pow(len);
        len += 1;
    }
    let digits = (0..len).map(|place| OPERATIONS[(n / base.pow(place) % base) as usize]);
    ["create 1"].into_iter().chain(digits).collect::<Vec<_>>().join("\n")
}

/// What a sequence is up to its last operation.
fn before_last(sequence: &str) -> Option<&str> {
    sequence.rsplit_once('\n').map(|(before, _)| before).filter(|before| before.contains('\n'))
}

fn run(sequence: &str) -> Run {
    let script: Script = sequence.parse().expect("a script");
    record(&script.0, options::sets()[1].clone())
}

/// What a power cut leaves after so many operations of the file system, of all and of what is synced.
fn left(run: &Run, operations: usize) -> [u64; 2] {
    [CrashPolicy::SyncedOnly, CrashPolicy::All].map(|policy| fingerprint(&run.vfs.crash_image(operations, policy)))
}

#[test]
fn all_short_sequences_crashed_anywhere() {
    let mut ends: HashMap<String, (usize, [u64; 2])> = HashMap::new();
    for round in stress::rounds("bounded", 4) {
        // Far apart, so that the few of `cargo test` differ; 4,001 is a prime that does not divide their number.
        let seed = round.seed() % count() * 4_001 % count();
        let sequence = sequence(seed);
        let run = run(&sequence);
        let first = before_last(&sequence).map_or(0, |before| {
            let (operations, left_then) = *ends.entry(before.to_owned()).or_insert_with(|| {
                let run = self::run(before);
                (run.operations(), left(&run, run.operations()))
            });
            assert_eq!(left(&run, operations), left_then, "{sequence} does not begin as {before} did");
            operations + 1
        });
        run.crash_from(first, seed, (SUBSETS, seed as usize, 128), &mut Counts::default());
        round.tried(1);
    }
}

#[test]
fn every_sequence_has_a_number() {
    let all: std::collections::BTreeSet<String> = (0..count()).map(sequence).collect();
    assert_eq!((all.len() as u64, count()), (count(), 16_104));
    assert!(all.iter().all(|script| script.parse::<Script>().is_ok()));
}
