//! Bytes that more than one kind of Esker file uses.
//!
//! | module | holds |
//! |---|---|
//! | [`mod@varint`] | LEB128 integers |
//! | [`decode`] | a bounds-checked reader over untrusted bytes |
//! | [`checksum`] | CRC-32C over parts |
//! | [`key`] | sequence numbers, value kinds, internal keys and their order |
//! | [`batch`] | the write batch, which is also the payload of a log record |
//! | [`expiry`] | times from which on versions count as tombstones |
//! | [`hash`](mod@hash) | [`KeyHash`], the hash of a user key that tables store and memtables search by |
//! | [`files`] | names and numbers of an engine's files |
//! | [`slice`](mod@slice) | [`Slice`], owned bytes that are cheap to clone and may pin what they point into |
//!
//! The byte-exact descriptions are `docs/format/keys.md`, `batch.md` and `files.md`.
//!
//! ```
//! use esker_format::{InternalKey, SeqNo, ValueKind};
//!
//! let older = InternalKey::new(b"k", SeqNo(3), ValueKind::Put);
//! let newer = InternalKey::new(b"k", SeqNo(9), ValueKind::Delete);
//! assert!(newer < older, "of one user key the newest version sorts first");
//! ```
#![forbid(unsafe_code)]

pub mod batch;
pub mod checksum;
pub mod decode;
pub mod expiry;
pub mod files;
pub mod hash;
mod head;
pub mod key;
pub mod slice;
pub mod varint;

pub use batch::{BatchError, BatchOp, WriteBatch};
pub use decode::{DecodeError, Decoder};
pub use expiry::{EXPIRY_BYTES, Expiries, ExpiryCount, split_expiry};
pub use files::{FileId, FileKind, FileNo};
pub use hash::{KeyHash, mix};
pub use head::{common_prefix, head_of, is_same, strip_prefix};
pub use key::{InternalKey, InternalKeyBuf, KeyspaceId, SeqNo, Trailer, ValueKind};
pub use slice::Slice;

/// Longest user key, in bytes.
pub const KEY_BYTES_MAX: usize = 65_535;

/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = u32::MAX as usize;

/// The README's example, held to what it says.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
