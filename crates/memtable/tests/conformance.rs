//! The memtable's iterator against the contract of iterators.

use esker_memtable::{Form, MemTable};
use esker_testkit::iterator_suite::{self, Entry};
use std::sync::Arc;

const FORMS: [Form; 2] = [Form::Tree, Form::SkipList];

fn table<'a>(form: Form, entries: impl IntoIterator<Item = &'a Entry>) -> Arc<MemTable> {
    let table = Arc::new(MemTable::with_form(form));
    for (key, value) in entries {
        table.insert(key.as_ref(), value);
    }
    table
}

#[test]
fn inserted_in_order() {
    FORMS.iter().for_each(|form| iterator_suite::run(|entries| table(*form, entries).iter()));
}

#[test]
fn inserted_in_reverse() {
    FORMS.iter().for_each(|form| iterator_suite::run(|entries| table(*form, entries.iter().rev()).iter()));
}

#[test]
fn inserted_from_both_ends() {
    FORMS.iter().for_each(|form| {
        iterator_suite::run(|entries| {
            let (front, back) = entries.split_at(entries.len() / 2);
            let in_turn = front.iter().rev().zip(back).flat_map(|(a, b)| [a, b]).chain(back.iter().skip(front.len()));
            table(*form, in_turn).iter()
        });
    });
}
