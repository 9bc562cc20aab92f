//! Stands in for esker-wal until it is there.
#![allow(missing_docs)]
use std::fmt;
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
#[derive(Debug, Clone, thiserror::Error)]
#[error("log error")]
pub struct WalError;
impl WalError {
    pub fn is_no_space(&self) -> bool {
        false
    }
    pub fn is_unsupported(&self) -> bool {
        false
    }
    pub fn io(&self) -> Option<&std::io::Error> {
        None
    }
}
