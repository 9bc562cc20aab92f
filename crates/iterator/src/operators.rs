//! Merge operators that many need. All of them put neighbouring operands together.

use crate::merge::{MergeOperator, Operands, OperatorError};

/// Adds numbers: values and operands are an `i64`, little endian; a key without a value counts from 0.
///
/// The sum is exact. While it is not an `i64`, reading the key is an error, and nothing is lost: operands to come may bring it back. Bytes that are no such number are refused as operands; a value
/// of another length, which somebody put, is an error of each read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counter;

impl Counter {
    fn number(what: &str, bytes: &[u8]) -> Result<i64, OperatorError> {
        let number = bytes.try_into().map(i64::from_le_bytes);
        number.map_err(|_| format!("a counter's {what} has 8 bytes, not {}", bytes.len()).into())
    }

    /// Fewer than 2^64 numbers of 64 bits add up to one of 128.
    fn sum(base: Option<&[u8]>, operands: Operands<'_>) -> Result<i128, OperatorError> {
        let base = base.map_or(Ok(0), |bytes| Self::number("value", bytes))?;
        operands
            .map(|operand| Self::number("operand", operand))
            .try_fold(i128::from(base), |sum, n| Ok(sum + i128::from(n?)))
    }
}

impl MergeOperator for Counter {
    fn merge(&self, _key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        let sum = Self::sum(base, operands)?;
        let number = i64::try_from(sum).map_err(|_| format!("the counter stands at {sum}, which is no i64"))?;
        Ok(number.to_le_bytes().to_vec())
    }

    fn combine(&self, _key: &[u8], operands: Operands<'_>) -> Result<Option<Vec<u8>>, OperatorError> {
        let sum = Self::sum(None, operands)?;
        Ok(i64::try_from(sum).ok().map(|number| number.to_le_bytes().to_vec()))
    }

    fn check(&self, operand: &[u8]) -> Result<(), OperatorError> {
        Self::number("operand", operand).map(drop)
    }
}

/// Keeps the greatest of value and operands, by unsigned bytes, as keys are ordered: numbers are to be big endian.
#[derive(Debug, Clone, Copy, Default)]
pub struct Max;

impl MergeOperator for Max {
    fn merge(&self, _key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        Ok(operands.chain(base).max().unwrap_or_default().to_vec())
    }

    fn combine(&self, key: &[u8], operands: Operands<'_>) -> Result<Option<Vec<u8>>, OperatorError> {
        self.merge(key, None, operands).map(Some)
    }
}

/// Keeps the least of value and operands, by unsigned bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Min;

impl MergeOperator for Min {
    fn merge(&self, _key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        Ok(operands.chain(base).min().unwrap_or_default().to_vec())
    }

    fn combine(&self, key: &[u8], operands: Operands<'_>) -> Result<Option<Vec<u8>>, OperatorError> {
        self.merge(key, None, operands).map(Some)
    }
}

/// Writes operands behind the value, and behind one another.
#[derive(Debug, Clone, Default)]
pub struct Append {
    separator: Box<[u8]>,
}

impl Append {
    /// With nothing in between.
    pub fn new() -> Self {
        Self::default()
    }

    /// With `separator` between any two, and between the value and the first, be it empty.
    ///
    /// ```
    /// use esker_iterator::{Stack, operators::Append};
    /// let mut stack = Stack::new();
    /// stack.push(b"pear");
    /// stack.push(b"plum");
    /// let append = Append::with_separator(", ");
    /// assert_eq!(stack.merge(&append, b"key", None)?, b"plum, pear");
    /// assert_eq!(stack.merge(&append, b"key", Some(b"fig"))?, b"fig, plum, pear");
    /// # Ok::<(), esker_iterator::MergeFailure>(())
    /// ```
    pub fn with_separator(separator: impl AsRef<[u8]>) -> Self {
        Self { separator: separator.as_ref().into() }
    }
}

impl MergeOperator for Append {
    fn merge(&self, _key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        let parts = || base.into_iter().chain(operands);
        let mut value = Vec::with_capacity(parts().map(|part| part.len() + self.separator.len()).sum());
        for (nth, part) in parts().enumerate() {
            if nth > 0 {
                value.extend_from_slice(&self.separator);
            }
            value.extend_from_slice(part);
        }
        Ok(value)
    }

    fn combine(&self, key: &[u8], operands: Operands<'_>) -> Result<Option<Vec<u8>>, OperatorError> {
        self.merge(key, None, operands).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Stack, check_operand};
    use proptest::prelude::*;

    fn stack(operands: &[Vec<u8>]) -> Stack {
        let mut stack = Stack::new();
        operands.iter().rev().for_each(|operand| stack.push(operand));
        stack
    }

    fn numbers() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let number = prop_oneof![Just(i64::MAX), Just(i64::MIN), -9..9i64, any::<i64>()];
        proptest::collection::vec(number.prop_map(|n| n.to_le_bytes().to_vec()), 2..9)
    }

    fn operators() -> Vec<Box<dyn MergeOperator>> {
        vec![
            Box::new(Counter),
            Box::new(Max),
            Box::new(Min),
            Box::new(Append::new()),
            Box::new(Append::with_separator(",")),
        ]
    }

    proptest! {
        /// However operands are put into groups, the result is one.
        #[test]
        fn groups_make_no_difference(operands in numbers(), base in proptest::option::of(any::<i64>()), at in 1..8usize) {
            let at = at.min(operands.len() - 1);
            let base = base.map(|n| n.to_le_bytes().to_vec());
            let (older, newer) = (stack(&operands[..at]), stack(&operands[at..]));
            for operator in operators() {
                let operator = &*operator;
                let whole = stack(&operands).merge(operator, b"k", base.as_deref()).ok();
                // What fails in between is left for later.
                if let Ok(first) = older.merge(operator, b"k", base.as_deref()) {
                    prop_assert_eq!(newer.merge(operator, b"k", Some(&first)).ok(), whole.clone());
                }
                if newer.len() > 1 && let Some(one) = newer.combine(operator, b"k").unwrap() {
                    let fewer = [&operands[..at], &[one]].concat();
                    prop_assert_eq!(stack(&fewer).merge(operator, b"k", base.as_deref()).ok(), whole);
                }
            }
        }
    }

    #[test]
    fn a_counter_is_exact_or_an_error() {
        let number = |n: i64| n.to_le_bytes().to_vec();
        let sum = |operands: &[i64]| {
            let operands: Vec<_> = operands.iter().map(|n| number(*n)).collect();
            stack(&operands).merge(&Counter, b"k", Some(&number(-1)))
        };
        assert_eq!(sum(&[2, 3]).unwrap(), number(4));
        assert_eq!(sum(&[i64::MAX, i64::MAX, i64::MIN]).unwrap(), number(i64::MAX - 2), "beyond, and back");
        assert!(sum(&[i64::MAX, 5]).unwrap_err().to_string().contains("9223372036854775811"));
        assert!(
            stack(&[number(1)])
                .merge(&Counter, b"k", Some(b"?"))
                .unwrap_err()
                .to_string()
                .contains("value has 8 bytes, not 1")
        );
        assert!(check_operand(&Counter, b"12345678").is_ok());
        assert!(check_operand(&Counter, b"1").is_err());
    }
}
