//! What a table knows of an entry's neighbours without a step: whether they are of another key, and how many come before one. It may say that it
//! knows nothing, but then each step of a walk compares keys.

mod support;

use esker_format::{SeqNo, Trailer, ValueKind};
use esker_iterator::{InternalIterator, Stepped, Way};
use esker_sstable::{Codec, TableIter};
use esker_testkit::iterator_suite;
use support::{Entry, MODES, build, options, try_open};

/// Two versions of the first key and of the last; keys of one length, and of several.
fn samples() -> [Vec<Entry>; 2] {
    [
        "a#4,PUT:x a#3,PUT:y b#5,PUT:z c#2,PUT:u c#1,PUT:v",
        "k#4,PUT:x k#3,PUT:y kin#5,PUT:z kindness#2,PUT:u kindness#1,PUT:v",
    ]
    .map(iterator_suite::entries)
}

/// An iterator over a sample: in one block, or each entry in a block of its own.
fn each(block_size_bytes: usize, check: impl Fn(&mut TableIter, &[Entry])) {
    for entries in samples() {
        for mode in MODES {
            let table = try_open(&build(&entries, options(block_size_bytes, Codec::None)), mode).unwrap();
            check(&mut table.iter(), &entries);
        }
    }
}

fn put(seq: u64) -> Trailer {
    Trailer::new(SeqNo(seq), ValueKind::Put)
}

fn known(iter: &mut TableIter) -> (Vec<bool>, Vec<bool>) {
    let (mut behind, mut before) = (Vec::new(), Vec::new());
    iter.seek_to_first().unwrap();
    while iter.valid() {
        behind.push(iter.next_is_other_key());
        before.push(iter.prev_is_other_key());
        iter.next().unwrap();
    }
    (behind, before)
}

#[test]
fn whether_another_key_follows_is_known_within_a_block_and_by_the_fence_behind_it() {
    for block_size_bytes in [4096, 1] {
        each(block_size_bytes, |iter, _| {
            let (behind, before) = known(iter);
            assert_eq!(behind, [false, true, true, false, false]);
            assert_eq!(before, [false, false, true, true, false]);
        });
    }
}

#[test]
fn a_step_that_is_tried_is_made_wherever_another_key_follows_in_the_block() {
    each(4096, |iter, _| {
        iter.seek_to_first().unwrap();
        assert_eq!(iter.try_next_key(), None, "an older version follows");
        iter.next().unwrap();
        assert_eq!([iter.try_next_key(), iter.try_next_key()], [Some(put(5)), Some(put(2))]);
        assert_eq!(iter.try_next_key(), None);
        assert_eq!(iter.key().trailer, put(2), "a step that was not made moves nothing");
    });
    each(1, |iter, _| {
        iter.seek_to_first().unwrap();
        assert_eq!(iter.try_next_key(), None, "that is in another block");
    });
}

#[test]
fn a_step_back_that_is_tried_says_which_version_is_the_newest() {
    let stepped = |seq, is_newest| Some(Stepped { trailer: put(seq), is_newest });
    each(4096, |iter, _| {
        iter.seek_to_last().unwrap();
        assert_eq!(iter.try_prev(), stepped(2, true), "another key comes before");
        assert_eq!(iter.try_prev(), stepped(5, true));
        assert_eq!(iter.try_prev(), stepped(3, false), "a newer version comes before");
        assert_eq!(iter.try_prev(), stepped(4, false), "there may be a newer one in the block before");
        assert_eq!(iter.try_prev(), None);
    });
    each(1, |iter, _| {
        iter.seek_to_last().unwrap();
        assert_eq!(iter.try_prev(), None, "that is in another block");
    });
}

#[test]
fn how_many_steps_come_before_a_key_is_told_up_to_the_end_of_the_block() {
    each(4096, |iter, entries| {
        let key = |i: usize| &entries[i].0.user_key[..];
        iter.seek_to_first().unwrap();
        let mut forward = |key: &[u8]| iter.steps_before(Way::Forward, key);
        assert_eq!([forward(key(0)), forward(key(2)), forward(key(3)), forward(b"z")], [0, 1, 2, 4]);
        iter.seek_to_last().unwrap();
        let mut backward = |key: &[u8]| iter.steps_before(Way::Backward, key);
        assert_eq!([backward(key(3)), backward(key(2)), backward(key(0)), backward(b"")], [0, 1, 2, 4]);
    });
    each(1, |iter, _| {
        iter.seek_to_first().unwrap();
        assert_eq!(iter.steps_before(Way::Forward, b"z"), 0);
    });
}
