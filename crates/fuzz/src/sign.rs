//! Checksums made right again, by the format pages and not by the code under test.
//!
//! What can't be signed, since it is no longer there, is let be.

use esker_format::checksum::{Crc, crc32c};

const LOG_HEADER_BYTES: usize = 64;
const RECORD_HEADER_BYTES: usize = 24;
pub(crate) const TABLE_FOOTER_BYTES: usize = 128;
/// Tag and checksum.
pub(crate) const TRAILER_BYTES: usize = 5;
const BLOB_END_BYTES: usize = 40;
/// Bit 63 of a block's offset in the index of a table.
pub(crate) const COMPRESSED: u64 = 1 << 63;

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Signs a log: its header, and record after record as their lengths say.
pub(crate) fn log(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if bytes.len() < LOG_HEADER_BYTES {
        return bytes;
    }
    let crc = crc32c(&bytes[..60]);
    put(&mut bytes, 60, crc);
    let (file_id, start) = (u64_at(&bytes, 16).unwrap_or(0), u64_at(&bytes, 32).unwrap_or(0));
    let mut at = LOG_HEADER_BYTES;
    while let Some(head) = bytes.get(at..at + RECORD_HEADER_BYTES) {
        if head.iter().all(|byte| *byte == 0) {
            break;
        }
        let (len, kind) = (u32_at(head, 0).unwrap_or(0), head[16]);
        let position = start.wrapping_add(at as u64);
        let place = Crc::new().u64(file_id).u64(position);
        let payload_at = at + RECORD_HEADER_BYTES;
        if let Some(payload) = bytes[payload_at..].get(..len as usize) {
            let crc = place.bytes(&[kind]).bytes(&len.to_le_bytes()).bytes(payload).finish();
            put(&mut bytes, at + 4, crc);
        }
        let crc = place.bytes(&bytes[at..at + 20]).finish();
        put(&mut bytes, at + 20, crc);
        at = payload_at.saturating_add((len as usize).next_multiple_of(8));
    }
    bytes
}

/// Signs a table: its footer, which gets the length that the file has, and each block that footer and index name.
pub(crate) fn table(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let Some(footer) = bytes.len().checked_sub(TABLE_FOOTER_BYTES) else { return bytes };
    let file_bytes = bytes.len() as u64;
    bytes[footer + 96..footer + 104].copy_from_slice(&file_bytes.to_le_bytes());
    let crc = crc32c(&bytes[footer..footer + 116]);
    put(&mut bytes, footer + 116, crc);
    let file_id = u64_at(&bytes, footer + 88).unwrap_or(0);
    let handle = |bytes: &[u8], i: usize| {
        let (offset, len) = (u64_at(bytes, footer + 16 * i)?, u64_at(bytes, footer + 16 * i + 8)?);
        let (offset, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
        let end = offset.checked_add(len)?.checked_add(TRAILER_BYTES)?;
        (len > 0 && end <= footer).then_some(offset..end)
    };
    let handles: Vec<_> = (0..4).map(|i| handle(&bytes, i)).collect();
    let index = handles[1].clone();
    for range in handles.into_iter().flatten() {
        block(&mut bytes, file_id, range.start, range.end);
    }
    // Behind them: what is in the index counts as it stands.
    let Some(index) = index.map(|range| bytes[range].to_vec()) else { return bytes };
    let count = u32_at(&index, 0).unwrap_or(0) as usize;
    for i in 0..count.min(index.len() / 8) {
        let at = 8 + 8 * count + 8 * i;
        let (Some(start), Some(end)) = (u64_at(&index, at), u64_at(&index, at + 8)) else { break };
        let (start, end) = ((start & !COMPRESSED) as usize, (end & !COMPRESSED) as usize);
        if start.saturating_add(TRAILER_BYTES) <= end && end <= footer {
            block(&mut bytes, file_id, start, end);
        }
    }
    bytes
}

/// Signs the block at `start..end`, trailer included.
pub(crate) fn block(bytes: &mut [u8], file_id: u64, start: usize, end: usize) {
    let crc = Crc::new().u64(file_id).u64(start as u64).bytes(&bytes[start..end - 4]).finish();
    put(bytes, end - 4, crc);
}

/// Signs a blob file: header, footer, which gets the lengths that are there, and record after record as their lengths say.
pub(crate) fn blob(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let Some(footer) = bytes.len().checked_sub(BLOB_END_BYTES).filter(|at| *at >= BLOB_END_BYTES) else {
        return bytes;
    };
    let record_bytes = (footer - BLOB_END_BYTES) as u64;
    bytes[footer + 8..footer + 16].copy_from_slice(&record_bytes.to_le_bytes());
    for end in [0, footer] {
        let crc = crc32c(&bytes[end..end + 36]);
        put(&mut bytes, end + 36, crc);
    }
    let file_id = u64_at(&bytes, 16).unwrap_or(0);
    let mut at = BLOB_END_BYTES;
    while at + 8 <= footer {
        let len = u32_at(&bytes, at + 4).unwrap_or(0) as usize;
        let Some(value) = bytes[at + 8..footer].get(..len) else { break };
        let crc = Crc::new().u64(file_id).u64(at as u64).bytes(&(len as u32).to_le_bytes()).bytes(value).finish();
        put(&mut bytes, at, crc);
        at += (8 + len).next_multiple_of(8);
    }
    bytes
}
