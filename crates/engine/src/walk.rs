//! [`Walk`]: one position in a keyspace, as [`crate::Cursor`] and each end of [`crate::Iter`] have.
//!
//! It holds the state that it reads, and pays the [toll](crate::toll) for the runs it looks into: counted here, handed over when it ends, or now and then.

use crate::error::Result;
use crate::expiry::AsOf;
use crate::read::{ReadState, View};
use esker_format::{Slice, Trailer, ValueKind};
use esker_iterator::{Bounds, Covers, Stack};
use std::sync::Arc;

/// Steps, and seeks, after which a walk that goes on pays.
const STEPS_TOGETHER: u32 = 4096;
const SEEKS_TOGETHER: u32 = 64;

/// What is seen of a state at one sequence number, within bounds, and a position in it.
pub(crate) struct Walk {
    view: View,
    /// Runs of tables that each seek looks into and would not if level 0 were merged.
    more_runs: u32,
    /// What is not paid yet.
    seeks: u32,
    steps: u32,
    /// Keeps the tables' files; behind `view`, which reads them.
    state: Arc<ReadState>,
}

impl Walk {
    pub(crate) fn new(state: Arc<ReadState>, at: AsOf, bounds: Bounds) -> Self {
        Self::under(Covers::new(), state, at, bounds)
    }

    /// As [`Self::new`], under range tombstones that are newer than all there is.
    pub(crate) fn under(covers: Covers, state: Arc<ReadState>, at: AsOf, bounds: Bounds) -> Self {
        let (view, more_runs) = state.iter_under(covers, at, bounds);
        Self { view, more_runs, seeks: 0, steps: 0, state }
    }

    pub(crate) fn state(&self) -> &Arc<ReadState> {
        &self.state
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.view.valid()
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.view.key()
    }

    /// What stands in the table: of a large value, the reference to it; of what expires, behind the time at which it does; of operands, the newest.
    #[inline]
    pub(crate) fn stored(&self) -> &[u8] {
        self.view.value()
    }

    #[inline]
    pub(crate) fn trailer(&self) -> Trailer {
        self.view.trailer()
    }

    /// Whether the value is not what stands in the table: it expires, lies in a blob file, or is to be made of operands.
    #[inline]
    pub(crate) fn is_elsewhere(&self) -> bool {
        !self.trailer().is(ValueKind::Put)
    }

    /// The value, owned.
    pub(crate) fn value_slice(&self) -> Result<Slice> {
        if self.is_elsewhere() { self.load() } else { Ok(self.view.value_slice()) }
    }

    /// A value that is [elsewhere](Self::is_elsewhere).
    #[inline(never)]
    pub(crate) fn load(&self) -> Result<Slice> {
        let value = match self.trailer().kind() {
            ValueKind::Merge => self.state.value_of_stack(self.key(), self.view.stack()),
            _ => self.state.view.resolve(self.trailer(), self.view.value_slice()),
        };
        value.inspect_err(|_| self.count_error())
    }

    #[cold]
    fn count_error(&self) {
        self.state.view.read_errors.add(1);
    }

    /// Adds what stands here to operands that are newer.
    pub(crate) fn add_to(&self, stack: &mut Stack) {
        if self.trailer().kind() != ValueKind::Merge {
            return stack.set_base(self.trailer(), self.view.value_slice());
        }
        let here = self.view.stack();
        here.operands().rev().for_each(|operand| stack.push(operand));
        if let Some((trailer, stored)) = here.base() {
            stack.set_base(trailer, stored.clone());
        }
    }

    pub(crate) fn seek(&mut self, seek: impl FnOnce(&mut View) -> Result<()>) -> Result<()> {
        self.seeks += 1;
        if self.seeks == SEEKS_TOGETHER {
            self.pay();
        }
        seek(&mut self.view).inspect_err(|_| self.count_error())
    }

    /// How many keys it has passed because they are deleted or have expired.
    pub(crate) fn passed(&self) -> u64 {
        self.view.passed()
    }

    /// Moves to the next entry, if no layer below need be asked for it: whether it has.
    #[inline(always)]
    pub(crate) fn next_lent(&mut self) -> bool {
        let moves = self.view.next_lent();
        if moves {
            self.count_step();
        }
        moves
    }

    /// As [`Self::next_lent`], to the entry before.
    #[inline(always)]
    pub(crate) fn prev_lent(&mut self) -> bool {
        let moves = self.view.prev_lent();
        if moves {
            self.count_step();
        }
        moves
    }

    /// The key, if no layer below need be asked for it.
    #[inline(always)]
    pub(crate) fn lent_key(&self) -> Option<&[u8]> {
        self.view.lent_key()
    }

    /// The value, if it stands in the table, and no layer below need be asked for it.
    #[inline(always)]
    pub(crate) fn lent_value(&self) -> Option<&[u8]> {
        self.view.lent_value()
    }

    /// The value, if it stands in the table.
    #[inline(always)]
    pub(crate) fn put_value(&self) -> Option<&[u8]> {
        self.view.put_value()
    }

    /// Moves to the next entry; only from one.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        self.count_step();
        self.view.next().inspect_err(|_| self.count_error())
    }

    /// Moves to the entry before; only from one.
    #[inline]
    pub(crate) fn prev(&mut self) -> Result<()> {
        self.count_step();
        self.view.prev().inspect_err(|_| self.count_error())
    }

    #[inline]
    fn count_step(&mut self) {
        self.steps += 1;
        if self.steps == STEPS_TOGETHER {
            self.pay();
        }
    }

    #[inline(never)]
    fn pay(&mut self) {
        self.state.view.toll.pay(self.more_runs, self.seeks, self.steps);
        (self.seeks, self.steps) = (0, 0);
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if self.more_runs > 0 {
            self.pay();
        }
    }
}
