//! [`KeyRange`]: all the forms in which a range of keys may be given.

use esker_iterator::Bounds;
use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// A range of keys: every range form of the standard library over anything that is `AsRef<[u8]>`, `..`, and a pair of `Bound`s.
///
/// A range whose start lies behind its end holds no keys.
pub trait KeyRange: sealed::Sealed {
    /// Start and end, borrowed.
    fn key_bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>);
}

pub(crate) fn to_bounds(range: &impl KeyRange) -> Bounds {
    let (lower, upper) = range.key_bounds();
    Bounds { lower: lower.map(Box::from), upper: upper.map(Box::from) }
}

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for RangeFull {}
impl KeyRange for RangeFull {
    fn key_bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

macro_rules! key_range {
    ($($range:ident => |$r:ident| ($lower:expr, $upper:expr);)*) => {$(
        impl<K: AsRef<[u8]>> sealed::Sealed for $range<K> {}
        impl<K: AsRef<[u8]>> KeyRange for $range<K> {
            fn key_bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
                let $r = self;
                ($lower, $upper)
            }
        }
    )*};
}

key_range! {
    Range => |r| (Bound::Included(r.start.as_ref()), Bound::Excluded(r.end.as_ref()));
    RangeFrom => |r| (Bound::Included(r.start.as_ref()), Bound::Unbounded);
    RangeTo => |r| (Bound::Unbounded, Bound::Excluded(r.end.as_ref()));
    RangeInclusive => |r| (Bound::Included(r.start().as_ref()), Bound::Included(r.end().as_ref()));
    RangeToInclusive => |r| (Bound::Unbounded, Bound::Included(r.end.as_ref()));
}

impl<A: AsRef<[u8]>, B: AsRef<[u8]>> sealed::Sealed for (Bound<A>, Bound<B>) {}
impl<A: AsRef<[u8]>, B: AsRef<[u8]>> KeyRange for (Bound<A>, Bound<B>) {
    fn key_bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.0.as_ref().map(AsRef::as_ref), self.1.as_ref().map(AsRef::as_ref))
    }
}
