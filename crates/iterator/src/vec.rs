//! A sorted vector as a source: for tests, examples, and small sorted sets.

use crate::{InternalIterator, Lend, Lent, Plain, Stepped, Way};
use esker_format::{InternalKey, InternalKeyBuf, Trailer};
use std::convert::Infallible;

/// No position.
const NOWHERE: usize = usize::MAX;

/// Walks entries that it owns, sorted in memory.
#[derive(Debug, Clone, Default)]
pub struct VecIterator {
    entries: Vec<(InternalKeyBuf, Vec<u8>)>,
    at: usize,
}

impl VecIterator {
    /// Takes entries in any order, and sorts them.
    pub fn new(mut entries: Vec<(InternalKeyBuf, Vec<u8>)>) -> Self {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Self { entries, at: NOWHERE }
    }

    /// Moves to the last of the first `count` entries; nowhere if there are none.
    fn last_of(&mut self, count: usize) {
        self.at = count.wrapping_sub(1);
    }
}

impl InternalIterator for VecIterator {
    type Error = Infallible;

    #[inline]
    fn valid(&self) -> bool {
        self.at < self.entries.len()
    }

    fn seek_to_first(&mut self) -> Result<(), Infallible> {
        self.at = 0;
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<(), Infallible> {
        self.last_of(self.entries.len());
        Ok(())
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.at = self.entries.partition_point(|(key, _)| key.as_ref() < target);
        Ok(())
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.last_of(self.entries.partition_point(|(key, _)| key.as_ref() <= target));
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<(), Infallible> {
        assert!(self.valid(), "next() on an iterator that stands nowhere");
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<(), Infallible> {
        assert!(self.valid(), "prev() on an iterator that stands nowhere");
        self.last_of(self.at);
        Ok(())
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.entries[self.at].0.as_ref()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        &self.entries[self.at].1
    }

    #[inline]
    fn next_is_other_key(&mut self) -> bool {
        let this = &self.entries[self.at].0;
        self.entries.get(self.at + 1).is_some_and(|(next, _)| next.user_key != this.user_key)
    }

    #[inline]
    fn prev_is_other_key(&mut self) -> bool {
        let this = &self.entries[self.at].0;
        self.at > 0 && self.entries[self.at - 1].0.user_key != this.user_key
    }

    #[inline]
    fn try_next_key(&mut self) -> Option<Trailer> {
        if !self.next_is_other_key() {
            return None;
        }
        self.at += 1;
        Some(self.key().trailer)
    }

    fn steps_before(&mut self, way: Way, user_key: &[u8]) -> usize {
        match way {
            Way::Forward => {
                let before = self.entries.partition_point(|(key, _)| key.user_key[..] < *user_key);
                before.saturating_sub(self.at + 1)
            }
            Way::Backward => {
                let behind = self.entries.partition_point(|(key, _)| key.user_key[..] <= *user_key);
                self.at.saturating_sub(behind)
            }
        }
    }

    #[inline]
    fn try_prev(&mut self) -> Option<Stepped> {
        self.at = self.at.checked_sub(1)?;
        Some(Stepped { trailer: self.key().trailer, is_newest: self.prev_is_other_key() })
    }
}

/// A [`VecIterator`] lends itself.
#[derive(Debug, Default)]
pub struct LentVec(VecIterator);

impl Lend for VecIterator {
    type Lent = LentVec;

    fn lend(&mut self, way: Way, plain: &Plain<'_>, lent: &mut LentVec) -> usize {
        let is_newest = self.prev_is_other_key() || (way == Way::Forward && !plain.from_here);
        if !is_newest || (plain.from_here && !plain.takes(self.key().trailer)) {
            return 0;
        }
        let (from, until) = (self.at, plain.until.map(|until| self.steps_before(way, until)));
        let most = plain.steps.min(until.unwrap_or(usize::MAX));
        let mut steps = 0;
        while steps < most {
            let stepped = match way {
                Way::Forward => self.try_next_key().map(|trailer| Stepped { trailer, is_newest: true }),
                Way::Backward => self.try_prev(),
            };
            if !stepped.is_some_and(|Stepped { trailer, is_newest }| is_newest && plain.takes(trailer)) {
                break;
            }
            steps += 1;
        }
        self.at = from;
        if steps > 0 {
            std::mem::swap(self, &mut lent.0);
        }
        steps
    }

    fn take_back(&mut self, lent: &mut LentVec) -> bool {
        std::mem::swap(self, &mut lent.0);
        false
    }
}

impl Lent for LentVec {
    fn next(&mut self) -> bool {
        self.0.at += 1;
        true
    }

    fn prev(&mut self) -> bool {
        self.0.at -= 1;
        true
    }

    fn key(&self) -> &[u8] {
        &self.0.entries[self.0.at].0.user_key
    }

    fn trailer(&self) -> Trailer {
        self.0.entries[self.0.at].0.trailer
    }

    fn value(&self) -> &[u8] {
        &self.0.entries[self.0.at].1
    }
}
