//! Merge operands: what is done to a key's value without reading it first, and made up for by whoever reads it.
//!
//! ```text
//!   k#9,MERGE:+1   k#7,MERGE:+5   k#4,PUT:30      a reader at 9 sees 36: the operands over the base, the oldest first
//!   └──── stack, newest first ───┘   └ base
//! ```
//! A [`Stack`] holds the operands of one key in one stretch of memory, so that a hundred thousand of them cost no more than their bytes, and gives them out as [`Operands`]. What they amount to is said by a
//! [`MergeOperator`], which is somebody else's code: it is always called by way of the stack, which takes its panics for failures, and checks the length of what comes out.

use esker_format::{Slice, Trailer, VALUE_BYTES_MAX};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Why an operator gives no result.
pub type OperatorError = Box<dyn Error + Send + Sync>;

/// What the operands of a keyspace do to its values.
///
/// Operands are merged whenever that is convenient: some by a flush, more by a compaction, the rest by a read. So the result must depend on nothing but what is given, now and for as long as the data lives, and not on how the
/// operands were put into groups:
/// - `merge(base, [a, b])` is what `merge(Some(merge(base, [a])), [b])` is;
/// - where [`combine`](Self::combine) makes `c` of `[a, b]`, `merge(base, [c])` is what `merge(base, [a, b])` is.
///
/// A failure loses nothing: the operands are kept as they are, and every read of the key fails until more operands, or another value, make one that succeeds. A panic counts as a failure.
///
/// ```
/// use esker_iterator::{MergeOperator, OperatorError, Operands};
/// /// Keeps the longest.
/// struct Longest;
///
/// impl MergeOperator for Longest {
///     fn merge(&self, _key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
///         Ok(base.into_iter().chain(operands).max_by_key(|bytes| bytes.len()).unwrap_or_default().to_vec())
///     }
///
///     fn combine(&self, key: &[u8], operands: Operands<'_>) -> Result<Option<Vec<u8>>, OperatorError> {
///         self.merge(key, None, operands).map(Some)
///     }
/// }
/// ```
pub trait MergeOperator: Send + Sync + 'static {
    /// The value of `key`, of which `base` is the value below the operands, if there is one. There is at least one operand; the oldest comes first.
    ///
    /// # Errors
    /// Whatever keeps it from a result.
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError>;

    /// One operand that does what these do one after the other; there are at least two, neighbours, the oldest first. `None`, which is what it says if it is not implemented: they can't be put
    /// together without the value below them, and are all kept until that is reached.
    ///
    /// # Errors
    /// As [`merge`](Self::merge); the operands are kept then.
    fn combine(&self, key: &[u8], operands: Operands<'_>) -> Result<Option<Vec<u8>>, OperatorError> {
        let _ = (key, operands);
        Ok(None)
    }

    /// Asked before an operand is written: one that no value could take is better refused than kept. Says yes to all if it is not implemented.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, operand: &[u8]) -> Result<(), OperatorError> {
        let _ = operand;
        Ok(())
    }
}

/// Why a stack has no value.
#[derive(Debug, Clone)]
pub enum MergeFailure {
    /// The operator said so.
    Failed(Arc<dyn Error + Send + Sync>),
    /// The operator panicked, with these words.
    Panicked(String),
    /// What it made is longer than a value may be, in bytes.
    TooLong(usize),
}

impl MergeFailure {
    fn panicked(payload: &(dyn Any + Send)) -> Self {
        let words = payload.downcast_ref::<&str>().map(ToString::to_string);
        Self::Panicked(words.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default())
    }
}

impl fmt::Display for MergeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Panicked(words) => write!(f, "it panicked: {words}"),
            Self::TooLong(bytes) => {
                write!(f, "its result has {bytes} bytes, and a value at most {VALUE_BYTES_MAX}")
            }
        }
    }
}

impl Error for MergeFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::Panicked(_) | Self::TooLong(_) => None,
        }
    }
}

/// The operands of one key, as a [`MergeOperator`] is given them: the oldest first.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    bytes: &'a [u8],
    /// Where those left begin and end, the newest first.
    ends: &'a [usize],
}

impl<'a> Iterator for Operands<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let [rest @ .., begin, end] = self.ends else { return None };
        self.ends = &self.ends[..=rest.len()];
        Some(&self.bytes[*begin..*end])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.ends.len().saturating_sub(1);
        (len, Some(len))
    }

    /// At once, however many are passed.
    fn nth(&mut self, n: usize) -> Option<&'a [u8]> {
        self.ends = &self.ends[..self.ends.len().saturating_sub(n)];
        self.next()
    }
}

impl DoubleEndedIterator for Operands<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let [begin, end, ..] = self.ends else { return None };
        self.ends = &self.ends[1..];
        Some(&self.bytes[*begin..*end])
    }

    /// At once, however many are passed.
    fn nth_back(&mut self, n: usize) -> Option<Self::Item> {
        self.ends = &self.ends[n.min(self.ends.len())..];
        self.next_back()
    }
}

impl ExactSizeIterator for Operands<'_> {}

impl std::iter::FusedIterator for Operands<'_> {}

impl fmt::Debug for Operands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.map(|operand| operand.escape_ascii().to_string())).finish()
    }
}

/// The operands of one key down to its base, gathered from the newest to the oldest, and the base.
///
/// ```
/// use esker_iterator::{Stack, operators::Append};
/// let mut stack = Stack::new();
/// stack.push(b"c");
/// stack.push(b"b");
/// assert!(stack.operands().eq([b"b", b"c"]), "the oldest comes first");
/// assert_eq!(stack.merge(&Append::new(), b"key", Some(b"a"))?, b"abc");
/// # Ok::<(), esker_iterator::MergeFailure>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Stack {
    /// One operand behind the other, the newest first.
    bytes: Vec<u8>,
    /// Where the first begins, and each ends; nothing if there are none.
    ends: Vec<usize>,
    base: Option<(Trailer, Slice)>,
}

impl Stack {
    /// No operands and no base.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all, and keeps the memory unless it is much.
    pub fn clear(&mut self) {
        const KEPT_BYTES_MAX: usize = 1 << 20;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.ends.clear();
        self.ends.shrink_to(KEPT_BYTES_MAX / size_of::<usize>());
        self.base = None;
    }

    /// Adds an operand that is older than those before it.
    pub fn push(&mut self, operand: &[u8]) {
        if self.ends.is_empty() {
            self.ends.push(0);
        }
        self.bytes.extend_from_slice(operand);
        self.ends.push(self.bytes.len());
    }

    /// Says what lies below the operands: a version with a value, and what is stored of that.
    pub fn set_base(&mut self, trailer: Trailer, stored: Slice) {
        self.base = Some((trailer, stored));
    }

    /// What lies below the operands; `None` for nothing.
    pub fn base(&self) -> Option<(Trailer, &Slice)> {
        self.base.as_ref().map(|(trailer, stored)| (*trailer, stored))
    }

    /// How many operands there are.
    pub fn len(&self) -> usize {
        self.ends.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The operands, the oldest first.
    pub fn operands(&self) -> Operands<'_> {
        Operands { bytes: &self.bytes, ends: &self.ends }
    }

    /// The newest operand; nothing if there are none.
    pub fn newest(&self) -> &[u8] {
        self.operands().next_back().unwrap_or_default()
    }

    /// What the operands make of `base`, which is not asked of the stack: what that has stored may lead to it only.
    ///
    /// # Errors
    /// The operator fails, panics, or makes too much.
    pub fn merge(
        &self,
        operator: &dyn MergeOperator,
        key: &[u8],
        base: Option<&[u8]>,
    ) -> Result<Vec<u8>, MergeFailure> {
        guarded(|| operator.merge(key, base, self.operands())).and_then(within_bounds)
    }

    /// One operand that does what all do; `None` if there is no such, or only one that is longer than a value may be.
    ///
    /// # Errors
    /// The operator fails or panics.
    pub fn combine(&self, operator: &dyn MergeOperator, key: &[u8]) -> Result<Option<Vec<u8>>, MergeFailure> {
        let combined = guarded(|| operator.combine(key, self.operands()))?;
        Ok(combined.filter(|operand| operand.len() <= VALUE_BYTES_MAX))
    }
}

/// Asks an operator whether an operand may be written.
///
/// # Errors
/// It says no, or panics.
pub fn check_operand(operator: &dyn MergeOperator, operand: &[u8]) -> Result<(), MergeFailure> {
    guarded(|| operator.check(operand))
}

/// Calls an operator. Nothing of ours is changed while it runs, so that a panic leaves nothing half done.
fn guarded<T>(call: impl FnOnce() -> Result<T, OperatorError>) -> Result<T, MergeFailure> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| MergeFailure::Failed(Arc::from(error))),
        Err(payload) => Err(MergeFailure::panicked(&*payload)),
    }
}

fn within_bounds(value: Vec<u8>) -> Result<Vec<u8>, MergeFailure> {
    if value.len() > VALUE_BYTES_MAX { Err(MergeFailure::TooLong(value.len())) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::Append;

    struct Broken(fn() -> Result<Vec<u8>, OperatorError>);

    impl MergeOperator for Broken {
        fn merge(&self, _: &[u8], _: Option<&[u8]>, _: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
            (self.0)()
        }
    }

    fn stack(operands: &[&[u8]]) -> Stack {
        let mut stack = Stack::new();
        operands.iter().rev().for_each(|operand| stack.push(operand));
        stack
    }

    #[test]
    fn operands_come_from_both_ends() {
        let stack = stack(&[b"a", b"", b"ccc"]);
        assert!(stack.operands().eq([&b"a"[..], b"", b"ccc"]));
        assert!(stack.operands().rev().eq([&b"ccc"[..], b"", b"a"]));
        for n in 0..5 {
            assert_eq!(stack.operands().nth(n), [&b"a"[..], b"", b"ccc"].get(n).copied());
            assert_eq!(stack.operands().nth_back(n), [&b"ccc"[..], b"", b"a"].get(n).copied());
        }
        let mut both = stack.operands();
        assert_eq!((both.len(), both.next(), both.next_back(), both.len()), (3, Some(&b"a"[..]), Some(&b"ccc"[..]), 1));
        assert_eq!((both.next_back(), both.next(), both.next_back()), (Some(&b""[..]), None, None));
        assert_eq!((stack.len(), stack.newest(), stack.is_empty()), (3, &b"ccc"[..], false));

        let mut cleared = stack.clone();
        cleared.clear();
        assert_eq!((cleared.len(), cleared.newest(), cleared.is_empty()), (0, &b""[..], true));
        assert_eq!(cleared.operands().next(), None);
    }

    #[test]
    fn failures_and_panics_are_told_apart() {
        let stack = stack(&[b"a"]);
        let merge = |broken| stack.merge(&Broken(broken), b"k", None).unwrap_err();
        assert_eq!(merge(|| Err("no".into())).to_string(), "no");
        assert_eq!(merge(|| panic!("ouch")).to_string(), "it panicked: ouch");
        assert_eq!(merge(|| panic!("{}", 7)).to_string(), "it panicked: 7");
        assert!(stack.combine(&Broken(|| Ok(Vec::new())), b"k").unwrap().is_none());
        assert_eq!(stack.merge(&Append::new(), b"k", None).unwrap(), b"a");
    }
}
