mod aim;
mod headers;
mod room;

use super::*;
use crate::hash::KeyHash;
use esker_format::{InternalKeyBuf, SeqNo, common_prefix};
use proptest::prelude::*;

type Entries = Vec<(InternalKeyBuf, Vec<u8>)>;

/// `a#9,PUT=x` and so on.
fn put(user_key: &[u8], seq: u64, value: &[u8]) -> (InternalKeyBuf, Vec<u8>) {
    (InternalKey::new(user_key, SeqNo(seq), ValueKind::Put).to_buf(), value.to_vec())
}

fn del(user_key: &[u8], seq: u64) -> (InternalKeyBuf, Vec<u8>) {
    (InternalKey::new(user_key, SeqNo(seq), ValueKind::Delete).to_buf(), Vec::new())
}

fn build(entries: &Entries) -> Vec<u8> {
    let mut builder = BlockBuilder::default();
    for (key, value) in entries {
        let shared = common_prefix(builder.last_user_key(), &key.user_key);
        let (before, at_most) =
            (builder.payload_bytes(), builder.payload_bytes_at_most(key.user_key.len() + value.len()));
        let has_room = |max| builder.has_room(key.as_ref(), value.len(), shared, max);
        let least = (0..=at_most).collect::<Vec<_>>().partition_point(|max| !has_room(*max));
        builder.add(key.as_ref(), KeyHash::of(&key.user_key), value, shared);
        assert_eq!(builder.payload_bytes(), least, "{before} bytes before, {at_most} at most");
    }
    let (foreseen, mut payload) = (builder.payload_bytes(), Vec::new());
    builder.finish_into(&mut payload);
    assert_eq!((payload.len(), builder.count()), (foreseen, 0));
    payload
}

fn read(payload: &[u8]) -> Result<Entries, Fault> {
    let layout = Layout::validate(payload)?;
    let prefix = layout.prefix(payload).unwrap();
    let entries = (0..layout.count).map(|i| {
        let entry = layout.entry(payload, i).unwrap();
        let user_key = [prefix, &payload[entry.rest]].concat().into();
        (InternalKeyBuf { user_key, trailer: layout.trailer(payload, i).unwrap() }, payload[entry.value].to_vec())
    });
    Ok(entries.collect())
}

/// Every search with every interesting target gives what the sorted list gives.
fn check_searches(entries: &Entries, payload: &[u8], target: InternalKey<'_>) {
    let layout = Layout::parse(payload).unwrap();
    let first = entries.partition_point(|(key, _)| key.as_ref() < target);
    assert_eq!(layout.lower_bound(payload, target), Some(first), "{target:?} in {entries:?}");
    let here = entries.get(first).filter(|(key, _)| *key.user_key == *target.user_key).map(|_| first);
    let fingerprint = KeyHash::of(target.user_key).fingerprint();
    assert_eq!(
        layout.find(payload, target, fingerprint),
        Some(here.unwrap_or(entries.len())),
        "{target:?} in {entries:?}"
    );
}

fn check(entries: &Entries) -> Vec<u8> {
    let payload = build(entries);
    assert_eq!(read(&payload).unwrap(), *entries);
    let layout = Layout::parse(&payload).unwrap();
    for (i, (key, _)) in entries.iter().enumerate() {
        // Versions of one key, and keys that differ in one byte, at the block's start and at its end.
        for (j, (other, _)) in entries.iter().enumerate().skip(i.saturating_sub(2)).take(5) {
            let rest = layout.entry(&payload, j).unwrap().rest;
            assert_eq!(layout.key_differs(&payload, i, &rest), key.user_key != other.user_key, "{key:?} and {other:?}");
        }
        if let Some((next, _)) = entries.get(i + 1) {
            assert_eq!(layout.key_changes_behind(&payload, i), key.user_key != next.user_key);
        }
    }
    for (key, _) in entries {
        let InternalKey { user_key, trailer } = key.as_ref();
        for bits in [trailer.to_bits().saturating_sub(1), trailer.to_bits(), trailer.to_bits() + 1, 0, u64::MAX] {
            check_searches(entries, &payload, InternalKey { user_key, trailer: Trailer::from_bits(bits) });
        }
        let neighbours =
            [[user_key, b"\0"].concat(), [user_key, b"\xff"].concat(), user_key[..user_key.len() / 2].to_vec()];
        for other in &neighbours {
            check_searches(entries, &payload, InternalKey::seek(other, SeqNo(5)));
        }
    }
    payload
}

#[test]
fn even_keys_and_values_have_no_offsets() {
    let payload = check(&vec![put(b"key1", 9, b"x"), put(b"key2", 9, b"y"), put(b"key3", 9, b"z")]);
    // Header, prefix "key", a fingerprint, a rest and a value for each; not even trailers, as all are alike.
    assert_eq!(payload.len(), HEADER_BYTES + 3 + 3 + 3 + 3);
    let payload = check(&vec![put(b"key1", 9, b"x"), del(b"key2", 7), put(b"key3", 300, b"zz")]);
    assert_eq!(payload.len(), HEADER_BYTES + 3 + 3 + 4 * 2 + 3 * 3 + 3 + 3);
}

#[test]
fn empty_keys_empty_values_and_many_versions() {
    check(&vec![put(b"", 1, b"")]);
    check(&vec![del(b"", 1)]);
    check(&vec![put(b"", 3, b""), del(b"", 2), put(b"", 1, b"x"), put(b"\0", 1, b""), put(b"\0\0", 9, b"")]);
    check(&(0..100).map(|i| put(b"same", 100 - i, &[i as u8])).collect());
    check(&vec![put(&[0xff; 40], 2, b"a"), put(&[0xff; 41], SeqNo::MAX.0, b"b"), del(&[0xff; 41], 0)]);
}

#[test]
fn many_entries_and_long_ones() {
    // More than have fingerprints; values of more than 64 KiB together; keys of more than 64 KiB together.
    check(&(0..600u16).map(|i| put(&i.to_be_bytes(), 7, &vec![1; usize::from(i % 3) * 100])).collect());
    let long = |byte: u8, n: usize| [vec![b'k'; 65_000], vec![byte; n]].concat();
    check(&vec![
        put(&[b'a'; 65_535], 1, b""),
        put(&long(b'a', 9), 1, &vec![9; 70_000]),
        put(&long(b'b', 535), 4, b"v"),
    ]);
}

#[test]
fn a_block_has_fingerprints_if_it_has_2_to_256_entries() {
    for count in [1, 2, 3, 256, 257, 300u16] {
        // Without values, so that behind the last key there is nothing that could be taken for another.
        let entries: Entries = (0..count).map(|i| put(&i.to_be_bytes(), 7, b"")).collect();
        let payload = check(&entries);
        let layout = Layout::parse(&payload).unwrap();
        for (i, (key, _)) in entries.iter().enumerate() {
            let fingerprint = (2..=256).contains(&count).then(|| KeyHash::of(&key.user_key).fingerprint());
            assert_eq!(layout.fingerprint(&payload, i), fingerprint, "entry {i} of {count}");
        }
    }
}

#[test]
fn keys_of_every_length_are_told_apart_by_every_byte() {
    for len in 0..=24usize {
        // Without values the last keys end where the block does.
        for value in [&b""[..], b"value"] {
            let key: Vec<u8> = (0..len as u8).map(|i| b'a' + i).collect();
            let others = (0..len).map(|i| {
                let mut other = key.clone();
                other[i] = b'z';
                other
            });
            for other in others.chain([[&key[..], b"\0"].concat()]) {
                let mut entries = vec![put(&key, 9, value), put(&key, 8, value), put(&other, 7, value), del(&other, 6)];
                entries.sort();
                check(&entries);
            }
        }
    }
}

#[test]
fn counts_and_kinds_that_make_no_sense_are_refused() {
    let payload = build(&vec![put(b"a", 1, b"x"), del(b"b", 2)]);
    let with = |at: usize, bytes: &[u8]| {
        let mut payload = payload.clone();
        payload[at..][..bytes.len()].copy_from_slice(bytes);
        Layout::validate(&payload).err()
    };
    assert!(matches!(with(0, &[0; 4]), Some(Fault::Damaged(_))), "no entries");
    assert!(matches!(with(0, &[0xff; 4]), Some(Fault::Damaged(_))), "more entries than bytes");
    assert!(matches!(with(4, &[4]), Some(Fault::Unsupported { found: 4, .. })), "a flag to come");
    assert!(matches!(with(5, &[9]), Some(Fault::Damaged(_))), "a trailer of 72 bits");
    assert!(matches!(with(6, &[1]), Some(Fault::Damaged(_))), "an offset of 8 bits");
    let trailers = payload.len() - 3 - 2 * 2;
    assert!(matches!(with(trailers, &[3]), Some(Fault::Unsupported { found: 3, .. })), "a range tombstone");
    let mut one_kind = build(&vec![put(b"a", 1, b"x")]);
    one_kind[16] = 6;
    assert!(
        matches!(Layout::validate(&one_kind), Err(Fault::Unsupported { found: 6, .. })),
        "a merge operand that expires"
    );
}

/// Keys of few letters, so that prefixes, versions and equal heads are frequent; some beyond eight bytes.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[ab]{0,3}".prop_map(String::into_bytes),
        "aaaaaaa[ab]{0,4}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

fn entries() -> impl Strategy<Value = Entries> {
    let version = (keys(), prop_oneof![0u64..5, 0u64..1 << 20, 0u64..1 << 56]);
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9));
    proptest::collection::btree_map(version, value, 1..40).prop_map(|map| {
        let mut entries: Entries = map
            .into_iter()
            .map(|((key, seq), value)| value.map_or_else(|| del(&key, seq), |value| put(&key, seq, &value)))
            .collect();
        entries.sort();
        entries
    })
}

proptest! {
    #[test]
    fn blocks_hold_what_was_added(entries in entries(), target in keys(), seq in 0u64..1 << 20) {
        let payload = check(&entries);
        check_searches(&entries, &payload, InternalKey::seek(&target, SeqNo(seq)));
        for cut in 0..payload.len() {
            prop_assert!(Layout::validate(&payload[..cut]).is_err(), "cut to {}", cut);
        }
    }

    /// Bytes that no one vouches for: no panic, and no more entries than bytes.
    #[test]
    fn hostile_bytes_are_survived(
        entries in entries(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        target in keys(),
    ) {
        let mut payload = build(&entries);
        for (at, byte) in changes {
            // The header is where the damage is.
            let at = if byte % 2 == 0 { at.index(HEADER_BYTES) } else { at.index(payload.len()) };
            payload[at] = byte;
        }
        let _ = read(&payload);
        // As if it had rotted after it was validated.
        if let Some(layout) = Layout::parse(&payload) {
            prop_assert!(layout.count <= payload.len());
            let target = InternalKey::seek(&target, SeqNo(3));
            let _ = layout.lower_bound(&payload, target);
            let _ = layout.find(&payload, target, KeyHash::of(target.user_key).fingerprint());
            for i in 0..layout.count {
                if let Some(entry) = layout.entry(&payload, i) {
                    prop_assert!(payload.get(entry.rest).is_some() && payload.get(entry.value).is_some());
                }
                let _ = layout.trailer(&payload, i).map(Trailer::kind);
            }
        }
    }
}
