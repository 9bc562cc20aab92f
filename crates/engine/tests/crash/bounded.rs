//! All short sequences of the operations that matter most, each crashed after every operation of the file system.
//!
//! Sequence `n` of those of length `l` is `n` written with the operations as digits, behind all shorter ones; so a seed names one, and as many rounds as there are sequences come to all.

use crate::options;
use crate::sweep::{Counts, sweep_ops};
use esker_testkit::model::Script;
use esker_testkit::stress;

const LEN_MAX: u32 = 4;
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

#[test]
fn all_short_sequences_crashed_anywhere() {
    for round in stress::rounds("bounded", 4) {
        // Far apart, so that the few of `cargo test` differ; 4,001 is a prime that does not divide their number.
        let seed = round.seed() % count() * 4_001 % count();
        let script: Script = sequence(seed).parse().expect("a script");
        let mut counts = Counts::default();
        sweep_ops(seed, &script.0, &options::sets()[1], (1, seed as usize, 128), &mut counts);
        round.tried(1);
    }
}

#[test]
fn every_sequence_has_a_number() {
    let all: std::collections::BTreeSet<String> = (0..count()).map(sequence).collect();
    assert_eq!((all.len() as u64, count()), (count(), 16_104));
    assert!(all.iter().all(|script| script.parse::<Script>().is_ok()));
}
