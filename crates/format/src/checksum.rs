//! CRC-32C (Castagnoli, the polynomial of iSCSI, RFC 3720), by the processor's own instruction where it has one.

/// A checksum over several byte strings, as if they were one.
///
/// ```
/// use esker_format::checksum::{crc32c, Crc};
/// assert_eq!(crc32c(b"123456789"), 0xe306_9283);
/// assert_eq!(Crc::new().bytes(b"1234").bytes(b"56789").finish(), crc32c(b"123456789"));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Crc(u32);

impl Crc {
    /// The checksum of nothing.
    pub fn new() -> Self {
        Self(0)
    }

    /// Adds `bytes`.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.0, bytes))
    }

    /// Adds a number, little endian.
    #[inline]
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// The checksum of all that was added.
    #[inline]
    pub fn finish(self) -> u32 {
        self.0
    }
}

/// The checksum of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    Crc::new().bytes(bytes).finish()
}
