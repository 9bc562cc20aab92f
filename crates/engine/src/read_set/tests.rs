use super::*;
use crate::background::Background;
use crate::engine::Engine;
use crate::options::Options;
use crate::transaction::OwnWrites;
use esker_vfs::MemVfs;
use proptest::collection::vec;
use proptest::prelude::*;

fn engine(tracking_bytes: usize) -> Engine {
    let options = Options { transaction_tracking_bytes: tracking_bytes, ..Options::default() };
    Engine::builder("/db").vfs(MemVfs::new()).options(options).background(Background::Manual).open().unwrap()
}

fn keys() -> Vec<Vec<u8>> {
    let letters = [0, 1, b'a', 0xff];
    let short = letters.iter().map(|a| vec![*a]);
    let long = letters.iter().flat_map(|a| letters.iter().map(|b| vec![*a, *b]));
    std::iter::once(Vec::new()).chain(short).chain(long).collect()
}

#[derive(Debug, Clone)]
enum Add {
    Key(Vec<u8>),
    /// From the first, so many keys on; with steps in between, or not.
    Forward(Vec<u8>, usize, bool),
    Backward(Vec<u8>, usize, bool),
}

fn add() -> impl Strategy<Value = Add> {
    let key = || proptest::sample::select(keys());
    prop_oneof![
        3 => key().prop_map(Add::Key),
        1 => (key(), 0..6usize, any::<bool>()).prop_map(|(key, n, end)| Add::Forward(key, n, end)),
        1 => (key(), 0..6usize, any::<bool>()).prop_map(|(key, n, end)| Add::Backward(key, n, end)),
    ]
}

/// Adds to a set, and tells which of the keys are read.
fn add_to(set: &mut ReadSet, keyspace: &Arc<KeyspaceCore>, add: &Add, own: &Own, read: &mut Vec<Vec<u8>>) {
    let mut sorted = keys();
    sorted.sort();
    match add {
        Add::Key(key) => {
            set.add_key(keyspace, key);
            read.push(key.clone());
        }
        Add::Forward(from, n, to_end) => {
            let scan = set.begin_scan(keyspace, Edge::before(from), own);
            let keys: Vec<_> = sorted.into_iter().filter(|key| key >= from).collect();
            let end = if *to_end { keys.len() } else { (*n).min(keys.len()) };
            keys[..end].iter().for_each(|key| set.scan_came_to(scan, Edge::behind(key)));
            if *to_end {
                set.scan_came_to(scan, Edge::End);
                set.end_scan(scan);
            }
            read.extend(keys[..end].iter().filter(|key| own.get(key).is_none()).cloned());
        }
        Add::Backward(from, n, to_end) => {
            let scan = set.begin_scan(keyspace, Edge::behind(from), own);
            let keys: Vec<_> = sorted.into_iter().rev().filter(|key| key <= from).collect();
            let end = if *to_end { keys.len() } else { (*n).min(keys.len()) };
            keys[..end].iter().for_each(|key| set.scan_came_to(scan, Edge::before(key)));
            if *to_end {
                set.scan_came_to(scan, Edge::START);
                set.end_scan(scan);
            }
            read.extend(keys[..end].iter().filter(|key| own.get(key).is_none()).cloned());
        }
    }
}

proptest! {
    #[test]
    fn what_was_read_is_covered_and_nothing_else(
        adds in vec((add(), any::<bool>()), 0..40),
        own in vec(proptest::sample::select(keys()), 0..4),
        deleted in vec((proptest::sample::select(keys()), proptest::sample::select(keys())), 0..2),
        tracking_bytes in prop_oneof![Just(usize::MAX), 0..3_000usize],
    ) {
        let engine = engine(tracking_bytes);
        let core = Arc::clone(&engine.handle.core);
        let keyspace = Arc::clone(core.default_keyspace());
        let mut written = OwnWrites::default();
        for (begin, end) in deleted.iter().filter(|(begin, end)| begin < end || end.is_empty()) {
            written.delete_range(begin, end);
        }
        own.iter().for_each(|key| drop(written.set(esker_format::Slice::from(&key[..]), None)));
        let own = Arc::new(written);
        let mut set = ReadSet::new(&core);
        let mut read = Vec::new();
        for (add, settle) in &adds {
            add_to(&mut set, &keyspace, add, &own, &mut read);
            if *settle {
                // A scan under way ends here; what it comes to later would be lost, so none is.
                set.settle();
            }
        }
        set.settle();
        for (_, intervals) in set.parts() {
            prop_assert!(intervals.windows(2).all(|pair| pair[0].upper() < pair[1].lower()), "{:?}", intervals);
            for key in keys() {
                let by_search = set.covers(keyspace.id, &key);
                prop_assert_eq!(by_search, intervals.iter().any(|interval| interval.contains(&key)));
                let is_read = read.contains(&key);
                prop_assert!(by_search || !is_read, "{:?} was forgotten", key);
                prop_assert!(is_read || !by_search || tracking_bytes < usize::MAX, "{:?} was not read", key);
            }
        }
        let in_gaps = keys().into_iter().flat_map(|key| [[&key[..], &[0]].concat(), key]).collect::<Vec<_>>();
        for (begin, end) in keys().iter().flat_map(|begin| keys().into_iter().map(move |end| (begin.clone(), end))) {
            if begin >= end && !end.is_empty() {
                continue;
            }
            let is_in = |key: &&Vec<u8>| **key >= begin && esker_iterator::is_before_end(key, &end);
            let meets = in_gaps.iter().filter(is_in).any(|key| set.covers(keyspace.id, key));
            prop_assert_eq!(set.meets(keyspace.id, &begin, &end), meets, "{:?}..{:?}", begin, end);
        }
        prop_assert!(!set.covers(KeyspaceId(7), b""));
        prop_assert_eq!(core.tracking_bytes.load(Ordering::Relaxed), set.bytes());
        drop(set);
        prop_assert_eq!(core.tracking_bytes.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn memory_stays_within_the_bound_however_much_is_read() {
    const BOUND: usize = 64 << 10;
    let engine = engine(BOUND);
    let core = &engine.handle.core;
    let keyspace = core.default_keyspace();
    let other = engine.keyspace("other", Default::default()).unwrap();
    let mut sets = [ReadSet::new(core), ReadSet::new(core)];
    for i in 0..100_000u64 {
        let key = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        sets[i as usize % 2].add_key(if i % 3 == 0 { &other.core } else { keyspace }, &key);
        let all = core.tracking_bytes.load(Ordering::Relaxed);
        assert!(all <= BOUND + (8 << 10), "{all} bytes after {i}");
    }
    for i in 0..100_000u64 {
        let key = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let set = &mut sets[i as usize % 2];
        if i < 2 {
            set.settle();
        }
        assert!(set.covers(if i % 3 == 0 { other.id() } else { keyspace.id }, &key), "{i} was forgotten");
    }
    // The same key again and again is one key, and stays exact.
    let mut set = ReadSet::new(core);
    drop(sets);
    (0..100_000).for_each(|_| set.add_key(keyspace, b"the same"));
    set.settle();
    assert_eq!(set.parts().next().unwrap().1, [Interval::Key(b"the same"[..].into())]);
}

/// One that has read much leaves the others what they need to be exact.
#[test]
fn who_has_read_little_stays_exact() {
    let engine = engine(1 << 20);
    let core = &engine.handle.core;
    let keyspace = core.default_keyspace();
    let mut much = ReadSet::new(core);
    let room = || (1 << 20) - core.tracking_bytes.load(Ordering::Relaxed);
    for i in 0u32..900 {
        much.add_key(keyspace, &[&i.to_be_bytes()[..], &[0; 1_000]].concat());
    }
    for i in 900u32.. {
        if room() < 200 {
            break;
        }
        much.add_key(keyspace, &[&i.to_be_bytes()[..], &[0; 50]].concat());
        assert!(i < 10_000, "it is never full");
    }
    let mut little = ReadSet::new(core);
    for key in [&b"a"[..], b"c", &[b'e'; 200]] {
        little.add_key(keyspace, key);
    }
    little.settle();
    assert!(little.covers(keyspace.id, b"a") && little.covers(keyspace.id, &[b'e'; 200]));
    assert!(!little.covers(keyspace.id, b"b"), "it was never read");
}

#[test]
fn a_small_budget_bounds_it_too() {
    let options = Options { memory_budget_bytes: 1 << 20, ..Options::default() };
    assert_eq!(options.transaction_tracking_bytes_max(), 128 << 10);
    assert_eq!(Options::default().transaction_tracking_bytes_max(), 16 << 20);
}
