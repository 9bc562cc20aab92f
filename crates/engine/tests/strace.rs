//! System calls that fail, and a process that dies in one: a child that writes runs under `strace`, which has the nth call of a kind on the store's files end in an error, or by `kill -9`.
//!
//! ```text
//! count     strace -P each file of the store ... child      which calls there are, and how many of each
//! point     -e inject=fdatasync:error=EIO:when=7            one of them fails, once or from then on; or signal=SIGKILL
//! after     open, compare, write, check every file
//! ```
//! Unlike `FaultVfs`, this is what the kernel says: calls that no layer of ours knows of, maps and what is made ahead fail too. What was acknowledged is there, whatever failed; batches are
//! whole; a failure is told by some call or event; and the next process finds nothing wrong.
//!
//! Where `strace` is missing, or may not trace, the suite is skipped with a word.

#[path = "strace/child.rs"]
mod child;
#[path = "strace/run.rs"]
mod run;
#[path = "kill/store.rs"]
mod store;

use child::{CHILD, Script};
use esker::vfs::{OsVfs, Vfs};
use esker::{LogBackend, verify_deep};
use esker_testkit::stress;
use run::{Point, Run, points, probe};
use std::path::Path;
use std::sync::Arc;
use store::{builder, opened, value};

/// Of so many rounds in a row the child does the same: there are some two thousand points.
const POINTS: u64 = 4_096;
/// From one round's point to the next one's: far, so that few rounds see many kinds, and a prime above their number, so that as many rounds see all.
const STRIDE: u64 = 1_000_003;

fn open(dir: &Path) -> esker::Engine {
    opened(builder(dir, LogBackend::default())).unwrap().0
}

/// What the next process finds.
fn check(dir: &Path, script: &Script, run: &Run, what: &str) {
    let is_made = dir.join("CURRENT").exists();
    for read_only in [true, false] {
        if read_only && !is_made {
            continue;
        }
        // A reader makes no keyspace, and the child may not have come to it.
        let engine = match read_only {
            true => {
                esker::Engine::builder(dir).read_only(true).open().unwrap_or_else(|error| panic!("{what}: {error}"))
            }
            false => open(dir),
        };
        let mut found = Vec::new();
        for i in 0..script.writes {
            let key = i.to_be_bytes();
            let bytes = engine.get(key).unwrap();
            let other = engine.keyspace("other", Default::default()).map(|other| other.get(key).unwrap());
            assert_eq!(bytes, other.unwrap_or(None), "{what}: batch {i} is whole or not there");
            found.push(bytes.is_some());
            if let Some(bytes) = bytes {
                assert_eq!(bytes, value(i), "{what}: {i}");
            }
        }
        run.judge(&found, what);
    }
    let engine = open(dir);
    engine.put("written", "after").unwrap();
    engine.flush().unwrap();
    engine.close().unwrap();
    drop(engine);
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let report = verify_deep(&vfs, dir, &mut |_| {}).unwrap();
    assert!(report.is_ok(), "{what}: {report:#?}");
}

/// One point: whether a call failed, or the child died in one.
fn one(script: &Script, point: &Point) -> bool {
    let what = format!("{script:?}, {point}");
    let run = Run::new(script, Some(point), &what);
    if !run.is_hit() {
        return false;
    }
    run.is_told(&what);
    check(&run.dir(), script, &run, &what);
    true
}

#[test]
fn whatever_call_fails_nothing_acknowledged_is_lost() {
    if let Ok(spec) = std::env::var(CHILD) {
        return child::child(&spec);
    }
    if let Err(why) = probe() {
        return stress::skip("strace", &why);
    }
    let mut known: Option<(Script, Vec<Point>)> = None;
    let (mut rounds, mut hits) = (0, 0);
    for round in stress::rounds("strace", 12) {
        let script = Script::new(round.seed() / POINTS);
        if known.as_ref().is_none_or(|(of, _)| *of != script) {
            let undisturbed = Run::new(&script, None, "undisturbed");
            check(&undisturbed.dir(), &script, &undisturbed, "undisturbed");
            known = Some((script.clone(), points(&undisturbed)));
        }
        let (_, points) = known.as_ref().expect("just made");
        assert!(points.len() as u64 <= POINTS, "{} points, and some are never tried", points.len());
        let point = &points[(round.seed() % POINTS * STRIDE % points.len() as u64) as usize];
        let is_hit = u64::from(one(&script, point));
        round.tried(is_hit);
        (rounds, hits) = (rounds + 1, hits + is_hit);
    }
    let of = known.map_or(0, |(_, points)| points.len());
    println!("{hits} of {rounds} points were hit, of {of} that there are");
    // Where a run goes another way than the undisturbed one, the point is not come to.
    assert!(rounds < 12 || hits > rounds / 2, "{hits} of {rounds} points were hit");
}
