//! [`State`]: what the keyspace is like that is measured.
//!
//! Whoever does not use a part of the data model is not to pay for it: `--keyspace plain,operator,beside` measures the same workload in keyspaces that differ in nothing but
//! what they could do, in turns, so that their figures can be set beside each other.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What the keyspace is like, before the workload does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it comes.
    #[default]
    Plain,
    /// A merge operator is registered, and never used.
    Operator,
    /// No operator and no time to live, in an engine whose other keyspaces have operands, values that expire and a deleted range.
    Beside,
    /// Its values have a time to live that none outlives: what is paid where it is used.
    Expiring,
    /// Of the workloads over a range that holds nothing: it never did.
    #[value(skip)]
    Empty,
    /// Nor did it, and all that there is lies in memory.
    #[value(skip)]
    EmptyUnflushed,
    /// All keys in the range were deleted at once; the tombstone is in memory, and so are they: for Esker, which seals a memtable that holds so many of them, in one that waits to be flushed.
    #[value(skip)]
    Unflushed,
    /// The keys are in tables, the tombstone is in the memtable.
    #[value(skip)]
    Deleted,
    /// The keys are in tables, and so is the tombstone, in one that lies over them.
    #[value(skip)]
    Flushed,
}

impl State {
    /// The ranges that hold nothing, to be set beside each other.
    pub const HOLES: [Self; 5] = [Self::EmptyUnflushed, Self::Unflushed, Self::Empty, Self::Deleted, Self::Flushed];

    /// What the rows of a table call it; nothing for the usual one.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Operator => Some("operator"),
            Self::Beside => Some("beside"),
            Self::Expiring => Some("expiring"),
            Self::Empty => Some("empty"),
            Self::EmptyUnflushed => Some("empty in memory"),
            Self::Unflushed => Some("deleted in memory"),
            Self::Deleted => Some("deleted over tables"),
            Self::Flushed => Some("deleted in tables"),
        }
    }
}
