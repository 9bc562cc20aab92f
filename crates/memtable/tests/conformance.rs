//! The memtable's iterator against the contract of iterators.

use esker_memtable::MemTable;
use esker_testkit::iterator_suite::{self, Entry};
use std::sync::Arc;

fn table<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Arc<MemTable> {
    let table = Arc::new(MemTable::new());
    for (key, value) in entries {
        table.insert(key.as_ref(), value);
    }
    table
}

#[test]
fn inserted_in_order() {
    iterator_suite::run(|entries| table(entries).iter());
}

#[test]
fn inserted_in_reverse() {
    iterator_suite::run(|entries| table(entries.iter().rev()).iter());
}

#[test]
fn inserted_from_both_ends() {
    iterator_suite::run(|entries| {
        let (front, back) = entries.split_at(entries.len() / 2);
        table(front.iter().rev().zip(back).flat_map(|(a, b)| [a, b]).chain(back.iter().skip(front.len()))).iter()
    });
}
