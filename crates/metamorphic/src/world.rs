//! Where an engine lives: a file system that can be crashed or made to fail, and a clock that stands still until the script moves it.

use crate::op::{Call, Leaves, Trouble};
use crate::sets::{Medium, Set};
use esker::Verify;
use esker::vfs::{
    Clock, Fault, FaultVfs, FileLock, FileSync, LockMode, LogMap, MemVfs, Metadata, Operation, OsVfs, ReadableFile,
    Rule, Vfs, WritableFile,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Of the wall clock when a run begins, in milliseconds since 1970.
const BEGAN_MS: u64 = 1_600_000_000_000;
/// The longest that anybody who sleeps by the clock is held up.
const SLEEP_MAX: Duration = Duration::from_micros(200);

/// Tells the time of the script, however long its run takes: else what expires when would be up to the machine.
#[derive(Debug)]
struct ScriptClock(AtomicU64);

impl Clock for ScriptClock {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn unix_ms(&self) -> u64 {
        BEGAN_MS + self.0.load(Ordering::SeqCst) * 1_000
    }

    /// Gives way; no time passes.
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration.min(SLEEP_MAX));
    }
}

/// When something expires, so many seconds after the run began, by the wall clock.
pub(crate) fn time_at(seconds: u64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_millis(BEGAN_MS + seconds * 1_000)
}

/// The operating system's files under the clock of the script.
#[derive(Debug)]
struct Clocked {
    clock: Arc<ScriptClock>,
}

impl Vfs for Clocked {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        OsVfs.create_new(path)
    }

    fn create_log(&self, path: &Path, len_bytes: u64) -> io::Result<Box<dyn LogMap>> {
        OsVfs.create_log(path, len_bytes)
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogMap>> {
        OsVfs.open_log(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        OsVfs.open_read(path)
    }

    fn open_sync(&self, path: &Path) -> io::Result<Arc<dyn FileSync>> {
        OsVfs.open_sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsVfs.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsVfs.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        OsVfs.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        OsVfs.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        OsVfs.create_dir_all(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        OsVfs.list(directory)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        OsVfs.metadata(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        OsVfs.sync_dir(directory)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Box<dyn FileLock>> {
        OsVfs.lock(path, mode)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        OsVfs.free_space(path)
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn random(&self) -> u64 {
        OsVfs.random()
    }
}

/// A file system and its clock.
pub(crate) struct World {
    clock: Arc<ScriptClock>,
    /// `None` for real files.
    memory: Option<Arc<MemVfs>>,
    faults: Arc<FaultVfs>,
    root: PathBuf,
    /// What was done to the files in memory before the operation that is under way.
    before: usize,
}

impl World {
    /// With nothing in it; real files lie under `root`.
    pub(crate) fn new(medium: Medium, root: &Path) -> Self {
        let clock = Arc::new(ScriptClock(AtomicU64::new(0)));
        match medium {
            Medium::Memory => {
                let memory = MemVfs::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
                Self::over(clock, memory, 0)
            }
            Medium::Files => {
                let files = Clocked { clock: Arc::clone(&clock) };
                let faults = FaultVfs::new(Arc::new(files));
                Self { clock, memory: None, faults, root: root.to_owned(), before: 0 }
            }
        }
    }

    fn over(clock: Arc<ScriptClock>, memory: Arc<MemVfs>, before: usize) -> Self {
        let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
        Self { clock, memory: Some(memory), faults, root: "/".into(), before }
    }

    pub(crate) fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::clone(&self.faults) as Arc<dyn Vfs>
    }

    /// The files without what goes wrong with them.
    pub(crate) fn sound(&self) -> Arc<dyn Vfs> {
        match &self.memory {
            Some(memory) => Arc::clone(memory) as Arc<dyn Vfs>,
            None => Arc::new(Clocked { clock: Arc::clone(&self.clock) }),
        }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.join("engine")
    }

    /// A directory that is not the engine's.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        self.memory.is_some()
    }

    pub(crate) fn set_time(&self, seconds: u64) {
        self.clock.0.store(seconds, Ordering::SeqCst);
    }

    /// Notes that an operation begins: a power cut comes within the last one.
    pub(crate) fn begins(&mut self) {
        self.before = self.memory.as_ref().map_or(0, |memory| memory.operations());
    }

    /// What a power cut leaves, so far into what the operation before did.
    ///
    /// # Panics
    /// If these are real files.
    pub(crate) fn crashed(&self, leaves: Leaves, at_percent: Option<u64>) -> Self {
        let memory = self.memory.as_ref().expect("in memory");
        let image = match at_percent {
            None => memory.crash_now(leaves.policy()),
            Some(percent) => {
                let did = memory.operations() - self.before;
                memory.crash_image(self.before + did * percent as usize / 100, leaves.policy())
            }
        };
        let before = image.operations();
        Self::over(Arc::clone(&self.clock), Arc::new(image), before)
    }

    /// The same files again, to be opened without changing these.
    pub(crate) fn copy(&self) -> Self {
        self.crashed(Leaves::All, None)
    }

    /// Has something go wrong.
    pub(crate) fn trouble(&self, trouble: Trouble, call: Call, path: &str, nth: u64, set: &Set) {
        let is_read = matches!(call, Call::Read | Call::Map);
        // A flipped bit is found where all that is read is checked, and where it can be: the end of a log that nothing vouches for yet may be torn.
        let flips =
            is_read && set.options.verify == Verify::Always && (path.ends_with(".sst") || path.ends_with(".blob"));
        let fault = match trouble {
            Trouble::Flip if flips => Fault::FlipBit,
            Trouble::Io | Trouble::Flip => Fault::EIO,
            Trouble::Full if is_read || call == Call::Open => Fault::EMFILE,
            Trouble::Full => Fault::ENOSPC,
            Trouble::Short => Fault::SHORT,
            Trouble::Done => Fault::DONE,
        };
        let operation = match call {
            Call::Append => Operation::Append,
            Call::Create => Operation::CreateNew,
            Call::Grow => Operation::Grow,
            Call::Map => Operation::Map,
            Call::Open => Operation::OpenRead,
            Call::Read => Operation::Read,
            Call::Remove => Operation::RemoveFile,
            Call::Rename => Operation::Rename,
            Call::Sync => Operation::Sync,
            Call::SyncDir => Operation::SyncDir,
        };
        self.faults.add(Rule::new(operation, fault).path(path).nth(nth));
    }

    /// Has go wrong here what was to go wrong there and has not yet.
    pub(crate) fn take_over_trouble(&self, other: &Self) {
        for (_, rule, struck) in other.faults.rules() {
            if struck == 0 {
                self.faults.add(rule);
            }
        }
    }

    /// Whether anything has gone wrong since it was mended last.
    pub(crate) fn is_struck(&self) -> bool {
        self.faults.rules().iter().any(|(_, _, struck)| *struck > 0)
    }

    /// Has nothing go wrong any more. Whether anything has until now, in the background too.
    pub(crate) fn mend(&self) -> bool {
        self.faults.clear().iter().any(|(_, _, struck)| *struck > 0)
    }
}
