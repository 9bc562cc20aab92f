//! Ranges of user keys.

use std::cmp::Ordering;
use std::ops::Bound;

/// A range of user keys. `Default` is all of them. Bounds that cross one another are allowed, and hold nothing.
///
/// ```
/// use esker_iterator::Bounds;
/// use std::ops::Bound;
///
/// let bounds = Bounds::prefix(b"user/");
/// assert!(bounds.contains(b"user/") && bounds.contains(b"user/7") && !bounds.contains(b"user0"));
/// assert!(Bounds::new(Bound::Included(b"b"), Bound::Excluded(b"a")).is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Where the range begins.
    pub lower: Bound<Box<[u8]>>,
    /// Where it ends.
    pub upper: Bound<Box<[u8]>>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { lower: Bound::Unbounded, upper: Bound::Unbounded }
    }
}

impl Bounds {
    /// The keys from `lower` to `upper`; copies both.
    pub fn new(lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Self {
        Self { lower: lower.map(Into::into), upper: upper.map(Into::into) }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        // The first key behind them: the last byte that is not 0xff, plus one. A prefix of nothing but 0xff has none.
        let upper = match prefix.iter().rposition(|byte| *byte != 0xff) {
            Some(last) => {
                let mut end: Box<[u8]> = prefix[..=last].into();
                end[last] += 1;
                Bound::Excluded(end)
            }
            None => Bound::Unbounded,
        };
        Self { lower: Bound::Included(prefix.into()), upper }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.reaches_down_to(key) && self.reaches_up_to(key)
    }

    /// Whether `key` is not below the lower bound.
    #[inline]
    pub fn reaches_down_to(&self, key: &[u8]) -> bool {
        match &self.lower {
            Bound::Included(lower) => key >= &**lower,
            Bound::Excluded(lower) => key > &**lower,
            Bound::Unbounded => true,
        }
    }

    /// Whether `key` is not above the upper bound.
    #[inline]
    pub fn reaches_up_to(&self, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Included(upper) => key <= &**upper,
            Bound::Excluded(upper) => key < &**upper,
            Bound::Unbounded => true,
        }
    }

    /// Whether no key at all lies in the range.
    pub fn is_empty(&self) -> bool {
        // The least key of the range as `(bytes, whether one zero byte follows them)`.
        let (least, zero) = match &self.lower {
            Bound::Included(lower) => (&**lower, false),
            Bound::Excluded(lower) => (&**lower, true),
            Bound::Unbounded => (&[][..], false),
        };
        let cmp_least = |key: &[u8]| match least.cmp(key) {
            Ordering::Less if zero && key.len() == least.len() + 1 && key.ends_with(&[0]) && key.starts_with(least) => {
                Ordering::Equal
            }
            Ordering::Equal if zero => Ordering::Greater,
            order => order,
        };
        match &self.upper {
            Bound::Included(upper) => cmp_least(upper).is_gt(),
            Bound::Excluded(upper) => cmp_least(upper).is_ge(),
            Bound::Unbounded => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
        let key = proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(0xff)], 0..3);
        (0..3, key).prop_map(|(kind, key)| match kind {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        })
    }

    /// Every key of up to three bytes out of 0, 1, 0xff: enough to have one in each range over shorter keys.
    fn keys() -> Vec<Vec<u8>> {
        let mut keys = vec![vec![]];
        for len in 0..3 {
            let longest: Vec<_> = keys.iter().filter(|k: &&Vec<u8>| k.len() == len).cloned().collect();
            keys.extend(longest.iter().flat_map(|k| [0, 1, 0xff].map(|byte| [&k[..], &[byte]].concat())));
        }
        keys
    }

    proptest! {
        #[test]
        fn contains_as_ranges_of_std_do_and_empty_means_none(lower in bound(), upper in bound()) {
            let bounds = Bounds::new(lower.as_ref().map(|k| &k[..]), upper.as_ref().map(|k| &k[..]));
            let range = (lower, upper);
            for key in keys() {
                prop_assert_eq!(bounds.contains(&key), std::ops::RangeBounds::<Vec<u8>>::contains(&range, &key));
            }
            prop_assert_eq!(bounds.is_empty(), !keys().iter().any(|key| bounds.contains(key)));
        }
    }

    #[test]
    fn a_prefix_holds_what_begins_with_it() {
        for prefix in keys() {
            let bounds = Bounds::prefix(&prefix);
            for key in keys() {
                assert_eq!(bounds.contains(&key), key.starts_with(&prefix), "{key:?} in {bounds:?}");
            }
        }
    }
}
