//! One thread inserts, others read. Whatever moment a reader meets, it sees entries in order, and all that were inserted
//! before it looked.

use esker_format::{InternalKey, SeqNo, Trailer, ValueKind};
use esker_iterator::InternalIterator;
use esker_memtable::{Form, MemTable};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

/// splitmix64
fn scramble(i: u64) -> u64 {
    let mut x = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// The user key of write `seq`: one of some hundreds, so that each has many versions.
fn user_key(seq: u64) -> [u8; 3] {
    let number = scramble(seq) % 300;
    [b'k', (number / 20) as u8, (number % 20) as u8]
}

fn key(user_key: &[u8], seq: u64) -> InternalKey<'_> {
    InternalKey::new(user_key, SeqNo(seq), ValueKind::Put)
}

/// Checks the entry it stands on: write `seq` stored its own number as value. Returns that number.
fn check(iter: &impl InternalIterator) -> u64 {
    let seq = iter.key().trailer.seq().0;
    assert_eq!((iter.key().user_key, iter.value()), (&user_key(seq)[..], &seq.to_le_bytes()[..]));
    seq
}

/// Walks the whole table and returns how many entries up to `done` it met.
fn count(iter: &mut impl InternalIterator, done: u64, backward: bool) -> u64 {
    let mut found = 0;
    let mut last: Option<(Box<[u8]>, Trailer)> = None;
    let started = if backward { iter.seek_to_last() } else { iter.seek_to_first() };
    assert!(started.is_ok());
    while iter.valid() {
        found += u64::from(check(iter) <= done);
        if let Some((user_key, trailer)) = &last {
            let last = InternalKey { user_key, trailer: *trailer };
            assert_eq!(last.cmp(&iter.key()).is_gt(), backward, "{last:?}, then {:?}", iter.key());
            assert_ne!(last, iter.key());
        }
        last = Some((iter.key().user_key.into(), iter.key().trailer));
        let stepped = if backward { iter.prev() } else { iter.next() };
        assert!(stepped.is_ok());
    }
    found
}

/// From `from`, twenty steps one way and then back: the entries up to `done` that lie between come both times. (One that is
/// being inserted may come once.)
fn there_and_back(iter: &mut impl InternalIterator, from: InternalKey<'_>, done: u64, backward: bool) {
    let (mut there, mut back) = (Vec::new(), Vec::new());
    assert!(if backward { iter.seek_for_prev(from).is_ok() } else { iter.seek(from).is_ok() });
    while iter.valid() && there.len() < 20 {
        there.push(check(iter));
        assert!(if backward { iter.prev().is_ok() } else { iter.next().is_ok() });
    }
    if !iter.valid() {
        return;
    }
    loop {
        assert!(if backward { iter.next().is_ok() } else { iter.prev().is_ok() });
        if !iter.valid() || iter.key() != from && (iter.key() > from) == backward {
            break;
        }
        back.push(check(iter));
    }
    back.reverse();
    there.retain(|seq| *seq <= done);
    back.retain(|seq| *seq <= done);
    assert!(there == back, "from {from:?}: {there:?} there, {} back", back.len());
}

#[test]
fn readers_beside_a_writer() {
    let (tables, writes) = if cfg!(miri) { (1, 60) } else { (4, 30_000) };
    for round in 0..2 * tables {
        // The skip list's library does not pass Miri's borrow tracking.
        let form = if round % 2 == 0 || cfg!(miri) { Form::Tree } else { Form::SkipList };
        let table = Arc::new(MemTable::with_form(form));
        // Write `seq` is over when `done` has reached it.
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for reader in 0..2 {
                let (table, done) = (&table, &done);
                scope.spawn(move || {
                    let mut iter = table.iter();
                    for turn in 0.. {
                        let before = done.load(Acquire);
                        let some = scramble(turn ^ round << 32 ^ reader << 40);
                        // An old write, or the one that is going on right now.
                        let seq = if some.is_multiple_of(4) { before + 1 } else { some % (before + 1) };
                        if seq <= before && seq > 0 {
                            let (trailer, value) = table.get(&user_key(seq), SeqNo(seq)).unwrap();
                            assert_eq!((trailer.seq().0, value), (seq, &seq.to_le_bytes()[..]));
                        }
                        there_and_back(&mut iter, key(&user_key(seq), seq), before, some.is_multiple_of(2));
                        if turn.is_multiple_of(256) || before == writes {
                            assert_eq!(count(&mut iter, before, some.is_multiple_of(2)), before);
                        }
                        if before == writes {
                            return;
                        }
                    }
                });
            }
            for seq in 1..=writes {
                table.insert(key(&user_key(seq), seq), &seq.to_le_bytes());
                done.store(seq, Release);
            }
        });
        assert_eq!(table.len() as u64, writes);
    }
}

/// Writers are meant to come one at a time; should they not, they wait for one another.
#[test]
fn two_writers_take_turns() {
    let table = Arc::new(MemTable::new());
    let writes = if cfg!(miri) { 20 } else { 5_000 };
    std::thread::scope(|scope| {
        for start in [1, 2] {
            let table = &table;
            scope.spawn(move || {
                for seq in (start..=writes).step_by(2) {
                    table.insert(key(&user_key(seq), seq), &seq.to_le_bytes());
                }
            });
        }
    });
    let mut iter = table.iter();
    assert_eq!((count(&mut iter, writes, false), count(&mut iter, writes, true)), (writes, writes));
    assert_eq!((table.len() as u64, table.seq_range()), (writes, Some((SeqNo(1), SeqNo(writes)))));
}
