//! What is made to fail.

use esker::vfs::{Fault, FaultVfs, Operation, Rule, RuleId};
use esker_testkit::random::Random;
use std::collections::BTreeMap;
use std::time::Duration;

const FAULTS: [Fault; 9] = [
    Fault::EIO,
    Fault::ENOSPC,
    Fault::EMFILE,
    Fault::EINTR,
    Fault::EACCES,
    Fault::ENOMEM,
    Fault::SHORT,
    Fault::DONE,
    Fault::Delay(Duration::from_millis(3)),
];

const PATHS: [&str; 8] = ["*", "*", "*.wal", "*.sst", "*.blob", "*MANIFEST*", "*CURRENT*", "*.tmp"];

/// How many kinds can fail: all but [`Operation::Store`].
const KINDS: usize = Operation::ALL.len() - 1;

/// The nth of them.
fn operation(nth: usize) -> Operation {
    let mut kinds = Operation::ALL.into_iter().filter(|operation| *operation != Operation::Store);
    kinds.nth(nth).expect("there are so many")
}

/// Of the operation that has the turn, one of the first few, so that each kind fails.
pub(crate) fn rule_of(turn: u64, random: &mut Random) -> Rule {
    let operation = operation((turn % KINDS as u64) as usize);
    Rule::new(operation, *random.pick(&FAULTS))
        .path(of(operation, "*"))
        .from_nth(1 + random.below(8))
        .times(times(random))
}

/// Of any operation, one of the first hundred or so, on some files.
pub(crate) fn rule(random: &mut Random) -> Rule {
    let far = 1 << random.below(8);
    let (nth, times) = (1 + random.below(far), times(random));
    if random.one_in(8) {
        let operation = *random.pick(&[Operation::Read, Operation::Map]);
        return Rule::new(operation, Fault::FlipBit).from_nth(nth).times(times.min(2));
    }
    let operation = operation(random.index(KINDS));
    Rule::new(operation, *random.pick(&FAULTS))
        .path(of(operation, random.pick::<&str>(&PATHS)))
        .from_nth(nth)
        .times(times)
}

/// Of directories the engine's own alone: nothing depends on where a moved table was taken from.
fn of(operation: Operation, path: &'static str) -> &'static str {
    if operation == Operation::SyncDir { "data" } else { path }
}

/// Once, a few times, or from then on.
fn times(random: &mut Random) -> u64 {
    *random.pick(&[1, 1, 2, 4, u64::MAX])
}

/// Failures that change nothing that anyone has asked for.
fn is_spared(rule: &Rule) -> bool {
    use Operation as Op;
    let is_late = matches!(rule.fault, Fault::Delay(_));
    // It may be a bit of a part that nobody reads.
    let is_unread = rule.fault == Fault::FlipBit;
    // Of a file that is not there that is said all the same.
    let is_as_ever = matches!((rule.operation, rule.fault), (Some(Op::Metadata | Op::OpenRead), Fault::Done(_)));
    is_late
        || is_unread
        || is_as_ever
        || match rule.operation {
            // What is not needed any more is removed by a later open, of which a listing that fails takes care too.
            Some(Op::RemoveFile | Op::RemoveDir | Op::List) => true,
            // Room ahead is made by the writer where nobody has made it before, and given back or not.
            Some(Op::Preallocate | Op::Grow | Op::GrowWritten | Op::Trim) => true,
            // Where nobody knows how much space is left it is tried.
            Some(Op::FreeSpace) => true,
            // What can't be linked is copied.
            Some(Op::HardLink) => true,
            // What a cursor looks at ahead it reads again when it comes there.
            Some(Op::Read) => rule.times < u64::MAX,
            _ => false,
        }
}

/// How often something has failed of which somebody must be told.
pub(crate) fn struck(faults: &FaultVfs) -> u64 {
    faults.rules().iter().filter(|(_, rule, _)| !is_spared(rule)).map(|(_, _, struck)| struck).sum()
}

/// Whether a bit of something was read wrong.
pub(crate) fn flipped(rules: &[(RuleId, Rule, u64)]) -> bool {
    rules.iter().any(|(_, rule, struck)| rule.fault == Fault::FlipBit && *struck > 0)
}

/// How often each kind of operation was struck.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<Operation, u64>);

impl Tally {
    /// Adds what rules have done.
    pub(crate) fn add(&mut self, rules: &[(RuleId, Rule, u64)]) {
        for (_, rule, struck) in rules {
            if *struck > 0
                && let Some(operation) = rule.operation
            {
                *self.0.entry(operation).or_default() += struck;
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (operation, struck) in &other.0 {
            *self.0.entry(*operation).or_default() += struck;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn kinds(&self) -> usize {
        self.0.len()
    }
}
