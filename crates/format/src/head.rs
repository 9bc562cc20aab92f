//! The beginning of a byte string as one number: where two of them differ, no other byte need be looked at.

/// The first eight bytes as a number that sorts as they do; zeros where there are fewer.
#[inline(always)]
pub fn head_of(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(word) => u64::from_be_bytes(*word),
        None => short_head(bytes),
    }
}

/// Of fewer than eight bytes, by overlapping loads.
#[inline]
fn short_head(bytes: &[u8]) -> u64 {
    let n = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u64::from(u32::from_be_bytes(*first)), u64::from(u32::from_be_bytes(*last)));
        return first << 32 | last << (64 - 8 * n);
    }
    match bytes {
        [] => 0,
        _ => [0, n / 2, n - 1].into_iter().fold(0, |head, i| head | u64::from(bytes[i]) << (56 - 8 * i)),
    }
}
