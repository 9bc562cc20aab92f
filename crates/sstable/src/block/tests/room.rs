//! How long a block will be, and what it takes to write it.

use super::*;

/// The bound that is asked first is no higher than it must be.
#[test]
fn a_block_in_which_all_is_as_wide_as_can_be_is_as_long_as_the_bound() {
    let entries = [put(&[b'a'; 65_535], SeqNo::MAX.0, &[1; 70_000]), del(&[b'b'; 600], 0)];
    let mut builder = BlockBuilder::default();
    for (key, value) in &entries {
        let bound = builder.payload_bytes_at_most(key.user_key.len() + value.len());
        let InternalKey { user_key, .. } = key.as_ref();
        let shared = common_prefix(builder.last_user_key(), user_key);
        builder.add(key.as_ref(), KeyHash::of(user_key), value, shared);
        assert!(builder.payload_bytes() <= bound);
        if builder.count() == entries.len() {
            assert_eq!(builder.payload_bytes(), bound);
        }
    }
}

/// Whole words are stored over what comes behind, for which there is room; but not for many times the block.
#[test]
fn writing_a_block_takes_no_more_memory_than_it_is_long() {
    // All columns but one are short, each in its turn.
    let trailers: Entries = (0..200).map(|i| put(b"same", (200 - i) << 40, b"")).collect();
    let keys = (0..200u8).map(|i| put(&[&[i][..], &[b'k'; 60]].concat(), 1, b"")).collect();
    let values = (0..200u8).map(|i| put(&[i], 1, &vec![b'v'; usize::from(i % 3)])).collect();
    for entries in [trailers, keys, values] {
        let payload = build(&entries);
        assert!(payload.capacity() < 2 * payload.len() + 64, "{} for {}", payload.capacity(), payload.len());
    }
}
