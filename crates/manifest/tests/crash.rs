//! Power cuts after every operation of a run, under many policies, and again in the run after recovery.
//!
//! What must hold of each image: it opens; its version is the one last acknowledged before the cut, or the one being committed then; opening it
//! again, or after a cut in its next commit, gives the same; no file number is given out a second time.

mod support;

use esker_format::{FileNo, SeqNo};
use esker_manifest::{Found, ManifestError, Version, VersionEdit, VersionSet, probe};
use esker_vfs::{CrashPolicy, MemVfs};
use std::sync::Arc;
use support::{create, directory, edit, fresh, recover, shared};

/// What a run had to show for itself at one moment.
struct Acknowledged {
    /// After so many operations of the file system.
    operations: usize,
    version: Arc<Version>,
    /// File numbers given out until then.
    given: usize,
}

/// A run that is watched.
struct Run {
    vfs: Arc<MemVfs>,
    /// It began after so many operations.
    start: usize,
    moments: Vec<Acknowledged>,
    given: Vec<FileNo>,
}

impl Run {
    fn new(vfs: Arc<MemVfs>, before: Option<Arc<Version>>) -> Self {
        let start = vfs.operations();
        let moments = before.map(|version| Acknowledged { operations: start, version, given: 0 });
        Self { vfs, start, moments: moments.into_iter().collect(), given: Vec::new() }
    }

    fn saw(&mut self, set: &VersionSet) {
        let (operations, version) = (self.vfs.operations(), Arc::clone(set.current()));
        self.moments.push(Acknowledged { operations, version, given: self.given.len() });
    }

    fn commit(&mut self, set: &mut VersionSet, text: &str) {
        set.commit(edit(text)).unwrap();
        self.saw(set);
    }

    fn file(&mut self, set: &mut VersionSet) -> FileNo {
        let number = set.new_file_no().unwrap();
        self.given.push(number);
        self.saw(set);
        number
    }

    /// What may be found after a power cut; `None` stands for a directory in which an engine can be created.
    fn allowed(&self, operations: usize) -> (Vec<Option<&Arc<Version>>>, &[FileNo]) {
        let done = self.moments.partition_point(|moment| moment.operations <= operations);
        let last = done.checked_sub(1).map(|last| &self.moments[last]);
        let next = self.moments.get(done).map(|moment| Some(&moment.version));
        let found = [Some(last.map(|moment| &moment.version)), next].into_iter().flatten().collect();
        (found, &self.given[..last.map_or(0, |moment| moment.given)])
    }
}

/// So many policies out of all, others after each operation.
fn policies(count: usize, operations: usize) -> impl Iterator<Item = CrashPolicy> {
    (operations * count..(operations + 1) * count).map(|nth| match nth % 7 {
        0 => CrashPolicy::SyncedOnly,
        1 => CrashPolicy::All,
        2 => CrashPolicy::TornLast,
        _ => CrashPolicy::Subset(nth as u64),
    })
}

/// Opens what a power cut left, and checks it; `None` if there is no engine yet, and then one can be made.
fn open(image: &Arc<MemVfs>, run: &Run, operations: usize) -> Option<VersionSet> {
    let (allowed, given) = run.allowed(operations);
    let mut set = match recover(image) {
        Ok(set) => set,
        Err(ManifestError::NoEngine(_)) => {
            assert!(allowed.contains(&None), "the engine is gone");
            assert_eq!(probe(&**image, directory()).unwrap(), Found::Nothing);
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let found = Some(set.current());
    assert!(allowed.contains(&found), "found\n{}allowed\n{allowed:?}", set.current());
    assert_eq!(recover(image).unwrap().current(), set.current(), "a second opening finds the same");
    set.current().check().unwrap();
    let fork = Arc::new(image.crash_now(CrashPolicy::All));
    let mut on_fork = recover(&fork).unwrap();
    let number = on_fork.new_file_no().unwrap();
    assert!(!given.contains(&number), "{number} is given out again");
    set.set_rewrite_bytes(300);
    Some(set)
}

/// Cuts the power after each operation of `run`, under so many policies each, and if there are more counts, goes on from there. Returns how many
/// images there were.
fn sweep(run: &Run, counts: &[usize]) -> u64 {
    let (count, deeper) = counts.split_first().expect("how many policies");
    let mut images = 0;
    for operations in run.start..=run.vfs.operations() {
        for policy in policies(*count, operations) {
            let image = Arc::new(run.vfs.crash_image(operations, policy));
            images += 1;
            let set = open(&image, run, operations);
            if deeper.is_empty() {
                continue;
            }
            let mut next = Run::new(Arc::clone(&image), set.as_ref().map(|set| Arc::clone(set.current())));
            let mut set = set.unwrap_or_else(|| VersionSet::create(shared(&image), directory()).unwrap());
            if next.moments.is_empty() {
                next.saw(&set);
            }
            let clock = set.current().clock_ms + 1;
            next.commit(&mut set, &format!("clock {clock}"));
            images += sweep(&next, deeper);
        }
    }
    images
}

/// Everything that a version set does, a few times over.
fn story() -> Run {
    let vfs = fresh();
    let mut run = Run::new(Arc::clone(&vfs), None);
    let mut set = create(&vfs);
    set.set_rewrite_bytes(600);
    run.saw(&set);
    run.commit(&mut set, "reserve seq 1000 \n create keyspace 1 \"users\" \"\"");
    let (a, b) = (run.file(&mut set), run.file(&mut set));
    run.commit(
        &mut set,
        &format!("add 0 L0 {a} a#1,PUT .. m#5,PUT \n add 1 L0 {b} a#6,PUT .. c#9,PUT \n flushed 0 5 \n flushed 1 9"),
    );
    run.commit(&mut set, &format!("remove 0 L0 {a} \n add 0 L6 {a} a#1,PUT .. m#5,PUT"));
    for clock in 1..12 {
        run.commit(&mut set, &format!("clock {clock}"));
    }
    drop(set);

    let mut set = recover(&vfs).unwrap();
    let c = run.file(&mut set);
    run.commit(&mut set, &format!("drop keyspace 1 \n oldest log {c}"));
    set.restart(edit("written 77")).unwrap();
    run.saw(&set);
    run.commit(&mut set, "create keyspace 2 \"users\" \"again\"");
    set.close(VersionEdit::default(), SeqNo(20)).unwrap();
    run.saw(&set);
    drop(set);

    let mut set = recover(&vfs).unwrap();
    run.file(&mut set);
    run.commit(&mut set, "reserve seq 2000");
    run
}

#[test]
fn a_power_cut_after_any_operation_loses_nothing_acknowledged() {
    let images = sweep(&story(), &[21]);
    assert!(images > 1500, "{images} images");
}

#[test]
fn and_another_one_in_the_commit_after_recovery() {
    let images = sweep(&story(), &[2, 1]);
    assert!(images > 2000, "{images} images");
}

#[test]
fn creation_can_be_cut_off_three_times_in_a_row() {
    let vfs = fresh();
    let mut run = Run::new(Arc::clone(&vfs), None);
    run.saw(&create(&vfs));
    let images = sweep(&run, &[2, 2, 1]);
    assert!(images > 2000, "{images} images");
}
