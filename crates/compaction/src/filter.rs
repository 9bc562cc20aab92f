//! Compaction filters: the user's word on what is worth keeping.
//!
//! ```text
//!  snapshot 4       #9 is asked about: no snapshot sees it, those to come read at the horizon or above
//!    #9 | #3        #3 is not: snapshot 4 sees it, for as long as it is held
//! ```
//! Asked about is the newest version of a key among the inputs, if it is a value, has not expired, and is newer than every snapshot. So no snapshot that is held sees a difference; who takes one while the job runs has to keep
//! the state that was there before it is installed.
//!
//! Where there are merge operands a value may lie under some that are not among the inputs. It is then no value of the key, and what would become of the key if it went is nothing that anybody has asked for: so it is not asked about
//! until a compaction has merged them. Nor is what lies under operands that could not be folded.
//!
//! ```text
//!  level 0    k#9,MERGE:+1                  not among the inputs
//!  level 1    k#4,PUT:30     input          is not asked about: the value is 31
//! ```
//! What is removed reads as deleted, never as what lies beneath: it becomes a tombstone where something older may lie outside the inputs, or a snapshot needs something older.

use crate::changed::Changed;
use crate::error::{Cause, CompactionError};
use crate::iter::CompactionIter;
use crate::values::BlobFiles;
use esker_blob::BlobRef;
use esker_format::{EXPIRY_BYTES, Slice, Trailer, VALUE_BYTES_MAX, ValueKind, expiry::decode_expiry};
use esker_iterator::InternalIterator;
use esker_manifest::Level;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What becomes of a key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterDecision {
    /// It stays.
    Keep,
    /// It reads as deleted from then on.
    Remove,
    /// It has this value from then on, until the time at which the old one would have expired, if it did.
    Replace(Vec<u8>),
}

/// Says of keys and their values whether they stay, when compaction comes by them.
///
/// It is called on threads of the engine and of those who compact by hand, several at a time. It must answer by what it is given and what never changes back: which compaction asks, when, and how often, is not promised. It must not call the engine.
///
/// A closure is one:
/// ```
/// use esker_compaction::{CompactionFilter, FilterDecision};
/// let no_drafts = |_level: u8, key: &[u8], _value: &[u8]| match key.starts_with(b"draft/") {
///     true => FilterDecision::Remove,
///     false => FilterDecision::Keep,
/// };
/// assert_eq!(no_drafts.filter(6, b"draft/7", b".."), FilterDecision::Remove);
/// ```
pub trait CompactionFilter: Send + Sync + 'static {
    /// What becomes of `key` and `value`, which are written to `level`. A panic in it fails the compaction, and nothing is lost.
    fn filter(&self, level: u8, key: &[u8], value: &[u8]) -> FilterDecision;
}

impl<F: Fn(u8, &[u8], &[u8]) -> FilterDecision + Send + Sync + 'static> CompactionFilter for F {
    fn filter(&self, level: u8, key: &[u8], value: &[u8]) -> FilterDecision {
        self(level, key, value)
    }
}

/// Tells whether something newer of a key, which an input has, lies outside the inputs.
pub type HasNewer<'a> = &'a dyn Fn(&[u8]) -> bool;

/// A filter at work in a job.
#[derive(Clone, Copy)]
pub struct Filtering<'a> {
    /// Who is asked.
    pub filter: &'a dyn CompactionFilter,
    /// The level that is written to.
    pub level: Level,
    /// Where large values are read, to be shown. One that can't be read is kept, and nobody is asked.
    pub files: Option<&'a dyn BlobFiles>,
    /// Where it may be an operand that is newer; `None` where there are none.
    pub has_newer: Option<HasNewer<'a>>,
}

impl Filtering<'_> {
    /// Asks about the entry at hand, if it is to be asked about, and has `iter` show what becomes of it. `false` if nothing does: it is to be left out.
    #[inline(never)]
    pub(crate) fn judge<I, K>(&self, iter: &mut CompactionIter<I, K>) -> Result<bool, CompactionError>
    where
        I: InternalIterator,
        K: FnMut(&[u8]) -> bool,
    {
        if !iter.is_newest_and_unheld() {
            return Ok(true);
        }
        let key = iter.key();
        let kind = key.trailer.kind();
        let (expiry, stored) = match kind {
            ValueKind::Put | ValueKind::Blob => (None, iter.value()),
            ValueKind::Expiring | ValueKind::ExpiringBlob => {
                let (expiry, stored) = decode_expiry(iter.value())
                    .map_err(|source| CompactionError::new(Cause::Reference { key: key.to_buf(), source }))?;
                (Some(expiry), stored)
            }
            // Of an operand that is not folded nobody knows the value.
            ValueKind::Merge | ValueKind::Delete | ValueKind::RangeDelete => return Ok(true),
        };
        if self.has_newer.is_some_and(|has_newer| has_newer(key.user_key)) {
            return Ok(true);
        }
        let read;
        let value = if matches!(kind, ValueKind::Blob | ValueKind::ExpiringBlob) {
            read = self.read(stored);
            let Some(value) = &read else { return Ok(true) };
            &value[..]
        } else {
            stored
        };
        let asked = catch_unwind(AssertUnwindSafe(|| self.filter.filter(self.level.0, key.user_key, value)));
        let decision = asked.map_err(|panic| CompactionError::new(Cause::Filter { what: words_of(&*panic) }))?;
        match decision {
            FilterDecision::Keep => Ok(true),
            FilterDecision::Remove => Ok(iter.bury()),
            FilterDecision::Replace(value) => {
                if value.len() > VALUE_BYTES_MAX - EXPIRY_BYTES {
                    let what = format!("a value of {} bytes is too long", value.len());
                    return Err(CompactionError::new(Cause::Filter { what }));
                }
                let seq = key.trailer.seq();
                iter.change(match expiry {
                    None => Changed { trailer: Trailer::new(seq, ValueKind::Put), value },
                    Some(expiry) => Changed {
                        trailer: Trailer::new(seq, ValueKind::Expiring),
                        value: [&expiry.to_le_bytes()[..], &value].concat(),
                    },
                });
                Ok(true)
            }
        }
    }

    /// A large value, if it can be read.
    fn read(&self, stored: &[u8]) -> Option<Slice> {
        self.files?.read_blob(BlobRef::decode(stored).ok()?).ok()
    }
}

/// What a panic said.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("and did not say why"))
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use esker_format::{InternalKey, SeqNo};
    use esker_iterator::VecIterator;

    /// What comes of a value in whose place the filter puts one of so many bytes; how long it is then.
    fn replaced(len: usize) -> Result<usize, CompactionError> {
        // Zeros that nobody looks at take no memory.
        let filter = move |_: u8, _: &[u8], _: &[u8]| FilterDecision::Replace(vec![0; len]);
        let filtering = Filtering { filter: &filter, level: Level::BOTTOM, files: None, has_newer: None };
        let key = InternalKey::new(b"k", SeqNo(5), ValueKind::Put).to_buf();
        let entries = VecIterator::new(vec![(key, b"short".to_vec())]);
        let mut iter = CompactionIter::new(entries, &[], SeqNo(9), |_: &[u8]| false);
        iter.seek_to_first().unwrap();
        assert!(filtering.judge(&mut iter)?);
        Ok(iter.value().len())
    }

    /// As long as a value may be that expires, whether it does or not.
    #[test]
    fn a_value_that_is_put_in_the_place_of_another_is_as_long_as_any_may_be() {
        let most = VALUE_BYTES_MAX - EXPIRY_BYTES;
        assert_eq!(replaced(most).unwrap(), most);
        let error = replaced(most + 1).unwrap_err();
        assert_eq!(error.to_string(), format!("compaction filter: a value of {} bytes is too long", most + 1));
        assert!(matches!(error.cause(), Cause::Filter { .. }) && !error.is_corruption());
    }
}
