//! The group sync in every order of its threads: `group.rs` itself, compiled a second time, with loom's locks, atomics and threads.
//!
//! ```text
//! writers     append under a lock, say how far they pushed, sync_to      as the engine's commits do
//! disk        a sync makes durable what was written when it began, or fails
//! ```
//! Held in every order: what `sync_to` acknowledged is on the disk; after a failure nothing is acknowledged that was not; and everyone comes back, which loom tells by the threads that wait for ever.
#![cfg(test)]

mod sync {
    pub(super) use loom::sync::atomic::AtomicU64;
    pub(super) use loom::sync::{Mutex, MutexGuard};
    pub(super) use loom::thread::{Thread, current, park, yield_now};

    /// What loom has not.
    #[derive(Debug)]
    pub(super) struct OnceLock<T: 'static>(Mutex<Option<&'static T>>);

    impl<T> OnceLock<T> {
        pub(super) fn new() -> Self {
            Self(Mutex::new(None))
        }

        pub(super) fn get(&self) -> Option<&T> {
            *self.0.lock().unwrap()
        }

        pub(super) fn set(&self, value: T) -> Result<(), T> {
            let mut place = self.0.lock().unwrap();
            if place.is_some() {
                return Err(value);
            }
            *place = Some(Box::leak(Box::new(value)));
            Ok(())
        }
    }
}

#[path = "group.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::duplicate_mod,
    reason = "compiled again with other locks, and called in part"
)]
mod group;

use crate::frame::Lsn;
use esker_vfs::FileSync;
use group::{GroupSync, Log};
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::io;
use std::sync::Arc;

/// More switches of threads than this at places where none was due are not tried.
const PREEMPTIONS_MAX: usize = 3;

/// A file: how far it is written, how far that is durable, and whether the next sync fails, as all do from then on.
#[derive(Debug)]
struct Disk {
    written: AtomicU64,
    durable: AtomicU64,
    fails: AtomicBool,
}

impl FileSync for Disk {
    fn sync(&self) -> io::Result<()> {
        let written = self.written.load(SeqCst);
        if self.fails.load(SeqCst) {
            return Err(io::ErrorKind::Other.into());
        }
        self.durable.fetch_max(written, SeqCst);
        Ok(())
    }
}

struct World {
    group: Arc<GroupSync>,
    disk: Arc<Disk>,
    /// The log, and where it ends.
    line: Mutex<(Arc<Log>, Lsn)>,
}

impl World {
    fn new() -> Arc<Self> {
        let disk = Disk { written: AtomicU64::new(0), durable: AtomicU64::new(0), fails: AtomicBool::new(false) };
        let (disk, group) = (Arc::new(disk), GroupSync::new(Lsn(0)));
        let log = group.add(&"log".into(), Lsn(0), disk.clone()).unwrap();
        Arc::new(Self { group, disk, line: Mutex::new((log, Lsn(0))) })
    }

    fn append(&self) -> Lsn {
        let mut line = self.line.lock().unwrap();
        line.1 = line.1 + 10;
        self.disk.written.store(line.1.0, SeqCst);
        line.0.set_pushed(line.1);
        line.1
    }

    /// As a commit does that asks for it: whether it was acknowledged.
    fn commit(&self) -> bool {
        let end = self.append();
        let result = self.group.sync_to(end);
        if result.is_ok() {
            let durable = self.disk.durable.load(SeqCst);
            assert!(Lsn(durable) >= end, "{end} was acknowledged, and {durable} is durable");
            assert!(self.group.durable() >= end);
        }
        result.is_ok()
    }
}

/// Runs `threads` of them and `end` afterwards, in every order.
fn model(threads: &'static [fn(&World)], end: fn(&World)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(move || {
        let world = World::new();
        let threads: Vec<_> = threads
            .iter()
            .map(|thread| {
                let world = Arc::clone(&world);
                loom::thread::spawn(move || thread(&world))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        end(&world);
    });
}

#[test]
fn what_is_acknowledged_is_durable_and_everyone_returns() {
    model(&[|world| assert!(world.commit()), |world| assert!(world.commit())], |world| {
        assert_eq!(world.group.durable(), Lsn(20));
    });
}

#[test]
fn after_a_failed_sync_nothing_more_is_acknowledged() {
    model(
        &[
            |world| {
                let _ = world.commit();
            },
            |world| {
                world.disk.fails.store(true, SeqCst);
                let _ = world.commit();
            },
        ],
        |world| {
            // What heals shows itself to nobody, once a sync has failed.
            world.disk.fails.store(false, SeqCst);
            let (failed, durable) = (world.group.failed().is_some(), world.group.durable());
            assert_eq!(failed, durable < Lsn(20), "{durable}");
            assert_eq!(world.commit(), !failed);
        },
    );
}

#[test]
fn a_log_may_be_sealed_and_retired_under_those_who_wait() {
    model(
        &[
            |world| {
                let _ = world.commit();
            },
            |world| {
                let line = world.line.lock().unwrap();
                world.group.seal(&line.0);
                // A table has it all.
                world.disk.durable.fetch_max(line.1.0, SeqCst);
                world.group.retire(line.1);
            },
        ],
        |world| assert!(world.group.failed().is_none()),
    );
}
