//! An entry that comes out of a [`CompactionIter`](crate::CompactionIter) other than it went in.

use esker_format::Trailer;

/// What takes the place of trailer and value of the entries of the present user key that it was made of. The user key stays.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) trailer: Trailer,
    pub(crate) value: Vec<u8>,
}
