//! The whole engine: bytes drive operations, crashes, and then damage to its files.
//!
//! ```text
//! settings | operation, operation, .. | 15 | damage, damage, ..         each a few bytes; what is missing counts as 0
//! ```
//! A write is made at a durability level of its own. After a crash the state is one of the history that is not before the last write of which the crash may take nothing: the last that the kernel has, if
//! it left all that was written, else the last that is on stable storage.
//!
//! Afterwards every answer is an error or right: all that is read without an error is what one state of the history was, the last one if nothing was damaged or crashed. Where damage was *signed*
//! (checksums made right again), answers may say anything, and it is enough that they end.

use crate::damage::{Input, damage};
use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{
    Background, Codec, Durability, Engine, LogBackend, Options, ReadMode, Result, Verify, WriteBatch, WriteOptions,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/data";
const KEYS: u8 = 12;
/// More of the data is not looked at: a case is to take milliseconds.
const OPERATIONS_MAX: usize = 48;
const DAMAGES_MAX: usize = 8;
/// Begins the damage.
const DAMAGE: u8 = 15;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn options(settings: u8) -> Options {
    let bit = |i: u8| settings >> i & 1 == 1;
    let mut options = Options {
        memory_budget_bytes: 1 << 20,
        memtable_bytes: Some(64 << 10),
        block_size_bytes: if bit(0) { 128 } else { 4096 },
        blob_bytes_min: if bit(1) { 64 } else { 0 },
        verify: if bit(2) { Verify::Always } else { Verify::FirstUse },
        read_mode: if bit(3) { ReadMode::Pread } else { ReadMode::Map },
        log_backend: if bit(4) { LogBackend::Write } else { LogBackend::Mapped },
        filter_bits_per_key: if bit(5) { 0 } else { 12 },
        flush_on_close: bit(6),
        wal_retain_bytes: bit(7).then_some(1 << 20),
        ..Options::default()
    };
    if bit(0) {
        options.compression.fill(Codec::Lz4);
    }
    options
}

/// An engine, and every state that it was in.
struct Case {
    vfs: Arc<MemVfs>,
    options: Options,
    engine: Option<Engine>,
    history: Vec<State>,
    /// Which of the history is on stable storage, and which the kernel has: neither is undone by a crash that leaves as much.
    durable: usize,
    pushed: usize,
}

fn key(byte: u8) -> Vec<u8> {
    format!("key{:02}", byte % KEYS).into_bytes()
}

impl Case {
    fn new(settings: u8) -> Self {
        let (vfs, history) = (MemVfs::new(), vec![State::new()]);
        let mut case = Self { vfs, options: options(settings), engine: None, history, durable: 0, pushed: 0 };
        case.engine = Some(case.open(false).expect("memory takes it"));
        case
    }

    fn open(&self, read_only: bool) -> Result<Engine> {
        let builder = Engine::builder(DIR).options(self.options.clone()).vfs(Arc::clone(&self.vfs) as Arc<dyn Vfs>);
        builder.background(Background::Manual).read_only(read_only).open()
    }

    /// What the operation makes of the last state is the next, as durable as was asked.
    fn next(&mut self, level: Durability, change: impl FnOnce(&mut State)) {
        let mut state = self.history.last().expect("there is always one").clone();
        change(&mut state);
        self.history.push(state);
        match level {
            Durability::Memory => {}
            Durability::Sync => self.all_is_durable(),
            _ => self.pushed = self.last(),
        }
    }

    fn last(&self) -> usize {
        self.history.len() - 1
    }

    fn all_is_durable(&mut self) {
        (self.durable, self.pushed) = (self.last(), self.last());
    }

    /// What a power cut now may leave, in the place of what there is; only states from here on are right afterwards.
    fn crash(&mut self, policy: CrashPolicy) -> usize {
        let image = Arc::new(self.vfs.crash_now(policy));
        self.engine = None;
        self.vfs = image;
        if policy == CrashPolicy::All { self.pushed } else { self.durable }
    }

    /// One operation; `false` if it ends them.
    fn operation(&mut self, input: &mut Input<'_>) -> bool {
        let engine = self.engine.clone().expect("open between operations");
        let n = self.history.len();
        let value = |len: u8| {
            let mut value = format!("{n}:").into_bytes();
            value.resize(value.len() + usize::from(len), n as u8);
            value
        };
        let operation = input.byte();
        let level = match operation >> 4 & 3 {
            1 => Durability::Memory,
            2 => Durability::Sync,
            _ => Durability::EngineDefault,
        };
        let write = WriteOptions { durability: level, ..WriteOptions::default() };
        let done = match operation % 16 {
            0..=4 => {
                let (key, value) = (key(input.byte()), value(input.byte()));
                self.next(level, |state| drop(state.insert(key.clone(), value.clone())));
                engine.put_with(key, value, &write)
            }
            5 => {
                let key = key(input.byte());
                self.next(level, |state| drop(state.remove(&key)));
                engine.delete_with(key, &write)
            }
            6 => {
                let (a, b) = (key(input.byte()), key(input.byte()));
                if a == b {
                    return true;
                }
                let (begin, end) = if a < b { (a, b) } else { (b, a) };
                self.next(level, |state| state.retain(|key, _| *key < begin || *key >= end));
                engine.delete_range_with(begin, end, &write)
            }
            // All that was written lies in one keyspace, so that each of these makes all of it durable.
            7 | 8 | 10 => {
                self.all_is_durable();
                match operation % 16 {
                    7 => engine.flush(),
                    8 => engine.compact_range(..),
                    _ => engine.sync(),
                }
            }
            9 => engine.step().map(drop),
            11 => {
                self.engine = None;
                drop(engine);
                self.reopen(self.last());
                return true;
            }
            12 => {
                let (kind, seed) = (input.byte(), input.byte());
                let policy = match kind % 4 {
                    0 => CrashPolicy::SyncedOnly,
                    1 => CrashPolicy::All,
                    2 => CrashPolicy::TornLast,
                    _ => CrashPolicy::Subset(seed.into()),
                };
                let from = self.crash(policy);
                drop(engine);
                self.reopen(from);
                return true;
            }
            13 => {
                let (first, second) = (key(input.byte()), key(input.byte()));
                let (one, two) = (value(1), value(100));
                let mut batch = WriteBatch::new();
                batch.put(&first, &one).put(&second, &two);
                self.next(level, |state| state.extend([(first, one), (second, two)]));
                engine.write_with(&batch, &write)
            }
            14 => {
                let key = key(input.byte());
                assert_eq!(
                    engine.get(&key).expect("nothing is damaged").as_deref(),
                    self.history[n - 1].get(&key).map(|value| &**value)
                );
                Ok(())
            }
            _ => return false,
        };
        done.expect("nothing is in its way");
        true
    }

    /// Opens again. The state is one of the history from `from` on, and the last of it from then on, which no later crash undoes.
    fn reopen(&mut self, from: usize) {
        let engine = self.open(false).expect("a crash leaves what opens");
        let state: State = engine
            .iter()
            .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
            .collect::<Result<_>>()
            .expect("nothing is damaged");
        let at = self.history.iter().rposition(|then| *then == state);
        let at = at.unwrap_or_else(|| panic!("no state was ever {state:?}"));
        assert!(at >= from, "state {at} is what is left, and {from} was not to be lost: {:?}", self.history);
        self.history.truncate(at + 1);
        self.all_is_durable();
        self.engine = Some(engine);
    }

    /// Opens what is left and reads all of it. Unless something was signed, what is read is a state of the history, from `from` on if nothing was damaged.
    fn check(&self, from: usize, read_only: bool, is_damaged: bool, is_signed: bool) -> Option<Engine> {
        let opened = self.open(read_only);
        let Ok(engine) = opened else {
            assert!(is_damaged, "{}", opened.unwrap_err());
            return None;
        };
        let mut failed = None;
        let mut answers: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        for byte in 0..KEYS {
            let key = key(byte);
            match engine.get(&key) {
                Ok(value) => answers.push((key, value.map(|value| value.to_vec()))),
                Err(error) => failed = Some(error),
            }
        }
        let walks = [false, true].map(|back| {
            let (mut seen, mut whole, mut iter) = (Vec::new(), true, engine.iter());
            loop {
                match if back { iter.next_back() } else { iter.next() } {
                    None => break,
                    Some(Ok((key, value))) => seen.push((key.to_vec(), value.to_vec())),
                    Some(Err(error)) => {
                        failed = Some(error);
                        whole = false;
                        break;
                    }
                }
            }
            (back, whole, seen)
        });
        let fits = |state: &State| {
            answers.iter().all(|(key, value)| state.get(key) == value.as_ref())
                && walks.iter().all(|(back, whole, seen)| {
                    let mut of_state: Vec<_> = state.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                    if *back {
                        of_state.reverse();
                    }
                    if *whole { of_state == *seen } else { of_state.starts_with(seen) }
                })
        };
        // Damage above what the log vouches for reads as a torn end, and what the manifest and the log have lost together is an earlier state.
        let states = if is_damaged { &self.history[..] } else { &self.history[from..] };
        assert!(is_signed || states.iter().any(fits), "a wrong answer: {answers:?}, {walks:?} of {:?}", self.history);
        let verified = engine.verify();
        match failed {
            Some(error) => {
                assert!(is_damaged, "{error}");
                let is_fine = verified.is_ok_and(|report| report.is_ok());
                assert!(is_signed || !is_fine, "reading failed, and verifying did not: {error}");
            }
            None => assert!(is_damaged || verified.is_ok_and(|report| report.is_ok())),
        }
        if let Ok(changes) = engine.changes_since(0) {
            let _ = changes.take_while(|change| change.is_ok()).count();
        }
        let _ = (engine.metrics(), engine.multi_get([b"key00", b"key05", b"key11"]));
        Some(engine)
    }
}

/// Runs a case.
pub(crate) fn attack(bytes: Vec<u8>) {
    let input = &mut Input(&bytes);
    let mut case = Case::new(input.byte());
    for _ in 0..OPERATIONS_MAX {
        if input.0.is_empty() || !case.operation(input) {
            break;
        }
    }
    // Half of the cases are damaged as a crash left them.
    let from = if input.byte() % 2 == 1 { case.crash(CrashPolicy::All) } else { case.last() };
    case.engine = None;
    let (mut is_damaged, mut is_signed) = (false, false);
    for _ in 0..DAMAGES_MAX {
        if input.0.is_empty() {
            break;
        }
        is_damaged = true;
        is_signed |= damage(&case.vfs, Path::new(DIR), input);
    }
    drop(case.check(from, true, is_damaged, is_signed));
    if let Some(engine) = case.check(from, false, is_damaged, is_signed) {
        let _ = (engine.put("key00", "new"), engine.flush(), engine.compact_range(..));
        let _ = (engine.get("key00"), engine.step(), engine.iter().count(), engine.close());
        drop(engine);
        if let Ok(engine) = case.open(false) {
            let _ = (engine.get("key00"), engine.verify());
        }
    }
}

/// Cases of many operations: with each of the settings, and each kind of damage.
pub(crate) fn real() -> Vec<Vec<u8>> {
    (0..9)
        .map(|kind| {
            let mut case = vec![1u8 << (kind % 8) | kind];
            (0..6).for_each(|i| case.extend([i % 5, i * 2 + kind, 30 * i]));
            case.extend([6, 2, 5, 7, 0, 1, 80, 5, 3, 13, 4, 9, 7, 8, 10]);
            // One at each level.
            case.extend([
                0x10,
                3,
                9,
                0x20,
                4,
                9,
                0x10,
                5,
                9,
                0,
                6,
                9,
                14,
                3,
                if kind % 2 == 0 { 11 } else { 12 },
                kind,
                7,
                3,
                8,
                1,
                DAMAGE,
                kind % 2,
            ]);
            case.extend([kind, kind * 3 + 1, 0, 40 + kind, 0x41]);
            case
        })
        .collect()
}
