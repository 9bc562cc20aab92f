//! What a table lends: what follows in a block of values that do not expire, and nothing of any other kind.

mod support;

use esker_format::{InternalKey, SeqNo, ValueKind};
use esker_iterator::{Bounds, InternalIterator, Lend, Lent, Plain, VisibleIterator, Way};
use esker_sstable::{Codec, InBlock};
use support::{Entry, build, del, open, options, put};

/// All are seen.
const ALL: Plain<'_> =
    Plain { newest: SeqNo::MAX, oldest: SeqNo::ZERO, until: None, steps: usize::MAX, from_here: false };

/// One version of each of twenty keys, with kinds that take turns: a table of one block.
fn entries(kinds: &[ValueKind]) -> Vec<Entry> {
    let kinds = kinds.iter().cycle();
    let entry = |(i, kind): (u8, &ValueKind)| {
        let value = if *kind == ValueKind::Delete { Vec::new() } else { vec![0xff; 12] };
        (InternalKey::new(&[b'k', i], SeqNo(5), *kind).to_buf(), value)
    };
    (0..20).zip(kinds).map(entry).collect()
}

#[test]
fn only_of_blocks_of_values_that_do_not_expire_are_entries_lent() {
    use ValueKind::{Blob, Delete, Expiring, ExpiringBlob, Merge, Put};
    for (kinds, lent_steps) in [
        (&[Put][..], 19),
        (&[Blob], 19),
        (&[Delete], 0),
        (&[Merge], 0),
        (&[Expiring], 0),
        (&[ExpiringBlob], 0),
        (&[Put, Delete], 0),
        (&[Put, Blob], 0),
    ] {
        let entries = entries(kinds);
        let table = open(&build(&entries, options(4096, Codec::None)));
        assert_eq!(table.properties().blocks, 1);
        for way in [Way::Forward, Way::Backward] {
            let (mut iter, mut lent) = (table.iter(), InBlock::default());
            if way == Way::Forward { iter.seek_to_first() } else { iter.seek_to_last() }.unwrap();
            assert_eq!(iter.lend(way, &ALL, &mut lent), lent_steps, "{way:?} through {kinds:?}");
            if lent_steps == 0 {
                continue;
            }
            for step in 1..=lent_steps {
                assert!(if way == Way::Forward { lent.next() } else { lent.prev() }, "step {step}");
                let (key, value) = &entries[if way == Way::Forward { step } else { 19 - step }];
                assert_eq!((lent.key(), lent.trailer(), lent.value()), (&*key.user_key, key.trailer, &value[..]));
            }
            iter.take_back(&mut lent);
            let end = if way == Way::Forward { 19 } else { 0 };
            assert_eq!(iter.key(), entries[end].0.as_ref());
        }
    }
}

/// Keys that were deleted would come back where their tombstones were taken for values.
#[test]
fn a_block_of_tombstones_between_values_shows_nothing() {
    let mut entries = vec![put(b"a0", 5, b"first"), put(b"a1", 5, b"second")];
    entries.extend((0..40u8).map(|i| del(&[b'd', i], 6)));
    entries.extend([put(b"z0", 5, b"third"), put(b"z1", 5, b"last")]);
    let table = open(&build(&entries, options(60, Codec::None)));
    assert!(table.properties().blocks > 3);
    let mut view = VisibleIterator::new(table.iter(), SeqNo::MAX, Bounds::default());
    let mut seen = Vec::new();
    view.seek_to_first().unwrap();
    while view.valid() {
        seen.push(view.key().to_vec());
        view.next().unwrap();
    }
    view.seek_to_last().unwrap();
    while view.valid() {
        seen.push(view.key().to_vec());
        view.prev().unwrap();
    }
    assert_eq!(seen, [b"a0", b"a1", b"z0", b"z1", b"z1", b"z0", b"a1", b"a0"]);
}
