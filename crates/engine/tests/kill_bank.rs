//! `kill -9` of a child whose threads move money between accounts: not a penny appears or goes, and each transfer is there whole, with its entry in the book of who made it, in another keyspace.
//!
//! The child is this binary again. Each thread tells the parent the number of a transfer before and after it, so two bounds are known: what was acknowledged is there, and what was not begun is not.

#[path = "kill/backend.rs"]
mod backend;

use backend::backend_of;
use esker::{Engine, Keyspace, KeyspaceOptions, Options, Result, Slice, Transaction, WriteOptions};
use esker_testkit::stress;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const KILLS: u64 = 60;
const ACCOUNTS: u64 = 16;
const EACH: u64 = 1_000;
const THREADS: usize = 3;
const CHILD: &str = "ESKER_BANK_TEST_CHILD";

fn number(bytes: Option<Slice>) -> u64 {
    bytes.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()))
}

fn open(dir: &Path, cycle: u64, read_only: bool) -> (Engine, Keyspace) {
    // Small, so that every cycle is killed somewhere in flush, compaction or a change of logs too.
    let log_backend = backend_of(cycle);
    let options =
        Options { log_backend, memtable_bytes: Some(16 << 10), wal_bytes_max: 128 << 10, ..Options::default() };
    let engine = Engine::builder(dir).options(options).read_only(read_only).open().unwrap();
    let book = engine.keyspace("book", KeyspaceOptions::default()).unwrap();
    (engine, book)
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Moves some money, and enters the transfer's number in the thread's book.
fn transfer(tx: &mut Transaction, book: &Keyspace, thread: usize, nth: u64, random: &mut Random) -> Result<()> {
    let from = random.below(ACCOUNTS).to_be_bytes();
    let to = random.below(ACCOUNTS).to_be_bytes();
    let held = number(tx.get(from)?);
    let amount = random.below(100).min(held);
    // Taken back, and then done.
    let savepoint = tx.savepoint();
    tx.put(to, u64::MAX.to_be_bytes())?;
    tx.rollback_to(savepoint)?;
    tx.put(from, (held - amount).to_be_bytes())?;
    let there = number(tx.get(to)?);
    tx.put(to, (there + amount).to_be_bytes())?;
    assert_eq!(number(tx.get_in(book, [thread as u8])?), nth - 1, "its own book");
    tx.put_in(book, [thread as u8], nth.to_be_bytes())
}

fn child(dir: &Path, seed: u64) {
    let (engine, book) = open(dir, seed, false);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, book) = (&engine, &book);
            scope.spawn(move || {
                let mut random = Random(seed * THREADS as u64 + thread as u64);
                let first = number(book.get([thread as u8]).unwrap()) + 1;
                for nth in first.. {
                    let options = if nth % 16 == 0 { WriteOptions::sync() } else { WriteOptions::default() };
                    println!("begin {thread} {nth}");
                    if nth % 8 == 0 {
                        let mut tx = engine.exclusive();
                        transfer(&mut tx, book, thread, nth, &mut random).unwrap();
                        tx.commit_with(&options).unwrap();
                    } else {
                        engine.transact_with(&options, |tx| transfer(tx, book, thread, nth, &mut random)).unwrap();
                    }
                    println!("end {thread} {nth}");
                }
            });
        }
        // All of it adds up at every instant.
        loop {
            assert_eq!(sum(&engine), ACCOUNTS * EACH);
        }
    });
}

fn sum(engine: &Engine) -> u64 {
    engine.iter().map(|item| number(Some(item.unwrap().1))).sum()
}

#[test]
fn not_a_penny_is_lost_in_kills() {
    if let Ok(spec) = std::env::var(CHILD) {
        let (seed, dir) = spec.split_once(' ').unwrap();
        return child(Path::new(dir), seed.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = open(dir.path(), 0, false);
    (0..ACCOUNTS).for_each(|account| engine.put(account.to_be_bytes(), EACH.to_be_bytes()).unwrap());
    engine.sync().unwrap();
    drop(engine);

    let mut transfers = [0; THREADS];
    let mut kills = 0;
    for round in stress::rounds("bank", KILLS) {
        let cycle = round.seed();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "not_a_penny_is_lost_in_kills", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{cycle} {}", dir.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (begins, began) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let (mut begun, mut ended) = ([0; THREADS], [0; THREADS]);
            for line in lines.map_while(|line| line.ok()) {
                // From the end: the first line has what the harness says of the test before it. Read from the front it was lost, and with it, where the kill came right behind, a transfer.
                let mut words = line.rsplit(' ');
                let (Some(nth), Some(thread)) = (words.next(), words.next()) else { continue };
                let what = words.next();
                let (Ok(thread), Ok(nth)) = (thread.parse::<usize>(), nth.parse::<u64>()) else { continue };
                match what {
                    Some("begin") => {
                        // Nobody listens where the kill comes first.
                        let _ = begins.send(());
                        begun[thread] = nth;
                    }
                    Some("end") => ended[thread] = nth,
                    _ => {}
                }
            }
            (begun, ended)
        });
        let mut random = Random(cycle);
        if cycle % 4 != 0 {
            began.recv_timeout(Duration::from_secs(30)).expect("the child moves money");
        }
        std::thread::sleep(Duration::from_millis(5 + random.below(40)));
        process.kill().unwrap();
        process.wait().unwrap();
        let (begun, ended) = reader.join().unwrap();

        // Every other time only looked at, so that the next child finds the files as the kill left them.
        let (engine, book) = open(dir.path(), cycle, cycle % 2 == 0);
        assert_eq!(sum(&engine), ACCOUNTS * EACH, "kill {cycle}");
        for thread in 0..THREADS {
            let found = number(book.get([thread as u8]).unwrap());
            let least = ended[thread].max(transfers[thread]);
            let most = begun[thread].max(transfers[thread]);
            assert!(
                (least..=most).contains(&found),
                "kill {cycle}: {found} of {least} to {most} transfers of {thread}"
            );
            transfers[thread] = found;
        }
        kills += 1;
        round.tried(1);
    }
    let all: u64 = transfers.iter().sum();
    println!("{kills} kills, {all} transfers, 0 lost");
    // Of a few, all may come too early.
    assert!(kills < 8 || all > kills, "the children hardly moved any");
}
