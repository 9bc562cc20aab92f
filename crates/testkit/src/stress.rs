//! Suites that run for a moment with all tests, and for hours under `cargo xtask stress`.
//!
//! A suite is a loop over rounds. All that is random in a round comes from its seed, so a round that failed runs again by itself:
//!
//! ```text
//! for round in stress::rounds("kill", 200) {     cargo test                                     seeds 0..200
//!     round.tried(cycle(round.seed()));          ESKER_STRESS_SECONDS=60                        seeds 0.. until a minute is over
//! }                                              ESKER_STRESS_SEED=17 ESKER_STRESS_ROUNDS=1     seed 17 alone
//! ```
//!
//! Where processes are killed or threads race, the moment is not the seed's: such a round may pass when it runs again.
//!
//! What it prints is read by `xtask/src/stress/child.rs`, a line each second, one at the end, and one for a round that panics:
//!
//! ```text
//! stress suite=kill begin=12                  each round of a long run, so that a round is known that dies without a word
//! stress suite=kill rounds=12 tried=3456
//! stress suite=kill failed=12
//! stress suite=power skipped=needs root
//! ```

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::any::Any;
use std::cell::Cell;
use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Cases that share a seed in [`property`]: enough to make a round worth its line, few enough that one that failed is found again soon.
const CASES_PER_ROUND: u32 = 16;

/// The rounds of `suite`: `short` of them with seeds from 0 on, unless the environment asks for more, or for others.
///
/// # Panics
/// If a variable of the environment is not a number.
pub fn rounds(suite: &'static str, short: u64) -> Rounds {
    rounds_from(suite, short, 0)
}

/// Says that `suite` can't run here, and why, in a few words: it is skipped, and not in silence.
pub fn skip(suite: &'static str, why: &str) {
    // Past the harness, which keeps to itself what a test that passes prints.
    let line = format!("stress suite={suite} skipped={}\n", why.replace('\n', " "));
    let _ = std::io::stderr().write_all(line.as_bytes()); // where nobody can be told, nobody listens
}

fn rounds_from(suite: &'static str, short: u64, seed: u64) -> Rounds {
    let seconds: Option<f64> = variable("ESKER_STRESS_SECONDS");
    let seed = variable("ESKER_STRESS_SEED").unwrap_or(seed);
    let left = match seconds {
        Some(_) => u64::MAX,
        None => variable("ESKER_STRESS_ROUNDS").unwrap_or(short),
    };
    let now = Instant::now();
    let end = seconds.map(|seconds| now + Duration::from_secs_f64(seconds));
    Rounds { suite, seed, left, begun: 0, tried: Rc::default(), end, printed: now }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// An iterator over the rounds of a suite; see [`rounds`].
#[derive(Debug)]
pub struct Rounds {
    suite: &'static str,
    /// Of the next round.
    seed: u64,
    left: u64,
    begun: u64,
    tried: Rc<Cell<u64>>,
    /// When no further round begins.
    end: Option<Instant>,
    printed: Instant,
}

impl Rounds {
    fn print(&self) {
        println!("stress suite={} rounds={} tried={}", self.suite, self.begun, self.tried.get());
    }
}

impl Iterator for Rounds {
    type Item = Round;

    fn next(&mut self) -> Option<Round> {
        if self.left == 0 || self.end.is_some_and(|end| Instant::now() >= end) {
            return None;
        }
        if self.printed.elapsed() >= PROGRESS_INTERVAL {
            self.print();
            self.printed = Instant::now();
        }
        let seed = self.seed;
        (self.seed, self.left, self.begun) = (seed.wrapping_add(1), self.left - 1, self.begun + 1);
        if self.end.is_some() {
            println!("stress suite={} begin={seed}", self.suite);
        }
        Some(Round { seed, tried: Rc::clone(&self.tried) })
    }
}

/// Ends the report, of a suite whose round panics with the seed that does so.
impl Drop for Rounds {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("stress suite={} failed={}", self.suite, self.seed.wrapping_sub(1));
        }
        self.print();
    }
}

/// One round of a suite.
#[derive(Debug)]
pub struct Round {
    seed: u64,
    tried: Rc<Cell<u64>>,
}

impl Round {
    /// What everything random in the round must come from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Counts `count` more of what the suite tries: operations, images, kills.
    pub fn tried(&self, count: u64) {
        self.tried.set(self.tried.get() + count);
    }
}

/// Runs `test` on values of `strategy`, about `cases` of them unless the environment asks for more; it returns how many things it tried, and fails by a panic.
/// A value that fails is made as small as `strategy` can, and printed.
///
/// Without a seed from the environment it begins at one that is chosen anew at each call, and printed when it fails.
///
/// # Panics
/// With the smallest value found that fails, and why it does.
pub fn property<S: Strategy>(suite: &'static str, cases: u32, strategy: &S, test: impl Fn(S::Value) -> u64)
where
    S::Value: Clone + Debug,
{
    let anywhere = RandomState::new().hash_one(0) >> 16;
    for round in rounds_from(suite, cases.div_ceil(CASES_PER_ROUND).into(), anywhere) {
        let config =
            Config { cases: CASES_PER_ROUND, max_shrink_iters: 4096, failure_persistence: None, ..Config::default() };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&round.seed().to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        // What is run again to make a failure smaller is nothing more that was tried.
        let shrinks = Cell::new(false);
        let result = runner.run(strategy, |value| match catch_unwind(AssertUnwindSafe(|| test(value))) {
            Ok(count) => {
                round.tried(if shrinks.get() { 0 } else { count });
                Ok(())
            }
            Err(panic) => {
                shrinks.set(true);
                Err(TestCaseError::fail(message(&*panic)))
            }
        });
        match result {
            Ok(()) => {}
            Err(TestError::Fail(reason, value)) => {
                panic!("{suite}, seed {}: {reason}\nthe smallest that fails:\n{value:#?}", round.seed())
            }
            Err(error) => panic!("{suite}, seed {}: {error}", round.seed()),
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
