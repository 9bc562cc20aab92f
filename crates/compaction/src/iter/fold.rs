//! Folds merge operands: those of one stripe into one, or into the value that they make.
//!
//! ```text
//! one user key, stripes end at 9, 4                 written
//!
//!  #9,MERGE:+1  #8,MERGE:+5  #6,PUT:30  #5 .. |     #9,PUT:36             the base is in the stripe: full merge
//!  #4,MERGE:+2  #3,MERGE:+7                         #4,MERGE:+9           something older may lie elsewhere: operands alone
//!                                                   #4,PUT:9              nothing can: full merge of no base
//! ```
//! - What a stripe's reader sees stays as it was, so a fold takes in nothing beyond its stripe, nor beyond what a range tombstone of it hides.
//! - What was folded has the sequence number of the newest operand.
//! - An operator that fails, or that has nothing to say, leaves the stack as it was: every operand, and what lies below it. So does a base in a blob file that is damaged.
//! - A fold holds the operands of one key and stripe in memory, as whoever reads the key does.

use super::CompactionIter;
use crate::changed::Changed;
use crate::error::CompactionError;
use crate::values::BlobConfig;
use esker_blob::BlobRef;
use esker_format::{InternalKey, Slice, Trailer, ValueKind};
use esker_iterator::{InternalIterator, MergeOperator, Stack};
use std::fmt;
use std::sync::Arc;

/// What a fold works with, and what is left of one that could not be made.
pub(crate) struct Fold {
    operator: Arc<dyn MergeOperator>,
    stack: Stack,
    /// Of the operands, the newest first, and of what lies below them.
    trailers: Vec<Trailer>,
    /// The version below the operands, if it was reached; it is one of the stack's versions.
    below: Option<Slice>,
    /// How many of the stack's versions have come out as they were.
    out: usize,
    /// Why a value that is needed could not be read.
    failed: Option<CompactionError>,
}

/// What is known of what lies below a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    /// It is the last of the gathered versions.
    Version,
    Nothing,
    Unknown,
}

/// What became of a stack.
enum Folded {
    Into(ValueKind, Vec<u8>),
    /// It stays as it is.
    Not,
    /// So it does, since the operator failed.
    Failed,
}

impl fmt::Debug for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fold").field("versions", &self.trailers.len()).field("out", &self.out).finish_non_exhaustive()
    }
}

impl Fold {
    pub(crate) fn new(operator: Arc<dyn MergeOperator>) -> Box<Self> {
        Box::new(Self { operator, stack: Stack::new(), trailers: Vec::new(), below: None, out: 0, failed: None })
    }

    fn clear(&mut self) {
        self.stack.clear();
        self.trailers.clear();
        self.below = None;
        self.out = 0;
    }

    /// What the gathered versions amount to.
    fn fold(&mut self, user_key: &[u8], below: Below, blobs: Option<&BlobConfig<'_>>) -> Folded {
        let operator = &*self.operator;
        let base = match (below, &self.below, self.trailers.last()) {
            (Below::Unknown, ..) if self.stack.len() < 2 => return Folded::Not,
            (Below::Unknown, ..) => {
                return match self.stack.combine(operator, user_key) {
                    Ok(Some(operand)) => Folded::Into(ValueKind::Merge, operand),
                    Ok(None) => Folded::Not,
                    Err(_) => Folded::Failed,
                };
            }
            (Below::Version, Some(stored), Some(trailer)) => match trailer.kind() {
                ValueKind::Blob => match read(stored, blobs) {
                    Ok(value) => Some(value),
                    Err(error) => {
                        // Nothing is lost by leaving it: reads of the key say what is wrong.
                        if let Some(error) = error.filter(|error| !error.is_corruption() && !error.is_unsupported()) {
                            self.failed = Some(error);
                        }
                        return Folded::Not;
                    }
                },
                ValueKind::Put => Some(stored.clone()),
                // None gets into a keyspace with an operator.
                ValueKind::Expiring | ValueKind::ExpiringBlob => return Folded::Not,
                _ => None,
            },
            _ => None,
        };
        match self.stack.merge(operator, user_key, base.as_deref()) {
            Ok(value) => Folded::Into(ValueKind::Put, value),
            Err(_) => Folded::Failed,
        }
    }

    /// Takes the next of the versions that come out as they were.
    fn take_next(&mut self) -> Option<Changed> {
        let trailer = *self.trailers.get(self.out)?;
        let value = match self.stack.operands().nth_back(self.out) {
            Some(operand) => operand.to_vec(),
            None => self.below.as_deref().unwrap_or_default().to_vec(),
        };
        self.out += 1;
        Some(Changed { trailer, value })
    }
}

/// The value that a reference leads to; no error where there is nothing to read it with.
fn read(stored: &[u8], blobs: Option<&BlobConfig<'_>>) -> Result<Slice, Option<CompactionError>> {
    let blobs = blobs.ok_or(None)?;
    // One that does not decode is found by whoever writes it on.
    let reference = BlobRef::decode(stored).map_err(|_| None)?;
    blobs.files.read_blob(reference).map_err(|error| Some(CompactionError::blob_input(reference.file)(error)))
}

impl<I: InternalIterator, K: FnMut(&[u8]) -> bool> CompactionIter<I, K> {
    /// Has merge operands folded by `operator`. Without one they are kept as they are, each.
    #[must_use]
    pub fn with_operator(self, operator: Arc<dyn MergeOperator>) -> Self {
        Self { fold: Some(Fold::new(operator)), ..self }
    }

    pub(crate) fn set_operator(&mut self, operator: Option<Arc<dyn MergeOperator>>) {
        if let Some(operator) = operator {
            self.fold = Some(Fold::new(operator));
        }
    }

    /// Why the job can't go on, other than that an input failed.
    #[inline]
    pub(crate) fn take_failure(&mut self) -> Option<CompactionError> {
        if self.is_ahead { self.fold.as_mut()?.failed.take() } else { None }
    }

    /// From an operand that is the newest version of its stripe: folds what lies below it in that stripe. What comes out is `changed`, and `inner` has gone past what it was made of.
    #[cold]
    #[inline(never)]
    pub(crate) fn fold(&mut self, blobs: Option<&BlobConfig<'_>>) -> Result<(), I::Error> {
        let mut fold = self.fold.take().expect("it is asked only where there is an operator");
        let gathered = self.gather(&mut fold);
        if let Ok(below) = &gathered {
            self.changed = match fold.fold(&self.user_key, *below, blobs) {
                Folded::Into(kind, value) => {
                    self.counts.folded += fold.trailers.len() as u64 - 1;
                    let trailer = Trailer::new(fold.trailers[0].seq(), kind);
                    fold.clear();
                    Some(Changed { trailer, value })
                }
                Folded::Not => fold.take_next(),
                Folded::Failed => {
                    self.counts.not_folded += 1;
                    fold.take_next()
                }
            };
            self.is_ahead = true;
        }
        self.fold = Some(fold);
        gathered.map(drop)
    }

    fn gather(&mut self, fold: &mut Fold) -> Result<Below, I::Error> {
        fold.clear();
        let stripe = self.stripe;
        loop {
            fold.trailers.push(self.inner.key().trailer);
            fold.stack.push(self.inner.value());
            self.inner.next()?;
            if !self.inner.valid() || self.inner.key().user_key != self.user_key {
                let is_last = !(self.keep_tombstone)(&self.user_key);
                return Ok(if is_last { Below::Nothing } else { Below::Unknown });
            }
            let InternalKey { trailer, .. } = self.inner.key();
            if self.stripes.of(trailer.seq()) != Some(stripe) {
                return Ok(Below::Unknown);
            }
            if self.has_ranges && self.ranges.hide(&self.user_key, trailer.seq(), stripe) {
                // It is judged next, and found to be hidden.
                return Ok(Below::Nothing);
            }
            self.counts.entries_in += 1;
            // A tombstone that nobody needs does not stay either if the fold fails.
            let is_idle = trailer.kind() == ValueKind::Delete && stripe == self.stripes.oldest();
            if is_idle && !(self.keep_tombstone)(&self.user_key) {
                self.counts.tombstones += 1;
                self.inner.next()?;
                return Ok(Below::Nothing);
            }
            if trailer.kind() != ValueKind::Merge {
                fold.trailers.push(trailer);
                fold.below = Some(Slice::from(self.inner.value()));
                self.inner.next()?;
                return Ok(Below::Version);
            }
        }
    }

    /// Leaves the entry that came out of a fold, for the next that does, or for the one that `inner` stands on, which was not judged yet.
    pub(crate) fn step_folded(&mut self) {
        self.changed = self.fold.as_mut().and_then(|fold| fold.take_next());
        self.is_ahead = self.changed.is_some();
    }
}
