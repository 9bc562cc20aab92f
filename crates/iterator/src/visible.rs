//! What a reader at one sequence number sees.
//!
//! ```text
//!   inner:   a#9,PUT  a#4,PUT  b#7,DEL  b#3,PUT  c#8,PUT  c#5,PUT  c#2,PUT
//!   at 7:             a=..     hidden                     c=..
//! ```
//! Most keys have one version, and `inner` mostly knows it ([`InternalIterator::next_is_other_key`]): such an entry is shown where
//! it lies, either way, and nothing is copied. Else, forward, the first version at or below the sequence number decides a key, and
//! is shown where it lies; the older ones behind it are skipped by comparing with a copy of the key. Backward, the versions come
//! oldest first, so each that can be seen is held as the candidate until the key changes: `inner` is then one key further, and never
//! turns for a step.
//!
//! Where a source knows that nothing but such entries follow, it lends them ([`Lend`]), and they are walked over without asking anyone.
//!
//! A key with many versions is left by a seek after [`SKIPS_BEFORE_SEEK`] of them, so a key overwritten a million times costs
//! a bounded walk.
//!
//! What expires ([`ValueKind::expires`]) is no value to what goes from entry to entry: such an entry is looked at where a tombstone is, and shown after all if its time has not come. So entries that do not expire pay nothing
//! for those that do.
//!
//! A merge operand is shown with what lies below it (`stacked`); it leaves the short ways as a deletion does, so that who has none pays nothing.
//!
//! Where there are range tombstones, `bounds` are those of the present stretch ([`Covers`]), and `least` the least sequence number that they leave to be seen in it. So what goes from entry to entry
//! knows of no tombstones: it only looks at a bound and at two numbers, and finds out what is behind the bound when it gets there.

mod lending;
mod stacked;

use crate::covers::GREATEST_KEY;
use crate::merge::Stack;
use crate::{Bounds, Covers, Lend, Lent, Stepped, Way};
use esker_format::{InternalKey, SeqNo, Slice, Trailer, ValueKind, split_expiry};
use lending::{Borrowed, Lending};
use std::ops::Bound;

/// Versions of one key passed singly; a seek costs about as much as some tens of steps.
const SKIPS_BEFORE_SEEK: usize = 32;
/// Candidates longer than this are held as slices, which may pin them; shorter ones are copied into a buffer that is kept.
const COPIED_BYTES_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first seek, past an end, or after an error.
    Nowhere,
    /// `inner` stands on the entry shown.
    Inner,
    /// As `Inner`, and `inner` came here backward: no version of the key before it can be seen.
    InnerFromBehind,
    /// The entry shown was lent by `inner`, which nothing is to be asked of.
    Lent,
    /// The entry shown is the candidate, or the stack if that is an operand; `inner` is before all versions of its key.
    Held,
    /// The entry shown is the stack; `inner` is on an older version of its key, or behind them all.
    Stacked,
}

/// User keys and values as seen at one sequence number: the newest version at or below it, tombstones hidden, within
/// [`Bounds`], both ways.
///
/// The words of [`InternalIterator`](crate::InternalIterator)'s contract hold here too: not valid until a seek; past an end, only a seek makes it valid
/// again; an error sticks until the next seek. A seek outside the bounds is clamped to them, and a step never leaves them.
#[derive(Debug)]
pub struct VisibleIterator<I: Lend> {
    inner: I,
    seq: SeqNo,
    /// What expires at this time or before is gone.
    unix_ms: u64,
    /// What is older is hidden by a range tombstone.
    least: SeqNo,
    /// Of the part of the whole range in which that is so.
    bounds: Bounds,
    /// Where there are range tombstones.
    covers: Option<Box<Covers>>,
    place: Place,
    failed: bool,
    /// The user key shown (`Place::Held`, `Place::Stacked`), or to be skipped.
    key: Vec<u8>,
    /// The candidate's value: here if it is long, else in `short`.
    long: Option<Slice>,
    short: Vec<u8>,
    /// Of the entry shown, or of the candidate.
    trailer: Trailer,
    /// Operands and what lies below them, once there were any.
    stack: Option<Box<Stack>>,
    passed: u64,
    lent: I::Lent,
    lending: Lending,
}

impl<I: Lend> VisibleIterator<I> {
    /// The view of `inner` at `seq` within `bounds`. It is not valid until a seek.
    #[inline]
    pub fn new(inner: I, seq: SeqNo, bounds: Bounds) -> Self {
        Self {
            inner,
            seq,
            unix_ms: 0,
            least: SeqNo::ZERO,
            bounds,
            covers: None,
            place: Place::Nowhere,
            failed: false,
            key: Vec::new(),
            long: None,
            short: Vec::new(),
            trailer: Trailer::MIN,
            stack: None,
            passed: 0,
            lent: I::Lent::default(),
            lending: Lending::NOT_YET,
        }
    }

    /// As [`Self::new`], of an `inner` whose sources have these range tombstones.
    #[inline]
    pub fn with_tombstones(inner: I, seq: SeqNo, bounds: Bounds, mut covers: Covers) -> Self {
        if covers.is_empty() {
            return Self::new(inner, seq, bounds);
        }
        covers.bounds = bounds.clone();
        Self { covers: Some(Box::new(covers)), ..Self::new(inner, seq, bounds) }
    }

    /// As of a time, in milliseconds since 1970: what expires then or before is gone. Without it nothing is.
    #[must_use]
    #[inline]
    pub fn at_time(self, unix_ms: u64) -> Self {
        Self { unix_ms, ..self }
    }

    /// Whether it stands on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.place != Place::Nowhere
    }

    /// The user key.
    ///
    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub fn key(&self) -> &[u8] {
        match self.place {
            Place::Lent => self.lent.key(),
            Place::Inner | Place::InnerFromBehind => self.inner.key().user_key,
            Place::Held | Place::Stacked => &self.key,
            Place::Nowhere => panic!("key() of an iterator that stands nowhere"),
        }
    }

    /// The value; of kind [`ValueKind::Blob`], which [`Self::trailer`] tells, the reference to it; of those that expire, behind the time at which they do; of kind [`ValueKind::Merge`] the newest operand, where [`Self::stack`] has all that the value is to be made of.
    ///
    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match self.place {
            Place::Lent => self.lent.value(),
            Place::Inner | Place::InnerFromBehind => self.inner.value(),
            Place::Held if self.trailer.kind() != ValueKind::Merge => self.long.as_deref().unwrap_or(&self.short),
            Place::Held | Place::Stacked => self.stack().newest(),
            Place::Nowhere => panic!("value() of an iterator that stands nowhere"),
        }
    }

    /// Which version it is.
    ///
    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub fn trailer(&self) -> Trailer {
        match self.place {
            Place::Lent => self.lent.trailer(),
            Place::Nowhere => panic!("trailer() of an iterator that stands nowhere"),
            _ => self.trailer,
        }
    }

    /// The value, owned: pinned where it lies if it is long and its source can do that.
    ///
    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub fn value_slice(&self) -> Slice {
        match self.place {
            Place::Lent => self.inner.lent_value_slice(&self.lent),
            Place::Inner | Place::InnerFromBehind => self.inner.value_slice(),
            Place::Held if self.trailer.kind() != ValueKind::Merge => {
                self.long.clone().unwrap_or_else(|| Slice::from(&self.short[..]))
            }
            Place::Held | Place::Stacked => Slice::from(self.stack().newest()),
            Place::Nowhere => panic!("value_slice() of an iterator that stands nowhere"),
        }
    }

    /// The sequence number it sees.
    pub fn seq(&self) -> SeqNo {
        self.seq
    }

    /// How many keys were passed one by one, by all moves so far, because they are deleted or have expired.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// The range it keeps to.
    pub fn bounds(&self) -> &Bounds {
        self.covers.as_ref().map_or(&self.bounds, |covers| &covers.bounds)
    }

    /// Moves to the first entry within the bounds.
    ///
    /// # Errors
    /// That of the inner iterator; it sticks until the next seek.
    pub fn seek_to_first(&mut self) -> Result<(), I::Error> {
        self.leave();
        if self.covers.is_some() {
            let lower = self.bounds().lower.clone();
            return match &lower {
                Bound::Included(key) => self.seek_covered(key, InternalKey::seek(key, self.seq)),
                Bound::Excluded(key) => self.seek_covered(key, InternalKey::behind_all(key)),
                Bound::Unbounded => self.seek_covered(b"", InternalKey::before_all(b"")),
            };
        }
        let sought = match &self.bounds.lower {
            Bound::Included(key) => self.inner.seek(InternalKey::seek(key, self.seq)),
            Bound::Excluded(key) => self.inner.seek(InternalKey::behind_all(key)),
            Bound::Unbounded => self.inner.seek_to_first(),
        };
        let found = sought.and_then(|()| self.find_forward());
        self.check(found)
    }

    /// Moves to the last entry within the bounds.
    ///
    /// # Errors
    /// As [`Self::seek_to_first`].
    pub fn seek_to_last(&mut self) -> Result<(), I::Error> {
        self.leave();
        if self.covers.is_some() {
            let upper = self.bounds().upper.clone();
            return match &upper {
                Bound::Included(key) => self.seek_for_prev_covered(key, InternalKey::behind_all(key)),
                Bound::Excluded(key) => self.seek_for_prev_covered(key, InternalKey::before_all(key)),
                Bound::Unbounded => self.seek_for_prev_covered(&GREATEST_KEY, InternalKey::behind_all(&GREATEST_KEY)),
            };
        }
        let sought = match &self.bounds.upper {
            Bound::Included(key) => self.inner.seek_for_prev(InternalKey::behind_all(key)),
            Bound::Excluded(key) => self.inner.seek_for_prev(InternalKey::before_all(key)),
            Bound::Unbounded => self.inner.seek_to_last(),
        };
        let found = sought.and_then(|()| self.find_backward());
        self.check(found)
    }

    /// Moves to the first entry at or behind `key`.
    ///
    /// # Errors
    /// As [`Self::seek_to_first`].
    pub fn seek(&mut self, key: &[u8]) -> Result<(), I::Error> {
        if !self.bounds().reaches_down_to(key) {
            return self.seek_to_first();
        }
        self.leave();
        if self.covers.is_some() {
            return self.seek_covered(key, InternalKey::seek(key, self.seq));
        }
        let sought = self.inner.seek(InternalKey::seek(key, self.seq));
        let found = sought.and_then(|()| self.find_forward());
        self.check(found)
    }

    /// Moves to the last entry at or before `key`.
    ///
    /// # Errors
    /// As [`Self::seek_to_first`].
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<(), I::Error> {
        if !self.bounds().reaches_up_to(key) {
            return self.seek_to_last();
        }
        self.leave();
        if self.covers.is_some() {
            return self.seek_for_prev_covered(key, InternalKey::behind_all(key));
        }
        let sought = self.inner.seek_for_prev(InternalKey::behind_all(key));
        let found = sought.and_then(|()| self.find_backward());
        self.check(found)
    }

    /// Moves to the next entry.
    ///
    /// # Errors
    /// As [`Self::seek_to_first`].
    ///
    /// # Panics
    /// If the iterator is not valid and has no error to return.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "the cursor's word; it lends, so it is no `Iterator`")]
    pub fn next(&mut self) -> Result<(), I::Error> {
        if self.next_lent() {
            return Ok(());
        }
        if self.give_back() {
            return self.find_from_here(Way::Forward);
        }
        if !matches!(self.place, Place::Inner | Place::InnerFromBehind) {
            return self.next_by_steps();
        }
        if self.lending.is_due() {
            match self.borrow(Way::Forward) {
                Borrowed::Next => return Ok(()),
                Borrowed::Past => return self.find_from_here(Way::Forward),
                Borrowed::Nothing => {}
            }
        }
        if let Some(trailer) = self.inner.try_next_key() {
            if self.is_shown(trailer) && self.ends_behind() {
                (self.place, self.trailer) = (Place::Inner, trailer);
                return Ok(());
            }
            return self.find_from_here(Way::Forward);
        }
        self.next_by_steps()
    }

    /// Shows the first entry that is to be shown from that of `inner` on.
    #[inline(never)]
    fn find_from_here(&mut self, way: Way) -> Result<(), I::Error> {
        self.place = Place::Nowhere;
        let found = if way == Way::Forward { self.find_forward() } else { self.find_backward() };
        self.check(found)
    }

    #[inline(never)]
    fn next_by_steps(&mut self) -> Result<(), I::Error> {
        let left = match self.place {
            Place::Inner | Place::InnerFromBehind => {
                self.place = Place::Nowhere;
                self.skip_key_forward()
            }
            Place::Held => {
                self.place = Place::Nowhere;
                self.inner.seek(InternalKey::behind_all(&self.key))
            }
            Place::Stacked => {
                self.place = Place::Nowhere;
                self.leave_stack_forward()
            }
            Place::Lent => unreachable!("it was given back"),
            Place::Nowhere => return self.fail_again(I::next),
        };
        let found = left.and_then(|()| self.find_forward());
        self.check(found)
    }

    /// Moves to the entry before.
    ///
    /// # Errors
    /// As [`Self::seek_to_first`].
    ///
    /// # Panics
    /// If the iterator is not valid and has no error to return.
    #[inline]
    pub fn prev(&mut self) -> Result<(), I::Error> {
        if self.prev_lent() {
            return Ok(());
        }
        if self.give_back() {
            return self.find_from_here(Way::Backward);
        }
        if self.place != Place::InnerFromBehind {
            return self.prev_by_steps();
        }
        if self.lending.is_due() {
            match self.borrow(Way::Backward) {
                Borrowed::Next => return Ok(()),
                Borrowed::Past => return self.find_from_here(Way::Backward),
                Borrowed::Nothing => {}
            }
        }
        if let Some(Stepped { trailer, is_newest }) = self.inner.try_prev() {
            if is_newest && self.is_shown(trailer) && self.begins_before() {
                self.trailer = trailer;
                return Ok(());
            }
            return self.find_from_here(Way::Backward);
        }
        self.prev_by_steps()
    }

    #[inline(never)]
    fn prev_by_steps(&mut self) -> Result<(), I::Error> {
        let left = match self.place {
            Place::InnerFromBehind => {
                self.place = Place::Nowhere;
                self.inner.prev()
            }
            Place::Inner => {
                self.place = Place::Nowhere;
                if self.inner.prev_is_other_key() {
                    self.inner.prev()
                } else {
                    self.copy_key();
                    self.inner.seek_for_prev(InternalKey::before_all(&self.key))
                }
            }
            Place::Held => {
                self.place = Place::Nowhere;
                Ok(())
            }
            Place::Stacked => {
                self.place = Place::Nowhere;
                self.inner.seek_for_prev(InternalKey::before_all(&self.key))
            }
            Place::Lent => unreachable!("it was given back"),
            Place::Nowhere => return self.fail_again(I::prev),
        };
        let found = left.and_then(|()| self.find_backward());
        self.check(found)
    }

    /// Whether the entry of `inner` is not above the upper bound. Where there is none, its key is not asked for.
    #[inline(always)]
    fn ends_behind(&self) -> bool {
        matches!(self.bounds.upper, Bound::Unbounded) || self.bounds.reaches_up_to(self.inner.key().user_key)
    }

    /// Whether the entry of `inner` is not below the lower bound.
    #[inline(always)]
    fn begins_before(&self) -> bool {
        matches!(self.bounds.lower, Bound::Unbounded) || self.bounds.reaches_down_to(self.inner.key().user_key)
    }

    /// Whether a key is shown whose newest version has this trailer.
    #[inline]
    fn is_shown(&self, trailer: Trailer) -> bool {
        trailer.seq() <= self.seq && trailer.seq() >= self.least && trailer.is_value()
    }

    /// Whether a key is shown whose newest version, on which `inner` stands, expires: if its time has not come. One that has none, as only damage makes, is shown, so that whoever takes its value apart finds it.
    #[inline(never)]
    fn is_shown_until(&self, trailer: Trailer) -> bool {
        trailer.kind().expires()
            && trailer.seq() <= self.seq
            && trailer.seq() >= self.least
            && split_expiry(self.inner.value()).is_none_or(|(expiry, _)| expiry > self.unix_ms)
    }

    /// From an entry behind the bounds: goes on to the stretch that it lies in. `false` if it lies behind the whole range.
    #[inline]
    fn enter_stretch(&mut self, is_within: impl FnOnce(&Bounds, &[u8]) -> bool) -> bool {
        match &mut self.covers {
            None => false,
            Some(covers) => {
                let user_key = self.inner.key().user_key;
                let is_within = is_within(&covers.bounds, user_key);
                if is_within {
                    self.least = covers.enter(user_key, self.seq, &mut self.bounds);
                }
                is_within
            }
        }
    }

    /// A seek to `target`, a place at `key`, where there are range tombstones: in the stretch that the key lies in.
    #[inline(never)]
    fn seek_covered(&mut self, key: &[u8], target: InternalKey<'_>) -> Result<(), I::Error> {
        let covers = self.covers.as_mut().expect("there are range tombstones");
        self.least = covers.enter(key, self.seq, &mut self.bounds);
        let sought = covers.seek(&mut self.inner, target);
        let found = sought.and_then(|()| self.find_forward());
        self.check(found)
    }

    /// As [`Self::seek_covered`], backward.
    #[inline(never)]
    fn seek_for_prev_covered(&mut self, key: &[u8], target: InternalKey<'_>) -> Result<(), I::Error> {
        let covers = self.covers.as_mut().expect("there are range tombstones");
        self.least = covers.enter(key, self.seq, &mut self.bounds);
        let sought = covers.seek_for_prev(&mut self.inner, target);
        let found = sought.and_then(|()| self.find_backward());
        self.check(found)
    }

    /// Whether something older than the present stretch lets be seen came up, and was passed.
    #[inline(never)]
    fn pass_hidden(&mut self, pass: impl FnOnce(&Covers, &mut I) -> Result<bool, I::Error>) -> Result<bool, I::Error> {
        self.covers.as_ref().map_or(Ok(false), |covers| pass(covers, &mut self.inner))
    }

    /// From any entry, goes forward to the first that is to be shown; `place` says whether there was one.
    #[inline]
    fn find_forward(&mut self) -> Result<(), I::Error> {
        let (mut too_new, mut last) = (0, Trailer::MAX);
        while self.inner.valid() {
            let InternalKey { user_key, trailer } = self.inner.key();
            if !self.bounds.reaches_up_to(user_key) {
                if self.enter_stretch(Bounds::reaches_up_to) {
                    continue;
                }
                return Ok(());
            }
            if trailer.seq() > self.seq {
                // Of one key, trailers descend: where they do not, this is another key.
                too_new = if trailer < last { too_new + 1 } else { 0 };
                last = trailer;
                if too_new < SKIPS_BEFORE_SEEK {
                    self.inner.next()?;
                } else {
                    too_new = 0;
                    self.copy_key();
                    self.inner.seek(InternalKey::seek(&self.key, self.seq))?;
                }
                continue;
            }
            if trailer.seq() < self.least {
                if !self.pass_hidden(Covers::pass_forward)? {
                    self.skip_key_forward()?;
                }
                continue;
            }
            match trailer.kind() {
                ValueKind::Put | ValueKind::Blob => {
                    (self.place, self.trailer) = (Place::Inner, trailer);
                    return Ok(());
                }
                ValueKind::Merge => return self.show_stack(trailer),
                ValueKind::Expiring | ValueKind::ExpiringBlob if self.is_shown_until(trailer) => {
                    (self.place, self.trailer) = (Place::Inner, trailer);
                    return Ok(());
                }
                ValueKind::Delete | ValueKind::RangeDelete | ValueKind::Expiring | ValueKind::ExpiringBlob => {
                    self.passed += 1;
                    self.skip_key_forward()?;
                }
            }
        }
        Ok(())
    }

    /// Goes behind the versions of the key that `inner` stands on.
    #[inline]
    fn skip_key_forward(&mut self) -> Result<(), I::Error> {
        if self.inner.next_is_other_key() { self.inner.next() } else { self.skip_versions_forward() }
    }

    #[inline(never)]
    fn skip_versions_forward(&mut self) -> Result<(), I::Error> {
        self.copy_key();
        for _ in 0..SKIPS_BEFORE_SEEK {
            self.inner.next()?;
            if !self.inner.valid() || self.inner.key().user_key != self.key {
                return Ok(());
            }
        }
        self.inner.seek(InternalKey::behind_all(&self.key))
    }

    /// From any entry, goes backward to the first key that is to be shown; `place` says whether there was one.
    #[inline]
    fn find_backward(&mut self) -> Result<(), I::Error> {
        while self.inner.valid() {
            let InternalKey { user_key, trailer } = self.inner.key();
            if !self.bounds.reaches_down_to(user_key) {
                if self.enter_stretch(Bounds::reaches_down_to) {
                    continue;
                }
                return Ok(());
            }
            if self.least > SeqNo::ZERO && self.pass_hidden(Covers::pass_backward)? {
                continue;
            }
            if !self.inner.prev_is_other_key() {
                if self.hold_newest()? {
                    if self.trailer.kind() == ValueKind::Merge {
                        self.hold_stack()?;
                    }
                    self.place = Place::Held;
                    return Ok(());
                }
                self.passed += 1;
            } else if self.is_shown(trailer) || self.is_shown_until(trailer) {
                (self.place, self.trailer) = (Place::InnerFromBehind, trailer);
                return Ok(());
            } else if trailer.kind() == ValueKind::Merge {
                if self.hold_operand()? {
                    self.place = Place::Held;
                    return Ok(());
                }
            } else {
                self.passed += 1;
                self.inner.prev()?;
            }
        }
        Ok(())
    }

    /// From the oldest version of a key, goes before all of them, and holds the newest that can be seen. Returns whether that
    /// one is a value or an operand; of an operand nothing is held yet.
    #[inline(never)]
    fn hold_newest(&mut self) -> Result<bool, I::Error> {
        self.copy_key();
        let oldest = self.inner.key().trailer;
        let mut is_put = false;
        for _ in 0..SKIPS_BEFORE_SEEK {
            let trailer = self.inner.key().trailer;
            if trailer.seq() <= self.seq {
                is_put = self.hold_version(trailer);
            }
            self.inner.prev()?;
            if !self.inner.valid() || self.inner.key().user_key != self.key {
                return Ok(is_put);
            }
        }
        // Many versions: go straight to the one that counts, which may lie further on or have been passed.
        self.inner.seek(InternalKey::seek(&self.key, self.seq))?;
        // An older one than the walk began with belongs to an entry that was shown already: newer versions came in beside it.
        if self.inner.valid() && self.inner.key().user_key == self.key && self.inner.key().trailer >= oldest {
            is_put = self.hold_version(self.inner.key().trailer);
        }
        self.inner.seek_for_prev(InternalKey::before_all(&self.key))?;
        Ok(is_put)
    }

    /// Takes the version that `inner` stands on for the candidate. Returns whether it is a value or an operand that is not hidden.
    #[inline]
    fn hold_version(&mut self, trailer: Trailer) -> bool {
        self.trailer = trailer;
        self.long = None;
        self.short.clear();
        match trailer.kind() {
            ValueKind::Put | ValueKind::Blob | ValueKind::Expiring | ValueKind::ExpiringBlob => {
                let value = self.inner.value();
                if value.len() > COPIED_BYTES_MAX {
                    self.long = Some(self.inner.value_slice());
                } else {
                    self.short.extend_from_slice(value);
                }
            }
            ValueKind::Merge => return self.is_operand_shown(trailer),
            ValueKind::Delete | ValueKind::RangeDelete => {}
        }
        self.is_shown(trailer) || self.is_shown_until(trailer)
    }

    #[inline]
    fn copy_key(&mut self) {
        self.key.clear();
        self.key.extend_from_slice(self.inner.key().user_key);
    }

    /// An error ends the walk. It is not kept here: the inner iterator returns it again.
    #[inline]
    fn check(&mut self, result: Result<(), I::Error>) -> Result<(), I::Error> {
        self.failed = result.is_err();
        if self.failed {
            self.place = Place::Nowhere;
        }
        result
    }

    #[cold]
    fn fail_again(&mut self, step: impl FnOnce(&mut I) -> Result<(), I::Error>) -> Result<(), I::Error> {
        assert!(self.failed, "a step on an iterator that stands nowhere");
        step(&mut self.inner)
    }
}
