//! Sources that gain entries while they are walked, as a memtable does: what a view shows stays what it was at its sequence number.

use esker_format::{InternalKey, InternalKeyBuf, SeqNo, Trailer, ValueKind};
use esker_iterator::{
    Bounds, InternalIterator, Lend, MergingIterator, NothingLent, Stepped, VisibleIterator, operators::Append,
};
use esker_testkit::iterator_suite::{Entry, any_entries, any_user_key, visible};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::rc::Rc;

type Shared = Rc<RefCell<BTreeMap<InternalKeyBuf, Vec<u8>>>>;

/// Walks a map that others insert into.
struct Growing {
    entries: Shared,
    at: Option<Entry>,
}

impl Growing {
    fn move_to(
        &mut self,
        find: impl FnOnce(&BTreeMap<InternalKeyBuf, Vec<u8>>) -> Option<(&InternalKeyBuf, &Vec<u8>)>,
    ) {
        let entries = Rc::clone(&self.entries);
        self.at = find(&entries.borrow()).map(|(key, value)| (key.clone(), value.clone()));
    }

    fn key_buf(&self) -> InternalKeyBuf {
        self.at.as_ref().expect("an entry to stand on").0.clone()
    }

    fn is_other(&self, beside: Option<(&InternalKeyBuf, &Vec<u8>)>) -> bool {
        beside.is_some_and(|(key, _)| key.user_key != self.key_buf().user_key)
    }
}

impl Lend for Growing {
    type Lent = NothingLent;
}

impl InternalIterator for Growing {
    type Error = Infallible;

    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn seek_to_first(&mut self) -> Result<(), Infallible> {
        self.move_to(BTreeMap::first_key_value);
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<(), Infallible> {
        self.move_to(BTreeMap::last_key_value);
        Ok(())
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.move_to(|entries| entries.range((Included(target.to_buf()), Unbounded)).next());
        Ok(())
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.move_to(|entries| entries.range((Unbounded, Included(target.to_buf()))).next_back());
        Ok(())
    }

    fn next(&mut self) -> Result<(), Infallible> {
        let at = self.key_buf();
        self.move_to(|entries| entries.range((Excluded(at), Unbounded)).next());
        Ok(())
    }

    fn prev(&mut self) -> Result<(), Infallible> {
        let at = self.key_buf();
        self.move_to(|entries| entries.range((Unbounded, Excluded(at))).next_back());
        Ok(())
    }

    fn key(&self) -> InternalKey<'_> {
        self.at.as_ref().expect("an entry to stand on").0.as_ref()
    }

    fn value(&self) -> &[u8] {
        &self.at.as_ref().expect("an entry to stand on").1
    }

    fn next_is_other_key(&mut self) -> bool {
        self.is_other(self.entries.borrow().range((Excluded(self.key_buf()), Unbounded)).next())
    }

    fn prev_is_other_key(&mut self) -> bool {
        self.is_other(self.entries.borrow().range((Unbounded, Excluded(self.key_buf()))).next_back())
    }

    fn try_next_key(&mut self) -> Option<Trailer> {
        if !self.next_is_other_key() {
            return None;
        }
        self.next().unwrap_or_else(|never| match never {});
        Some(self.key().trailer)
    }

    fn try_prev(&mut self) -> Option<Stepped> {
        let at = self.at.clone();
        self.prev().unwrap_or_else(|never| match never {});
        if !self.valid() {
            self.at = at;
            return None;
        }
        Some(Stepped { trailer: self.key().trailer, is_newest: self.prev_is_other_key() })
    }
}

/// Deals entries to `count` maps; a view over all of them at `seq`.
fn view(entries: &[Entry], count: usize, seq: u64) -> (Vec<Shared>, VisibleIterator<MergingIterator<Growing>>) {
    let deal = |c| Rc::new(RefCell::new(entries.iter().skip(c).step_by(count).cloned().collect()));
    let sources: Vec<Shared> = (0..count).map(deal).collect();
    let children = sources.iter().map(|entries| Growing { entries: Rc::clone(entries), at: None }).collect();
    (sources, VisibleIterator::new(MergingIterator::new(children), SeqNo(seq), Bounds::default()))
}

/// The value at hand, where operands are appended.
fn value(view: &VisibleIterator<MergingIterator<Growing>>) -> Vec<u8> {
    if view.trailer().kind() != ValueKind::Merge {
        return view.value().to_vec();
    }
    let base = view.stack().base().map(|(_, stored)| &stored[..]);
    view.stack().merge(&Append::new(), view.key(), base).unwrap()
}

fn insert(into: &Shared, key: &[u8], seqs: std::ops::Range<u64>) {
    let version = |seq| (InternalKey::new(key, SeqNo(seq), ValueKind::Put).to_buf(), b"too new".to_vec());
    into.borrow_mut().extend(seqs.map(version));
}

#[derive(Debug, Clone)]
enum Move {
    Next,
    Prev,
    SeekForPrev(Vec<u8>),
    Seek(Vec<u8>),
    /// So many newer versions of a key, or of the one shown, into the newest source.
    Insert(Option<Vec<u8>>, u64),
}

fn any_move() -> impl Strategy<Value = Move> {
    let count = prop_oneof![1..4u64, Just(40)];
    prop_oneof![
        6 => Just(Move::Next),
        6 => Just(Move::Prev),
        1 => any_user_key().prop_map(Move::Seek),
        1 => any_user_key().prop_map(Move::SeekForPrev),
        6 => (proptest::option::of(any_user_key()), count).prop_map(|(key, count)| Move::Insert(key, count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_view_shows_what_it_showed(
        mut entries in any_entries(1..60),
        merges in 1..4u64,
        seq in 1..31u64,
        sources in 1..4usize,
        moves in vec(any_move(), 1..60),
    ) {
        // Every so many puts are operands.
        for (key, _) in entries.iter_mut().filter(|(key, _)| key.trailer.kind() == ValueKind::Put) {
            if key.trailer.seq().0 % merges > 0 {
                key.trailer = Trailer::new(key.trailer.seq(), ValueKind::Merge);
            }
        }
        let model: Vec<_> = visible(&entries, SeqNo(seq)).into_iter().collect();
        let (sources, mut view) = view(&entries, sources, seq);
        let (mut at, mut newest) = (usize::MAX, 100);
        for step in &moves {
            match step {
                Move::Next if at < model.len() => { at += 1; view.next().unwrap() }
                Move::Prev if at < model.len() => { at = at.wrapping_sub(1); view.prev().unwrap() }
                Move::Next => { at = 0; view.seek_to_first().unwrap() }
                Move::Prev => { at = model.len().wrapping_sub(1); view.seek_to_last().unwrap() }
                Move::Seek(key) => { at = model.partition_point(|(k, _)| k < key); view.seek(key).unwrap() }
                Move::SeekForPrev(key) => {
                    at = model.partition_point(|(k, _)| k <= key).wrapping_sub(1);
                    view.seek_for_prev(key).unwrap()
                }
                Move::Insert(key, count) => {
                    let shown = || view.valid().then(|| view.key().to_vec());
                    let key = key.clone().or_else(shown).unwrap_or_default();
                    insert(&sources[0], &key, newest..newest + count);
                    newest += count;
                }
            }
            let shown = view.valid().then(|| (view.key().to_vec(), value(&view)));
            prop_assert_eq!(shown.as_ref(), model.get(at), "after {:?}", step);
        }
    }
}

/// An entry met backward is shown where it lies. When so many newer versions of it came in meanwhile that the step is a seek, that seek found
/// the entry itself again.
#[test]
fn an_entry_is_not_shown_twice_when_many_newer_versions_of_it_come_in() {
    let entries = esker_testkit::iterator_suite::entries("a#1,PUT:x b#2,PUT:y c#3,PUT:z");
    let (sources, mut view) = view(&entries, 1, 9);
    view.seek_to_last().unwrap();
    view.prev().unwrap();
    assert_eq!(view.key(), b"b");
    insert(&sources[0], b"b", 100..200);
    view.prev().unwrap();
    assert_eq!(view.key(), b"a");
}
