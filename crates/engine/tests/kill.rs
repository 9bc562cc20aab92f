//! `kill -9` of a writing child, again and again: what was acknowledged is there, batches are whole, and nothing was made up.
//!
//! The child is this binary again. It tells the parent of each write before and after it, one line each, so the parent knows two bounds:
//! everything acknowledged must be there, and nothing that was not begun may be.

#[path = "kill/backend.rs"]
mod backend;
#[path = "kill/store.rs"]
mod store;

use backend::backend_of;
use esker::{Durability, WriteBatch, WriteOptions};
use esker_testkit::stress;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use store::{builder, opened, value};

const CYCLES: u64 = 200;
const KEYS: u64 = 500;
const CHILD: &str = "ESKER_KILL_TEST_CHILD";

/// Writes from `first` on, at the level that the number asks for, until killed.
fn child(dir: &Path, cycle: u64, first: u64) {
    let (engine, other) = opened(builder(dir, backend_of(cycle))).unwrap();
    let mut out = std::io::stdout().lock();
    for i in first.. {
        let durability = if i % 16 == 0 { Durability::Sync } else { Durability::Os };
        writeln!(out, "begin {i}").unwrap();
        let mut batch = WriteBatch::new();
        let key = (i % KEYS).to_be_bytes();
        batch.put(key, value(i)).put_in(&other, key, value(i));
        engine.write_with(&batch, &WriteOptions { durability, ..Default::default() }).unwrap();
        writeln!(out, "end {i}").unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_kills() {
    if let Ok(spec) = std::env::var(CHILD) {
        let [cycle, first, dir] = spec.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{spec}") };
        return child(Path::new(dir), cycle.parse().unwrap(), first.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    drop(opened(builder(dir.path(), backend_of(0))).unwrap());
    let mut acknowledged: HashMap<u64, u64> = HashMap::new();
    let (mut first, mut writes) = (0, 0);
    let mut kills = 0;
    for round in stress::rounds("kill", CYCLES) {
        let cycle = round.seed();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nothing_acknowledged_is_lost_in_kills", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{cycle} {first} {}", dir.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (begins, began) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let (mut begun, mut ended) = (None, Vec::new());
            while let Some(Ok(line)) = lines.next() {
                match line.split_once(' ') {
                    Some(("begin", i)) => {
                        if begun.is_none() {
                            // Nobody listens where the kill comes first.
                            let _ = begins.send(());
                        }
                        begun = i.parse::<u64>().ok().or(begun);
                    }
                    Some(("end", i)) => ended.extend(i.parse::<u64>()),
                    _ => {}
                }
            }
            (begun, ended)
        });
        let random = cycle.wrapping_add(1).wrapping_mul(6364136223846793005);
        // One in four dies wherever it is, while it opens too; the others some time after their first write, however long a busy machine lets them wait for it.
        if cycle % 4 != 0 {
            began.recv_timeout(Duration::from_secs(30)).expect("the child writes");
        }
        std::thread::sleep(Duration::from_millis(5 + (random >> 33) % 40));
        process.kill().unwrap();
        process.wait().unwrap();
        let (begun, ended) = reader.join().unwrap();
        writes += ended.len();
        for i in ended {
            acknowledged.insert(i % KEYS, i);
        }

        // Every other time only looked at, so that the next child finds the files as the kill left them.
        let builder = builder(dir.path(), backend_of(cycle)).read_only(cycle % 2 == 0);
        let (engine, other) = opened(builder).unwrap();
        let newest = begun.unwrap_or(first);
        for key in 0..KEYS {
            let found = engine.get(key.to_be_bytes()).unwrap();
            assert_eq!(found, other.get(key.to_be_bytes()).unwrap(), "cycle {cycle}: a batch is whole or not there");
            let found = found.map(|bytes| {
                let i = u64::from_be_bytes(bytes[..8].try_into().unwrap());
                assert_eq!(bytes, value(i), "cycle {cycle}: torn");
                i
            });
            let last = acknowledged.get(&key).copied();
            assert!(found >= last, "cycle {cycle}: key {key} holds {found:?}, {last:?} was acknowledged");
            assert!(found <= Some(newest), "cycle {cycle}: key {key} holds {found:?}, only {newest} was begun");
            if let Some(found) = found {
                acknowledged.insert(key, found);
            }
        }
        first = newest + 1;
        kills += 1;
        round.tried(1);
    }
    println!("{kills} kills, {writes} acknowledged writes");
    // Of a few, all may come too early.
    assert!(kills < 8 || writes > kills, "the children hardly wrote");
}
