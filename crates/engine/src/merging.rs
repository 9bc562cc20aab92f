//! Merge operators: which there are, and what each keyspace's is.
//!
//! ```text
//! Builder::merge_operator("name", ..) ─> Operators ─┐
//! KeyspaceOptions::merge_operator ─> manifest ──────┴─> Merging: of one keyspace, for as long as the engine is open
//! ```
//! A keyspace has the operator it was made with, by name, and never another: its operands mean nothing without it. One whose operator nobody has registered is kept as it is: its operands go through flush and compaction
//! unchanged, and reads that need them merged are `Unsupported`.

use crate::core::KeyspaceCore;
use crate::error::{Error, ErrorKind, Result};
use crate::options::KeyspaceOptions;
use esker_format::Slice;
use esker_iterator::operators::{Append, Counter, Max, Min};
use esker_iterator::{MergeFailure, MergeOperator, Stack, check_operand};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What the names of those begin with that are always there.
const RESERVED: &str = "esker.";
const NAME_BYTES_MAX: usize = 255;

/// The operators that this engine was opened with.
pub(crate) struct Operators(BTreeMap<String, Arc<dyn MergeOperator>>);

impl Operators {
    /// Those given, and those that are always there.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is none, that is reserved, or that was given twice.
    pub(crate) fn new(given: Vec<(String, Arc<dyn MergeOperator>)>) -> Result<Self> {
        let built_in: [(&str, Arc<dyn MergeOperator>); 4] = [
            ("esker.counter", Arc::new(Counter)),
            ("esker.max", Arc::new(Max)),
            ("esker.min", Arc::new(Min)),
            ("esker.append", Arc::new(Append::new())),
        ];
        let mut operators = BTreeMap::from(built_in.map(|(name, operator)| (name.to_owned(), operator)));
        for (name, operator) in given {
            check_name(&name)?;
            if name.starts_with(RESERVED) {
                return Err(Error::invalid(format!(
                    "merge operator {name}: names that begin with {RESERVED} are reserved"
                )));
            }
            if operators.insert(name.clone(), operator).is_some() {
                return Err(Error::invalid(format!("merge operator {name} was given twice")));
            }
        }
        Ok(Self(operators))
    }

    /// What a keyspace of these options has.
    pub(crate) fn merging(&self, options: &KeyspaceOptions) -> Option<Arc<Merging>> {
        let name = options.merge_operator.as_deref()?;
        Some(Arc::new(Merging { name: name.into(), operator: self.0.get(name).map(Arc::clone) }))
    }

    /// Whether a keyspace of these options may be made.
    ///
    /// # Errors
    /// `Unsupported` if there is no such operator.
    pub(crate) fn check_known(&self, options: &KeyspaceOptions) -> Result<()> {
        self.merging(options).map_or(Ok(()), |merging| merging.operator().map(drop))
    }
}

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether an operator may be called so: the name stands in a line of text, which must read back.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_fine = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.trim() == name && !name.contains(char::is_control);
    if is_fine {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the name of a merge operator has 1 to {NAME_BYTES_MAX} bytes, no control characters, and no blanks at its ends, unlike {name:?}"
    )))
}

/// The operator of one keyspace.
pub(crate) struct Merging {
    name: Box<str>,
    /// `None` if nobody has registered it.
    operator: Option<Arc<dyn MergeOperator>>,
}

impl Merging {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// # Errors
    /// `Unsupported` if nobody has registered it.
    pub(crate) fn operator(&self) -> Result<&Arc<dyn MergeOperator>> {
        self.operator.as_ref().ok_or_else(|| {
            let name = &self.name;
            Error::new(
                ErrorKind::Unsupported,
                format!("there is no merge operator {name} here: register it by Builder::merge_operator"),
            )
        })
    }

    /// The value that operands make of `base`.
    ///
    /// # Errors
    /// `Unsupported` if there is no operator, `Other` if it fails.
    pub(crate) fn merge(&self, user_key: &[u8], stack: &Stack, base: Option<&[u8]>) -> Result<Slice> {
        let merged = stack.merge(&**self.operator()?, user_key, base);
        let value = merged.map_err(|failure| self.failed(ErrorKind::Other, Some(user_key), failure))?;
        Ok(Slice::from(&value[..]))
    }

    fn failed(&self, kind: ErrorKind, user_key: Option<&[u8]>, failure: MergeFailure) -> Error {
        let of = user_key.map(|key| format!(", key {}", key.escape_ascii())).unwrap_or_default();
        Error::from_source_with(kind, format!("merge operator {}{of}", self.name), failure)
    }
}

impl fmt::Debug for Merging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Merging({}, {})", self.name, if self.operator.is_some() { "registered" } else { "not registered" })
    }
}

impl KeyspaceCore {
    /// Whether an operand may be written.
    ///
    /// # Errors
    /// `InvalidArgument` if the keyspace has no operator or the operator refuses it; `Unsupported` if nobody has registered that.
    pub(crate) fn check_operand(&self, operand: &[u8]) -> Result<()> {
        let merging = self.merging.as_ref().ok_or_else(|| {
            Error::invalid(format!(
                "the keyspace {} has no merge operator: one is given by KeyspaceOptions::merge_operator when it is made",
                self.name
            ))
        })?;
        check_operand(&**merging.operator()?, operand)
            .map_err(|failure| merging.failed(ErrorKind::InvalidArgument, None, failure))
    }

    /// Whether the keyspace may be opened with these options.
    ///
    /// # Errors
    /// `InvalidArgument` if they name another operator than the one it was made with.
    pub(crate) fn check_merging(&self, given: &KeyspaceOptions) -> Result<()> {
        let own = self.merging.as_ref().map(|merging| merging.name());
        match (given.merge_operator.as_deref(), own) {
            (None, _) => Ok(()),
            (given, own) if given == own => Ok(()),
            (Some(given), own) => Err(Error::invalid(format!(
                "the keyspace {} was made with {}, and can't be opened with the merge operator {given}",
                self.name,
                own.map_or("no merge operator".to_owned(), |own| format!("the merge operator {own}"))
            ))),
        }
    }
}
