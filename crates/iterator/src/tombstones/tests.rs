//! Look-ups against a look at every tombstone.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(0xff)], 0..4)
}

fn any_tombstones() -> impl Strategy<Value = Vec<RangeTombstoneBuf>> {
    vec((any_key(), any_key()), 0..12).prop_map(|ranges| {
        let numbered = ranges.into_iter().zip(1..);
        numbered
            .map(|((begin, end), seq)| RangeTombstoneBuf { begin: begin.into(), end: end.into(), seq: SeqNo(seq) })
            .collect()
    })
}

/// The oracle.
fn newest(tombstones: &[RangeTombstoneBuf], key: &[u8], at: SeqNo) -> Option<SeqNo> {
    let seen = tombstones.iter().filter(|t| t.seq <= at && t.as_ref().covers(key));
    seen.map(|t| t.seq).max()
}

/// Keys at, before and behind all that may matter.
fn keys(tombstones: &[RangeTombstoneBuf]) -> Vec<Vec<u8>> {
    let ends = tombstones.iter().flat_map(|t| [&t.begin, &t.end]);
    let mut keys: Vec<_> =
        ends.flat_map(|key| [key.to_vec(), [key, &[0][..]].concat(), [key, &[0xff][..]].concat()]).collect();
    keys.extend([vec![], vec![0xff; 5], b"ab".to_vec()]);
    keys
}

fn check_stretch(stretch: Stretch<'_>, key: &[u8], keys: &[Vec<u8>], answer: impl Fn(&[u8]) -> Option<SeqNo>) {
    assert!(stretch.begin <= key && is_before_end(key, stretch.end), "{stretch:?} around {key:?}");
    for other in keys.iter().filter(|other| stretch.begin <= &other[..] && is_before_end(other, stretch.end)) {
        assert_eq!(answer(other), stretch.seq, "{other:?} in {stretch:?} around {key:?}");
    }
}

proptest! {
    #[test]
    fn fragments_are_in_order_apart_few_and_cover_what_was_given(tombstones in any_tombstones()) {
        let fragments = Fragments::cut(tombstones.iter().map(RangeTombstoneBuf::as_ref));
        prop_assert!(fragments.len() <= 2 * tombstones.len());
        for (a, b) in fragments.iter().zip(fragments.iter().skip(1)) {
            prop_assert!(!is_before_end(b.begin, a.end) && (a.seq != b.seq || a.end != b.begin), "{:?}", fragments);
        }
        let mut again = Fragments::default();
        prop_assert!(fragments.iter().all(|fragment| again.push(fragment)));
        prop_assert_eq!(&again, &fragments);

        let keys = keys(&tombstones);
        for key in &keys {
            prop_assert_eq!(fragments.covering(key), newest(&tombstones, key, SeqNo::MAX), "{:?}", key);
            check_stretch(fragments.stretch(key), key, &keys, |key| newest(&tombstones, key, SeqNo::MAX));
        }
    }

    #[test]
    fn layers_answer_each_reader_between_them(tombstones in any_tombstones(), cut in 0..12usize, cut2 in 0..12usize) {
        let (low, high) = (cut.min(cut2).min(tombstones.len()), cut.max(cut2).min(tombstones.len()));
        let parts = [&tombstones[..low], &tombstones[low..high], &tombstones[high..]];
        let layer = |part: &[RangeTombstoneBuf]| Arc::new(Fragments::cut(part.iter().map(RangeTombstoneBuf::as_ref)));
        let layers = RangeTombstones::new(parts.map(layer).to_vec());
        let keys = keys(&tombstones);
        for at in [0, low, high, tombstones.len()].map(|at| SeqNo(at as u64)) {
            for key in &keys {
                prop_assert_eq!(layers.newest_covering(key, at), newest(&tombstones, key, at), "{:?} at {}", key, at);
                check_stretch(layers.stretch(key, at), key, &keys, |key| newest(&tombstones, key, at));
            }
        }
        if let Some((begin, end)) = layers.hull() {
            prop_assert!(layers.iter().all(|t| begin <= t.begin && cmp_ends(t.end, end).is_le()));
        }
    }

    #[test]
    fn a_run_answers_as_its_sources_do(tombstones in any_tombstones(), mut cuts in vec(any_key(), 0..4)) {
        // Each source has what lies between two cuts.
        cuts.sort();
        cuts.retain(|cut| !cut.is_empty());
        cuts.dedup();
        let lows = [vec![]].into_iter().chain(cuts.clone());
        let highs = cuts.iter().cloned().chain([vec![]]);
        let between = |(low, high): (Vec<u8>, Vec<u8>)| {
            let clipped: Vec<_> = tombstones.iter().map(|t| {
                let end = if cmp_ends(&t.end, &high).is_le() { t.end.clone() } else { high.clone().into() };
                RangeTombstoneBuf { begin: low.clone().into_boxed_slice().max(t.begin.clone()), end, seq: t.seq }
            }).filter(|t| is_before_end(&t.begin, &high)).collect();
            Arc::new(RangeTombstones::new(vec![Arc::new(Fragments::cut(clipped.iter().map(RangeTombstoneBuf::as_ref)))]))
        };
        let sources: Vec<_> = lows.zip(highs).map(between).filter(|source| !source.is_empty()).collect();
        let run = TombstoneRun::new(sources);
        let keys = keys(&tombstones);
        for key in &keys {
            check_stretch(run.stretch(key, SeqNo::MAX), key, &keys, |key| newest(&tombstones, key, SeqNo::MAX));
        }
    }
}

#[test]
fn what_is_out_of_order_or_holds_nothing_is_not_pushed() {
    let tombstone = |begin, end, seq| RangeTombstone { begin, end, seq: SeqNo(seq) };
    let mut fragments = Fragments::default();
    assert!(fragments.push(tombstone(b"b", b"d", 3)));
    assert!(!fragments.push(tombstone(b"c", b"e", 4)), "it overlaps");
    assert!(!fragments.push(tombstone(b"e", b"e", 4)) && !fragments.push(tombstone(b"f", b"e", 4)));
    assert!(fragments.push(tombstone(b"d", b"", 2)));
    assert!(!fragments.push(tombstone(b"x", b"y", 5)), "nothing is behind what has no end");
    assert_eq!(format!("{fragments:?}"), "[[b, d)#3, [d, ..)#2]");
}
