//! Look-ups, walks and counters against a sorted map.

use esker_format::{InternalKey, KeyHash, SeqNo, Trailer, ValueKind};
use esker_iterator::InternalIterator;
use esker_memtable::{Form, MemTable};
use esker_testkit::iterator_suite::any_user_key;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Write {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

fn any_write() -> impl Strategy<Value = Write> {
    let value = prop_oneof![8 => vec(any::<u8>(), 0..30), 1 => vec(any::<u8>(), 200..3000)];
    prop_oneof![
        4 => (any_user_key(), value).prop_map(|(key, value)| Write::Put(key, value)),
        1 => any_user_key().prop_map(Write::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each write takes the next sequence number, as the engine's do; afterwards every state in between is still there.
    #[test]
    fn every_number_sees_the_state_after_its_write(
        writes in vec(any_write(), 0..60),
        others in vec(any_user_key(), 0..10),
        first in 1..1000u64,
        form in prop_oneof![Just(Form::Tree), Just(Form::SkipList)],
        loose in 0..60usize,
    ) {
        let table = Arc::new(MemTable::with_form(form));
        let mut state: BTreeMap<Vec<u8>, (Trailer, Vec<u8>)> = BTreeMap::new();
        let mut states = vec![(SeqNo(first - 1), state.clone())];
        for (write, seq) in writes.iter().zip(first..) {
            let (key, kind, value) = match write {
                Write::Put(key, value) => (key, ValueKind::Put, &value[..]),
                Write::Delete(key) => (key, ValueKind::Delete, &[][..]),
            };
            let entry = InternalKey::new(key, SeqNo(seq), kind);
            if seq < first + loose as u64 {
                table.insert_loose(std::iter::once((entry, KeyHash::of(key), value)));
            } else {
                table.insert(entry, value);
            }
            state.insert(key.clone(), (Trailer::new(SeqNo(seq), kind), value.to_vec()));
            states.push((SeqNo(seq), state.clone()));
        }
        for (seq, state) in &states {
            for key in state.keys().chain(&others) {
                let found = table.get(key, *seq).map(|(trailer, value)| (trailer, value.to_vec()));
                prop_assert_eq!(found.as_ref(), state.get(key), "{:?} at {}", key, seq);
            }
        }
        prop_assert_eq!(table.len(), writes.len());
        prop_assert_eq!(table.is_empty(), writes.is_empty());
        prop_assert_eq!(table.deletions(), writes.iter().filter(|w| matches!(w, Write::Delete(_))).count());
        let last = SeqNo(first + writes.len() as u64 - 1);
        prop_assert_eq!(table.seq_range(), (!writes.is_empty()).then_some((SeqNo(first), last)));
        let mut iter = table.iter();
        iter.seek_to_first().unwrap();
        let mut walked = 0;
        while iter.valid() {
            walked += 1;
            iter.next().unwrap();
        }
        prop_assert_eq!(walked, writes.len());
    }
}

/// A reader may hold an iterator long after the engine has let go of the table.
#[test]
fn an_iterator_keeps_the_table_and_goes_to_another_thread() {
    let table = Arc::new(MemTable::new());
    table.insert(InternalKey::new(b"k", SeqNo(1), ValueKind::Put), b"v");
    let mut iter = table.iter();
    drop(table);
    let walked = std::thread::spawn(move || {
        iter.seek_to_first().unwrap();
        (iter.key().to_buf(), iter.value().to_vec())
    });
    assert_eq!(walked.join().unwrap().1, b"v");
}

/// Also by an iterator that was made before there were any.
#[test]
fn a_seek_finds_what_was_inserted_loose_before_it() {
    let table = Arc::new(MemTable::new());
    let insert = |key: &'static [u8], seq| {
        let entry = InternalKey::new(key, SeqNo(seq), ValueKind::Put);
        table.insert_loose(std::iter::once((entry, KeyHash::of(key), &b"v"[..])));
    };
    let mut iter = table.iter();
    for (key, seq) in [(&b"k"[..], 1), (b"j", 2), (b"l", 3)] {
        insert(key, seq);
        let sought = InternalKey::new(key, SeqNo(seq), ValueKind::Put);
        iter.seek(sought).unwrap();
        assert!(iter.valid() && iter.key() == sought);
    }
    insert(b"m", 4);
    iter.seek_to_last().unwrap();
    assert_eq!(iter.key().user_key, b"m");
    insert(b"a", 5);
    iter.seek_for_prev(InternalKey::behind_all(b"a")).unwrap();
    assert!(iter.valid() && iter.key().user_key == b"a");
    insert(b"", 6);
    iter.seek_to_first().unwrap();
    assert_eq!(iter.key().user_key, b"");
}

/// From one byte to eight megabytes, many times the size of a chunk.
#[test]
fn values_of_every_magnitude() {
    for form in [Form::Tree, Form::SkipList] {
        values_of_every_magnitude_in(&MemTable::with_form(form));
    }
}

fn values_of_every_magnitude_in(table: &MemTable) {
    let value = |seq: u64| vec![seq as u8; (1 << seq) - 1];
    for seq in 1..24 {
        table.insert(InternalKey::new(b"k", SeqNo(seq), ValueKind::Put), &value(seq));
    }
    for seq in 1..24 {
        assert_eq!(table.get(b"k", SeqNo(seq)).unwrap().1, value(seq));
    }
}

/// The tree's estimate against the list's count, for keys that come in order, against it, and at random.
#[test]
fn the_share_before_a_key_is_about_right() {
    type Order = fn(u32) -> u32;
    let orders: [(&str, Order); 3] =
        [("forward", |i| i), ("backward", |i| 100_000 - i), ("random", |i| i.wrapping_mul(0x9e37_79b9) >> 8)];
    for (name, order) in orders {
        for entries in [0, 1, 100, 129, 200, 3_000, 16_500, 40_000] {
            let tables = [Form::Tree, Form::SkipList].map(MemTable::with_form);
            for i in 0..entries {
                let key = order(i).to_be_bytes();
                let key = InternalKey::new(&key, SeqNo(u64::from(i) + 1), ValueKind::Put);
                tables.iter().for_each(|table| table.insert(key, b"v"));
            }
            let mut last = 0.0;
            for step in 0..=20u32 {
                let largest = if name == "random" { 1 << 24 } else { 100_000 };
                let place = (largest / 20 * step).to_be_bytes();
                let [estimate, exact] = [0, 1].map(|i| tables[i].share_before(InternalKey::before_all(&place)));
                assert!((estimate - exact).abs() < 0.1, "{name}, {entries}: {estimate} for {exact} at step {step}");
                assert!(estimate >= last, "{name}, {entries}: it goes back at step {step}");
                last = estimate;
            }
            let end = tables[0].share_before(InternalKey::behind_all(&[0xff; 5]));
            assert!(entries == 0 || end > 0.999_999, "{name}, {entries}: {end}");
        }
    }
}
