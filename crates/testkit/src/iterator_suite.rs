//! What every [`InternalIterator`] must do, against a sorted vector.
//!
//! ```
//! use esker_iterator::VecIterator;
//! use esker_testkit::iterator_suite;
//!
//! iterator_suite::run(|entries| VecIterator::new(entries.to_vec()));
//! ```

use esker_format::{InternalKey, InternalKeyBuf, SeqNo, Trailer, ValueKind, split_expiry};
use esker_iterator::{InternalIterator, Lend, Lent, NothingLent, Plain, Stepped, Way};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A version and its value.
pub type Entry = (InternalKeyBuf, Vec<u8>);

/// Random cases of one run.
const CASES: u32 = 48;

/// Runs the suite on what `make` builds of sorted entries with unique keys, which may be none.
///
/// # Panics
/// If an iterator does not do what the contract says.
pub fn run<I>(make: impl Fn(&[Entry]) -> I)
where
    I: InternalIterator,
    I::Error: Debug,
{
    let mut none = make(&[]);
    for seek in [I::seek_to_first, I::seek_to_last, |i: &mut I| i.seek(BEFORE_ALL), |i: &mut I| i.seek_for_prev(BEHIND)]
    {
        assert!(!none.valid());
        seek(&mut none).unwrap();
    }
    assert!(!none.valid(), "there is no entry to stand on");
    run_filled(make);
}

/// As [`run`], for sources that hold one entry or more.
///
/// # Panics
/// If an iterator does not do what the contract says.
pub fn run_filled<I>(make: impl Fn(&[Entry]) -> I)
where
    I: InternalIterator,
    I::Error: Debug,
{
    for sample in samples() {
        both_ways(&mut make(&sample), &sample);
        tries(&mut make(&sample), &sample);
        every_seek(&mut make(&sample), &sample);
        past_the_ends(&make, &sample);
    }
    let cases = (any_entries(1..120), vec(any_move(), 1..150));
    TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() })
        .run(&cases, |(entries, moves)| {
            both_ways(&mut make(&entries), &entries);
            tries(&mut make(&entries), &entries);
            walk(&mut make(&entries), &entries, &moves)
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// Entries in the field's notation: `a#3,PUT:x b#2,DEL`. Sorted.
///
/// # Panics
/// If the text is not in the notation.
pub fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<_> = text.split_whitespace().map(entry).collect();
    entries.sort();
    entries
}

fn entry(text: &str) -> Entry {
    let parsed = text.split_once('#').and_then(|(key, rest)| {
        let (seq, rest) = rest.split_once(',')?;
        let (kind, value) = rest.split_once(':').unwrap_or((rest, ""));
        let kind = match kind {
            "PUT" => ValueKind::Put,
            "DEL" => ValueKind::Delete,
            "MERGE" => ValueKind::Merge,
            "BLOB" => ValueKind::Blob,
            "EXP" => ValueKind::Expiring,
            _ => return None,
        };
        let key = InternalKey::new(key.as_bytes(), SeqNo(seq.parse().ok()?), kind);
        // `a#9,EXP:500=value` is gone from 500 on.
        let value = match kind {
            ValueKind::Expiring => {
                let (expiry, value) = value.split_once('=')?;
                [&expiry.parse::<u64>().ok()?.to_le_bytes()[..], value.as_bytes()].concat()
            }
            _ => value.as_bytes().to_vec(),
        };
        Some((key.to_buf(), value))
    });
    parsed.unwrap_or_else(|| panic!("not an entry: {text}"))
}

/// User keys that are awkward: short ones over few bytes, so that many are prefixes of others, some longer than a machine word,
/// empty ones and runs of 0xff.
pub fn any_user_key() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(0xff)];
    prop_oneof![
        3 => vec(byte(), 0..4),
        1 => vec(byte(), 0..4).prop_map(|tail| [b"a rather long prefix", &tail[..]].concat()),
        1 => vec(byte(), 6..10),
    ]
}

/// Sorted entries with unique keys, several versions of many user keys, and a long value now and then.
pub fn any_entries(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Entry>> {
    let value = prop_oneof![9 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 3000..5000)];
    btree_map((any_user_key(), 1..30u64), proptest::option::weighted(0.8, value), count).prop_map(|entries| {
        let mut entries: Vec<_> = entries
            .into_iter()
            .map(|((key, seq), value)| {
                let kind = if value.is_some() { ValueKind::Put } else { ValueKind::Delete };
                (InternalKey::new(&key, SeqNo(seq), kind).to_buf(), value.unwrap_or_default())
            })
            .collect();
        entries.sort();
        entries
    })
}

const BEFORE_ALL: InternalKey<'static> = InternalKey { user_key: b"", trailer: Trailer::MAX };
const BEHIND: InternalKey<'static> = InternalKey { user_key: &[0xff; 64], trailer: Trailer::MIN };

/// Sorted sets that have broken iterators before.
fn samples() -> Vec<Vec<Entry>> {
    let put = |key: &[u8], seq| (InternalKey::new(key, SeqNo(seq), ValueKind::Put).to_buf(), vec![seq as u8; 3]);
    let mut many_versions: Vec<_> = (1..=500).map(|seq| put(b"k", seq)).collect();
    many_versions.push(put(b"j", 7));
    many_versions.push(put(b"l", 7));
    let mut samples = vec![
        entries("a#1,PUT:x"),
        entries("#1,DEL"),
        entries("#2,PUT #1,PUT:x a#3,DEL"),
        entries("a#3,PUT:x a#2,DEL a#1,PUT:y b#9,DEL ba#8,PUT:z"),
        vec![put(&[0xff; 40], 9), put(&[0xff; 40], 1), put(&[0xff; 39], 3), put(&[0xff], SeqNo::MAX.0)],
        vec![put(&[7; esker_format::KEY_BYTES_MAX], 9), put(&[7; esker_format::KEY_BYTES_MAX], 8), put(b"a", 1)],
        many_versions,
        (0..3000u32).map(|i| put(format!("key{:06}", i * 7 % 3000).as_bytes(), 1)).collect(),
    ];
    samples.iter_mut().for_each(|sample| sample.sort());
    samples
}

/// A move of a random walk. Targets are entries of the source, or keys made up.
#[derive(Debug, Clone)]
enum Move {
    First,
    Last,
    Next,
    Prev,
    TryNextKey,
    TryPrev,
    Seek(Target),
    SeekForPrev(Target),
}

#[derive(Debug, Clone)]
enum Target {
    Entry(Index),
    Key(Vec<u8>, u64),
}

fn any_move() -> impl Strategy<Value = Move> {
    let target = || {
        prop_oneof![
            any::<Index>().prop_map(Target::Entry),
            (any_user_key(), prop_oneof![Just(0), 1..30u64, Just(SeqNo::MAX.0)]).prop_map(|(k, s)| Target::Key(k, s)),
        ]
    };
    prop_oneof![
        1 => Just(Move::First),
        1 => Just(Move::Last),
        12 => Just(Move::Next),
        12 => Just(Move::Prev),
        6 => Just(Move::TryNextKey),
        6 => Just(Move::TryPrev),
        3 => target().prop_map(Move::Seek),
        3 => target().prop_map(Move::SeekForPrev),
    ]
}

impl Target {
    fn of<'a>(&'a self, entries: &'a [Entry]) -> InternalKey<'a> {
        match self {
            Self::Entry(index) => index.get(entries).0.as_ref(),
            Self::Key(key, seq) => InternalKey::seek(key, SeqNo(*seq)),
        }
    }
}

/// Where the model stands: the index of an entry, or out of the range for nowhere.
const NOWHERE: usize = usize::MAX;

fn at_or_behind(entries: &[Entry], target: InternalKey<'_>) -> usize {
    entries.partition_point(|(key, _)| key.as_ref() < target)
}

fn at_or_before(entries: &[Entry], target: InternalKey<'_>) -> usize {
    entries.partition_point(|(key, _)| key.as_ref() <= target).wrapping_sub(1)
}

fn stands_at<I: InternalIterator>(iter: &I, entries: &[Entry], at: usize) -> Result<(), TestCaseError> {
    let expected = entries.get(at).map(|(key, value)| (key.as_ref(), &value[..]));
    let found = iter.valid().then(|| (iter.key(), iter.value()));
    prop_assert_eq!(found, expected, "at {} of {}", at as isize, entries.len());
    Ok(())
}

fn walk<I: InternalIterator>(iter: &mut I, entries: &[Entry], moves: &[Move]) -> Result<(), TestCaseError>
where
    I::Error: Debug,
{
    let mut at = NOWHERE;
    stands_at(iter, entries, at)?;
    for step in moves {
        match step {
            Move::First => (at, _) = (0, iter.seek_to_first().unwrap()),
            Move::Last => (at, _) = (entries.len() - 1, iter.seek_to_last().unwrap()),
            Move::Seek(target) => {
                at = at_or_behind(entries, target.of(entries));
                iter.seek(target.of(entries)).unwrap();
            }
            Move::SeekForPrev(target) => {
                at = at_or_before(entries, target.of(entries));
                iter.seek_for_prev(target.of(entries)).unwrap();
            }
            Move::Next if at < entries.len() => (at, _) = (at + 1, iter.next().unwrap()),
            Move::Prev if at < entries.len() => (at, _) = (at.wrapping_sub(1), iter.prev().unwrap()),
            Move::TryNextKey if at < entries.len() => {
                if let Some(trailer) = iter.try_next_key() {
                    at += 1;
                    prop_assert_eq!(entries.get(at).map(|(key, _)| key.trailer), Some(trailer));
                    prop_assert!(entries[at].0.user_key != entries[at - 1].0.user_key);
                }
            }
            Move::TryPrev if at < entries.len() => {
                if let Some(Stepped { trailer, is_newest }) = iter.try_prev() {
                    at = at.wrapping_sub(1);
                    prop_assert_eq!(entries.get(at).map(|(key, _)| key.trailer), Some(trailer));
                    let is_other = at > 0 && entries[at].0.user_key != entries[at - 1].0.user_key;
                    prop_assert!(is_other || !is_newest, "before entry {}", at);
                }
            }
            Move::Next | Move::Prev | Move::TryNextKey | Move::TryPrev => {}
        }
        if iter.valid() && at < entries.len() {
            knows_neighbours(iter, entries, at);
        }
        stands_at(iter, entries, at)?;
    }
    Ok(())
}

/// What a source lends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lends {
    /// So many entries as it says, and they are walked both ways.
    BothWays,
    /// What may end earlier than it says, and is perhaps walked in the direction alone in which it was lent.
    OneWay,
}

/// Runs what a source that lends entries must do, on what `make` builds of sorted entries with unique keys, of which there is one or more.
///
/// # Panics
/// If it lends anything but the entries that follow, or does not stand where they were given back.
pub fn run_lending<I>(lends: Lends, make: impl Fn(&[Entry]) -> I)
where
    I: Lend,
    I::Error: Debug,
{
    for sample in samples() {
        let all = |way| Asked { way, oldest: 0, newest: SeqNo::MAX.0, until: None, steps: usize::MAX, from_here: false };
        lend_all_the_way(&mut make(&sample), &sample, &all(Way::Forward), lends);
        lend_all_the_way(&mut make(&sample), &sample, &all(Way::Backward), lends);
    }
    let cases = (any_entries(1..120), vec(any_asked(), 1..20));
    TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() })
        .run(&cases, |(entries, asked)| {
            asked.iter().for_each(|asked| lend_all_the_way(&mut make(&entries), &entries, asked, lends));
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// What is asked for: up to which key is that of an entry.
#[derive(Debug, Clone)]
struct Asked {
    way: Way,
    oldest: u64,
    newest: u64,
    until: Option<Index>,
    steps: usize,
    from_here: bool,
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let way = prop_oneof![Just(Way::Forward), Just(Way::Backward)];
    let newest = prop_oneof![1..30u64, Just(SeqNo::MAX.0)];
    let steps = prop_oneof![1..9usize, Just(usize::MAX)];
    (way, prop_oneof![Just(0), 1..9u64], newest, any::<Option<Index>>(), steps, any::<bool>()).prop_map(
        |(way, oldest, newest, until, steps, from_here)| Asked { way, oldest, newest, until, steps, from_here },
    )
}

/// Walks from end to end, borrowing from each entry on; goes back and forth in what is lent, and gives it back at one place of it after another.
fn lend_all_the_way<I: Lend>(iter: &mut I, entries: &[Entry], asked: &Asked, lends: Lends)
where
    I::Error: Debug,
{
    let until = asked.until.map(|index| &index.get(entries).0.user_key[..]);
    let Asked { steps, from_here, .. } = *asked;
    let plain = Plain { newest: SeqNo(asked.newest), oldest: SeqNo(asked.oldest), until, steps, from_here };
    let is_forward = asked.way == Way::Forward;
    if is_forward {
        iter.seek_to_first().unwrap()
    } else {
        iter.seek_to_last().unwrap()
    }
    let is_plain = |this: usize| {
        let key = &entries[this].0;
        let is_newest = this.checked_sub(1).is_none_or(|before| entries[before].0.user_key != key.user_key);
        let is_before =
            until.is_none_or(|until| if is_forward { *key.user_key < *until } else { *key.user_key > *until });
        assert!(is_newest && is_before && plain.takes(key.trailer), "entry {this} was lent");
    };
    let key_of = |this: usize| &entries[this].0.user_key;
    // The newest version of the next key.
    let next_key = |this: usize| -> Option<usize> {
        if is_forward {
            (this + 1..entries.len()).find(|other| key_of(*other) != key_of(this))
        } else {
            let before = (0..this).rev().find(|other| key_of(*other) != key_of(this))?;
            (0..=before).find(|other| key_of(*other) == key_of(before))
        }
    };
    let mut this = if is_forward { 0 } else { entries.len() - 1 };
    let mut round = 0;
    loop {
        round += 1;
        let mut lent = I::Lent::default();
        let steps = iter.lend(asked.way, &plain, &mut lent);
        let left = if is_forward { entries.len() - 1 - this } else { this };
        assert!(steps <= asked.steps && steps <= left, "{steps} steps of {left}");
        let stands_at = |lent: &I::Lent, this: usize| {
            let (key, value) = &entries[this];
            assert_eq!((lent.key(), lent.trailer(), lent.value()), (&key.user_key[..], key.trailer, &value[..]));
        };
        let on = |lent: &mut I::Lent| if is_forward { lent.next() } else { lent.prev() };
        let back = |lent: &mut I::Lent| if is_forward { lent.prev() } else { lent.next() };
        if steps > 0 && from_here {
            is_plain(this);
        }
        let (mut before, mut turns, mut made) = (this, false, 0);
        while made < steps && on(&mut lent) {
            (before, this, made) = (this, next_key(this).expect("there is a key behind"), made + 1);
            is_plain(this);
            stands_at(&lent, this);
            turns = back(&mut lent);
            assert!(turns || lends == Lends::OneWay);
            if turns {
                stands_at(&lent, before);
                assert!(on(&mut lent));
            }
            assert_eq!(iter.lent_value_slice(&lent), entries[this].1);
        }
        let is_at_end = made < steps;
        assert!(!is_at_end || (lends == Lends::OneWay && !on(&mut lent)), "the end of what was lent is the end");
        // Given back where it is, or one step before.
        if turns && !is_at_end && round % 3 == 0 {
            assert!(back(&mut lent));
            this = before;
        }
        if steps > 0 && iter.take_back(&mut lent) {
            assert!(is_at_end, "past what was lent");
            this = if is_forward { next_key(this).expect("a key behind") } else { this - 1 };
        }
        stands(iter, entries, this);
        if is_forward { iter.next().unwrap() } else { iter.prev().unwrap() }
        let beside = if is_forward { Some(this + 1) } else { this.checked_sub(1) };
        let Some(mut beside) = beside.filter(|beside| *beside < entries.len()) else { break };
        // Older versions of what was lent may have been passed.
        while lends == Lends::OneWay && is_forward && key_of(beside) == key_of(this) {
            if iter.valid() && iter.key() == entries[beside].0.as_ref() {
                break;
            }
            beside += 1;
            if beside == entries.len() {
                assert!(!iter.valid());
                return;
            }
        }
        this = beside;
        stands(iter, entries, this);
    }
    assert!(!iter.valid());
}

fn stands<I: InternalIterator>(iter: &I, entries: &[Entry], at: usize) {
    stands_at(iter, entries, at).unwrap_or_else(|failure| panic!("{failure}"));
}

/// What it says of the entries beside the one it stands on is true, and asking moves nothing.
fn knows_neighbours<I: InternalIterator>(iter: &mut I, entries: &[Entry], at: usize) {
    let is_other = |beside: Option<&Entry>| beside.is_some_and(|(key, _)| key.user_key != entries[at].0.user_key);
    assert!(!iter.next_is_other_key() || is_other(entries.get(at + 1)), "behind entry {at}");
    assert!(
        !iter.prev_is_other_key() || is_other(at.checked_sub(1).map(|before| &entries[before])),
        "before entry {at}"
    );
    assert_eq!(iter.value_slice(), entries[at].1);
    for (key, _) in [1, 2, 9, 99].into_iter().filter_map(|back| entries.get(at.checked_sub(back)?)) {
        let behind = entries[..at].iter().rev().take_while(|(other, _)| other.user_key > key.user_key).count();
        assert!(iter.steps_before(Way::Backward, &key.user_key) <= behind, "behind {key:?}, from entry {at}");
    }
    for (key, _) in [at, at + 1, at + 2, at + 9, at + 99].into_iter().filter_map(|other| entries.get(other)) {
        let before = entries[at + 1..].partition_point(|(other, _)| other.user_key < key.user_key);
        assert!(iter.steps_before(Way::Forward, &key.user_key) <= before, "before {key:?}, from entry {at}");
    }
}

/// A step that is only made where it is known what it meets goes where the ordinary one does, or nowhere.
fn tries<I: InternalIterator>(iter: &mut I, entries: &[Entry])
where
    I::Error: Debug,
{
    let user_key = |at: usize| &entries[at].0.user_key;
    let check = |iter: &I, at| stands_at(iter, entries, at).unwrap_or_else(|failure| panic!("{failure}"));
    iter.seek_to_first().unwrap();
    for (at, (key, _)) in entries.iter().enumerate().skip(1) {
        if let Some(trailer) = iter.try_next_key() {
            assert!(key.user_key != *user_key(at - 1) && trailer == key.trailer, "entry {at}");
        } else {
            check(iter, at - 1);
            iter.next().unwrap();
        }
        check(iter, at);
    }
    assert_eq!(iter.try_next_key(), None, "there is none behind the last");
    iter.seek_to_last().unwrap();
    for at in (0..entries.len() - 1).rev() {
        if let Some(Stepped { trailer, is_newest }) = iter.try_prev() {
            let has_newer = at == 0 || user_key(at) == user_key(at - 1);
            assert!(!(is_newest && has_newer) && trailer == entries[at].0.trailer, "entry {at}");
        } else {
            check(iter, at + 1);
            iter.prev().unwrap();
        }
        check(iter, at);
    }
    assert_eq!(iter.try_prev(), None, "there is none before the first");
}

/// Forward, backward, and one step back at every entry on the way.
fn both_ways<I: InternalIterator>(iter: &mut I, entries: &[Entry])
where
    I::Error: Debug,
{
    let check = |iter: &I, at| stands_at(iter, entries, at).unwrap_or_else(|failure| panic!("{failure}"));
    iter.seek_to_first().unwrap();
    for at in 0..entries.len() {
        knows_neighbours(iter, entries, at);
        check(iter, at);
        iter.next().unwrap();
    }
    assert!(!iter.valid(), "past the end");
    iter.seek_to_last().unwrap();
    for at in (0..entries.len()).rev() {
        knows_neighbours(iter, entries, at);
        check(iter, at);
        iter.prev().unwrap();
    }
    assert!(!iter.valid(), "past the start");
    iter.seek_to_first().unwrap();
    for at in 1..entries.len() {
        iter.next().unwrap();
        iter.prev().unwrap();
        check(iter, at - 1);
        iter.next().unwrap();
        check(iter, at);
    }
}

/// Seeks at, just before and just behind every entry.
fn every_seek<I: InternalIterator>(iter: &mut I, entries: &[Entry])
where
    I::Error: Debug,
{
    let check = |iter: &I, at| stands_at(iter, entries, at).unwrap_or_else(|failure| panic!("{failure}"));
    let beside = |key: &InternalKeyBuf, bits: u64| (key.user_key.clone(), Trailer::from_bits(bits));
    for (key, _) in entries {
        let bits = key.trailer.to_bits();
        for (user_key, trailer) in [
            beside(key, bits),
            beside(key, bits - 1),
            beside(key, bits + 1),
            beside(key, u64::MAX),
            beside(key, 0),
            ([&key.user_key[..], &[0]].concat().into(), Trailer::MAX),
        ] {
            let target = InternalKey { user_key: &user_key, trailer };
            iter.seek(target).unwrap();
            check(iter, at_or_behind(entries, target));
            iter.prepare_seek(target);
            iter.seek_prepared(target).unwrap();
            check(iter, at_or_behind(entries, target));
            iter.prepare_seek(BEHIND);
            iter.seek_for_prev(target).unwrap();
            check(iter, at_or_before(entries, target));
        }
    }
    iter.seek(BEHIND).unwrap();
    check(iter, entries.len());
    iter.seek_for_prev(BEFORE_ALL).unwrap();
    check(iter, NOWHERE);
}

/// An exhausted iterator is left by a seek only: a step is a bug of the caller.
fn past_the_ends<I: InternalIterator>(make: &impl Fn(&[Entry]) -> I, entries: &[Entry])
where
    I::Error: Debug,
{
    let exhausted = |backward: bool| {
        let mut iter = make(entries);
        if backward {
            iter.seek_to_first().unwrap();
            iter.prev().unwrap();
        } else {
            iter.seek_to_last().unwrap();
            iter.next().unwrap();
        }
        assert!(!iter.valid());
        iter
    };
    for backward in [false, true] {
        for step in [I::next, I::prev] {
            let mut iter = exhausted(backward);
            let stepped = catch_unwind(AssertUnwindSafe(|| step(&mut iter).is_ok() && iter.valid()));
            assert!(stepped.is_err(), "a step from nowhere must panic");
        }
        let mut iter = exhausted(backward);
        iter.seek_to_first().unwrap();
        stands_at(&iter, entries, 0).unwrap();
    }
}

/// Walks entries as [`esker_iterator::VecIterator`] does, but its `n`th move fails, and so do the moves that follow until a seek.
#[derive(Debug, Clone)]
pub struct FailingIterator {
    inner: esker_iterator::VecIterator,
    moves_left: usize,
    failed: bool,
}

/// What a [`FailingIterator`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure;

impl FailingIterator {
    /// Fails once, after `moves` moves that succeed. `usize::MAX`: never.
    pub fn new(entries: Vec<Entry>, moves: usize) -> Self {
        Self { inner: esker_iterator::VecIterator::new(entries), moves_left: moves, failed: false }
    }

    fn count(&mut self) -> Result<(), Failure> {
        self.failed = self.moves_left == 0;
        self.moves_left = self.moves_left.wrapping_sub(1);
        if self.failed { Err(Failure) } else { Ok(()) }
    }

    fn step(&mut self) -> Result<(), Failure> {
        if self.failed { Err(Failure) } else { self.count() }
    }

    /// A step that is only tried does not fail: the one made instead of it does.
    fn tried<T>(&mut self, step: impl FnOnce(&mut esker_iterator::VecIterator) -> Option<T>) -> Option<T> {
        if self.failed || self.moves_left == 0 {
            return None;
        }
        let stepped = step(&mut self.inner)?;
        self.moves_left -= 1;
        Some(stepped)
    }
}

impl Lend for FailingIterator {
    type Lent = NothingLent;
}

impl InternalIterator for FailingIterator {
    type Error = Failure;

    fn valid(&self) -> bool {
        !self.failed && self.inner.valid()
    }

    fn seek_to_first(&mut self) -> Result<(), Failure> {
        self.count().map(|()| self.inner.seek_to_first().unwrap_or_else(|never| match never {}))
    }

    fn seek_to_last(&mut self) -> Result<(), Failure> {
        self.count().map(|()| self.inner.seek_to_last().unwrap_or_else(|never| match never {}))
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Failure> {
        self.count().map(|()| self.inner.seek(target).unwrap_or_else(|never| match never {}))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Failure> {
        self.count().map(|()| self.inner.seek_for_prev(target).unwrap_or_else(|never| match never {}))
    }

    fn next(&mut self) -> Result<(), Failure> {
        self.step().map(|()| self.inner.next().unwrap_or_else(|never| match never {}))
    }

    fn prev(&mut self) -> Result<(), Failure> {
        self.step().map(|()| self.inner.prev().unwrap_or_else(|never| match never {}))
    }

    fn key(&self) -> InternalKey<'_> {
        self.inner.key()
    }

    fn value(&self) -> &[u8] {
        self.inner.value()
    }

    fn next_is_other_key(&mut self) -> bool {
        self.inner.next_is_other_key()
    }

    fn prev_is_other_key(&mut self) -> bool {
        self.inner.prev_is_other_key()
    }

    fn try_next_key(&mut self) -> Option<Trailer> {
        self.tried(InternalIterator::try_next_key)
    }

    fn try_prev(&mut self) -> Option<Stepped> {
        self.tried(InternalIterator::try_prev)
    }
}

/// The oracle of a visible view: user key to value, of `entries` as seen at `seq`. Merge operands are appended.
pub fn visible(entries: &[Entry], seq: SeqNo) -> BTreeMap<Vec<u8>, Vec<u8>> {
    visible_at(entries, seq, 0)
}

/// As [`visible`], as of a time.
pub fn visible_at(entries: &[Entry], seq: SeqNo, unix_ms: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut seen: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    // Oldest first, so that a newer version replaces an older one.
    let mut by_seq: Vec<_> = entries.iter().filter(|(key, _)| key.trailer.seq() <= seq).collect();
    by_seq.sort_by_key(|(key, _)| key.trailer);
    for (key, value) in by_seq {
        match key.trailer.kind() {
            ValueKind::Put | ValueKind::Blob => drop(seen.insert(key.user_key.to_vec(), value.clone())),
            ValueKind::Merge => seen.entry(key.user_key.to_vec()).or_default().extend_from_slice(value),
            ValueKind::Expiring | ValueKind::ExpiringBlob if split_expiry(value).is_some_and(|(e, _)| e > unix_ms) => {
                seen.insert(key.user_key.to_vec(), value.clone());
            }
            _ => drop(seen.remove(&key.user_key[..])),
        }
    }
    seen
}
