//! Keys whose newest version is a merge operand: their operands, and what lies below them, are gathered into a [`Stack`], and shown from there.
//!
//! ```text
//!   forward    k#9,MERGE  k#7,MERGE  k#4,PUT  k#2,PUT    inner is left in front of what is older, or behind the key
//!              └───────── stack ──────────┘  ^
//! ```
//! Backward, where the oldest version comes first, `inner` goes to the newest by a seek, gathers from there, and goes before the key by another: with one version neither is needed.
//!
//! A stack ends where anything but an operand lies, or something that a range tombstone hides.

use super::{Place, VisibleIterator};
use crate::Lend;
use crate::merge::Stack;
use esker_format::{InternalKey, Trailer, ValueKind};

impl<I: Lend> VisibleIterator<I> {
    /// The operands of the entry shown and what lies below them, if its [`trailer`](Self::trailer) is of kind [`ValueKind::Merge`].
    ///
    /// # Panics
    /// If the iterator is not valid, or the entry is of another kind.
    pub fn stack(&self) -> &Stack {
        assert_eq!(self.trailer().kind(), ValueKind::Merge, "an entry without operands has no stack");
        self.stack.as_ref().expect("it was gathered")
    }

    /// From an operand that is the newest version of its key to be seen: shows the key.
    #[cold]
    #[inline(never)]
    pub(super) fn show_stack(&mut self, trailer: Trailer) -> Result<(), I::Error> {
        self.copy_key();
        self.gather()?;
        (self.place, self.trailer) = (Place::Stacked, trailer);
        Ok(())
    }

    /// From where `inner` stands when a stack is shown, goes behind its key.
    #[cold]
    #[inline(never)]
    pub(super) fn leave_stack_forward(&mut self) -> Result<(), I::Error> {
        if self.inner.valid() && self.inner.key().user_key == self.key { self.skip_key_forward() } else { Ok(()) }
    }

    /// From the one version of a key, an operand: holds it, and goes before it. Whether it can be seen.
    #[cold]
    #[inline(never)]
    pub(super) fn hold_operand(&mut self) -> Result<bool, I::Error> {
        self.copy_key();
        let trailer = self.inner.key().trailer;
        let is_shown = self.is_operand_shown(trailer);
        if is_shown {
            self.trailer = trailer;
            let stack = self.stack.get_or_insert_default();
            stack.clear();
            stack.push(self.inner.value());
        }
        self.inner.prev()?;
        Ok(is_shown)
    }

    /// Of the key that was held, whose newest version to be seen is an operand: gathers the stack, and goes before the key again.
    #[cold]
    #[inline(never)]
    pub(super) fn hold_stack(&mut self) -> Result<(), I::Error> {
        self.inner.seek(InternalKey::seek(&self.key, self.seq))?;
        self.gather()?;
        self.inner.seek_for_prev(InternalKey::before_all(&self.key))
    }

    /// Whether an operand, the newest version of its key, can be seen.
    pub(super) fn is_operand_shown(&self, trailer: Trailer) -> bool {
        trailer.seq() <= self.seq && trailer.seq() >= self.least && trailer.kind() == ValueKind::Merge
    }

    /// Gathers the stack of the key that `inner` stands on, which was copied, from there on: steps of it, however many operands there are.
    fn gather(&mut self) -> Result<(), I::Error> {
        let stack = self.stack.get_or_insert_default();
        stack.clear();
        while self.inner.valid() {
            let InternalKey { user_key, trailer } = self.inner.key();
            if user_key != self.key || trailer.seq() < self.least {
                break;
            }
            match trailer.kind() {
                ValueKind::Merge => stack.push(self.inner.value()),
                // None that expires gets into a keyspace with an operator; if one did, it would be a value like others.
                ValueKind::Put | ValueKind::Blob | ValueKind::Expiring | ValueKind::ExpiringBlob => {
                    stack.set_base(trailer, self.inner.value_slice());
                    break;
                }
                ValueKind::Delete | ValueKind::RangeDelete => break,
            }
            self.inner.next()?;
        }
        Ok(())
    }
}
