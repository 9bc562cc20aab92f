//! A file system that remembers in which order things were done.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::operation::{Operation, matches};
use crate::{Clock, FileLock, FileSync, LockMode, LogMap, LogRoom, Metadata, ReadableFile, Vfs, WritableFile};
use crate::{directory_of, or_here};

/// An operation that changed or synced something, and succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What was done.
    pub operation: Operation,
    /// To what; of an open file, the path that it was made under.
    pub path: PathBuf,
    /// The other path of a rename or link.
    pub to: Option<PathBuf>,
    /// Where bytes were appended or stored.
    pub offset: u64,
    /// How many bytes were appended or stored, or preallocated in all, or left by a trim.
    pub len_bytes: u64,
    /// How many events there were when it began: a sync covers those alone.
    pub began: usize,
    /// Tells files apart whatever their names; [`BEFORE`] for what is not done to an open file.
    file: u64,
}

/// Stands for files that were there before the trace began.
const BEFORE: u64 = 0;

/// A file system that remembers what was changed and synced, in order, so that a test can say what must have come before what.
///
/// Reads are not remembered, nor is what failed.
///
/// ```
/// use esker_vfs::{MemVfs, Operation, TraceVfs, Vfs, replace_file};
/// use std::path::Path;
///
/// let vfs = TraceVfs::new(MemVfs::new());
/// replace_file(&*vfs, Path::new("/CURRENT"), b"1")?;
/// vfs.create_new(Path::new("/table"))?;
///
/// vfs.assert_synced_before("/CURRENT", vfs.count());
/// assert!(vfs.check_synced_before("/table", vfs.count()).is_err());
/// assert_eq!(vfs.syncs("*"), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TraceVfs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn Vfs>,
    events: Mutex<Vec<Event>>,
    file_next: AtomicU64,
}

impl TraceVfs {
    /// No events yet. What was in `inner` before counts as synced.
    pub fn new(inner: Arc<dyn Vfs>) -> Arc<Self> {
        Arc::new(Self(Arc::new(Shared { inner, events: Mutex::default(), file_next: AtomicU64::new(BEFORE + 1) })))
    }

    /// All events until now.
    pub fn events(&self) -> Vec<Event> {
        self.0.events().clone()
    }

    /// How many events there have been: the number of the next one.
    pub fn count(&self) -> usize {
        self.0.events().len()
    }

    /// The numbers of the events of one kind on paths of the form `path`, where `*` stands for any characters.
    pub fn find(&self, operation: Operation, path: &str) -> Vec<usize> {
        self.0.events().iter().enumerate().filter(|(_, event)| event.is(operation, path)).map(|(nth, _)| nth).collect()
    }

    /// How often files of the form `path` were synced.
    pub fn syncs(&self, path: &str) -> usize {
        self.find(Operation::Sync, path).len()
    }

    /// Asserts that every file that had a name of the form `path` when event `before` came was durable then: all that was written
    /// to it, and its name.
    ///
    /// # Panics
    /// With the reason if not.
    pub fn assert_synced_before(&self, path: &str, before: usize) {
        if let Err(reason) = self.check_synced_before(path, before) {
            panic!("{reason}");
        }
    }

    /// As [`TraceVfs::assert_synced_before`].
    ///
    /// # Errors
    /// The reason.
    pub fn check_synced_before(&self, path: &str, before: usize) -> Result<(), String> {
        let mut known = Known::default();
        self.0.events().iter().take(before).enumerate().for_each(|(nth, event)| known.take_in(nth, event));
        known.check(path).map_err(|reason| format!("before event {before}: {reason}"))
    }

    /// Asserts that at each event of a kind on a path of the form `path`, every file that had a name of the form `synced` was durable.
    /// So a manifest that is appended to names durable tables only, or a table is removed only when the manifest that says so is durable.
    ///
    /// # Panics
    /// With the first event where it was not so.
    pub fn assert_synced_at_each(&self, operation: Operation, path: &str, synced: &str) {
        let mut known = Known::default();
        for (nth, event) in self.0.events().iter().enumerate() {
            if event.is(operation, path)
                && let Err(reason) = known.check(synced)
            {
                panic!("before event {nth}, {operation:?} {}: {reason}", event.path.display());
            }
            known.take_in(nth, event);
        }
    }
}

impl Event {
    fn is(&self, operation: Operation, path: &str) -> bool {
        self.operation == operation
            && (matches(path, &self.path) || self.to.as_ref().is_some_and(|to| matches(path, to)))
    }
}

/// What the events so far tell about which file is durable.
#[derive(Debug, Default)]
struct Known {
    files: BTreeMap<u64, Progress>,
    names: BTreeMap<PathBuf, Name>,
}

#[derive(Debug, Default)]
struct Progress {
    written: Option<usize>,
    /// Events before this one were synced.
    synced: usize,
}

#[derive(Debug)]
struct Name {
    file: u64,
    given: usize,
    synced: bool,
}

impl Known {
    fn take_in(&mut self, nth: usize, event: &Event) {
        match (event.operation, &event.to) {
            (Operation::CreateNew | Operation::CreateLog, _) => {
                self.names.insert(event.path.clone(), Name { file: event.file, given: nth, synced: false });
            }
            // The file has another number from now on; its name is as durable as it was.
            (Operation::OpenLog, _) => {
                if let Some(name) = self.names.get_mut(&event.path) {
                    name.file = event.file;
                }
            }
            (Operation::Append | Operation::Store | Operation::Trim, _) => {
                self.files.entry(event.file).or_default().written = Some(nth)
            }
            (Operation::Sync, _) => {
                let file = self.files.entry(event.file).or_default();
                file.synced = file.synced.max(event.began);
            }
            (Operation::SyncDir, _) => {
                for (path, name) in &mut self.names {
                    name.synced |= name.given < event.began && directory_of(path) == or_here(&event.path);
                }
            }
            (Operation::RemoveFile, _) => drop(self.names.remove(&event.path)),
            (Operation::HardLink, Some(to)) => {
                let file = self.names.get(&event.path).map_or(BEFORE, |name| name.file);
                self.names.insert(to.clone(), Name { file, given: nth, synced: false });
            }
            (Operation::Rename, Some(to)) => self.rename(nth, &event.path, to),
            _ => {}
        }
    }

    /// A file gets a name that is to be synced; a directory takes along the names in it.
    fn rename(&mut self, nth: usize, from: &Path, to: &Path) {
        if from == to {
            return;
        }
        let file = self.names.remove(from).map_or(BEFORE, |name| name.file);
        self.names.insert(to.to_owned(), Name { file, given: nth, synced: false });
        let inside: Vec<PathBuf> = self.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in inside {
            if let (Some(name), Ok(rest)) = (self.names.remove(&path), path.strip_prefix(from)) {
                self.names.insert(to.join(rest), name);
            }
        }
    }

    fn check(&self, pattern: &str) -> Result<(), String> {
        for (path, name) in self.names.iter().filter(|(path, _)| matches(pattern, path)) {
            let path = path.display();
            if !name.synced {
                return Err(format!(
                    "{path}: the name is of event {}, and the directory was not synced since",
                    name.given
                ));
            }
            match self.files.get(&name.file) {
                Some(Progress { written: Some(written), synced }) if written >= synced => {
                    return Err(format!("{path}: written by event {written}, and not synced since"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Shared {
    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it, and remembers it if it went well.
    fn run<T>(&self, mut event: Event, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        event.began = self.events().len();
        let result = work()?;
        self.events().push(event);
        Ok(result)
    }
}

impl TraceVfs {
    fn log(&self, event: Event, work: impl FnOnce() -> io::Result<Box<dyn LogMap>>) -> io::Result<Box<dyn LogMap>> {
        let file = self.0.file_next.fetch_add(1, Ordering::SeqCst);
        let path = event.path.clone();
        let inner = self.0.run(Event { file, ..event }, work)?;
        Ok(Box::new(TraceLog { inner, of: OpenFile { path, file, shared: Arc::clone(&self.0) } }))
    }
}

fn event(operation: Operation, path: &Path) -> Event {
    Event { operation, path: path.to_owned(), to: None, offset: 0, len_bytes: 0, began: 0, file: BEFORE }
}

impl Vfs for TraceVfs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let file = self.0.file_next.fetch_add(1, Ordering::SeqCst);
        let created = Event { file, ..event(Operation::CreateNew, path) };
        let inner = self.0.run(created, || self.0.inner.create_new(path))?;
        Ok(Box::new(TraceWriter { inner, of: OpenFile { path: path.to_owned(), file, shared: Arc::clone(&self.0) } }))
    }

    fn create_log(&self, path: &Path, len_bytes: u64) -> io::Result<Box<dyn LogMap>> {
        self.log(Event { len_bytes, ..event(Operation::CreateLog, path) }, || self.0.inner.create_log(path, len_bytes))
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogMap>> {
        self.log(event(Operation::OpenLog, path), || self.0.inner.open_log(path))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        self.0.inner.open_read(path)
    }

    fn open_sync(&self, path: &Path) -> io::Result<Arc<dyn FileSync>> {
        let of = OpenFile { path: path.to_owned(), file: BEFORE, shared: Arc::clone(&self.0) };
        Ok(Arc::new(TraceSync { inner: self.0.inner.open_sync(path)?, of }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let event = Event { to: Some(to.to_owned()), ..event(Operation::Rename, from) };
        self.0.run(event, || self.0.inner.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let event = Event { to: Some(to.to_owned()), ..event(Operation::HardLink, from) };
        self.0.run(event, || self.0.inner.hard_link(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.run(event(Operation::RemoveFile, path), || self.0.inner.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.run(event(Operation::RemoveDir, path), || self.0.inner.remove_dir(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.run(event(Operation::CreateDirAll, path), || self.0.inner.create_dir_all(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.0.inner.list(directory)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.0.inner.metadata(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.0.run(event(Operation::SyncDir, directory), || self.0.inner.sync_dir(directory))
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Box<dyn FileLock>> {
        self.0.inner.lock(path, mode)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.0.inner.free_space(path)
    }

    fn clock(&self) -> &dyn Clock {
        self.0.inner.clock()
    }

    fn random(&self) -> u64 {
        self.0.inner.random()
    }
}

#[derive(Debug, Clone)]
struct OpenFile {
    path: PathBuf,
    file: u64,
    shared: Arc<Shared>,
}

impl OpenFile {
    fn run(
        &self,
        operation: Operation,
        (offset, len_bytes): (u64, u64),
        work: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        self.shared.run(Event { file: self.file, offset, len_bytes, ..event(operation, &self.path) }, work)
    }
}

#[derive(Debug)]
struct TraceWriter {
    inner: Box<dyn WritableFile>,
    of: OpenFile,
}

impl WritableFile for TraceWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let range = (self.inner.position(), bytes.len() as u64);
        self.of.run(Operation::Append, range, || self.inner.append(bytes))
    }

    fn begin_write_out(&mut self) -> io::Result<()> {
        let range = (0, self.inner.position());
        self.of.run(Operation::WriteOut, range, || self.inner.begin_write_out())
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }

    fn preallocate(&mut self, len_bytes: u64) -> io::Result<()> {
        self.of.run(Operation::Preallocate, (0, len_bytes), || self.inner.preallocate(len_bytes))
    }

    fn trim(&mut self) -> io::Result<()> {
        let range = (0, self.inner.position());
        self.of.run(Operation::Trim, range, || self.inner.trim())
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        Arc::new(TraceSync { inner: self.inner.syncer(), of: self.of.clone() })
    }

    fn append_torn(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.append_torn(bytes)
    }
}

#[derive(Debug)]
struct TraceLog {
    inner: Box<dyn LogMap>,
    of: OpenFile,
}

impl LogMap for TraceLog {
    fn store(&mut self, offset: u64, parts: &[&[u8]]) {
        let range = (offset, parts.iter().map(|part| part.len() as u64).sum());
        let inner = &mut self.inner;
        let stored = self.of.run(Operation::Store, range, || {
            inner.store(offset, parts);
            Ok(())
        });
        debug_assert!(stored.is_ok());
    }

    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn grow(&mut self, len_bytes: u64) -> io::Result<()> {
        if len_bytes <= self.inner.len_bytes() {
            return Ok(());
        }
        self.of.run(Operation::Grow, (0, len_bytes), || self.inner.grow(len_bytes))
    }

    fn trim(&mut self, len_bytes: u64) -> io::Result<()> {
        self.of.run(Operation::Trim, (0, len_bytes), || self.inner.trim(len_bytes))
    }

    fn room(&self) -> Arc<dyn LogRoom> {
        Arc::new(TraceRoom { inner: self.inner.room(), of: self.of.clone() })
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        Arc::new(TraceSync { inner: self.inner.syncer(), of: self.of.clone() })
    }
}

#[derive(Debug)]
struct TraceRoom {
    inner: Arc<dyn LogRoom>,
    of: OpenFile,
}

impl LogRoom for TraceRoom {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        if len_bytes <= self.inner.len_bytes() {
            return Ok(());
        }
        self.of.run(Operation::Grow, (0, len_bytes), || self.inner.grow(len_bytes))
    }

    fn grow_written(&self, len_bytes: u64) -> io::Result<()> {
        self.of.run(Operation::GrowWritten, (0, len_bytes), || self.inner.grow_written(len_bytes))
    }

    fn populate(&self, from: u64, to: u64) {
        self.inner.populate(from, to);
    }
}

#[derive(Debug)]
struct TraceSync {
    inner: Arc<dyn FileSync>,
    of: OpenFile,
}

impl FileSync for TraceSync {
    fn sync(&self) -> io::Result<()> {
        self.of.run(Operation::Sync, (0, 0), || self.inner.sync())
    }

    fn lose_unsynced(&self) {
        self.inner.lose_unsynced();
    }
}
