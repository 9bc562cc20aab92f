//! A split-block Bloom filter over user keys: one 32-byte block, so one cache line, is all that a probe touches.
//!
//! Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters (2007), in the form that Apache Parquet uses.

use crate::fetch::prefetch;
use crate::hash::KeyHash;

pub(crate) const FILTER_BLOCK_BYTES: usize = 32;

const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// The bytes of a filter over `hashes`, at `bits_per_key`.
pub(crate) fn build(hashes: &[u64], bits_per_key: u32) -> Vec<u8> {
    let bits = hashes.len() as u64 * u64::from(bits_per_key);
    let blocks = bits.div_ceil(8 * FILTER_BLOCK_BYTES as u64).clamp(1, u64::from(u32::MAX));
    let mut bytes = vec![0u8; blocks as usize * FILTER_BLOCK_BYTES];
    for &hash in hashes {
        let at = block_of(hash, blocks) * FILTER_BLOCK_BYTES;
        for (word, bit) in bytes[at..][..FILTER_BLOCK_BYTES].chunks_exact_mut(4).zip(bits_of(hash)) {
            let old = u32::from_le_bytes(word.try_into().expect("chunks of 4"));
            word.copy_from_slice(&(old | bit).to_le_bytes());
        }
    }
    bytes
}

/// Whether a key with this hash may have been among those that `bytes` was built over. Bytes of no whole block say yes.
#[inline]
pub(crate) fn may_contain(bytes: &[u8], hash: KeyHash) -> bool {
    let blocks = (bytes.len() / FILTER_BLOCK_BYTES) as u64;
    let at = block_of(hash.0, blocks) * FILTER_BLOCK_BYTES;
    let Some(block) = bytes.get(at..at + FILTER_BLOCK_BYTES).and_then(|b| b.first_chunk::<FILTER_BLOCK_BYTES>()) else {
        return true;
    };
    let mut missing = 0;
    for (i, bit) in bits_of(hash.0).into_iter().enumerate() {
        let word = u32::from_le_bytes([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]]);
        missing |= !word & bit;
    }
    missing == 0
}

/// Begins to fetch what [`may_contain`] will look at.
#[inline]
pub(crate) fn prefetch_block(bytes: &[u8], hash: KeyHash) {
    let blocks = (bytes.len() / FILTER_BLOCK_BYTES) as u64;
    prefetch(bytes, block_of(hash.0, blocks) * FILTER_BLOCK_BYTES);
}

#[inline]
fn block_of(hash: u64, blocks: u64) -> usize {
    (((hash >> 32) * blocks) >> 32) as usize
}

#[inline]
fn bits_of(hash: u64) -> [u32; 8] {
    SALTS.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::sent_for;

    fn hash(i: u64) -> u64 {
        KeyHash::of(&i.to_be_bytes()).0
    }

    #[test]
    fn every_key_is_found_and_few_others_are() {
        for (bits, worst) in [(8, 0.035), (10, 0.016), (12, 0.008), (16, 0.003)] {
            let bytes = build(&(0..20_000).map(hash).collect::<Vec<_>>(), bits);
            assert!((0..20_000).all(|i| may_contain(&bytes, KeyHash(hash(i)))));
            let wrong = (1_000_000..1_200_000).filter(|i| may_contain(&bytes, KeyHash(hash(*i)))).count();
            let rate = wrong as f64 / 200_000.0;
            assert!(rate < worst, "{bits} bits a key: {rate} false positives");
        }
    }

    #[test]
    fn no_keys_make_one_empty_block_and_no_bytes_say_yes() {
        let bytes = build(&[], 12);
        assert_eq!(bytes, [0; FILTER_BLOCK_BYTES]);
        assert!(!may_contain(&bytes, KeyHash(7)));
        assert!(may_contain(&[], KeyHash(7)));
    }

    #[test]
    fn what_is_sent_for_is_where_a_probe_looks() {
        for i in 0..100 {
            // The bits of one key: all in one block of 16.
            let bytes = build(&[hash(i); 64], 64);
            assert_eq!(bytes.len(), 16 * FILTER_BLOCK_BYTES);
            let at = bytes.iter().position(|byte| *byte != 0).unwrap() / FILTER_BLOCK_BYTES * FILTER_BLOCK_BYTES;
            assert_eq!(sent_for(|| prefetch_block(&bytes, KeyHash(hash(i)))), vec![at..at + 1; 1]);
        }
    }
}
