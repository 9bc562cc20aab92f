use super::*;
use crate::fetch::sent_for;
use esker_format::{SeqNo, ValueKind};
use proptest::prelude::*;

fn separate(last: &str, next: &str) -> String {
    let mut out = Vec::new();
    push_separator(&mut out, last.as_bytes(), next.as_bytes());
    String::from_utf8(out).unwrap()
}

#[test]
fn separators_are_short() {
    assert_eq!(separate("abcde", "abxyz"), "abd");
    assert_eq!(separate("abcde", "abd"), "abcde");
    assert_eq!(separate("abcde", "abdz"), "abd");
    assert_eq!(separate("ab", "abc"), "ab");
    assert_eq!(separate("", "a"), "");
}

proptest! {
    #[test]
    fn separators_separate(a: Vec<u8>, b: Vec<u8>) {
        let (last, next) = if a < b { (a, b) } else { (b, a) };
        prop_assume!(last != next);
        let mut out = Vec::new();
        push_separator(&mut out, &last, &next);
        prop_assert!(last <= out && out < next && out.len() <= last.len().max(1));
    }

    /// Against a plain search over the blocks' last keys: the block found holds the first entry at or behind the target, or is
    /// the one before, if the target lies between two blocks.
    #[test]
    fn finds_the_block(
        keys in proptest::collection::btree_set(("[ab]{0,3}", 0u64..6), 2..40),
        per_block in 1usize..4,
        target in ("[abc]{0,4}", 0u64..7),
    ) {
        let mut keys: Vec<_> = keys.iter().map(|(k, s)| InternalKey::new(k.as_bytes(), SeqNo(*s), ValueKind::Put)).collect();
        keys.sort();
        let blocks: Vec<_> = keys.chunks(per_block).collect();
        let mut builder = IndexBuilder::default();
        for (i, block) in blocks.iter().enumerate() {
            builder.add_block(100 * i as u64, i % 2 == 1);
            builder.add_fence(*block.last().unwrap(), blocks.get(i + 1).map(|b| b[0]));
        }
        let mut payload = Vec::new();
        let data_bytes = 100 * blocks.len() as u64;
        prop_assert!(builder.finish_into(data_bytes, &mut payload));
        let index = Index::validate(&payload, blocks.len() as u64, data_bytes).unwrap();
        prop_assert_eq!(index.block(&payload, 0).unwrap(), BlockPlace { range: 0..100, compressed: false });
        let target = InternalKey::seek(target.0.as_bytes(), SeqNo(target.1));
        let found = index.find(&payload, target).unwrap();
        let first = keys.partition_point(|k| *k < target);
        if let Some(key) = keys.get(first) {
            let block = first / per_block;
            prop_assert!(found == block || (found + 1 == block && first % per_block == 0));
            if key.user_key == target.user_key {
                prop_assert_eq!(found, block, "a version of the target's user key must be found in one step");
            }
        } else {
            prop_assert!(found >= blocks.len() - 1);
        }
        let heads = words(&payload[HEADER_BYTES..index.offsets_at]);
        for head in heads.iter().map(|head| u64::from_le_bytes(*head)).flat_map(|head| [head.wrapping_sub(1), head, head.wrapping_add(1)]) {
            let plain = heads.partition_point(|fence| u64::from_le_bytes(*fence) < head);
            prop_assert_eq!(index.first_at_or_behind(&payload, heads, head), plain);
        }
        for cut in 0..payload.len() {
            prop_assert!(Index::validate(&payload[..cut], blocks.len() as u64, data_bytes).is_err());
        }
    }
}

/// An index of these numbers, and nothing in it that they do not say: `blocks` and `fences` are the offsets.
fn by_hand(blocks: &[u64], fences: &[u32], fence_bytes: &[u8]) -> Vec<u8> {
    let count = blocks.len() - 1;
    let mut payload = [(count as u32).to_le_bytes(), [0; 4]].concat();
    payload.extend((0..count).flat_map(|_| [0; 8]));
    payload.extend(blocks.iter().flat_map(|offset| offset.to_le_bytes()));
    payload.extend(fences.iter().flat_map(|offset| offset.to_le_bytes()));
    payload.extend_from_slice(fence_bytes);
    payload
}

#[test]
fn blocks_fill_the_data_from_its_start_to_its_end() {
    let check = |blocks: &[u64], data_bytes: u64| {
        let payload = by_hand(blocks, &vec![0; blocks.len()], b"");
        Index::validate(&payload, blocks.len() as u64 - 1, data_bytes).map(|index| index.count())
    };
    assert_eq!(check(&[0, 5, 100], 100).unwrap(), 2, "the trailer alone is not yet too short");
    assert_eq!(check(&[COMPRESSED, 50 | COMPRESSED, 100], 100).unwrap(), 2);
    assert_eq!(check(&[0], 0).unwrap(), 0);
    for (blocks, data_bytes) in [
        (&[7, 50, 100][..], 100),
        (&[7 | COMPRESSED, 50, 100], 100),
        (&[0, 4, 100], 100),
        (&[0, 0, 100], 100),
        (&[0, 96, 100], 100),
        (&[0, 60, 50], 50),
        (&[0, 50, 100], 99),
        (&[0, 50, 100], 101),
        (&[0, 50, 100 | COMPRESSED], 100),
        (&[0, 50, 100 | COMPRESSED], 100 | COMPRESSED),
        (&[5], 0),
        (&[5], 5),
    ] {
        assert!(matches!(check(blocks, data_bytes), Err(Fault::Damaged(_))), "{blocks:?} of {data_bytes}");
    }
}

#[test]
fn fences_fill_what_is_left_and_have_room_for_their_trailers() {
    let check = |fences: &[u32], fence_bytes: &[u8]| {
        let blocks: Vec<u64> = (0..fences.len() as u64).map(|i| 50 * i).collect();
        let payload = by_hand(&blocks, fences, fence_bytes);
        Index::validate(&payload, blocks.len() as u64 - 1, *blocks.last().unwrap())
            .map(|index| (0..index.count()).map(|i| index.fence(&payload, i).unwrap().0.to_vec()).collect::<Vec<_>>())
    };
    assert_eq!(check(&[0, 2, 5], b"aabbb").unwrap(), [&b"aa"[..], b"bbb"]);
    assert_eq!(check(&[0, 0, 0], b"").unwrap(), [b"", b""]);
    assert_eq!(check(&[HAS_TRAILER, 8, 9], b"\0\0\0\0\0\0\0\0b").unwrap(), [&b""[..], b"b"]);
    for (fences, fence_bytes) in [
        (&[1, 2, 5][..], &b"aabbb"[..]),
        (&[0, 5, 3], b"aab"),
        (&[0, 2, 5], b"aabb"),
        (&[0, 2, 5], b"aabbbb"),
        (&[HAS_TRAILER, 7, 8], b"\0\0\0\0\0\0\0b"),
        (&[0, HAS_TRAILER, 7], b"\0\0\0\0\0\0\0"),
    ] {
        assert!(matches!(check(fences, fence_bytes), Err(Fault::Damaged(_))), "{fences:?} of {fence_bytes:?}");
    }
}

/// The estimate by which tables are ended in time.
#[test]
fn the_length_is_foreseen_but_for_what_fences_share_and_trailers_that_are_none() {
    let key = |user_key, seq| InternalKey::new(user_key, SeqNo(seq), ValueKind::Put);
    for (first, second) in [(&b"ape"[..], &b"bee"[..]), (b"key-one", b"key-two")] {
        let mut builder = IndexBuilder::default();
        let mut last = key(first, 99);
        for i in 0..20 {
            // In each half all fences but the last stand within the versions of one key.
            let next = (i < 19).then(|| key(if i < 9 { first } else { second }, 98 - i));
            builder.add_block(100 * i, false);
            builder.add_fence(last, next);
            last = next.unwrap_or(last);
        }
        let (foreseen, mut payload) = (builder.payload_bytes(), Vec::new());
        assert!(builder.finish_into(2000, &mut payload));
        let index = Index::validate(&payload, 20, 2000).unwrap();
        let shared = 19 * index.prefix(&payload).unwrap().len();
        let without_trailer = (0..20).filter(|i| index.fence(&payload, *i).unwrap().1 == Trailer::MIN).count();
        assert_eq!(without_trailer, 2);
        assert_eq!(foreseen, payload.len() + shared + TRAILER_U64_BYTES * without_trailer);
    }
}

/// Each head of a large index is a wait of its own, unless it was sent for.
#[test]
fn a_search_looks_at_few_heads_and_has_sent_for_all_but_the_first() {
    for count in [100, 1000, 1024] {
        let heads: Vec<[u8; 8]> = (0..count as u64).map(|i| (10 * i).to_le_bytes()).collect();
        let payload = [&[0; HEADER_BYTES][..], heads.as_flattened(), &vec![0; 8 * (count + 1)]].concat();
        let offsets_at = HEADER_BYTES + 8 * count;
        let (fence_offsets_at, prefix_at, fences_at) = (payload.len(), payload.len(), payload.len());
        let index = Index { count, offsets_at, fence_offsets_at, prefix_at, fences_at };
        for i in (0..=count).step_by(count / 33) {
            let head = (10 * i as u64).saturating_sub(5);
            let mut found = usize::MAX;
            let sent = sent_for(|| found = index.first_at_or_behind(&payload, &heads, head));
            assert_eq!(found, i);
            // It looks at those that, if they said the contrary, would lead elsewhere.
            let looked_at: Vec<usize> = (0..count)
                .filter(|at| {
                    let mut heads = heads.clone();
                    heads[*at] = if *at < i { u64::MAX } else { 0 }.to_le_bytes();
                    index.first_at_or_behind(&payload, &heads, head) != i
                })
                .collect();
            let steps = count.ilog2() as usize;
            assert!(looked_at.len() <= steps + WORDS_OF_A_LINE, "{looked_at:?}");
            let (sent_heads, sent_offsets): (Vec<_>, Vec<_>) =
                sent.into_iter().partition(|range| range.start < offsets_at);
            assert!(sent_heads.len() <= 2 * steps && sent_heads.iter().all(|range| range.start % 8 == 0));
            let is_in = |sent: &[Range<usize>], head: usize| {
                sent.iter().any(|sent| (sent.start / 8 - 1).abs_diff(head) < WORDS_OF_A_LINE)
            };
            let first = count / 2;
            assert!(looked_at.into_iter().all(|at| at == first || is_in(&sent_heads, at)), "{head}: {sent_heads:?}");
            assert!(!is_in(&sent_heads[..2], first), "what is looked at now need not be sent for");
            // So is the place of the block, and little else.
            let block_offset = offsets_at + 8 * found;
            assert!(sent_offsets.iter().any(|sent| sent.contains(&block_offset)), "{found}: {sent_offsets:?}");
            let offsets_bytes: usize = sent_offsets.iter().map(|range| range.len()).sum();
            assert!(offsets_bytes <= 8 * (WORDS_OF_A_LINE + 1), "{sent_offsets:?}");
        }
    }
}
