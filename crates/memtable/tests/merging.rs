//! Merges and views over tables that are written meanwhile.

use esker_format::{InternalKey, SeqNo, ValueKind};
use esker_iterator::{Bounds, InternalIterator, MergingIterator, VisibleIterator};
use esker_memtable::MemTable;
use std::sync::Arc;

fn put(table: &MemTable, key: &str, seq: u64) {
    table.insert(InternalKey::new(key.as_bytes(), SeqNo(seq), ValueKind::Put), key.as_bytes());
}

fn put_all<const N: usize>(table: &MemTable, keys: [&str; N], seq: u64) {
    keys.iter().for_each(|key| put(table, key, seq));
}

/// A merge that turns by one step back in each source shows an entry twice, or a later one, when something has come in between:
/// other engines have shipped that. A turn must look at where the merge stands.
#[test]
fn a_turn_after_entries_came_in_around_it() {
    let (a, b) = (Arc::new(MemTable::new()), Arc::new(MemTable::new()));
    put_all(&a, ["c", "m", "x"], 1);
    put_all(&b, ["d", "z"], 1);
    let mut merged = MergingIterator::new(vec![a.iter(), b.iter()]);
    merged.seek(InternalKey::before_all(b"m")).unwrap();
    // The merge stands on `m`, and its second source on `z`.
    put_all(&b, ["f", "o", "p", "q"], 2);
    merged.prev().unwrap();
    assert_eq!(merged.key().user_key, b"f");
    // Now on `f`, and the first source on `c`: what comes in between is behind.
    put_all(&a, ["e", "g", "h"], 3);
    merged.next().unwrap();
    assert_eq!(merged.key().user_key, b"g");
    let mut walked = Vec::new();
    while merged.valid() {
        walked.extend_from_slice(merged.key().user_key);
        merged.next().unwrap();
    }
    assert_eq!(walked, b"ghmopqxz");
}

/// A view at one number shows the same, both ways, whatever is written after it.
#[test]
fn a_view_beside_a_writer_never_changes() {
    let (old, new) = (Arc::new(MemTable::new()), Arc::new(MemTable::new()));
    let keys: Vec<String> = (0..200).map(|i| format!("key{i:03}")).collect();
    keys.iter().zip(1..).for_each(|(key, seq)| put(&old, key, seq));
    let merged = MergingIterator::new(vec![new.iter(), old.iter()]);
    let mut view = VisibleIterator::new(merged, SeqNo(200), Bounds::default());
    let writes = if cfg!(miri) { 50 } else { 20_000 };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for seq in 201..201 + writes {
                let key = format!("key{:03}", seq * 7919 % 400);
                let kind = if seq % 3 == 0 { ValueKind::Delete } else { ValueKind::Put };
                new.insert(InternalKey::new(key.as_bytes(), SeqNo(seq), kind), b"");
            }
        });
        while !writer.is_finished() {
            view.seek_to_first().unwrap();
            for at in 0..200 {
                assert_eq!((view.key(), view.value()), (keys[at].as_bytes(), keys[at].as_bytes()));
                if at % 16 == 15 {
                    view.prev().unwrap();
                    assert_eq!(view.key(), keys[at - 1].as_bytes());
                    view.next().unwrap();
                    assert_eq!(view.key(), keys[at].as_bytes());
                }
                view.next().unwrap();
            }
            assert!(!view.valid());
            view.seek_to_last().unwrap();
            for at in (0..200).rev() {
                assert_eq!((view.key(), view.value()), (keys[at].as_bytes(), keys[at].as_bytes()));
                view.prev().unwrap();
            }
            assert!(!view.valid());
        }
    });
}
