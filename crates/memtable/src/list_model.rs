//! The list that nodes, pages and chunks of a memtable are found through, in every order of its threads and with every value that the orderings allow a load to see: `list.rs`
//! itself, compiled a second time, with loom's lock and atomics.
//!
//! ```text
//! appender    push 3, push 4: the second finds the array full and puts one twice as long in its place
//! readers     take the length; every item below it is there, and is the one that was pushed
//! ```
#![cfg(test)]

mod sync {
    pub(super) use loom::sync::Mutex;
    pub(super) use loom::sync::atomic::{AtomicPtr, AtomicUsize};
}

#[path = "list.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "compiled again with other atomics, and called in part")]
mod list;

use list::List;
use std::sync::Arc;

/// More switches of threads than this at places where none was due are not tried.
const PREEMPTIONS_MAX: usize = 3;

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(run);
}

/// Looks at all there is.
fn read(list: &List<usize>) -> usize {
    let len = list.len();
    (0..len).for_each(|i| assert_eq!(*list.get(i), i));
    len
}

#[test]
fn a_length_covers_only_what_is_there() {
    model(|| {
        let list = Arc::new(List::new());
        (0..3).for_each(|i| assert_eq!(list.push(Box::new(i).into()).0, i));
        let reader = Arc::clone(&list);
        let reader = loom::thread::spawn(move || {
            let before = read(&reader);
            assert!((3..=5).contains(&before) && read(&reader) >= before);
        });
        assert_eq!(list.push(Box::new(3).into()).0, 3);
        assert_eq!(list.push(Box::new(4).into()).0, 4);
        reader.join().unwrap();
        assert_eq!(read(&list), 5);
    });
}

#[test]
fn two_who_append_get_places_of_their_own() {
    model(|| {
        let list = Arc::new(List::new());
        let other = Arc::clone(&list);
        let other = loom::thread::spawn(move || other.push(Box::new(7).into()).0);
        let mine = list.push(Box::new(8).into()).0;
        let others = other.join().unwrap();
        assert_eq!((mine + others, *list.get(mine), *list.get(others)), (1, 8, 7));
    });
}
