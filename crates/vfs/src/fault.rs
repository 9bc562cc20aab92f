//! A file system in which things go wrong on purpose.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use crate::mem::mix;
use crate::operation::{Operation, matches};
use crate::{
    Clock, FileLock, FileSync, LockMode, LogMap, LogRoom, Map, Mapped, Metadata, ReadableFile, Vfs, WritableFile,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the operating system's error of this number is returned. If it is a sync that fails, what was not synced
    /// never gets to stable storage, though reads still see it and later syncs succeed ([`FileSync::lose_unsynced`]).
    Errno(i32),
    /// Of an append, a part of the bytes is written behind the write position, which does not move. Else as [`Fault::Errno`].
    Short(i32),
    /// All is done, and the error is returned all the same.
    Done(i32),
    /// It takes so much longer, by the clock of the file system below.
    Delay(Duration),
    /// One bit of what is read or mapped is wrong: which one depends on the seed. Other operations are as ever.
    FlipBit,
}

impl Fault {
    /// The medium fails.
    pub const EIO: Self = Self::Errno(Errno::IO.raw_os_error());
    /// The medium is full.
    pub const ENOSPC: Self = Self::Errno(Errno::NOSPC.raw_os_error());
    /// The process has too many files open.
    pub const EMFILE: Self = Self::Errno(Errno::MFILE.raw_os_error());
    /// A signal came in between.
    pub const EINTR: Self = Self::Errno(Errno::INTR.raw_os_error());
    /// There is no permission.
    pub const EACCES: Self = Self::Errno(Errno::ACCESS.raw_os_error());
    /// There is no memory, as for a map.
    pub const ENOMEM: Self = Self::Errno(Errno::NOMEM.raw_os_error());
    /// The medium is full in the middle of an append.
    pub const SHORT: Self = Self::Short(Errno::NOSPC.raw_os_error());
    /// The medium failed after all was done.
    pub const DONE: Self = Self::Done(Errno::IO.raw_os_error());
}

/// When which operations go wrong how. Made by [`Rule::new`] for every operation of a kind, and narrowed by the other methods.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The kind of operation; `None` is any.
    pub operation: Option<Operation>,
    /// The path, where `*` stands for any characters; of two paths, one has to match. Operations on an open file go by the path
    /// that it was opened under.
    pub path: String,
    /// How many operations that match are let pass first.
    pub skip: u64,
    /// How often it happens.
    pub times: u64,
    /// With which probability it happens, from 0 to 1.
    pub chance: f64,
    /// Of a file's bytes, those to which it happens: only reads of any of them match.
    pub bytes: Option<Range<u64>>,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// Every operation of a kind.
    pub fn new(operation: Operation, fault: Fault) -> Self {
        Self { operation: Some(operation), ..Self::any(fault) }
    }

    /// Every operation.
    pub fn any(fault: Fault) -> Self {
        Self { operation: None, path: "*".to_owned(), skip: 0, times: u64::MAX, chance: 1.0, bytes: None, fault }
    }

    /// Only on paths of this form, where `*` stands for any characters.
    #[must_use]
    pub fn path(self, pattern: &str) -> Self {
        Self { path: pattern.to_owned(), ..self }
    }

    /// Only reads of any of these bytes of a file, as of a sector that has gone bad. A map is not read by way of the file system, so of one nothing goes wrong; of a guarded one, what is copied out.
    ///
    /// ```
    /// use esker_vfs::{Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
    /// use std::path::Path;
    ///
    /// let vfs = FaultVfs::new(MemVfs::new());
    /// vfs.add(Rule::new(Operation::Read, Fault::EIO).path("/a").bytes(4096..8192));
    /// let mut file = vfs.create_new(Path::new("/a"))?;
    /// file.append(&[7; 9000])?;
    /// let file = vfs.open_read(Path::new("/a"))?;
    /// assert!(file.read_exact_at(&mut [0; 4096], 0).is_ok());
    /// assert!(file.read_exact_at(&mut [0; 4097], 0).is_err());
    /// assert!(file.read_exact_at(&mut [0; 1], 8191).is_err());
    /// assert!(file.read_exact_at(&mut [0; 1], 8192).is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn bytes(self, bytes: Range<u64>) -> Self {
        Self { bytes: Some(bytes), ..self }
    }

    /// Only the `n`th one that matches; the first is 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        self.from_nth(n).times(1)
    }

    /// Only from the `n`th one on; the first is 1.
    #[must_use]
    pub fn from_nth(self, n: u64) -> Self {
        Self { skip: n.saturating_sub(1), ..self }
    }

    /// At most so often.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// With a probability, from 0 to 1.
    #[must_use]
    pub fn chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }
}

/// Names a rule that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

/// A file system in which things go wrong by rules, which may be added and removed at any time. It counts operations too.
///
/// The first rule that matches and has not passed decides; delays add up. Time, randomness and the bytes are those of the file
/// system below.
///
/// ```
/// use esker_vfs::{Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
/// use std::path::Path;
///
/// let vfs = FaultVfs::new(MemVfs::new());
/// vfs.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").nth(2));
/// let mut log = vfs.create_new(Path::new("/1.wal"))?;
/// assert!(log.sync().is_ok());
/// assert!(log.sync().is_err());
/// assert!(log.sync().is_ok());
/// assert_eq!(vfs.count(Operation::Sync), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FaultVfs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn Vfs>,
    rules: Mutex<Rules>,
}

#[derive(Debug, Default)]
struct Rules {
    seed: u64,
    dice_thrown: u64,
    rule_next: u64,
    /// With how many operations matched, and how often it happened.
    rules: BTreeMap<RuleId, (Rule, u64, u64)>,
    counts: BTreeMap<Operation, u64>,
}

/// What the rules say of one operation.
enum Verdict {
    Pass,
    Fail(i32),
    Short { errno: i32, dice: u64 },
    Done(i32),
    Flip { dice: u64 },
}

impl FaultVfs {
    /// No rules yet.
    pub fn new(inner: Arc<dyn Vfs>) -> Arc<Self> {
        Self::with_seed(inner, 0)
    }

    /// No rules yet; chances depend on `seed`.
    pub fn with_seed(inner: Arc<dyn Vfs>, seed: u64) -> Arc<Self> {
        Arc::new(Self(Arc::new(Shared { inner, rules: Mutex::new(Rules { seed, ..Rules::default() }) })))
    }

    /// Adds a rule, behind those there are.
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut rules = self.0.rules();
        let id = RuleId(rules.rule_next);
        rules.rule_next += 1;
        rules.rules.insert(id, (rule, 0, 0));
        id
    }

    /// Takes a rule away; false if it is not there.
    pub fn remove(&self, id: RuleId) -> bool {
        self.0.rules().rules.remove(&id).is_some()
    }

    /// Takes all rules away, and tells how often each has struck: who asks [`rules`](Self::rules) before misses what strikes in between. Counts stay.
    pub fn clear(&self) -> Vec<(RuleId, Rule, u64)> {
        let rules = std::mem::take(&mut self.0.rules().rules);
        rules.into_iter().map(|(id, (rule, _, struck))| (id, rule, struck)).collect()
    }

    /// The rules, and how often each has struck.
    pub fn rules(&self) -> Vec<(RuleId, Rule, u64)> {
        self.0.rules().rules.iter().map(|(&id, (rule, _, struck))| (id, rule.clone(), *struck)).collect()
    }

    /// How many operations of a kind there have been, failed ones too.
    pub fn count(&self, operation: Operation) -> u64 {
        self.0.rules().counts.get(&operation).copied().unwrap_or(0)
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation, waits if a rule says so, and tells what else the rules say.
    fn judge(&self, operation: Operation, paths: &[&Path]) -> Verdict {
        self.judge_bytes(operation, paths, 0..0)
    }

    /// The same of an operation on these bytes of the file.
    fn judge_bytes(&self, operation: Operation, paths: &[&Path], bytes: Range<u64>) -> Verdict {
        let (delay, verdict) = self.rules().judge(operation, paths, bytes);
        if !delay.is_zero() {
            self.inner.clock().sleep(delay);
        }
        verdict
    }

    fn run<T>(&self, operation: Operation, paths: &[&Path], work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.judge(operation, paths) {
            Verdict::Pass | Verdict::Flip { .. } => work(),
            Verdict::Done(errno) => work().and(Err(io::Error::from_raw_os_error(errno))),
            Verdict::Fail(errno) | Verdict::Short { errno, .. } => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Rules {
    fn judge(&mut self, operation: Operation, paths: &[&Path], bytes: Range<u64>) -> (Duration, Verdict) {
        *self.counts.entry(operation).or_default() += 1;
        let mut delay = Duration::ZERO;
        let is_of = |rule: &Range<u64>| rule.start.max(bytes.start) < rule.end.min(bytes.end);
        for (rule, matched, struck) in self.rules.values_mut() {
            if rule.operation.is_some_and(|of| of != operation)
                || !paths.iter().any(|path| matches(&rule.path, path))
                || rule.bytes.as_ref().is_some_and(|bytes| !is_of(bytes))
            {
                continue;
            }
            *matched += 1;
            self.dice_thrown += 1;
            let dice = mix(self.seed, &[self.dice_thrown]);
            let unlucky = (dice >> 11) as f64 / (1u64 << 53) as f64;
            if *matched <= rule.skip || *struck >= rule.times || unlucky >= rule.chance {
                continue;
            }
            *struck += 1;
            let verdict = match rule.fault {
                Fault::Delay(more) => {
                    delay += more;
                    continue;
                }
                Fault::Errno(errno) => Verdict::Fail(errno),
                Fault::Short(errno) => Verdict::Short { errno, dice },
                Fault::Done(errno) => Verdict::Done(errno),
                Fault::FlipBit => Verdict::Flip { dice },
            };
            return (delay, verdict);
        }
        (delay, Verdict::Pass)
    }
}

fn flip(bytes: &mut [u8], dice: u64) {
    if !bytes.is_empty() {
        let bit = mix(dice, &[]) % (bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

impl Vfs for FaultVfs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let inner = self.0.run(Operation::CreateNew, &[path], || self.0.inner.create_new(path))?;
        Ok(Box::new(FaultWriter { inner, path: path.to_owned(), shared: Arc::clone(&self.0) }))
    }

    fn create_log(&self, path: &Path, len_bytes: u64) -> io::Result<Box<dyn LogMap>> {
        let inner = self.0.run(Operation::CreateLog, &[path], || self.0.inner.create_log(path, len_bytes))?;
        Ok(Box::new(FaultLog { inner, path: path.to_owned(), shared: Arc::clone(&self.0) }))
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogMap>> {
        let inner = self.0.run(Operation::OpenLog, &[path], || self.0.inner.open_log(path))?;
        Ok(Box::new(FaultLog { inner, path: path.to_owned(), shared: Arc::clone(&self.0) }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        let inner = self.0.run(Operation::OpenRead, &[path], || self.0.inner.open_read(path))?;
        Ok(Arc::new(FaultReader { inner, path: path.to_owned(), shared: Arc::clone(&self.0) }))
    }

    fn open_sync(&self, path: &Path) -> io::Result<Arc<dyn FileSync>> {
        let inner = self.0.run(Operation::OpenRead, &[path], || self.0.inner.open_sync(path))?;
        Ok(Arc::new(FaultSync { inner, path: path.to_owned(), shared: Arc::clone(&self.0) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.run(Operation::Rename, &[from, to], || self.0.inner.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.run(Operation::HardLink, &[from, to], || self.0.inner.hard_link(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.run(Operation::RemoveFile, &[path], || self.0.inner.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.run(Operation::RemoveDir, &[path], || self.0.inner.remove_dir(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.run(Operation::CreateDirAll, &[path], || self.0.inner.create_dir_all(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.0.run(Operation::List, &[directory], || self.0.inner.list(directory))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.0.run(Operation::Metadata, &[path], || self.0.inner.metadata(path))
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.0.run(Operation::SyncDir, &[directory], || self.0.inner.sync_dir(directory))
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Box<dyn FileLock>> {
        self.0.run(Operation::Lock, &[path], || self.0.inner.lock(path, mode))
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.0.run(Operation::FreeSpace, &[path], || self.0.inner.free_space(path))
    }

    fn clock(&self) -> &dyn Clock {
        self.0.inner.clock()
    }

    fn random(&self) -> u64 {
        self.0.inner.random()
    }
}

#[derive(Debug)]
struct FaultWriter {
    inner: Box<dyn WritableFile>,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl WritableFile for FaultWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.shared.judge(Operation::Append, &[&self.path]) {
            Verdict::Pass | Verdict::Flip { .. } => self.inner.append(bytes),
            Verdict::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            Verdict::Short { errno, dice } => {
                let written = (dice % bytes.len().max(1) as u64) as usize;
                self.inner.append_torn(&bytes[..written])?;
                Err(io::Error::from_raw_os_error(errno))
            }
            // The position does not move, as after any append that fails.
            Verdict::Done(errno) => self.inner.append_torn(bytes).and(Err(io::Error::from_raw_os_error(errno))),
        }
    }

    fn begin_write_out(&mut self) -> io::Result<()> {
        self.shared.run(Operation::WriteOut, &[&self.path], || self.inner.begin_write_out())
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }

    fn preallocate(&mut self, len_bytes: u64) -> io::Result<()> {
        self.shared.run(Operation::Preallocate, &[&self.path], || self.inner.preallocate(len_bytes))
    }

    fn trim(&mut self) -> io::Result<()> {
        self.shared.run(Operation::Trim, &[&self.path], || self.inner.trim())
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        let (inner, path) = (self.inner.syncer(), self.path.clone());
        Arc::new(FaultSync { inner, path, shared: Arc::clone(&self.shared) })
    }

    fn append_torn(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.append_torn(bytes)
    }
}

#[derive(Debug)]
struct FaultLog {
    inner: Box<dyn LogMap>,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl LogMap for FaultLog {
    fn store(&mut self, offset: u64, parts: &[&[u8]]) {
        // Counted, and delayed if a rule says so. No store fails.
        self.shared.judge(Operation::Store, &[&self.path]);
        self.inner.store(offset, parts);
    }

    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn grow(&mut self, len_bytes: u64) -> io::Result<()> {
        if len_bytes <= self.inner.len_bytes() {
            return Ok(());
        }
        self.shared.run(Operation::Grow, &[&self.path], || self.inner.grow(len_bytes))
    }

    fn trim(&mut self, len_bytes: u64) -> io::Result<()> {
        self.shared.run(Operation::Trim, &[&self.path], || self.inner.trim(len_bytes))
    }

    fn room(&self) -> Arc<dyn LogRoom> {
        let (inner, path) = (self.inner.room(), self.path.clone());
        Arc::new(FaultRoom { inner, path, shared: Arc::clone(&self.shared) })
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        let (inner, path) = (self.inner.syncer(), self.path.clone());
        Arc::new(FaultSync { inner, path, shared: Arc::clone(&self.shared) })
    }
}

#[derive(Debug)]
struct FaultRoom {
    inner: Arc<dyn LogRoom>,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl LogRoom for FaultRoom {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        if len_bytes <= self.inner.len_bytes() {
            return Ok(());
        }
        self.shared.run(Operation::Grow, &[&self.path], || self.inner.grow(len_bytes))
    }

    fn grow_written(&self, len_bytes: u64) -> io::Result<()> {
        self.shared.run(Operation::GrowWritten, &[&self.path], || self.inner.grow_written(len_bytes))
    }

    fn populate(&self, from: u64, to: u64) {
        self.inner.populate(from, to);
    }
}

#[derive(Debug)]
struct FaultSync {
    inner: Arc<dyn FileSync>,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl FileSync for FaultSync {
    fn sync(&self) -> io::Result<()> {
        match self.shared.judge(Operation::Sync, &[&self.path]) {
            Verdict::Pass | Verdict::Flip { .. } => self.inner.sync(),
            Verdict::Done(errno) => self.inner.sync().and(Err(io::Error::from_raw_os_error(errno))),
            Verdict::Fail(errno) | Verdict::Short { errno, .. } => {
                self.inner.lose_unsynced();
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    fn lose_unsynced(&self) {
        self.inner.lose_unsynced();
    }
}

#[derive(Debug)]
struct FaultReader {
    inner: Arc<dyn ReadableFile>,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl ReadableFile for FaultReader {
    fn len_bytes(&self) -> io::Result<u64> {
        self.shared.run(Operation::LenBytes, &[&self.path], || self.inner.len_bytes())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = offset..offset.saturating_add(buffer.len() as u64);
        match self.shared.judge_bytes(Operation::Read, &[&self.path], bytes) {
            Verdict::Pass => self.inner.read_exact_at(buffer, offset),
            Verdict::Flip { dice } => {
                self.inner.read_exact_at(buffer, offset)?;
                flip(buffer, dice);
                Ok(())
            }
            Verdict::Fail(errno) | Verdict::Short { errno, .. } | Verdict::Done(errno) => {
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    fn map(&self) -> io::Result<Map> {
        match self.shared.judge(Operation::Map, &[&self.path]) {
            Verdict::Pass => self.inner.map(),
            Verdict::Flip { dice } => {
                let mut bytes = self.inner.map()?.to_vec();
                flip(&mut bytes, dice);
                Ok(Map::from_bytes(bytes))
            }
            Verdict::Fail(errno) | Verdict::Short { errno, .. } | Verdict::Done(errno) => {
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }
    fn map_guarded(&self) -> io::Result<Arc<dyn ReadableFile>> {
        let inner = self.shared.run(Operation::Map, &[&self.path], || self.inner.map_guarded())?;
        // Rules about reads hold for the copies.
        Ok(Arc::new(Self { inner, path: self.path.clone(), shared: Arc::clone(&self.shared) }))
    }

    fn read_ahead(&self, range: Range<u64>) {
        self.inner.read_ahead(range);
    }

    fn mapped(&self) -> Mapped {
        self.inner.mapped()
    }
}
