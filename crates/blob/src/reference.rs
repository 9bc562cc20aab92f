//! [`BlobRef`]: where a value lies.

use crate::frame::{HEADER_BYTES, RECORD_ALIGNMENT, record_bytes};
use esker_format::{DecodeError, Decoder, FileNo, varint};

/// The longest encoded form: two varints of 64 bits, one of 32.
const ENCODED_BYTES_MAX: usize = 10 + 10 + 5;

/// Where a value lies, and how long it is. What a table stores in the value's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobRef {
    /// The file `NNNNNN.blob`.
    pub file: FileNo,
    /// Where its record starts.
    pub offset: u64,
    /// The value's length, in bytes.
    pub value_bytes: u32,
}

impl BlobRef {
    /// What the value takes in the file, in bytes: by this sum is told how much of a file is live.
    pub fn record_bytes(self) -> u64 {
        record_bytes(self.value_bytes)
    }

    /// Appends the stored form.
    pub fn encode_into(self, out: &mut Vec<u8>) {
        out.reserve(ENCODED_BYTES_MAX);
        varint::put(out, self.file.0);
        varint::put(out, self.offset);
        varint::put(out, u64::from(self.value_bytes));
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// The bytes are none. Whether there is such a record is told by the file.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let file = FileNo(decoder.varint("blob file number")?);
        let at = decoder.offset();
        let offset = decoder.varint("blob offset")?;
        if offset < HEADER_BYTES as u64 || offset % RECORD_ALIGNMENT != 0 {
            return Err(DecodeError::Invalid { what: "blob offset", offset: at, found: offset });
        }
        let value_bytes = decoder.varint32("blob length")?;
        match decoder.rest() {
            [] => Ok(Self { file, offset, value_bytes }),
            rest => Err(decoder.invalid("bytes behind a blob reference", rest.len() as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips_and_no_cut_passes(file in any::<u64>(), record in 5u64..1 << 60, value_bytes in any::<u32>()) {
            let reference = BlobRef { file: FileNo(file), offset: record * 8, value_bytes };
            let mut bytes = Vec::new();
            reference.encode_into(&mut bytes);
            prop_assert!(bytes.len() <= ENCODED_BYTES_MAX);
            prop_assert_eq!(BlobRef::decode(&bytes).unwrap(), reference);
            for cut in 0..bytes.len() {
                prop_assert!(BlobRef::decode(&bytes[..cut]).is_err());
            }
            bytes.push(0);
            prop_assert!(BlobRef::decode(&bytes).is_err());
        }

        #[test]
        fn hostile_bytes_are_a_reference_or_an_error(bytes: Vec<u8>) {
            let _ = BlobRef::decode(&bytes);
        }
    }

    #[test]
    fn no_record_starts_in_the_header_or_between_multiples_of_8() {
        for offset in [0u8, 32, 39, 41, 44] {
            assert!(BlobRef::decode(&[1, offset, 0]).is_err(), "{offset}");
        }
        assert!(BlobRef::decode(&[1, 40, 0]).is_ok());
    }
}
