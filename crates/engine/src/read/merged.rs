//! The value of a key whose newest version is a merge operand: made when it is asked for, of what lies in all sources down to the first that knows the base.
//!
//! Sources are walked as a scan would, each for this key alone; in each of them all is newer than in the next. However many operands there are, each is copied once, behind the others.

use super::{ReadState, prefetch_filters};
use crate::error::{Error, Result};
use esker_format::{InternalKey, KeyHash, SeqNo, Slice, ValueKind};
use esker_iterator::{InternalIterator, Stack};

impl ReadState {
    /// The value of `user_key` at `seq`, of which the newest version is an operand.
    #[cold]
    #[inline(never)]
    pub(crate) fn merged(&self, user_key: &[u8], seq: SeqNo) -> Result<Slice> {
        self.merged_under(user_key, seq, Stack::new())
    }

    /// The value that operands newer than all there is make of what `user_key` has at `seq`, whatever that is.
    pub(crate) fn merged_under(&self, user_key: &[u8], seq: SeqNo, mut stack: Stack) -> Result<Slice> {
        self.gather(user_key, seq, &mut stack)?;
        self.value_of_stack(user_key, &stack)
    }

    /// What a stack amounts to.
    pub(crate) fn value_of_stack(&self, user_key: &[u8], stack: &Stack) -> Result<Slice> {
        let base = stack.base().map(|(trailer, stored)| self.view.resolve(trailer, stored.clone())).transpose()?;
        let Some(merging) = &self.merging else {
            let key = user_key.escape_ascii();
            return Err(Error::corruption(format!("{key} has merge operands, in a keyspace without a merge operator")));
        };
        merging.merge(user_key, stack, base.as_deref())
    }

    fn gather(&self, user_key: &[u8], seq: SeqNo, stack: &mut Stack) -> Result<()> {
        let hash = KeyHash::of(user_key);
        for memtable in self.memtables() {
            let covering = memtable.table.newest_covering(user_key, seq);
            // Found out by the hash, which costs less than a seek.
            let ends = match memtable.get(user_key, hash, seq) {
                Some(_) => {
                    let Ok(ends) = gather_in(&mut memtable.iter(), user_key, seq, covering, stack);
                    ends
                }
                None => false,
            };
            if ends || covering.is_some() {
                return Ok(());
            }
        }
        let candidates = self.view.candidates(user_key);
        prefetch_filters(&candidates, hash);
        for open in candidates {
            let table = open.table()?;
            let covering = table.range_tombstones().and_then(|ranges| ranges.newest_covering(user_key, seq));
            let ends = table.may_contain(hash)? && gather_in(&mut table.iter(), user_key, seq, covering, stack)?;
            if ends || covering.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Adds what one source has of a key; whether that ends the stack.
fn gather_in<I: InternalIterator>(
    iter: &mut I,
    user_key: &[u8],
    seq: SeqNo,
    covering: Option<SeqNo>,
    stack: &mut Stack,
) -> Result<bool, I::Error> {
    iter.seek(InternalKey::seek(user_key, seq))?;
    while iter.valid() {
        let InternalKey { user_key: here, trailer } = iter.key();
        if here != user_key {
            break;
        }
        if covering.is_some_and(|covering| trailer.seq() < covering) {
            return Ok(true);
        }
        match trailer.kind() {
            ValueKind::Merge => stack.push(iter.value()),
            // None that expires gets into a keyspace with an operator; if one did, it would be a value like others.
            ValueKind::Put | ValueKind::Blob | ValueKind::Expiring | ValueKind::ExpiringBlob => {
                stack.set_base(trailer, iter.value_slice());
                return Ok(true);
            }
            ValueKind::Delete | ValueKind::RangeDelete => return Ok(true),
        }
        iter.next()?;
    }
    Ok(false)
}
