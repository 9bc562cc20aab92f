//! [`OwnOperands`]: what a transaction has merged into one key, and what it knows of what lies below.
//!
//! ```text
//! own          +2 +3           upon what the snapshot has, which nobody has looked at yet
//! own   put 7  +2 +3           upon what the transaction has put itself
//! ```
//! Nothing is folded here: an operator is asked when somebody reads the key, with all operands at once, those of the snapshot included, as it will be asked for those that read what was committed.

use esker_format::{SeqNo, Slice, Trailer, ValueKind};
use esker_iterator::Stack;

/// What lies below the operands.
#[derive(Debug, Clone)]
pub(super) enum Base {
    /// What the snapshot has of the key.
    Snapshot,
    /// Nothing: the transaction had deleted a range that the key lies in.
    RangeDeleted,
    /// Nothing: the transaction had deleted the key.
    Deleted,
    /// What the transaction had put.
    Put(Slice),
}

/// Operands of one key, at least one, the oldest first.
#[derive(Debug, Clone)]
pub(crate) struct OwnOperands {
    base: Base,
    /// One behind the other.
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl OwnOperands {
    /// The first operand upon `base`.
    pub(super) fn new(base: Base, operand: &[u8]) -> Self {
        Self { base, bytes: operand.to_vec(), ends: vec![operand.len()] }
    }

    /// Adds one that is newer than those before it.
    pub(super) fn push(&mut self, operand: &[u8]) {
        self.bytes.extend_from_slice(operand);
        self.ends.push(self.bytes.len());
    }

    /// Takes the newest back; whether that was the only one.
    pub(super) fn pop(&mut self) -> bool {
        self.ends.pop();
        self.bytes.truncate(self.ends.last().copied().unwrap_or_default());
        self.ends.is_empty()
    }

    pub(super) fn base(&self) -> &Base {
        &self.base
    }

    /// Whether what they amount to depends on the snapshot.
    pub(super) fn needs_snapshot(&self) -> bool {
        matches!(self.base, Base::Snapshot)
    }

    /// The operands, the oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.ends.iter().enumerate().map(|(nth, &end)| {
            let begin = nth.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[begin..end]
        })
    }

    /// They and what the transaction itself has below them. Where that [is not all](Self::needs_snapshot), what the snapshot has is to be added.
    pub(super) fn stack(&self) -> Stack {
        let mut stack = Stack::new();
        self.iter().rev().for_each(|operand| stack.push(operand));
        if let Base::Put(value) = &self.base {
            stack.set_base(Trailer::new(SeqNo::MAX, ValueKind::Put), value.clone());
        }
        stack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_one_by_one() {
        let mut operands = OwnOperands::new(Base::Put(Slice::from(b"base")), b"a");
        operands.push(b"");
        operands.push(b"cc");
        assert!(operands.iter().eq([&b"a"[..], b"", b"cc"]));
        let stack = operands.stack();
        assert!(stack.operands().eq([&b"a"[..], b"", b"cc"]));
        assert_eq!(stack.base().unwrap().1, b"base");
        assert!(!operands.needs_snapshot() && !operands.pop());
        assert!(operands.iter().eq([&b"a"[..], b""]));
        assert!(!operands.pop());
        assert!(operands.iter().eq([b"a"]));
        assert!(operands.pop());
    }
}
