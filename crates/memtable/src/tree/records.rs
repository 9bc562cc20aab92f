//! The tree's arena: records in chunks, each named by 32 bits.
//!
//! ```text
//!   name   [ chunk: 15 bits | place in the chunk, in units of 8 bytes: 17 bits ]        0 names nothing
//! ```
//! Chunks double up to the largest; a large record has one of its own. So a small table stays small, and no chunk is closed
//! with much of it free.

use super::supply::Supply;
use crate::arena::{Chunk, Right};
use crate::list::List;
use crate::prefetch::prefetch;
use crate::record::{self, HEADER_BYTES, Record};
use crate::room::Room;
use esker_format::InternalKey;

/// The name of a record.
pub(super) type Name = u32;

/// The name of no record.
pub(super) const NONE: Name = 0;

const UNIT_BYTES: usize = 8;
const PLACE_BITS: u32 = 17;
const CHUNKS_MAX: usize = 1 << (Name::BITS - PLACE_BITS);

/// The first chunk, unless its record is longer; each is twice as large as the one before, up to the largest.
const FIRST_CHUNK_BYTES: usize = 1 << 10;

/// The largest chunk that takes more than one record, and the size of all chunks that are used again.
pub(crate) const LARGEST_CHUNK_BYTES: usize = UNIT_BYTES << PLACE_BITS;

/// A record of at least this length spans pages however small they are, so its chunk need not lie in a large one, whose first touch would take long.
const REGION_RECORD_BYTES_MAX: usize = 2 << 10;

/// All records of a tree.
pub(super) struct Records {
    chunks: List<Chunk>,
}

/// What only the one who inserts needs.
pub(super) struct RecordsWriter {
    /// The chunk that takes what fits, and its number.
    open: Option<(usize, Right)>,
    next_chunk_bytes: usize,
}

impl RecordsWriter {
    pub(super) fn new() -> Self {
        Self { open: None, next_chunk_bytes: FIRST_CHUNK_BYTES }
    }
}

impl Records {
    pub(super) fn new() -> Self {
        Self { chunks: List::new() }
    }

    /// The record that has this name.
    #[inline]
    pub(super) fn get(&self, name: Name) -> Record<'_> {
        let offset = (name & ((1 << PLACE_BITS) - 1)) as usize * UNIT_BYTES;
        Record(self.chunks.get((name >> PLACE_BITS) as usize).since(offset))
    }

    /// Asks for the front of a record.
    #[inline]
    pub(super) fn prefetch(&self, name: Name) {
        let record = self.get(name).0;
        prefetch(record);
        if let Some(second) = record.get(64..) {
            prefetch(second);
        }
    }

    /// Writes a record.
    ///
    /// # Panics
    /// If key or value are longer than they may be, or when there are no more names: after 32 GiB of small records, or as many chunks of large
    /// ones.
    #[inline]
    pub(super) fn store<const N: usize>(
        &self,
        writer: &mut RecordsWriter,
        supply: &mut Supply<N>,
        key: InternalKey<'_>,
        value: &[u8],
        previous: Name,
    ) -> Name {
        let header = record::header(key, value, previous);
        let bytes = HEADER_BYTES + key.user_key.len() + value.len();
        let padding = &[0; UNIT_BYTES][..bytes.next_multiple_of(UNIT_BYTES) - bytes];
        let parts = [&header[..], key.user_key, value, padding];
        if let Some((number, right)) = &mut writer.open
            && let Some(offset) = self.chunks.get(*number).append(right, parts)
        {
            return name(*number, offset);
        }
        self.store_in_new_chunk(writer, supply, parts)
    }

    #[cold]
    fn store_in_new_chunk<const N: usize>(
        &self,
        writer: &mut RecordsWriter,
        supply: &mut Supply<N>,
        parts: [&[u8]; 4],
    ) -> Name {
        assert!(self.chunks.len() < CHUNKS_MAX, "a table of {CHUNKS_MAX} chunks is full");
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let is_large = bytes > LARGEST_CHUNK_BYTES / 4;
        // The place 0 of chunk 0 would be the name of nothing.
        let unused = if self.chunks.len() == 0 { UNIT_BYTES } else { 0 };
        let capacity = if is_large { bytes + unused } else { writer.next_chunk_bytes.max(4 * bytes) };
        let (chunk, mut right) = supply.chunk(capacity, bytes < REGION_RECORD_BYTES_MAX);
        chunk.append(&mut right, [&[0; UNIT_BYTES][..unused]]);
        let offset = chunk.append(&mut right, parts).expect("a new chunk has room");
        let number = supply.push(&self.chunks, chunk);
        if !is_large {
            writer.next_chunk_bytes = LARGEST_CHUNK_BYTES.min(2 * capacity);
            writer.open = Some((number, right));
        }
        name(number, offset)
    }

    /// Takes all chunks out.
    pub(super) fn drain(&mut self) -> Vec<Room<Chunk>> {
        self.chunks.drain()
    }
}

fn name(chunk: usize, offset: usize) -> Name {
    debug_assert!(offset.is_multiple_of(UNIT_BYTES) && offset < LARGEST_CHUNK_BYTES);
    ((chunk << PLACE_BITS) | (offset / UNIT_BYTES)) as Name
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_format::{SeqNo, ValueKind};

    struct Store(Records, RecordsWriter, Supply<4>);

    impl Store {
        fn new() -> Self {
            Self(Records::new(), RecordsWriter::new(), Supply::new(None))
        }

        fn store(&mut self, seq: u64, value: &[u8]) -> Name {
            let key = InternalKey::new(b"k", SeqNo(seq), ValueKind::Put);
            self.0.store(&mut self.1, &mut self.2, key, value, NONE)
        }
    }

    /// A long value must not push out a chunk that is nearly empty, nor be split.
    #[test]
    fn a_large_record_gets_a_chunk_of_its_own() {
        let mut store = Store::new();
        let large = vec![7; 3 << 20];
        let names = [store.store(1, b"small"), store.store(2, &large), store.store(3, b"small too")];
        assert_eq!(names.map(|name| name >> PLACE_BITS), [0, 1, 0]);
        assert_eq!(store.0.get(names[1]).value(), large);
        assert_eq!(store.0.get(names[2]).value(), b"small too");
        let mut first_is_large = Store::new();
        assert_ne!(first_is_large.store(1, &large), NONE);
    }

    /// A first chunk too small for any record once gave each of them a chunk of its own.
    #[test]
    fn records_share_chunks_and_waste_little() {
        for value_bytes in [0, 300, 5000, 100_000, LARGEST_CHUNK_BYTES / 2] {
            let mut store = Store::new();
            (1..=100).for_each(|seq| assert_ne!(store.store(seq, &vec![7; value_bytes]), NONE));
            let chunks = store.0.chunks.len();
            let full = 100 * (value_bytes + HEADER_BYTES + 8);
            assert!(chunks <= 10 + full / LARGEST_CHUNK_BYTES * 5 / 2, "{value_bytes}: {chunks} chunks");
            assert!(store.2.bytes() <= 2048 + full * 9 / 4, "{value_bytes}: {} bytes", store.2.bytes());
        }
    }
}
