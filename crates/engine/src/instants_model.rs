//! Snapshots beside the jobs that drop versions, in every order of the threads and with every value that the orderings allow a load to see: `instants.rs` itself, compiled a second time, with loom's
//! lock, and a key with its versions around it.
//!
//! ```text
//! writer      a newer version, then its number is visible
//! job         the view; what the view says that nobody sees is gone from the versions
//! snapshot    taken: from then on, until it is released, the newest version at its number is there
//! ```
#![cfg(test)]

use super::sync::model as sync;

#[path = "instants.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "compiled again with another lock, and called in part")]
mod instants;

use crate::expiry::AsOf;
use esker_format::SeqNo;
use instants::Instants;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread::spawn;
use std::time::Duration;
use sync::Mutex;

struct World {
    snapshots: Instants<()>,
    visible: AtomicU64,
    /// Those of one key, ascending: as a read state has them.
    versions: Mutex<Vec<SeqNo>>,
}

impl World {
    /// With version 1, which is visible.
    fn new() -> Arc<Self> {
        let (visible, versions) = (AtomicU64::new(1), Mutex::new(vec![SeqNo(1)]));
        Arc::new(Self { snapshots: Instants::default(), visible, versions })
    }

    fn now(&self) -> AsOf {
        AsOf { seq: SeqNo(self.visible.load(Ordering::Acquire)), unix_ms: 0 }
    }

    fn write(&self, seq: u64) {
        self.versions.lock().push(SeqNo(seq));
        self.visible.store(seq, Ordering::Release);
    }

    /// Keeps of what is at or below the horizon only what a snapshot sees, and the newest.
    fn compact(&self) {
        let view = self.snapshots.view(|| self.now());
        let mut versions = self.versions.lock();
        let all = versions.clone();
        versions.retain(|version| {
            let newer = all.iter().copied().find(|other| other > version);
            let is_hidden = newer.is_some_and(|newer| {
                newer <= view.horizon && !view.snapshots.iter().any(|seen| version <= seen && *seen < newer)
            });
            !is_hidden
        });
    }

    /// Looks twice for what a snapshot sees: version `at` of it, since each number is one of the key.
    fn snapshot(&self) {
        let (at, _) = self.snapshots.take(|| self.now(), || Duration::ZERO, |()| ());
        for _ in 0..2 {
            let versions = self.versions.lock().clone();
            let found = versions.iter().rev().find(|version| **version <= at.seq);
            assert_eq!(found, Some(&at.seq), "of {versions:?}");
        }
        self.snapshots.release(at);
    }
}

#[test]
fn what_a_snapshot_sees_is_there_until_it_is_released() {
    sync::check(|| {
        let world = World::new();
        let (writer, reader) = (Arc::clone(&world), Arc::clone(&world));
        let writer = spawn(move || writer.write(2));
        let reader = spawn(move || reader.snapshot());
        world.compact();
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(world.snapshots.oldest().0, 0);
        world.compact();
        assert_eq!(*world.versions.lock(), [SeqNo(2)], "what nobody sees is dropped");
    });
}

#[test]
fn two_snapshots_and_two_jobs() {
    sync::check(|| {
        let world = World::new();
        let (other, reader) = (Arc::clone(&world), Arc::clone(&world));
        let other = spawn(move || {
            other.write(2);
            other.compact();
        });
        let reader = spawn(move || {
            reader.snapshot();
            reader.compact();
        });
        world.snapshot();
        other.join().unwrap();
        reader.join().unwrap();
        assert_eq!(world.snapshots.oldest().0, 0);
    });
}
