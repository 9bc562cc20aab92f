//! Scripts from seeds.
//!
//! Each script has habits of its own, which follow from its seed: how much it reads and how often it crashes, how many keys it knows, whether values are long. So that some fill levels, some live in the log, and some go over the same few keys again and again.

use crate::op::{
    Call, Change, Crash, Leaves, MERGED, Op, SNAPSHOTS, TRANSACTIONS, Terms, Trouble, Value, View, Way, Write,
};
use crate::script::Script;
use esker_testkit::model::{Key, Level, Range, SPACES, Step};
use esker_testkit::random::Random;
use std::ops::Bound;

const CALLS: [Call; 10] = [
    Call::Append,
    Call::Create,
    Call::Grow,
    Call::Map,
    Call::Open,
    Call::Read,
    Call::Remove,
    Call::Rename,
    Call::Sync,
    Call::SyncDir,
];

/// The script of a seed: the same one always.
pub(crate) fn generate(seed: u64, operations: usize) -> Script {
    let mut random = Random::new(seed);
    let habits = Habits {
        keys: *random.pick(&[3, 12, 40, 200]),
        long: *random.pick(&[40, 200, 3000]),
        reads: *random.pick(&[1, 2, 6]),
        crashes: *random.pick(&[0, 1, 1, 4]),
        faults: *random.pick(&[0, 1, 3]),
        transactions: *random.pick(&[0, 1, 4]),
        background: *random.pick(&[1, 3]),
    };
    let mut maker = Maker { random, habits, tag: 0 };
    let mut ops = vec![Op::Create(1), Op::Create(2)];
    while ops.len() < operations {
        maker.add(&mut ops);
    }
    ops.truncate(operations);
    Script(ops)
}

struct Habits {
    keys: u64,
    long: u64,
    reads: u64,
    crashes: u64,
    faults: u64,
    transactions: u64,
    background: u64,
}

struct Maker {
    random: Random,
    habits: Habits,
    /// Of the value made last: no two are the same.
    tag: u32,
}

impl Maker {
    /// Adds an operation, or some that belong together.
    fn add(&mut self, ops: &mut Vec<Op>) {
        let Habits { reads, crashes, faults, transactions, background, .. } = self.habits;
        let shares = [30, 6 * reads, 6 * background, 4 * transactions, 4, 2 * crashes, faults, 3, 1];
        match self.random.share(&shares) {
            0 => ops.push(self.write()),
            1 => ops.push(self.read()),
            2 => ops.push(self.background()),
            3 => ops.push(self.transaction()),
            4 => ops.push(self.snapshot()),
            5 => {
                let leaves = match self.random.below(5) {
                    0 => Leaves::Synced,
                    1 => Leaves::All,
                    2 => Leaves::Torn,
                    _ => Leaves::Subset(self.random.below(1 << 16)),
                };
                let at_percent = (!self.random.one_in(3)).then(|| self.random.below(101));
                match self.random.below(6) {
                    // Into opening,
                    0 => ops.push(Op::Reopen(0)),
                    // and into the commit of a transaction.
                    1 => self.whole_transaction(ops),
                    _ => {}
                }
                ops.push(Op::Crash(Crash { leaves, at_percent }));
                // And while it recovers.
                if self.random.one_in(3) {
                    let at_percent = Some(self.random.below(101));
                    ops.push(Op::Crash(Crash { leaves: Leaves::Subset(self.random.below(1 << 16)), at_percent }));
                }
            }
            6 => {
                let trouble = *self.random.pick(&[
                    Trouble::Io,
                    Trouble::Io,
                    Trouble::Full,
                    Trouble::Short,
                    Trouble::Done,
                    Trouble::Flip,
                ]);
                let call = *self.random.pick(&CALLS);
                let path = *self.random.pick(&["*", "*.wal", "*.sst", "*.blob", "*MANIFEST*", "*CURRENT*", "*engine*"]);
                let nth = if self.random.one_in(2) { 1 } else { 1 + self.random.below(12) };
                ops.push(Op::Fault(trouble, call, path.into(), nth));
                for _ in 0..1 + self.random.below(12) {
                    match self.random.below(16) {
                        0..4 => ops.push(self.background()),
                        4..7 => ops.push(self.read()),
                        7 | 8 => ops.push(self.transaction()),
                        9 => self.whole_transaction(ops),
                        10 => ops.push(Op::Reopen(0)),
                        11 if crashes > 0 => ops.push(Op::Crash(Crash { leaves: Leaves::Synced, at_percent: None })),
                        _ => ops.push(self.write()),
                    }
                }
                ops.push(Op::Heal);
            }
            7 => ops.push(match self.random.below(6) {
                0 => Op::Checkpoint,
                1 | 2 => Op::Changes,
                3 => Op::Verify,
                _ if self.random.one_in(2) => Op::Reopen(self.random.below(40) as usize),
                _ => Op::Reopen(0),
            }),
            _ => ops.push(match self.random.below(5) {
                0 => Op::Drop(1 + self.random.below(2) as usize),
                1 => Op::Clear(self.space()),
                _ => Op::Create(1 + self.random.below(2) as usize),
            }),
        }
    }

    fn write(&mut self) -> Op {
        match self.random.below(20) {
            0 => Op::Insert(self.space(), self.key(), self.value()),
            1 => {
                let value = (!self.random.one_in(4)).then(|| self.value());
                Op::Swap(self.space(), self.key(), !self.random.one_in(4), value)
            }
            2 | 3 => {
                let way = *self.random.pick(&[Way::Copied, Way::Moved, Way::Bulk]);
                let name = self.space();
                let count = 1 + self.random.below(12);
                let entries = (0..count).map(|_| (self.key(), (!self.random.one_in(5)).then(|| self.value())));
                Op::Ingest(name, way, entries.collect())
            }
            n => {
                let level = self.level();
                let count = if n < 12 { 1 } else { 2 + self.random.below(20) };
                let ttl = self.random.one_in(6).then(|| 1 + self.random.below(60));
                let mut writes: Vec<Write> = (0..count).map(|_| self.one_write(true)).collect();
                if ttl.is_some() {
                    writes.retain(|write| write.name != MERGED);
                }
                if writes.is_empty() {
                    writes.push(Write { name: 0, key: self.key(), change: Change::Put(self.value()) });
                }
                Op::Write(Terms { level, ttl }, writes)
            }
        }
    }

    fn one_write(&mut self, may_expire: bool) -> Write {
        let (name, key) = (self.space(), self.key());
        let change = match self.random.below(20) {
            0..4 => Change::Delete,
            4 | 5 => match self.key() {
                end if end > key => Change::DeleteTo(end),
                end if end == key => Change::DeleteTo([&end[..], b"\0"].concat()),
                begin => return Write { name, key: begin, change: Change::DeleteTo(key) },
            },
            6..9 if may_expire && name != MERGED => Change::PutFor(self.value(), 1 + self.random.below(30)),
            9 if may_expire => Change::PutForever(self.value()),
            10.. if name == MERGED => Change::Merge(self.value()),
            _ => Change::Put(self.value()),
        };
        Write { name, key, change }
    }

    fn read(&mut self) -> Op {
        let view = if self.random.one_in(2) {
            View::Now
        } else {
            View::Snapshot(self.random.below(SNAPSHOTS as u64) as usize)
        };
        let name = self.space();
        match self.random.below(8) {
            0 | 1 => Op::Get(view, name, self.key()),
            2 => {
                let count = 1 + self.random.below(8);
                Op::MultiGet(view, name, (0..count).map(|_| self.key()).collect())
            }
            3 | 4 => {
                let pattern = (0..1 + self.random.below(4)).map(|_| self.random.one_in(2)).collect();
                Op::Scan(view, name, self.range(), pattern)
            }
            5 => {
                let mut prefix = self.key();
                prefix.truncate(self.random.below(prefix.len() as u64 + 1) as usize);
                Op::Prefix(view, name, prefix, self.random.one_in(2))
            }
            6 => {
                let range = self.range();
                let steps = (0..1 + self.random.below(24)).map(|_| match self.random.below(14) {
                    0 => Step::First,
                    1 => Step::Last,
                    2 => Step::Seek(self.key()),
                    3 => Step::SeekForPrev(self.key()),
                    n if n % 2 == 0 => Step::Next,
                    _ => Step::Prev,
                });
                Op::Walk(view, name, range, steps.collect())
            }
            _ => Op::Ends(view, name),
        }
    }

    fn background(&mut self) -> Op {
        match self.random.below(10) {
            0..2 => Op::Flush,
            2 => Op::Compact(self.space(), self.range()),
            3 => Op::Sync,
            4 => Op::Pass(1 + self.random.below(20)),
            _ => Op::Work(1 + self.random.below(4)),
        }
    }

    fn transaction(&mut self) -> Op {
        let tx = self.random.below(TRANSACTIONS as u64) as usize;
        match self.random.below(14) {
            0..3 => Op::Begin(tx),
            3 | 4 => Op::TransactionGet(tx, self.space(), self.key()),
            5 | 6 => Op::TransactionScan(tx, self.space(), self.range(), self.random.one_in(2)),
            7..10 => {
                let count = 1 + self.random.below(4);
                Op::TransactionWrite(tx, (0..count).map(|_| self.one_write(false)).collect())
            }
            10 => Op::Savepoint(tx),
            11 => Op::Back(tx),
            12 if self.random.one_in(4) => Op::Rollback(tx),
            _ => Op::Commit(tx, self.level()),
        }
    }

    /// Begins one, reads and writes in it, and commits it.
    fn whole_transaction(&mut self, ops: &mut Vec<Op>) {
        let tx = self.random.below(TRANSACTIONS as u64) as usize;
        let count = 1 + self.random.below(4);
        let writes = (0..count).map(|_| self.one_write(false)).collect();
        let read = Op::TransactionScan(tx, self.space(), self.range(), true);
        ops.extend([Op::Begin(tx), read, Op::TransactionWrite(tx, writes), Op::Commit(tx, self.level())]);
    }

    fn snapshot(&mut self) -> Op {
        let n = self.random.below(SNAPSHOTS as u64) as usize;
        if self.random.one_in(3) { Op::Release(n) } else { Op::Snapshot(n) }
    }

    fn level(&mut self) -> Level {
        *self.random.pick(&[Level::Memory, Level::Os, Level::Os, Level::Sync])
    }

    fn space(&mut self) -> usize {
        *self.random.pick(&[0, 0, 0, 1, 1, SPACES - 1])
    }

    fn value(&mut self) -> Value {
        self.tag += 1;
        let len = match self.random.below(10) {
            0 => 0,
            1 => self.random.below(self.habits.long),
            2..5 => 30 + self.random.below(100),
            _ => self.random.below(30),
        };
        Value { tag: self.tag, len: len as usize }
    }

    fn range(&mut self) -> Range {
        let bound = |maker: &mut Self| match maker.random.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(maker.key()),
            _ => Bound::Excluded(maker.key()),
        };
        let (lower, upper) = (bound(self), bound(self));
        Range { lower, upper }
    }

    /// Keys that share prefixes; now and then the empty one, one at the end of the order, a long one.
    fn key(&mut self) -> Key {
        let odd: [&[u8]; 10] =
            [b"", b"\0", b"\0\0", b"a", b"a\0", b"a\xff", b"b", b"\xff", b"\xff\xff", b"\xff\xff\xff"];
        let n = self.random.below(self.habits.keys);
        match self.random.below(12) {
            0 => self.random.pick(&odd).to_vec(),
            1 => match self.random.below(3) {
                0 => vec![b'a'; 300],
                1 => [vec![b'a'; 299], vec![b'b']].concat(),
                _ => vec![0xff; 700],
            },
            2 | 3 => format!("a/shared/prefix/{n:x}").into_bytes(),
            _ => format!("key{n:02}").into_bytes(),
        }
    }
}
