//! What only the operating system has: other processes, names that are not text, the memory file system's likeness to it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind::{IsADirectory, WouldBlock};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esker_vfs::{LockMode, MemVfs, OsVfs, Vfs, WritableFile, read_file};
use proptest::prelude::*;

/// Who was refused, for want of a regular file, let go of the process's list before the directory's lock, and another thread that came in between was refused as well.
#[test]
fn who_is_refused_stands_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let (folder, other) = (directory.path().join("LOCK"), directory.path().join("OTHER"));
    std::fs::create_dir(&folder).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let refused = OsVfs.lock(&folder, LockMode::Shared).unwrap_err();
                assert!([IsADirectory, WouldBlock].contains(&refused.kind()), "{refused}");
            }
        });
        let refused = (0..20_000).filter(|_| OsVfs.lock(&other, LockMode::Exclusive).is_err()).count();
        is_done.store(true, Ordering::Relaxed);
        assert_eq!(refused, 0);
    });
}

/// `flock`s of two open files stand against each other as those of two processes do.
#[test]
fn locks_stand_against_other_processes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("LOCK");
    let lock = OsVfs.lock(&path, LockMode::Exclusive).unwrap();
    let other = File::open(&path).unwrap();
    assert!(other.try_lock_shared().is_err());
    drop(lock);
    other.try_lock_shared().unwrap();
    assert_eq!(OsVfs.lock(&path, LockMode::Exclusive).unwrap_err().kind(), WouldBlock);
    let lock = OsVfs.lock(&path, LockMode::Shared).unwrap();
    drop(other);
    drop(lock);
    OsVfs.lock(&path, LockMode::Exclusive).unwrap();
}

/// A second process got a lock that the first still held when the file was removed: it found another one.
#[test]
fn a_directory_is_locked_against_other_processes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("LOCK");
    // As another process has it.
    let other = File::open(directory.path()).unwrap();
    let is_refused = |mode| OsVfs.lock(&path, mode).is_err_and(|error| error.kind() == WouldBlock);

    let lock = OsVfs.lock(&path, LockMode::Exclusive).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(other.try_lock_shared().is_err());
    drop(lock);
    other.try_lock_shared().unwrap();
    assert!(is_refused(LockMode::Exclusive));
    assert!(!path.exists(), "who is refused makes no file");
    File::create(&path).unwrap();
    drop(OsVfs.lock(&path, LockMode::Shared).unwrap());
    other.unlock().unwrap();

    let lock = OsVfs.lock(&path, LockMode::Shared).unwrap();
    assert!(other.try_lock().is_err());
    other.try_lock_shared().unwrap();
    drop(lock);
    other.unlock().unwrap();
    other.try_lock().unwrap();
    assert!(is_refused(LockMode::Exclusive) && is_refused(LockMode::Shared));
    drop(other);
    OsVfs.lock(&path, LockMode::Exclusive).unwrap();
}

/// A child that is killed holds nothing back.
#[test]
fn a_lock_dies_with_its_process() {
    const HOLD: &str = "ESKER_TEST_HOLD_LOCK";
    if let Some(path) = std::env::var_os(HOLD) {
        let _lock = OsVfs.lock(Path::new(&path), LockMode::Exclusive).unwrap();
        println!("held");
        loop {
            std::thread::park();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("LOCK");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_lock_dies_with_its_process", "--nocapture"])
        .env(HOLD, &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("held")), "the child got the lock");
    assert_eq!(OsVfs.lock(&path, LockMode::Exclusive).unwrap_err().kind(), WouldBlock);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(OsVfs.lock(&path, LockMode::Exclusive).unwrap_err().kind(), WouldBlock);
    child.kill().unwrap();
    child.wait().unwrap();
    OsVfs.lock(&path, LockMode::Exclusive).unwrap();
}

#[test]
fn a_shared_lock_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("LOCK");
    File::create(&path).unwrap();
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let before = std::fs::metadata(directory.path()).unwrap().modified().unwrap();
    drop(OsVfs.lock(&path, LockMode::Shared).unwrap());
    assert_eq!(std::fs::metadata(directory.path()).unwrap().modified().unwrap(), before);
    drop(OsVfs.lock(&directory.path().join("none"), LockMode::Shared).unwrap());
    assert_eq!(std::fs::metadata(directory.path()).unwrap().modified().unwrap(), before);
}

#[test]
fn names_that_are_not_text_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    for name in [&b"ours"[..], b"\xff\xfe"] {
        // Some file systems take no such name.
        let _ = File::create(directory.path().join(OsStr::from_bytes(name)));
    }
    assert_eq!(OsVfs.list(directory.path()).unwrap(), ["ours"]);
}

#[test]
fn a_bare_name_lies_in_the_working_directory() {
    assert!(OsVfs.metadata(Path::new("Cargo.toml").parent().unwrap()).unwrap().is_dir);
    assert!(OsVfs.list(Path::new("")).unwrap().contains(&"Cargo.toml".to_owned()));
    OsVfs.create_dir_all(Path::new("src")).unwrap();
    OsVfs.create_dir_all(Path::new("")).unwrap();
    OsVfs.sync_dir(Path::new("")).unwrap();
    assert!(OsVfs.free_space(Path::new("")).unwrap() > 0);
}

#[derive(Debug, Clone)]
enum Step {
    Create(usize),
    Append(usize, u16),
    Trim(usize),
    Close(usize),
    Read(usize),
    Rename(usize, usize),
    Link(usize, usize),
    Remove(usize),
    RemoveDir(usize),
    MakeDir(usize),
    Look(usize),
}

const PATHS: [&str; 9] = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "a/x", "d/../b"];

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..PATHS.len();
    prop_oneof![
        3 => at().prop_map(Step::Create),
        3 => (0..4usize, 0..6000u16).prop_map(|(file, len)| Step::Append(file, len)),
        1 => (0..4usize).prop_map(Step::Trim),
        1 => (0..4usize).prop_map(Step::Close),
        2 => at().prop_map(Step::Read),
        3 => (at(), at()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => (at(), at()).prop_map(|(from, to)| Step::Link(from, to)),
        2 => at().prop_map(Step::Remove),
        1 => at().prop_map(Step::RemoveDir),
        2 => at().prop_map(Step::MakeDir),
        2 => at().prop_map(Step::Look),
    ]
}

struct World {
    vfs: Arc<dyn Vfs>,
    root: std::path::PathBuf,
    open: Vec<Box<dyn WritableFile>>,
}

impl World {
    fn new(vfs: Arc<dyn Vfs>, root: &Path) -> Self {
        vfs.create_dir_all(root).unwrap();
        Self { vfs, root: root.to_owned(), open: Vec::new() }
    }

    fn at(&self, path: usize) -> std::path::PathBuf {
        self.root.join(PATHS[path])
    }

    /// What came of it, in words.
    fn step(&mut self, step: &Step) -> String {
        let vfs = &*self.vfs;
        let result = match step {
            Step::Create(path) => vfs.create_new(&self.at(*path)).map(|file| {
                self.open.push(file);
                String::new()
            }),
            Step::Append(file, len) => match self.open.get_mut(*file) {
                Some(file) => {
                    let bytes: Vec<u8> = (0..*len).map(|i| (i ^ len) as u8).collect();
                    file.append(&bytes).map(|()| file.position().to_string())
                }
                None => Ok(String::new()),
            },
            Step::Trim(file) => self.open.get_mut(*file).map_or(Ok(()), |file| file.trim()).map(|()| String::new()),
            Step::Close(file) => {
                if *file < self.open.len() {
                    self.open.remove(*file);
                }
                Ok(String::new())
            }
            Step::Read(path) => read_file(vfs, &self.at(*path), 1 << 20).map(|bytes| format!("{bytes:?}")),
            Step::Rename(from, to) => vfs.rename(&self.at(*from), &self.at(*to)).map(|()| String::new()),
            Step::Link(from, to) => vfs.hard_link(&self.at(*from), &self.at(*to)).map(|()| String::new()),
            Step::Remove(path) => vfs.remove_file(&self.at(*path)).map(|()| String::new()),
            Step::RemoveDir(path) => vfs.remove_dir(&self.at(*path)).map(|()| String::new()),
            Step::MakeDir(path) => vfs.create_dir_all(&self.at(*path)).map(|()| String::new()),
            Step::Look(path) => vfs
                .metadata(&self.at(*path))
                .map(|found| format!("{found:?} {:?}", found.is_dir.then(|| vfs.list(&self.at(*path))))),
        };
        result.unwrap_or_else(|error| error.kind().to_string())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Memory does what Linux does, down to the kinds of errors.
    #[test]
    #[cfg(target_os = "linux")]
    fn memory_is_like_the_operating_system(steps in prop::collection::vec(step(), 1..60)) {
        let directory = tempfile::tempdir().unwrap();
        let mut os = World::new(Arc::new(OsVfs), directory.path());
        let mut mem = World::new(MemVfs::new(), Path::new("/db"));
        for step in &steps {
            prop_assert_eq!(mem.step(step), os.step(step), "{:?}", step);
        }
        for path in 0..PATHS.len() {
            for step in [Step::Look(path), Step::Read(path)] {
                prop_assert_eq!(mem.step(&step), os.step(&step), "{:?}", step);
            }
        }
    }
}
