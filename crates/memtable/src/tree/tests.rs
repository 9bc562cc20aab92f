//! Tiny nodes against the skip list and a sorted map; a writer beside readers.

use super::records::LARGEST_CHUNK_BYTES;
use super::*;
use crate::Counters;
use crate::skiplist::{self, SkipList};
use esker_format::{KEY_BYTES_MAX, ValueKind};
use proptest::prelude::*;
use std::collections::BTreeMap;

const TINY: usize = 4;

fn key(user_key: &[u8], seq: u64) -> InternalKey<'_> {
    InternalKey::new(user_key, SeqNo(seq), ValueKind::Put)
}

fn insert<const N: usize>(tree: &Tree<N>, user_key: &[u8], seq: u64, value: &[u8]) {
    tree.insert(key(user_key, seq), KeyHash::of(user_key), value, &Counters::default());
}

/// Inserts entries loose; their values are as `value` says of their numbers.
fn insert_loose<const N: usize>(tree: &Tree<N>, entries: &[(Vec<u8>, u64)], value: impl Fn(u64) -> Vec<u8>) {
    let values: Vec<_> = entries.iter().map(|(_, seq)| value(*seq)).collect();
    let all = entries.iter().zip(&values);
    let all = all.map(|((user_key, seq), value)| (key(user_key, *seq), KeyHash::of(user_key), &value[..]));
    tree.insert_loose(all, &Counters::default());
}

fn get<const N: usize>(tree: &Tree<N>, user_key: &[u8], seq: u64) -> Option<u64> {
    tree.get(user_key, KeyHash::of(user_key), SeqNo(seq)).map(|record| record.trailer().seq().0)
}

/// All entries, one way, as user key and sequence number.
fn walk<const N: usize>(tree: &Tree<N>, way: Way) -> Vec<(Vec<u8>, u64)> {
    let mut entries = Vec::new();
    let mut at = if way == Way::Forward { tree.first() } else { tree.last() };
    while at.is_somewhere() {
        let key = tree.record(at).key();
        entries.push((key.user_key.to_vec(), key.trailer.seq().0));
        at = if way == Way::Forward { tree.next(at) } else { tree.prev(at) };
    }
    entries
}

/// Holds every look-up, seek and step of the tree against the skip list and a sorted map.
fn check(tree: &Tree<TINY>, list: &SkipList, map: &BTreeMap<(Vec<u8>, std::cmp::Reverse<u64>), Vec<u8>>) {
    let entries: Vec<_> = map.keys().map(|(user_key, seq)| (user_key.clone(), seq.0)).collect();
    assert_eq!(walk(tree, Way::Forward), entries);
    assert!(walk(tree, Way::Backward).iter().eq(entries.iter().rev()));
    let of_list = |index| (index != skiplist::NONE).then(|| list.record(index).key());
    let of_tree = |place: Place| place.is_somewhere().then(|| tree.record(place).key());
    for (user_key, seq) in &entries {
        let shorter = &user_key[..user_key.len().saturating_sub(1)];
        let longer = [&user_key[..], b"\0"].concat();
        for target in [user_key, shorter, &longer] {
            for seq in [0, seq - 1, *seq, seq + 1] {
                let sought = InternalKey::seek(target, SeqNo(seq));
                let forward = tree.forward(sought, true);
                assert_eq!(of_tree(forward), of_list(list.at_or_behind(sought)), "from {sought:?}");
                let backward = tree.backward(sought, true);
                assert_eq!(of_tree(backward), of_list(list.at_or_before(sought)), "back from {sought:?}");
                if forward.is_somewhere() {
                    let index = list.at_or_behind(sought);
                    assert_eq!(of_tree(tree.next(forward)), of_list(list.next(index)));
                    assert_eq!(of_tree(tree.prev(forward)), of_list(list.prev(index)));
                }
                let found =
                    tree.get(target, KeyHash::of(target), SeqNo(seq)).map(|record| (record.key(), record.value()));
                let first = list.get(sought).filter(|record| record.user_key() == target);
                assert_eq!(found, first.map(|record| (record.key(), record.value())), "get {sought:?}");
            }
        }
    }
}

/// Few keys, many versions, and what is hard on prefixes: long common ones, short keys, runs of 0xff.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(0xff)];
    let short = || proptest::collection::vec(byte(), 0..4);
    prop_oneof![
        3 => short(),
        2 => short().prop_map(|tail| [b"prefix that is longer than what a node holds of it", &tail[..]].concat()),
        1 => short().prop_map(|tail| [b"prefix th", &tail[..]].concat()),
        1 => (0..60usize).prop_map(|len| vec![0xff; len]),
        2 => any::<u16>().prop_map(|number| format!("{:05}", number % 300).into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: if cfg!(miri) { 3 } else { 200 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn tiny_nodes_do_what_the_skip_list_does(
        keys in proptest::collection::vec(any_key(), 0..if cfg!(miri) { 30 } else { 250 }),
        in_order in any::<bool>(),
    ) {
        let (tree, list, mut map) = (Tree::<TINY>::new(None), SkipList::default(), BTreeMap::new());
        for (i, user_key) in keys.iter().enumerate() {
            // Each number once, ascending as the engine gives them, or not.
            let seq = if in_order { i as u64 + 1 } else { 1 + (i as u64 * 7919 + 13) % 10_007 };
            let value = vec![i as u8; i % 40];
            insert(&tree, user_key, seq, &value);
            list.insert(key(user_key, seq), &value, &Counters::default());
            map.insert((user_key.clone(), std::cmp::Reverse(seq)), value);
        }
        check(&tree, &list, &map);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: if cfg!(miri) { 3 } else { 300 },
        ..ProptestConfig::default()
    })]

    /// Parts of a history are inserted loose, others singly: it comes to the same as if all were inserted singly, whether the loose ones are tied or found to be
    /// needed.
    #[test]
    fn loose_entries_come_to_the_same_as_single_ones(
        parts in proptest::collection::vec(
            (proptest::collection::vec(any_key(), 0..if cfg!(miri) { 12 } else { 120 }), any::<bool>(), any::<bool>()),
            1..5,
        ),
        in_order in any::<bool>(),
    ) {
        let (tree, list, mut map) = (Tree::<TINY>::new(None), SkipList::default(), BTreeMap::new());
        let value = |seq: u64| vec![seq as u8; seq as usize % 40];
        let mut count = 0;
        for (user_keys, is_loose, is_tied) in parts {
            let entries: Vec<_> = user_keys.into_iter().map(|user_key| {
                count += 1;
                (user_key, if in_order { count } else { 1 + (count * 7919 + 13) % 10_007 })
            }).collect();
            for (user_key, seq) in &entries {
                list.insert(key(user_key, *seq), &value(*seq), &Counters::default());
                map.insert((user_key.clone(), std::cmp::Reverse(*seq)), value(*seq));
            }
            if is_loose {
                insert_loose(&tree, &entries, value);
            } else {
                entries.iter().for_each(|(user_key, seq)| insert(&tree, user_key, *seq, &value(*seq)));
            }
            for (user_key, seq) in &entries {
                prop_assert_eq!(get(&tree, user_key, *seq), Some(*seq), "before they are tied");
            }
            if is_tied {
                tree.tie();
            }
        }
        tree.tie_loose();
        check(&tree, &list, &map);
    }
}

/// Many at once, in nodes as they are used: every order of keys, one key again and again, keys that differ behind a long front, keys that are fronts of others.
#[test]
fn a_great_many_loose_entries() {
    let count = if cfg!(miri) { 300 } else { 60_000u64 };
    let names: [fn(u64) -> Vec<u8>; 6] = [
        |i| format!("{:016}", 2 * i).into_bytes(),
        |i| format!("{:016}", scramble(i) % 1_000_000_000).into_bytes(),
        |i| scramble(i).to_be_bytes().to_vec(),
        |i| format!("a long front that all keys have/{:09}/and a back", scramble(i) % 1_000_000).into_bytes(),
        |i| vec![b'k'; (scramble(i) % 90) as usize],
        |i| format!("{:04}", i % 500).into_bytes(),
    ];
    for name in names {
        let tree = Tree::<128>::new(None);
        let mut entries: Vec<_> = (1..=count).map(|seq| (name(seq), seq)).collect();
        entries.chunks(1000).for_each(|part| insert_loose(&tree, part, |seq| seq.to_le_bytes().to_vec()));
        let before = tree.memory_bytes();
        tree.tie();
        assert!(tree.memory_bytes() < before + 40 * count as usize, "{before} bytes became {}", tree.memory_bytes());
        entries.iter().for_each(|(name, seq)| assert_eq!(get(&tree, name, *seq), Some(*seq)));
        // Then as ever, between them and behind them.
        for seq in count + 1..=count + count / 10 {
            insert(&tree, &name(seq), seq, &seq.to_le_bytes());
            entries.push((name(seq), seq));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        assert!(walk(&tree, Way::Forward) == entries);
        assert!(walk(&tree, Way::Backward).iter().eq(entries.iter().rev()));
        for (name, seq) in entries.iter().step_by(7) {
            let found = tree.forward(key(name, *seq), true);
            assert_eq!(tree.record(found).key(), key(name, *seq));
        }
    }
}

/// As many as just fill a leaf or an inner node, one fewer and one more; then some in between.
#[test]
fn loose_entries_that_just_fill_nodes() {
    let (leaf, inner) = (96, 84);
    let small = [0, 1, 2, leaf - 1, leaf, leaf + 1, 2 * leaf, 2 * leaf + 1];
    let large = [leaf * inner - 1, leaf * inner, leaf * inner + 1, leaf * inner * 2 + 1];
    for count in small.into_iter().chain(large).filter(|count| !cfg!(miri) || *count <= leaf + 1) {
        let tree = Tree::<128>::new(None);
        let name = |i: u64| format!("{i:06}").into_bytes();
        let mut entries: Vec<_> = (0..count).map(|i| (name(2 * (count - 1 - i)), i + 1)).collect();
        insert_loose(&tree, &entries, |_| Vec::new());
        tree.tie();
        for i in (0..count).step_by(1 + count as usize / 100) {
            entries.push((name(2 * i + 1), count + 1 + i));
            insert(&tree, &name(2 * i + 1), count + 1 + i, b"");
        }
        entries.sort();
        assert!(walk(&tree, Way::Forward) == entries, "{count} entries");
        assert!(walk(&tree, Way::Backward).iter().eq(entries.iter().rev()), "{count} entries");
    }
}

#[test]
#[should_panic = "is there already"]
fn nor_is_one_inserted_twice_that_is_loose() {
    let tree = Tree::<TINY>::new(None);
    // The index no longer tells: the tree does.
    insert_loose(&tree, &[(b"k".to_vec(), 7), (b"k".to_vec(), 3), (b"j".to_vec(), 4), (b"k".to_vec(), 7)], |_| vec![]);
    tree.tie();
}

/// Orders that make every kind of new node: at the end, at the front, in the middle, past a full leaf again and again.
#[test]
fn every_order_of_insertion_comes_to_the_same() {
    let count = if cfg!(miri) { 40 } else { 700u64 };
    let orders: [fn(u64, u64) -> u64; 6] = [
        |i, _| i,
        // Three at the end, one at the front.
        |i, n| if i % 4 == 3 { i / 4 } else { n / 4 + i - i / 4 },
        |i, n| n - 1 - i,
        |i, n| if i % 2 == 0 { i / 2 } else { n - 1 - i / 2 },
        |i, n| (i * 7919) % n,
        |i, n| if i < n / 2 { 2 * i } else { 2 * (n - 1 - i) + 1 },
    ];
    for order in orders {
        let tree = Tree::<TINY>::new(None);
        let name = |i: u64| format!("user:{:07}", i * 37).into_bytes();
        (0..count).for_each(|i| insert(&tree, &name(order(i, count)), i + 1, b"v"));
        let mut expected: Vec<_> = (0..count).map(|i| (name(order(i, count)), i + 1)).collect();
        expected.sort();
        assert_eq!(walk(&tree, Way::Forward), expected);
        assert!(walk(&tree, Way::Backward).iter().eq(expected.iter().rev()));
    }
}

/// A key written again and again: look-ups deep in its past go by the tree, and cost a search, not a walk.
#[test]
fn many_versions_of_one_key() {
    let count = if cfg!(miri) { 40 } else { 20_000u64 };
    let tree = Tree::<16>::new(None);
    insert(&tree, b"j", 1, b"");
    insert(&tree, b"l", 2, b"");
    (1..=count).for_each(|i| insert(&tree, b"k", 10 * i, &i.to_le_bytes()));
    for seq in [9, 10, 11, 10 * count / 2 - 1, 10 * count / 2, 10 * count - 1, 10 * count, SeqNo::MAX.0] {
        let expected = (seq >= 10).then(|| (seq / 10).min(count) * 10);
        assert_eq!(get(&tree, b"k", seq), expected, "at {seq}");
    }
    assert_eq!(walk(&tree, Way::Backward).len() as u64, count + 2);
    if !cfg!(miri) {
        let begin = std::time::Instant::now();
        (1..=count).for_each(|i| assert_eq!(get(&tree, b"k", 10 * i), Some(10 * i)));
        assert!(begin.elapsed().as_secs() < 2, "{count} look-ups took {:?}", begin.elapsed());
    }
}

#[test]
fn the_longest_keys_and_the_empty_one() {
    let tree = Tree::<TINY>::new(None);
    let mut keys: Vec<Vec<u8>> = vec![Vec::new(), vec![0], vec![0xff; KEY_BYTES_MAX], vec![0xff; KEY_BYTES_MAX - 1]];
    keys.extend((0..if cfg!(miri) { 6 } else { 60u8 }).map(|i| {
        let mut key = vec![b'k'; KEY_BYTES_MAX];
        key[KEY_BYTES_MAX - 1 - usize::from(i % 5)] = i;
        key
    }));
    keys.iter().zip(1..).for_each(|(key, seq)| insert(&tree, key, seq, b"v"));
    let loose = Tree::<TINY>::new(None);
    let entries: Vec<_> = keys.iter().cloned().zip(1..).collect();
    insert_loose(&loose, &entries, |_| b"v".to_vec());
    loose.tie();
    keys.sort();
    for tree in [tree, loose] {
        entries.iter().for_each(|(key, seq)| assert_eq!(get(&tree, key, SeqNo::MAX.0), Some(*seq)));
        assert!(walk(&tree, Way::Forward).iter().map(|(key, _)| key).eq(&keys));
        assert!(walk(&tree, Way::Backward).iter().map(|(key, _)| key).eq(keys.iter().rev()));
    }
}

#[test]
#[should_panic = "is there already"]
fn a_key_is_not_inserted_twice() {
    let tree = Tree::<TINY>::new(None);
    (1..20).for_each(|seq| insert(&tree, b"k", seq, b""));
    insert(&tree, b"k", 19, b"");
}

#[test]
#[should_panic = "is there already"]
fn nor_is_one_of_the_past() {
    let tree = Tree::<TINY>::new(None);
    (1..20).for_each(|seq| insert(&tree, b"k", seq, b""));
    insert(&tree, b"k", 7, b"");
}

/// What a table leaves is what the next one begins with, and none of it shows.
#[test]
fn memory_goes_from_tree_to_tree() {
    let pool = Arc::new(Pool::<128>::new(64 << 20));
    let count = if cfg!(miri) { 300 } else { 50_000u64 };
    let value = vec![7; if cfg!(miri) { 20_000 } else { 100 }];
    let mut sizes = Vec::new();
    for round in 0..3 {
        let tree = Tree::<128>::new(Some(Arc::clone(&pool)));
        let name = |i: u64| KeyHash::of(&(i ^ round << 32).to_le_bytes()).0.to_be_bytes();
        (0..count).for_each(|i| insert(&tree, &name(i), i + 1, &value));
        (0..count).for_each(|i| assert_eq!(get(&tree, &name(i), SeqNo::MAX.0), Some(i + 1)));
        assert!(get(&tree, &name(count), SeqNo::MAX.0).is_none());
        let walked = walk(&tree, Way::Forward);
        assert!(walked.len() as u64 == count && walked.is_sorted());
        sizes.push(tree.memory_bytes());
        drop(tree);
        assert!(pool.bytes() > LARGEST_CHUNK_BYTES, "{} bytes in the pool", pool.bytes());
    }
    assert!(pool.bytes() < 2 * sizes[0], "{} bytes in the pool after tables of {sizes:?}", pool.bytes());
    pool.shrink_to(LARGEST_CHUNK_BYTES);
    assert!(pool.bytes() <= LARGEST_CHUNK_BYTES);
}

/// splitmix64
fn scramble(i: u64) -> u64 {
    let mut x = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// One writer and two readers on the tiniest nodes, both directions: nodes are divided all the time, and a reader who takes a child
/// of which only the left half is left must notice. (It once did not: it went on behind what the right half held.)
///
/// Every reader knows a number up to which all is inserted; whatever it does, it must meet the entries up to there.
#[test]
fn readers_beside_a_writer_who_divides_all_the_time() {
    let (rounds, writes) = if cfg!(miri) { (1, 80) } else { (60, 3_000u64) };
    for round in 0..rounds {
        let tree = Tree::<TINY>::new(None);
        // Ascending in every other round, so that leaves are extended; else scattered, so that they are divided.
        let name = move |seq: u64| if round % 2 == 0 { scramble(seq) % 1_000_000 } else { seq * 100 };
        let name = move |seq: u64| ((name(seq) << 16) + seq).to_be_bytes();
        // In every third round some are there before that were inserted all at once.
        let loose = if round % 3 == 0 { writes / 3 } else { 0 };
        let entries: Vec<_> = (1..=loose).map(|seq| (name(seq).to_vec(), seq)).collect();
        insert_loose(&tree, &entries, |seq| seq.to_le_bytes().to_vec());
        tree.tie();
        let done = AtomicU64::new(loose);
        std::thread::scope(|scope| {
            for reader in 0..2u64 {
                let (tree, done) = (&tree, &done);
                scope.spawn(move || {
                    for turn in 0.. {
                        let before = done.load(Acquire);
                        let some = scramble((turn << 8) | reader);
                        if before > 0 {
                            // One of the last few, around which the writer is at work, or any.
                            let back = if some.is_multiple_of(4) { some >> 8 } else { (some >> 8) % 16 };
                            let seq = before - back % before;
                            look(
                                tree,
                                &name,
                                seq,
                                before,
                                if some.is_multiple_of(2) { Way::Forward } else { Way::Backward },
                            );
                        }
                        // One of the next few, of which none may be there yet: a leaf may be extended before we find it empty from there on.
                        let ahead = name(before + 1 + (some >> 32) % 4);
                        let found = tree.forward(key(&ahead, SeqNo::MAX.0), true);
                        assert!(!found.is_somewhere() || tree.record(found).user_key() >= &ahead[..]);
                        if before == writes {
                            return;
                        }
                    }
                });
            }
            for seq in loose + 1..=writes {
                insert(&tree, &name(seq), seq, &seq.to_le_bytes());
                done.store(seq, std::sync::atomic::Ordering::Release);
            }
        });
        assert_eq!(walk(&tree, Way::Forward).len() as u64, writes);
    }
}

/// From the entry of write `seq`, a few steps and a search for where each of them leads: nothing up to `before` is passed over.
fn look(tree: &Tree<TINY>, name: &impl Fn(u64) -> [u8; 8], seq: u64, before: u64, way: Way) {
    let own = name(seq);
    let target = key(&own, seq);
    let seek = |target, including| match way {
        Way::Forward => tree.forward(target, including),
        Way::Backward => tree.backward(target, including),
    };
    let found = seek(target, true);
    assert!(found.is_somewhere() && tree.record(found).key() == target, "{way:?} to {target:?}");
    assert_eq!(get(tree, &own, seq), Some(seq));
    let mut at = found;
    for _ in 0..12 {
        let here = tree.record(at).key();
        let next = match way {
            Way::Forward => tree.next(at),
            Way::Backward => tree.prev(at),
        };
        // Searched after the step: it may find what has come meanwhile, which is above `before`; else it must agree.
        let mut searched = seek(here, false);
        let goes_on = |a: InternalKey<'_>, b: InternalKey<'_>| if way == Way::Forward { a < b } else { a > b };
        loop {
            let to = |place: Place| place.is_somewhere().then(|| tree.record(place).key());
            let (stepped, sought) = (to(next), to(searched));
            assert!(stepped.is_none_or(|stepped| goes_on(here, stepped)) && sought.is_none_or(|k| goes_on(here, k)));
            match (stepped, sought) {
                (a, b) if a == b => break,
                // The search stopped earlier, at something newer: look behind it.
                (a, Some(b)) if a.is_none_or(|a| goes_on(b, a)) => {
                    assert!(
                        b.trailer.seq().0 > before,
                        "a step {way:?} from {here:?} passed {b:?}, {before} were done"
                    );
                    searched = seek(b, false);
                }
                (Some(a), b) => {
                    assert!(a.trailer.seq().0 > before, "a search {way:?} from {here:?} passed {a:?} and found {b:?}");
                    break;
                }
                (None, None) => unreachable!("they are the same"),
                (None, Some(_)) => unreachable!("the search stopped earlier"),
            }
        }
        if !next.is_somewhere() {
            return;
        }
        at = next;
    }
}
