//! [`Changed`]: an entry that comes out otherwise than it went in.

use esker_format::Trailer;

/// What stands in the place of an entry of the inputs, under its user key: another kind, another value, or both. The sequence number is the entry's own, so the order stays what it was.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) trailer: Trailer,
    pub(crate) value: Vec<u8>,
}
