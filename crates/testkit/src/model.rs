//! What an engine should hold, kept the simplest way: a map of versions; and the operations that a test drives both through.
//!
//! The model knows commits, not sequence numbers: a batch is one commit, and the state after commit `n` is a plain map. So "the state after a crash is a prefix"
//! is a search for an `n`, and a snapshot is a number.

mod filter;
mod op;
mod script;
mod space;

pub use filter::{FILTERED, Fate, fate_of};
pub use op::{
    Change, Crash, Key, LIVING, Level, MERGED, Mix, Op, Range, SPACES, Source, Step, Terms, View, Write, key_strategy,
    ops_strategy, seeded_ops, value_of,
};
pub use script::{Script, ScriptError};
pub use space::{At, Contents, Effect, Model, Space};
