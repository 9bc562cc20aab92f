//! How a table retires, in every order of the threads: `removals.rs` itself, compiled a second time, with loom's counts, locks and atomics, and read states around it.
//!
//! ```text
//! job         puts a view without the table before the readers, retires it, lets go of the old view       as `install` does
//! reader      takes the view that is there, reads, lets go
//! removal     unlinks what is owed
//! ```
//! Held in every order: nobody who holds a view finds a table of it unlinked, and when all have let go the file is owed once.
#![cfg(test)]

use super::sync::model as sync;

#[path = "removals.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "compiled again with other locks, and called in part")]
mod removals;

use esker_format::{FileKind, FileNo};
use esker_vfs::{MemVfs, Vfs};
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread::{JoinHandle, spawn};
use removals::{Removals, Retirement};
use std::path::Path;
use sync::{Arc, Mutex};

const TABLE: FileKind = FileKind::Table(FileNo(7));

/// As an open table.
struct Open {
    retirement: Retirement,
}

/// As a read state: the tables that it names.
type View = Arc<Vec<Arc<Open>>>;

struct World {
    now: Mutex<View>,
    removals: Arc<Removals>,
    /// How often the table was unlinked.
    unlinked: AtomicUsize,
    vfs: std::sync::Arc<MemVfs>,
}

impl World {
    fn new() -> Arc<Self> {
        let (vfs, removals) = (MemVfs::new(), Removals::new());
        drop(vfs.create_new(&TABLE.path(Path::new("/"))).unwrap());
        let table = Arc::new(Open { retirement: Retirement::new(TABLE, &removals) });
        Arc::new(Self { now: Mutex::new(Arc::new(vec![table])), removals, unlinked: AtomicUsize::new(0), vfs })
    }

    /// Takes what is there, and uses it for a while.
    fn read(&self) {
        let view = Arc::clone(&self.now.lock());
        for table in view.iter() {
            assert_eq!(self.unlinked.load(SeqCst), 0, "a table is unlinked under a view that names it");
            let _ = table.retirement.is_retired();
            assert_eq!(self.unlinked.load(SeqCst), 0, "a table is unlinked under a view that names it");
        }
    }

    fn install_without_it(&self) {
        let before = Arc::clone(&self.now.lock());
        *self.now.lock() = Arc::new(Vec::new());
        before.iter().for_each(|table| table.retirement.retire());
    }

    fn pay(&self) {
        if self.removals.pay(&*self.vfs, Path::new("/")) {
            self.unlinked.fetch_add(1, SeqCst);
        }
    }
}

/// Runs a job, and beside it what `others` are.
fn model(others: &'static [fn(&World)]) {
    sync::check(move || {
        let world = World::new();
        let others: Vec<JoinHandle<()>> = others
            .iter()
            .map(|other| {
                let world = Arc::clone(&world);
                spawn(move || other(&world))
            })
            .collect();
        world.install_without_it();
        others.into_iter().for_each(|other| other.join().unwrap());
        world.pay();
        assert_eq!(world.unlinked.load(SeqCst), 1, "owed once, when all have let go");
        let is_there = world.vfs.list(Path::new("/")).unwrap().contains(&TABLE.name());
        assert!(!is_there);
    });
}

#[test]
fn a_table_is_unlinked_when_nobody_reads_it_any_more() {
    model(&[World::read, World::pay]);
}

#[test]
fn the_last_of_two_readers_owes_it() {
    model(&[World::read, |world| {
        world.read();
        world.pay();
    }]);
}
