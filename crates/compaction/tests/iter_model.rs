//! [`CompactionIter`] against a map of versions: no reader that is allowed sees a difference, and nothing stays that could go.

use esker_compaction::CompactionIter;
use esker_format::{InternalKey, InternalKeyBuf, SeqNo, ValueKind};
use esker_iterator::{InternalIterator, MergingIterator, VecIterator};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Versions by user key and sequence number; `None` is a tombstone.
type Versions = BTreeMap<(Vec<u8>, u64), Option<Vec<u8>>>;

#[derive(Debug, Clone)]
struct Case {
    versions: Versions,
    /// In which source each version lies.
    sources: Vec<usize>,
    snapshots: Vec<SeqNo>,
    horizon: SeqNo,
    /// Keys of which something older lies outside the inputs.
    older: BTreeSet<Vec<u8>>,
}

/// What a reader at `seq` sees of `key`, if anything: a value or a tombstone.
fn read<'a>(versions: &'a Versions, key: &[u8], seq: u64) -> Option<&'a Option<Vec<u8>>> {
    versions.range((key.to_vec(), 0)..=(key.to_vec(), seq)).next_back().map(|(_, value)| value)
}

fn entry(key: &[u8], seq: u64, value: &Option<Vec<u8>>) -> (InternalKeyBuf, Vec<u8>) {
    let kind = if value.is_some() { ValueKind::Put } else { ValueKind::Delete };
    (InternalKey::new(key, SeqNo(seq), kind).to_buf(), value.clone().unwrap_or_default())
}

fn compact(case: &Case) -> Versions {
    let mut sources = vec![Vec::new(); 4];
    for (((key, seq), value), source) in case.versions.iter().zip(&case.sources) {
        sources[*source].push(entry(key, *seq, value));
    }
    let merged = MergingIterator::new(sources.into_iter().map(VecIterator::new).collect());
    let mut asked = Vec::new();
    let keep = |key: &[u8]| {
        asked.push(key.to_vec());
        case.older.contains(key)
    };
    let mut iter = CompactionIter::new(merged, &case.snapshots, case.horizon, keep);
    let mut kept = Versions::new();
    let mut last: Option<InternalKeyBuf> = None;
    iter.seek_to_first().unwrap();
    while iter.valid() {
        let key = iter.key();
        let starts = last.as_ref().is_none_or(|last| *last.user_key != *key.user_key);
        assert_eq!(iter.starts_user_key(), starts);
        assert!(last.is_none_or(|last| last.as_ref() < key));
        let value = (key.trailer.kind() == ValueKind::Put).then(|| iter.value().to_vec());
        kept.insert((key.user_key.to_vec(), key.trailer.seq().0), value);
        last = Some(key.to_buf());
        iter.next().unwrap();
    }
    let counts = iter.counts();
    assert_eq!(counts.entries_in, case.versions.len() as u64);
    assert_eq!(counts.entries_in - counts.hidden - counts.tombstones, kept.len() as u64);
    assert!(asked.is_sorted());
    kept
}

fn cases() -> impl Strategy<Value = Case> {
    let key =
        prop_oneof![Just(vec![]), Just(b"a".to_vec()), Just(b"aa".to_vec()), Just(b"b".to_vec()), Just(vec![0xff])];
    // Sequence numbers are unique, as in an engine.
    let versions = prop::collection::btree_map(
        1u64..40,
        (key.clone(), prop::option::of(prop::collection::vec(any::<u8>(), 0..3))),
        0..30,
    );
    let snapshots = prop::collection::btree_set(0u64..40, 0..4);
    let older = prop::collection::btree_set(key, 0..3);
    (versions, snapshots, 0u64..45, older, prop::collection::vec(0usize..4, 30)).prop_map(
        |(versions, snapshots, horizon, older, sources)| Case {
            versions: versions.into_iter().map(|(seq, (key, value))| ((key, seq), value)).collect(),
            sources,
            snapshots: snapshots.into_iter().filter(|&s| s <= horizon).map(SeqNo).collect(),
            horizon: SeqNo(horizon),
            older,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_reader_sees_a_difference(case in cases()) {
        let kept = compact(&case);
        let keys: BTreeSet<Vec<u8>> = case.versions.keys().map(|(key, _)| key.clone()).collect();
        let readers = case.snapshots.iter().map(|s| s.0).chain(case.horizon.0..50);
        for seq in readers {
            for key in &keys {
                let (before, after) = (read(&case.versions, key, seq), read(&kept, key, seq));
                // A tombstone may become nothing only where it has nothing to hide.
                let gone = before == Some(&None) && after.is_none() && !case.older.contains(key);
                prop_assert!(before == after || gone, "{key:?} at {seq}: {before:?} became {after:?}");
            }
        }
        for (version, value) in &kept {
            prop_assert_eq!(case.versions.get(version), Some(value), "nothing is made up");
        }
    }

    #[test]
    fn what_nobody_needs_is_gone(case in cases()) {
        let kept = compact(&case);
        let ends: Vec<u64> = case.snapshots.iter().map(|s| s.0).chain([case.horizon.0]).collect();
        for ((key, seq), value) in &kept {
            if *seq > case.horizon.0 {
                continue;
            }
            let seen = ends.iter().any(|&end| read(&case.versions, key, end) == Some(value)
                && case.versions.range((key.clone(), 0)..=(key.clone(), end)).next_back().unwrap().0.1 == *seq);
            prop_assert!(seen, "{key:?}#{seq} is seen by nobody");
            let idle = value.is_none() && *seq <= ends[0] && !case.older.contains(key);
            prop_assert!(!idle, "the tombstone {key:?}#{seq} hides nothing");
        }
    }

    #[test]
    fn a_second_pass_changes_nothing(case in cases()) {
        let once = compact(&case);
        let again = compact(&Case { versions: once.clone(), ..case });
        prop_assert_eq!(once, again);
    }
}

/// Fails at the third step.
struct Failing(VecIterator, u32);

impl InternalIterator for Failing {
    type Error = &'static str;

    fn valid(&self) -> bool {
        self.1 > 0 && self.0.valid()
    }

    fn seek_to_first(&mut self) -> Result<(), Self::Error> {
        self.0.seek_to_first().map_err(|never| match never {})
    }

    fn next(&mut self) -> Result<(), Self::Error> {
        self.1 = self.1.saturating_sub(1);
        if self.1 == 0 {
            return Err("broken");
        }
        self.0.next().map_err(|never| match never {})
    }

    fn seek_to_last(&mut self) -> Result<(), Self::Error> {
        unreachable!("walked forward only")
    }

    fn seek(&mut self, _: InternalKey<'_>) -> Result<(), Self::Error> {
        unreachable!("walked forward only")
    }

    fn seek_for_prev(&mut self, _: InternalKey<'_>) -> Result<(), Self::Error> {
        unreachable!("walked forward only")
    }

    fn prev(&mut self) -> Result<(), Self::Error> {
        unreachable!("walked forward only")
    }

    fn key(&self) -> InternalKey<'_> {
        self.0.key()
    }

    fn value(&self) -> &[u8] {
        self.0.value()
    }
}

#[test]
fn an_error_is_not_the_end() {
    let entries = (1..9).map(|seq| entry(b"k", seq, &Some(vec![1]))).collect();
    let mut iter = CompactionIter::new(Failing(VecIterator::new(entries), 3), &[], SeqNo(9), |_| true);
    iter.seek_to_first().unwrap();
    assert!(iter.valid());
    assert_eq!(iter.next(), Err("broken"), "met while skipping hidden versions");
    assert_eq!((iter.valid(), iter.next()), (false, Err("broken")));
}
