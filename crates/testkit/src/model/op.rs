//! The operations, and how to make up a run of them.

use esker_vfs::CrashPolicy;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::ops::Bound;

/// How many names of keyspaces there are. The first is `default`, which always lives.
pub const SPACES: usize = 3;

/// The name of the one whose merge operator appends operands to values; it is not for others to merge.
pub const MERGED: usize = 1;

/// The name of the one that has a time to live, and how many seconds that is.
pub const LIVING: (usize, u64) = (2, 40);

/// A key.
pub type Key = Vec<u8>;

/// When a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// When it has its place.
    Memory,
    /// When the kernel has it.
    Os,
    /// When it is on stable storage.
    Sync,
}

/// How a batch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// When the call returns.
    pub level: Level,
    /// How many seconds its puts live that do not say themselves, if it says so.
    pub ttl: Option<u64>,
}

/// One write of a batch: keyspace, key, and what becomes of it.
pub type Write = (usize, Key, Change);

/// What a write does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts a value so long, to live as long as the batch says, or else the keyspace. What it is follows from the operation's number: [`value_of`].
    Put(usize),
    /// As `Put`, to live so many seconds.
    PutFor(usize, u64),
    /// As `Put`, for ever, whatever batch and keyspace say.
    PutForever(usize),
    /// Appends so much to the value, in the keyspace [`MERGED`]. What it is follows as for a put.
    Merge(usize),
    /// Deletes the key.
    Delete,
    /// Deletes all keys from this one on, up to that one, which lies behind it.
    DeleteTo(Key),
}

/// Where tables that are ingested come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From outside, and stay there too.
    Copied,
    /// From outside, and are gone there.
    Moved,
    /// A bulk load writes them where they belong.
    Bulk,
}

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Where it begins.
    pub lower: Bound<Key>,
    /// Where it ends.
    pub upper: Bound<Key>,
}

impl Range {
    /// All keys.
    pub const ALL: Self = Self { lower: Bound::Unbounded, upper: Bound::Unbounded };

    /// Whether `key` lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        let above = match &self.lower {
            Bound::Included(lower) => key >= &lower[..],
            Bound::Excluded(lower) => key > &lower[..],
            Bound::Unbounded => true,
        };
        let below = match &self.upper {
            Bound::Included(upper) => key <= &upper[..],
            Bound::Excluded(upper) => key < &upper[..],
            Bound::Unbounded => true,
        };
        above && below
    }
}

/// What to read: the newest state, or the held snapshot with that number, counted round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The newest state.
    Now,
    /// A snapshot.
    Snapshot(usize),
}

/// A move of a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To the first key.
    First,
    /// To the last key.
    Last,
    /// To the next key.
    Next,
    /// To the key before.
    Prev,
    /// To the first key at or behind this one.
    Seek(Key),
    /// To the last key at or before this one.
    SeekForPrev(Key),
}

/// What is left when the machine loses power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// What was synced.
    Synced,
    /// Everything that the kernel had.
    All,
    /// A part, by seed.
    Subset(u64),
}

impl Crash {
    /// As the file system in memory calls it.
    pub fn policy(self) -> CrashPolicy {
        match self {
            Self::Synced => CrashPolicy::SyncedOnly,
            Self::All => CrashPolicy::All,
            Self::Subset(seed) => CrashPolicy::Subset(seed),
        }
    }
}

/// Something to do to an engine. Keyspaces are numbered; what names one that does not live is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Commit these together.
    Write(Terms, Vec<Write>),
    /// Delete all that is in a keyspace.
    Clear(usize),
    /// As `Write`, by a transaction, which reads each key before and after it writes it; no time to live of an operation's own.
    Transact(Terms, Vec<Write>),
    /// Commit these by way of tables, which bring each key once: its value's length, or none to delete it.
    Ingest(usize, Source, Vec<(Key, Option<usize>)>),
    /// Look a key up.
    Get(usize, View, Key),
    /// Walk over a range, from the front (`true`) or the back, as the pattern says, again and again, until the ends meet.
    Scan(usize, View, Range, Vec<bool>),
    /// Move a cursor.
    Walk(usize, View, Range, Vec<Step>),
    /// Take a snapshot.
    Take,
    /// Release a snapshot.
    Release(usize),
    /// Flush all.
    Flush,
    /// Compact a range.
    Compact(usize, Range),
    /// Do so many steps of background work.
    Work(usize),
    /// Make a keyspace.
    Create(usize),
    /// Drop a keyspace.
    Drop(usize),
    /// Sync the log.
    Sync,
    /// Let so many seconds pass.
    Pass(u64),
    /// Set the wall clock back by so many seconds, until the engine is next opened.
    SetBack(u64),
    /// Whether a compaction filter is registered when the engine is next opened.
    Register(bool),
    /// Close and open.
    Reopen,
    /// Crash and open.
    Crash(Crash),
}

/// The value that operation number `op` of a run writes as its `nth`: no other write writes the same.
pub fn value_of(op: usize, nth: usize, len: usize) -> Vec<u8> {
    let tag = format!("{op}.{nth};");
    tag.bytes().cycle().take(len.max(tag.len())).collect()
}

/// What a run is to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Everything.
    All,
    /// What changes files; no crashes: the test crashes it everywhere.
    Writes,
}

/// Keys that share prefixes, the empty one, those at the end of the order, a long one.
pub fn key_strategy() -> BoxedStrategy<Key> {
    let odd: Vec<Key> = [&b""[..], b"\0", b"\0\0", b"a", b"a\0", b"a\xff", b"b", b"\xff", b"\xff\xff", b"\xff\xff\xff"]
        .iter()
        .map(|key| key.to_vec())
        .chain([vec![b'a'; 300], [vec![b'a'; 299], vec![b'b']].concat(), vec![0xff; 700]])
        .collect();
    prop_oneof![
        3 => select(odd),
        4 => (0..40u8).prop_map(|n| format!("key{n:02}").into_bytes()),
        2 => (0..12u8).prop_map(|n| format!("a/shared/prefix/{n:x}").into_bytes()),
    ]
    .boxed()
}

fn space() -> BoxedStrategy<usize> {
    prop_oneof![3 => Just(0), 2 => Just(1), 2 => Just(2)].boxed()
}

fn bound() -> BoxedStrategy<Bound<Key>> {
    prop_oneof![
        1 => Just(Bound::Unbounded),
        2 => key_strategy().prop_map(Bound::Included),
        2 => key_strategy().prop_map(Bound::Excluded),
    ]
    .boxed()
}

fn range() -> BoxedStrategy<Range> {
    prop_oneof![
        1 => Just(Range::ALL),
        3 => (bound(), bound()).prop_map(|(lower, upper)| Range { lower, upper }),
    ]
    .boxed()
}

fn view() -> BoxedStrategy<View> {
    prop_oneof![Just(View::Now), (0..4usize).prop_map(View::Snapshot)].boxed()
}

fn write() -> BoxedStrategy<Write> {
    let len = prop_oneof![6 => 0..40usize, 3 => 40..400usize, 1 => 1000..3000usize];
    let change = prop_oneof![
        3 => Just(Change::Delete),
        6 => len.clone().prop_map(Change::Put),
        1 => len.clone().prop_map(Change::PutForever),
        3 => (len.clone(), prop_oneof![1..10u64, 10..200u64]).prop_map(|(len, ttl)| Change::PutFor(len, ttl)),
        8 => len.prop_map(Change::Merge),
        1 => key_strategy().prop_map(Change::DeleteTo),
    ];
    (space(), key_strategy(), change).prop_map(|(space, key, change)| in_order(space, key, change)).boxed()
}

/// Makes what is to be a range one, and has merged, or expire, only what can.
fn in_order(space: usize, key: Key, change: Change) -> Write {
    match change {
        Change::DeleteTo(end) if end < key => (space, end, Change::DeleteTo(key)),
        Change::DeleteTo(end) if end == key => (space, key, Change::DeleteTo([&end[..], &[0]].concat())),
        Change::Merge(len) if space != MERGED => (space, key, Change::Put(len)),
        Change::PutFor(len, _) if space == MERGED => (space, key, Change::Put(len)),
        change => (space, key, change),
    }
}

/// Puts without a word on time instead of anything else, as the operations of a transaction do.
fn plain((space, key, change): Write) -> Write {
    match change {
        Change::PutFor(len, _) | Change::PutForever(len) => (space, key, Change::Put(len)),
        change => (space, key, change),
    }
}

/// What has a merge operator takes nothing that expires.
fn elsewhere((space, key, change): Write) -> Write {
    match (space, change) {
        (MERGED, Change::Merge(len)) => (LIVING.0, key, Change::Put(len)),
        (MERGED, change) => (LIVING.0, key, change),
        (space, change) => (space, key, change),
    }
}

fn writes() -> BoxedStrategy<(Terms, Vec<Write>)> {
    let level = prop_oneof![2 => Just(Level::Memory), 4 => Just(Level::Os), 1 => Just(Level::Sync)];
    let writes = prop_oneof![4 => vec(write(), 1..2), 3 => vec(write(), 2..12), 1 => vec(write(), 12..40)];
    let ttl = prop_oneof![5 => Just(None), 1 => (1..100u64).prop_map(Some)];
    (level, ttl, writes)
        .prop_map(|(level, ttl, writes)| match ttl {
            Some(_) => (Terms { level, ttl }, writes.into_iter().map(elsewhere).collect()),
            None => (Terms { level, ttl }, writes),
        })
        .boxed()
}

fn ingest() -> BoxedStrategy<Op> {
    let source = prop_oneof![Just(Source::Copied), Just(Source::Moved), Just(Source::Bulk)];
    let len = prop_oneof![4 => 0..40usize, 1 => 400..1200usize];
    let entry = (key_strategy(), prop_oneof![1 => Just(None), 4 => len.prop_map(Some)]);
    (space(), source, vec(entry, 1..12)).prop_map(|(space, source, entries)| Op::Ingest(space, source, entries)).boxed()
}

fn step() -> BoxedStrategy<Step> {
    prop_oneof![
        1 => Just(Step::First),
        1 => Just(Step::Last),
        5 => Just(Step::Next),
        5 => Just(Step::Prev),
        1 => key_strategy().prop_map(Step::Seek),
        1 => key_strategy().prop_map(Step::SeekForPrev),
    ]
    .boxed()
}

fn op(mix: Mix) -> BoxedStrategy<Op> {
    let changes = prop_oneof![
        26 => writes().prop_map(|(terms, writes)| Op::Write(terms, writes)),
        4 => writes().prop_map(|(terms, writes)| Op::Transact(terms, writes.into_iter().map(plain).collect())),
        1 => space().prop_map(Op::Clear),
        3 => ingest(),
        2 => Just(Op::Flush),
        2 => (space(), range()).prop_map(|(space, range)| Op::Compact(space, range)),
        8 => (1..4usize).prop_map(Op::Work),
        3 => (1..SPACES).prop_map(Op::Create),
        1 => (1..SPACES).prop_map(Op::Drop),
        2 => Just(Op::Sync),
        3 => (1..30u64).prop_map(Op::Pass),
        1 => (1..100u64).prop_map(Op::SetBack),
        2 => Just(Op::Take),
        2 => (0..4usize).prop_map(Op::Release),
        1 => prop_oneof![1 => Just(false), 3 => Just(true)].prop_map(Op::Register),
    ];
    let crash =
        prop_oneof![Just(Crash::Synced), Just(Crash::All), any::<u16>().prop_map(|seed| Crash::Subset(seed.into()))];
    match mix {
        Mix::Writes => prop_oneof![50 => changes, 1 => Just(Op::Reopen)].boxed(),
        Mix::All => prop_oneof![
            50 => changes,
            5 => (space(), view(), key_strategy()).prop_map(|(space, view, key)| Op::Get(space, view, key)),
            5 => (space(), view(), range(), vec(any::<bool>(), 1..5)).prop_map(|(s, v, r, p)| Op::Scan(s, v, r, p)),
            5 => (space(), view(), range(), vec(step(), 1..24)).prop_map(|(s, v, r, steps)| Op::Walk(s, v, r, steps)),
            2 => Just(Op::Reopen),
            3 => crash.prop_map(Op::Crash),
        ]
        .boxed(),
    }
}

/// Runs of operations. The keyspaces are made early, so that most operations have theirs.
pub fn ops_strategy(mix: Mix, len: std::ops::Range<usize>) -> BoxedStrategy<Vec<Op>> {
    vec(op(mix), len)
        .prop_map(|ops| {
            let head = (1..SPACES).map(Op::Create);
            head.chain(ops).collect()
        })
        .boxed()
}

/// One run, the same for the same seed.
pub fn seeded_ops(mix: Mix, len: usize, seed: u64) -> Vec<Op> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    ops_strategy(mix, len..len + 1).new_tree(&mut runner).expect("the strategies reject nothing").current()
}
