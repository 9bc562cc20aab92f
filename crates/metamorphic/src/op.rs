//! The operations of a script. `script.rs` has them as text.
//!
//! Each stands by itself: taking lines out of a script leaves a script. What names a keyspace, snapshot or transaction that is not there is skipped, by the engine and the model alike.

use esker::vfs::CrashPolicy;
use esker_testkit::model::{Key, Level, Range, SPACES, Step};

/// The keyspaces: the first is always there, the second appends what is merged into it, and what is put into the third lives for so many seconds, where nothing else is said.
pub(crate) const NAMES: [&str; SPACES] = ["default", "merged", "living"];
pub(crate) const MERGED: usize = 1;
pub(crate) const LIVING: usize = 2;
pub(crate) const LIVING_SECONDS: u64 = 40;

/// How many snapshots and how many transactions there may be at once.
pub(crate) const SNAPSHOTS: usize = 4;
pub(crate) const TRANSACTIONS: usize = 3;

/// A value: its tag, again and again, so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) tag: u32,
    pub(crate) len: usize,
}

impl Value {
    pub(crate) fn bytes(self) -> Vec<u8> {
        format!("{}.", self.tag).bytes().cycle().take(self.len).collect()
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) name: usize,
    pub(crate) key: Key,
    pub(crate) change: Change,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Value),
    PutFor(Value, u64),
    PutForever(Value),
    Merge(Value),
    Delete,
    /// All keys from it on, up to this one.
    DeleteTo(Key),
}

/// How a write is made: when it returns, and how many seconds its puts live that do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) level: Level,
    pub(crate) ttl: Option<u64>,
}

/// How tables come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Copied,
    Moved,
    Bulk,
}

/// What is read: the newest state, or a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Now,
    Snapshot(usize),
}

/// What goes wrong with the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It says that it could not, and it did not.
    Io,
    /// The disk is full.
    Full,
    /// An append writes a part.
    Short,
    /// It says that it could not, and it did.
    Done,
    /// A bit of what is read is wrong: where blocks are checked each time that they are read; elsewhere it is `Io`.
    Flip,
}

/// Which calls go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Append,
    Create,
    Grow,
    Map,
    Open,
    Read,
    Remove,
    Rename,
    Sync,
    SyncDir,
}

/// A power cut, or a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crash {
    /// What a power cut leaves.
    pub(crate) leaves: Leaves,
    /// When: after so many percent of what the operation before did. `None`: behind it.
    pub(crate) at_percent: Option<u64>,
}

/// What a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    Synced,
    All,
    Torn,
    Subset(u64),
}

impl Leaves {
    pub(crate) fn policy(self) -> CrashPolicy {
        match self {
            Self::Synced => CrashPolicy::SyncedOnly,
            Self::All => CrashPolicy::All,
            Self::Torn => CrashPolicy::TornLast,
            Self::Subset(seed) => CrashPolicy::Subset(seed),
        }
    }
}

/// Something to do to an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// One write, or a batch.
    Write(Terms, Vec<Write>),
    Clear(usize),
    /// Puts where nothing is.
    Insert(usize, Key, Value),
    /// Puts or deletes: where there is what is there (`true`), or where there is something else.
    Swap(usize, Key, bool, Option<Value>),
    Begin(usize),
    TransactionGet(usize, usize, Key),
    TransactionScan(usize, usize, Range, bool),
    TransactionWrite(usize, Vec<Write>),
    Savepoint(usize),
    /// To the last savepoint, which is then gone.
    Back(usize),
    Commit(usize, Level),
    Rollback(usize),
    Ingest(usize, Way, Vec<(Key, Option<Value>)>),
    Get(View, usize, Key),
    MultiGet(View, usize, Vec<Key>),
    /// From the front (`true`) or the back, as the pattern says, again and again.
    Scan(View, usize, Range, Vec<bool>),
    Prefix(View, usize, Key, bool),
    Walk(View, usize, Range, Vec<Step>),
    /// First, last, and whether there is any.
    Ends(View, usize),
    Snapshot(usize),
    Release(usize),
    Flush,
    Compact(usize, Range),
    Work(u64),
    Sync,
    Pass(u64),
    Create(usize),
    Drop(usize),
    Checkpoint,
    Changes,
    Verify,
    /// Under the option set so many further on.
    Reopen(usize),
    /// From the `nth` call on files like that, once.
    Fault(Trouble, Call, String, u64),
    Heal,
    Crash(Crash),
}
