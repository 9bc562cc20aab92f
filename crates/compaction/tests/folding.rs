//! Merge operands in compaction: no reader that is allowed sees a difference, and with an operator that puts operands together one version is left of each stripe.

use esker_compaction::{CompactionIter, Counts};
use esker_format::{InternalKey, InternalKeyBuf, SeqNo, ValueKind};
use esker_iterator::{
    MergeOperator, MergingIterator, Operands, OperatorError, RangeTombstoneBuf, VecIterator, operators::Append,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Kept = BTreeMap<(Vec<u8>, u64), (ValueKind, Vec<u8>)>;

#[derive(Debug, Clone)]
struct Case {
    versions: Kept,
    /// In which source each version lies.
    sources: Vec<usize>,
    ranges: Vec<RangeTombstoneBuf>,
    snapshots: Vec<SeqNo>,
    horizon: SeqNo,
    /// Keys of which something older lies outside the inputs.
    older: BTreeSet<Vec<u8>>,
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"a".to_vec()),
        Just(b"a".to_vec()),
        Just(vec![]),
        Just(b"aa".to_vec()),
        Just(b"b".to_vec()),
        Just(vec![0xff])
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let ops = prop::collection::vec((any_key(), any_key(), 0..12u8), 0..40);
    let snapshots = prop::collection::btree_set(0u64..40, 0..4);
    let older = prop::collection::btree_set(any_key(), 0..3);
    (ops, snapshots, 0u64..45, older, prop::collection::vec(0usize..4, 40)).prop_map(
        |(ops, snapshots, horizon, older, sources)| {
            let mut case = Case {
                versions: Kept::new(),
                sources,
                ranges: Vec::new(),
                snapshots: snapshots.into_iter().filter(|&s| s <= horizon).map(SeqNo).collect(),
                horizon: SeqNo(horizon),
                older,
            };
            for ((key, end, kind), seq) in ops.into_iter().zip(1..) {
                let value = seq.to_string().into_bytes();
                match kind {
                    0..7 => drop(case.versions.insert((key, seq), (ValueKind::Merge, value))),
                    7..10 => drop(case.versions.insert((key, seq), (ValueKind::Put, value))),
                    10 => drop(case.versions.insert((key, seq), (ValueKind::Delete, Vec::new()))),
                    _ if key < end => {
                        case.ranges.push(RangeTombstoneBuf { begin: key.into(), end: end.into(), seq: SeqNo(seq) })
                    }
                    _ => {}
                }
            }
            case
        },
    )
}

/// What a reader at `seq` sees of a key: the operands that lie over something outside the inputs, or a value, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Over(Vec<String>),
    Value(Vec<String>),
    None,
}

fn read(case: &Case, versions: &Kept, key: &[u8], seq: u64) -> Seen {
    let covering = case.ranges.iter().filter(|range| range.seq.0 <= seq && range.as_ref().covers(key));
    let covering = covering.map(|range| range.seq.0).max();
    let mut parts = Vec::new();
    for ((_, at), (kind, value)) in versions.range((key.to_vec(), 0)..=(key.to_vec(), seq)).rev() {
        if covering.is_some_and(|covering| covering > *at) || *kind == ValueKind::Delete {
            return if parts.is_empty() { Seen::None } else { Seen::Value(parts) };
        }
        // A folded one has several parts.
        let mut these: Vec<String> = String::from_utf8(value.clone()).unwrap().split(',').map(Into::into).collect();
        these.extend(parts);
        parts = these;
        if *kind == ValueKind::Put {
            return Seen::Value(parts);
        }
    }
    match (case.older.contains(key) && covering.is_none(), parts.is_empty()) {
        (true, _) => Seen::Over(parts),
        (false, true) => Seen::None,
        (false, false) => Seen::Value(parts),
    }
}

fn compact(case: &Case, operator: Option<Arc<dyn MergeOperator>>) -> (Kept, Counts) {
    let mut sources = vec![Vec::new(); 4];
    for (((key, seq), (kind, value)), source) in case.versions.iter().zip(&case.sources) {
        sources[*source].push((InternalKey::new(key, SeqNo(*seq), *kind).to_buf(), value.clone()));
    }
    let merged = MergingIterator::new(sources.into_iter().map(VecIterator::new).collect());
    let iter = CompactionIter::new(merged, &case.snapshots, case.horizon, |key: &[u8]| case.older.contains(key));
    let mut iter = iter.with_range_tombstones(case.ranges.iter().map(RangeTombstoneBuf::as_ref), |_| true);
    if let Some(operator) = operator {
        iter = iter.with_operator(operator);
    }
    let mut kept = Kept::new();
    let mut last: Option<InternalKeyBuf> = None;
    iter.seek_to_first().unwrap();
    while iter.valid() {
        let key = iter.key();
        let starts = last.as_ref().is_none_or(|last| *last.user_key != *key.user_key);
        assert_eq!(iter.starts_user_key(), starts);
        assert!(last.is_none_or(|last| last.as_ref() < key));
        let at = (key.user_key.to_vec(), key.trailer.seq().0);
        kept.insert(at, (key.trailer.kind(), iter.value().to_vec()));
        last = Some(key.to_buf());
        iter.next().unwrap();
    }
    let counts = iter.counts();
    assert_eq!(counts.entries_in, case.versions.len() as u64);
    assert_eq!(counts.entries_in - counts.hidden - counts.tombstones - counts.folded, kept.len() as u64);
    (kept, counts)
}

/// Puts nothing together without a base.
struct WithBase(Append);

impl MergeOperator for WithBase {
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        self.0.merge(key, base, operands)
    }
}

/// Fails where it is given the operand 7.
struct Fussy(Append);

impl Fussy {
    fn check(operands: Operands<'_>) -> Result<(), OperatorError> {
        let bad = |operand: &[u8]| operand.split(|byte| *byte == b',').any(|part| part == b"7");
        if { operands }.any(bad) { Err("not a seven".into()) } else { Ok(()) }
    }
}

impl MergeOperator for Fussy {
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        Self::check(operands)?;
        self.0.merge(key, base, operands)
    }

    fn combine(&self, key: &[u8], operands: Operands<'_>) -> Result<Option<Vec<u8>>, OperatorError> {
        Self::check(operands)?;
        self.0.combine(key, operands)
    }
}

fn append() -> Append {
    Append::with_separator(",")
}

fn operators() -> [Option<Arc<dyn MergeOperator>>; 4] {
    [None, Some(Arc::new(append())), Some(Arc::new(WithBase(append()))), Some(Arc::new(Fussy(append())))]
}

/// Compacts once more.
fn twice(case: &Case, kept: &Kept, operator: Option<Arc<dyn MergeOperator>>) -> Kept {
    compact(&Case { versions: kept.clone(), ..case.clone() }, operator).0
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_reader_sees_a_difference(case in cases()) {
        let keys: BTreeSet<Vec<u8>> = case.versions.keys().map(|(key, _)| key.clone()).collect();
        let readers: Vec<u64> = case.snapshots.iter().map(|s| s.0).chain(case.horizon.0..50).collect();
        for (nth, operator) in operators().into_iter().enumerate() {
            let (kept, _) = compact(&case, operator.clone());
            for seq in &readers {
                for key in &keys {
                    let (before, after) = (read(&case, &case.versions, key, *seq), read(&case, &kept, key, *seq));
                    prop_assert_eq!(&before, &after, "operator {}: {:?} at {}", nth, key, seq);
                }
            }
            for ((key, seq), (kind, _)) in &kept {
                let stripe = case.snapshots.first().copied().unwrap_or(case.horizon).min(case.horizon);
                let idle = *kind == ValueKind::Delete && SeqNo(*seq) <= stripe && !case.older.contains(key);
                prop_assert!(!idle, "operator {}: the tombstone {:?}#{} hides nothing", nth, key, seq);
            }
            // What lies over nothing since the first pass is folded by the second.
            let again = twice(&case, &kept, operator.clone());
            for seq in &readers {
                for key in &keys {
                    prop_assert_eq!(read(&case, &kept, key, *seq), read(&case, &again, key, *seq));
                }
            }
            prop_assert_eq!(&twice(&case, &again, operator), &again, "operator {}: a third pass changes nothing", nth);
        }
    }

    #[test]
    fn one_version_is_left_of_each_stripe(case in cases()) {
        let (kept, counts) = compact(&case, Some(Arc::new(append())));
        prop_assert_eq!(counts.not_folded, 0);
        let kept = twice(&case, &kept, Some(Arc::new(append())));
        let ends: Vec<u64> = case.snapshots.iter().map(|s| s.0).filter(|s| *s < case.horizon.0).chain([case.horizon.0]).collect();
        let mut seen = BTreeSet::new();
        let mut oldest = BTreeMap::new();
        for ((key, seq), (kind, _)) in kept.iter().rev() {
            let Some(stripe) = ends.iter().find(|end| *end >= seq) else { continue };
            prop_assert!(seen.insert((key.clone(), *stripe)), "{:?}#{} is one too many", key, seq);
            oldest.insert(key.clone(), *kind);
        }
        for (key, kind) in oldest {
            let bare = kind == ValueKind::Merge && !case.older.contains(&key);
            prop_assert!(!bare, "{:?} has an operand that lies over nothing", key);
        }
    }
}

/// As many as are folded in memory, and quickly: a chain costs its length.
#[test]
fn a_long_chain_is_folded_whole() {
    let entries = (1..=100_000).map(|seq| (InternalKey::new(b"k", SeqNo(seq), ValueKind::Merge).to_buf(), vec![b'x']));
    let iter = CompactionIter::new(VecIterator::new(entries.collect()), &[], SeqNo(100_000), |_: &[u8]| true);
    let mut iter = iter.with_operator(Arc::new(Append::new()));
    iter.seek_to_first().unwrap();
    assert_eq!((format!("{:?}", iter.key()), iter.value().len()), ("k#100000,MERGE".into(), 100_000));
    iter.next().unwrap();
    assert!(!iter.valid());
    assert_eq!(iter.counts().folded, 99_999);
}

/// An operator that panics is as one that fails: all is kept, and counted.
#[test]
fn a_panic_loses_nothing() {
    struct Panics;
    impl MergeOperator for Panics {
        fn merge(&self, _: &[u8], _: Option<&[u8]>, _: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
            panic!("an operator's panic, which the test asks for")
        }
    }
    let entry = |seq, kind, value: &str| (InternalKey::new(b"k", SeqNo(seq), kind).to_buf(), value.as_bytes().to_vec());
    let entries = vec![
        entry(9, ValueKind::Merge, "c"),
        entry(7, ValueKind::Merge, "b"),
        entry(5, ValueKind::Put, "a"),
        entry(3, ValueKind::Put, "z"),
    ];
    let iter = CompactionIter::new(VecIterator::new(entries.clone()), &[], SeqNo(9), |_: &[u8]| false);
    let mut iter = iter.with_operator(Arc::new(Panics));
    iter.seek_to_first().unwrap();
    let mut kept = Vec::new();
    while iter.valid() {
        kept.push((iter.key().to_buf(), iter.value().to_vec()));
        iter.next().unwrap();
    }
    assert_eq!(kept, entries[..3]);
    assert_eq!((iter.counts().not_folded, iter.counts().hidden), (1, 1));
}
