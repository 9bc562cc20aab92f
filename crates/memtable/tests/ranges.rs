//! Range tombstones in a memtable of either form.

use esker_format::{InternalKey, SeqNo, ValueKind};
use esker_iterator::InternalIterator;
use esker_memtable::{Form, MemTable};
use std::sync::Arc;

fn with_form(form: Form) -> Arc<MemTable> {
    let table = Arc::new(MemTable::with_form(form));
    let put = |key: &[u8], seq| table.insert(InternalKey::new(key, SeqNo(seq), ValueKind::Put), b"v");
    let delete = |from: &[u8], to: &[u8], seq| {
        table.insert(InternalKey::new(from, SeqNo(seq), ValueKind::RangeDelete), to);
    };
    put(b"a", 1);
    put(b"c", 2);
    delete(b"b", b"d", 5);
    put(b"c", 6);
    delete(b"c", b"", 9);
    table
}

#[test]
fn tombstones_are_no_entries_and_are_found_by_sequence_number() {
    for form in [Form::Tree, Form::SkipList] {
        let table = with_form(form);
        assert_eq!((table.len(), table.range_deletions(), table.deletions()), (3, 2, 0));
        assert_eq!(table.seq_range(), Some((SeqNo(1), SeqNo(9))));
        assert_eq!(table.newest_covering(b"c", SeqNo(4)), None);
        assert_eq!(table.newest_covering(b"c", SeqNo(8)), Some(SeqNo(5)));
        assert_eq!(table.newest_covering(b"c", SeqNo(9)), Some(SeqNo(9)));
        assert_eq!(table.newest_covering(b"d", SeqNo(8)), None, "an end is not in the range");
        assert_eq!(table.newest_covering(&[0xff; 9], SeqNo(9)), Some(SeqNo(9)), "no end is behind all keys");
        assert_eq!(table.get(b"c", SeqNo(8)).unwrap().0.seq(), SeqNo(6), "a look-up of an entry knows of none");
        assert_eq!(format!("{:?}", table.range_tombstones_given()), "[[b, d)#5, [c, ..)#9]");
        assert_eq!(table.range_tombstones(SeqNo(5)).unwrap().len(), 1);

        let mut iter = table.iter();
        let mut keys = Vec::new();
        iter.seek_to_first().unwrap();
        while iter.valid() {
            keys.push(format!("{:?}", iter.key()));
            iter.next().unwrap();
        }
        assert_eq!(keys, ["a#1,PUT", "c#6,PUT", "c#2,PUT"]);
    }
}

#[test]
fn a_table_of_tombstones_alone_is_not_empty() {
    let table = Arc::new(MemTable::new());
    let before = table.memory_bytes();
    assert!(table.is_empty() && !table.has_range_tombstones() && table.range_tombstones(SeqNo::MAX).is_none());
    table.insert(InternalKey::new(b"", SeqNo(3), ValueKind::RangeDelete), b"x");
    assert!(!table.is_empty() && table.has_range_tombstones() && table.memory_bytes() > before);
    assert_eq!((table.len(), table.seq_range()), (0, Some((SeqNo(3), SeqNo(3)))));
    let mut iter = table.iter();
    iter.seek_to_first().unwrap();
    assert!(!iter.valid());
}

#[test]
#[should_panic(expected = "in the order of time")]
fn an_older_tombstone_behind_a_newer_one_is_refused() {
    let table = MemTable::new();
    table.insert(InternalKey::new(b"a", SeqNo(3), ValueKind::RangeDelete), b"x");
    table.insert(InternalKey::new(b"a", SeqNo(3), ValueKind::RangeDelete), b"y");
}
