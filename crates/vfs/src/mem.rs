//! A file system in memory that can be crashed.

mod content;
mod crash;
mod state;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crash::CrashPolicy;
pub(crate) use crash::{mix, split_mix};
use state::{FileState, Ino, Kind, NameChange, NameOp, Op, ROOT, State};

use crate::lock::{Holders, hold, release};
use crate::{
    Clock, FileLock, FileSync, LockMode, ManualClock, Map, Metadata, ReadableFile, Vfs, WritableFile, directory_of,
};

/// A file system in memory, which knows what a power cut would leave of it.
///
/// Every operation that changes something, syncs included, is logged, and [`MemVfs::crash_image`] makes the file system that a power cut
/// after any of them might have left. All is repeatable: time is a [`ManualClock`] unless told otherwise, random numbers come from a seed.
///
/// A clone is another handle to the same files. `/` is there from the start, and is the working directory.
///
/// ```
/// use esker_vfs::{CrashPolicy, MemVfs, Vfs};
/// use std::path::Path;
///
/// let vfs = MemVfs::new();
/// let mut file = vfs.create_new(Path::new("/log"))?;
/// file.append(b"safe")?;
/// file.sync()?;
/// vfs.sync_dir(Path::new("/"))?;
/// file.append(b", not safe")?;
///
/// let after = vfs.crash_now(CrashPolicy::SyncedOnly);
/// assert_eq!(after.metadata(Path::new("/log"))?.len_bytes, 4);
/// let after = vfs.crash_now(CrashPolicy::All);
/// assert_eq!(after.metadata(Path::new("/log"))?.len_bytes, 14);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MemVfs {
    world: Arc<Mutex<World>>,
    clock: Arc<dyn Clock>,
    maps: bool,
}

/// No file is longer.
const LEN_MAX_BYTES: u64 = 1 << 40;

/// What all handles share.
struct World {
    state: State,
    /// The state before the first operation of `log`.
    base: State,
    /// How many operations were forgotten.
    forgotten: usize,
    log: Vec<Op>,
    /// The state after so many operations, kept since the next image asked for is often a later one.
    replayed: Option<(usize, State)>,
    /// By directory and name.
    locks: BTreeMap<(Ino, String), Holders>,
    ino_next: Ino,
    random: u64,
    space_bytes: Option<u64>,
}

impl MemVfs {
    /// An empty file system, with maps and without a limit.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::with_state(State::new(), ROOT + 1, 0, None, Arc::new(ManualClock::new()), true))
    }

    fn with_state(
        state: State,
        ino_next: Ino,
        random: u64,
        space_bytes: Option<u64>,
        clock: Arc<dyn Clock>,
        maps: bool,
    ) -> Self {
        let world = World {
            base: state.clone(),
            state,
            forgotten: 0,
            log: Vec::new(),
            replayed: None,
            locks: BTreeMap::new(),
            ino_next,
            random,
            space_bytes,
        };
        Self { world: Arc::new(Mutex::new(world)), clock, maps }
    }

    /// The same files, with another clock.
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, ..self.clone() })
    }

    /// The same files, with maps or without ([`ReadableFile::map`] fails as `Unsupported`).
    pub fn with_maps(&self, maps: bool) -> Arc<Self> {
        Arc::new(Self { maps, ..self.clone() })
    }

    /// The same files, with random numbers that depend on `seed`.
    pub fn with_seed(&self, seed: u64) -> Arc<Self> {
        self.world().random = seed;
        Arc::new(self.clone())
    }

    /// The same files, in so much space.
    pub fn with_space(&self, bytes: u64) -> Arc<Self> {
        self.set_space(Some(bytes));
        Arc::new(self.clone())
    }

    /// Sets the space that the bytes of all files may take, preallocated ones too; `None` for no limit. Files that are removed but still
    /// open count.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.world().space_bytes = bytes;
    }

    /// Bytes that all files take.
    pub fn used_bytes(&self) -> u64 {
        self.world().state.used_bytes()
    }

    /// How many operations have changed or synced something until now.
    pub fn operations(&self) -> usize {
        let world = self.world();
        world.forgotten + world.log.len()
    }

    /// Frees the memory that the log of operations takes. Crash images of what was before can't be made any more.
    pub fn forget_operations(&self) {
        self.world().forget();
    }

    /// What a power cut after the first `operations` operations might have left: a file system of its own, where all there is is
    /// durable, nothing is locked, and random numbers go on differently. Clock, maps and space are as here.
    ///
    /// Cheap when called with rising numbers: only the operations in between are replayed.
    ///
    /// # Panics
    /// If there have not been so many operations, or they were forgotten.
    pub fn crash_image(&self, operations: usize, policy: CrashPolicy) -> Self {
        let world = &mut *self.world();
        assert!(operations >= world.forgotten, "operation {operations} was forgotten");
        let count = operations - world.forgotten;
        assert!(count <= world.log.len(), "there were {} operations only", world.forgotten + world.log.len());
        let (mut done, mut state) = match world.replayed.take() {
            Some((done, state)) if done <= count => (done, state),
            _ => (0, world.base.clone()),
        };
        for op in &world.log[done..count] {
            state.apply(op);
            done += 1;
        }
        let image = self.rebooted(world, crash::image(&state, policy), operations);
        world.replayed = Some((done, state));
        image
    }

    /// What a power cut now might leave; see [`MemVfs::crash_image`].
    pub fn crash_now(&self, policy: CrashPolicy) -> Self {
        let world = &*self.world();
        self.rebooted(world, crash::image(&world.state, policy), world.forgotten + world.log.len())
    }

    fn rebooted(&self, world: &World, state: State, operations: usize) -> Self {
        let random = mix(world.random, &[operations as u64]);
        Self::with_state(state, world.ino_next, random, world.space_bytes, Arc::clone(&self.clock), self.maps)
    }

    /// Changes the bytes of a file behind everybody's back, as bit rot or a careless user would. They are durable at once; as with
    /// [`MemVfs::forget_operations`], crash images of what was before can't be made any more.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let world = &mut *self.world();
        let ino = world.file_at(path)?;
        let mut bytes = world.file(ino).live.slice(0, u64::MAX);
        change(&mut bytes);
        for op in [Op::SetLen { ino, len: 0 }, Op::Write { ino, offset: 0, bytes: bytes.into() }, Op::Sync { ino }] {
            world.apply(op);
        }
        world.forget();
        Ok(())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    fn handle(&self, world: &mut World, ino: Ino) -> Handle {
        world.file_mut(ino).open += 1;
        Handle { world: Arc::clone(&self.world), ino }
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    // A panic elsewhere leaves it whole: operations are checked before they are applied.
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files after {} operations", self.state.files.len(), self.forgotten + self.log.len())
    }
}

impl World {
    /// Logs and does.
    fn apply(&mut self, op: Op) {
        self.state.apply(&op);
        self.log.push(op);
    }

    fn forget(&mut self) {
        self.forgotten += self.log.len();
        self.log = Vec::new();
        self.base = self.state.clone();
        self.replayed = None;
    }

    fn file(&self, ino: Ino) -> &FileState {
        self.state.files.get(&ino).expect("a file with a handle or a name is kept")
    }

    fn file_mut(&mut self, ino: Ino) -> &mut FileState {
        self.state.files.get_mut(&ino).expect("a file with a handle or a name is kept")
    }

    /// What is at `path`.
    fn find(&self, path: &Path) -> io::Result<Ino> {
        Ok(*self.walk(path)?.last().expect("begins with the root"))
    }

    /// The directories on the way from the root to what is at `path`, and that.
    fn walk(&self, path: &Path) -> io::Result<Vec<Ino>> {
        let mut way = vec![ROOT];
        for component in path.components() {
            let at = *way.last().expect("the root is never left");
            match component {
                Component::Normal(name) => way.push(self.find_in(at, name.to_str().ok_or(ErrorKind::InvalidInput)?)?),
                Component::ParentDir if !self.is_dir(at) => return Err(ErrorKind::NotADirectory.into()),
                Component::ParentDir if at != ROOT => drop(way.pop()),
                _ => {}
            }
        }
        Ok(way)
    }

    fn find_in(&self, directory: Ino, name: &str) -> io::Result<Ino> {
        let directory = self.state.dirs.get(&directory).ok_or(ErrorKind::NotADirectory)?;
        Ok(*directory.live.get(name).ok_or(ErrorKind::NotFound)?)
    }

    fn directory_at(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        if self.is_dir(ino) { Ok(ino) } else { Err(ErrorKind::NotADirectory.into()) }
    }

    fn file_at(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        if self.is_dir(ino) { Err(ErrorKind::IsADirectory.into()) } else { Ok(ino) }
    }

    fn is_dir(&self, ino: Ino) -> bool {
        self.state.dirs.contains_key(&ino)
    }

    /// The directory that `path` lies in, and the name in it, which need not be there.
    fn place(&self, path: &Path) -> io::Result<(Ino, Arc<str>)> {
        let name = path.file_name().and_then(OsStr::to_str).ok_or(ErrorKind::InvalidInput)?;
        Ok((self.directory_at(directory_of(path))?, Arc::from(name)))
    }

    fn make(&mut self, path: &Path, kind: Kind) -> io::Result<Ino> {
        let (directory, name) = self.place(path)?;
        if self.find_in(directory, &name).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let ino = self.ino_next;
        self.ino_next += 1;
        let changes = vec![NameChange { directory, name, to: Some(ino) }];
        self.apply(Op::Names(NameOp { makes: Some(kind), changes }));
        Ok(ino)
    }

    fn make_dir_all(&mut self, path: &Path) -> io::Result<()> {
        match self.find(path) {
            Ok(ino) if self.is_dir(ino) => return Ok(()),
            Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        self.make_dir_all(directory_of(path))?;
        if self.find(path).is_ok_and(|ino| self.is_dir(ino)) {
            return Ok(()); // as `new/..` is now
        }
        self.make(path, Kind::Directory)?;
        let (above, _) = self.place(path)?;
        self.apply(Op::SyncDir { ino: above });
        Ok(())
    }

    fn change_names(&mut self, changes: Vec<NameChange>) {
        self.apply(Op::Names(NameOp { makes: None, changes }));
    }

    /// How many of `bytes` more bytes there is space for.
    fn space_for(&self, bytes: u64) -> u64 {
        self.space_bytes.map_or(bytes, |space| space.saturating_sub(self.state.used_bytes()).min(bytes))
    }

    /// Writes as much as there is space for, then fails if that was not all.
    fn write(&mut self, ino: Ino, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let more = end.saturating_sub(self.file(ino).live.len());
        let short = more - self.space_for(more);
        let fits = bytes.len() - short as usize;
        if fits > 0 {
            self.apply(Op::Write { ino, offset, bytes: bytes[..fits].into() });
        }
        if short > 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Vfs for MemVfs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let world = &mut *self.world();
        let ino = world.make(path, Kind::File)?;
        Ok(Box::new(MemWriter { handle: Arc::new(self.handle(world, ino)), position: 0 }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        let world = &mut *self.world();
        let ino = world.file_at(path)?;
        Ok(Arc::new(MemReader { handle: self.handle(world, ino), maps: self.maps }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let world = &mut *self.world();
        let (from_directory, from_name) = world.place(from)?;
        let (to_directory, to_name) = world.place(to)?;
        let ino = world.find_in(from_directory, &from_name)?;
        // In the order in which Linux looks.
        if world.walk(directory_of(to))?.contains(&ino) {
            return Err(ErrorKind::InvalidInput.into());
        }
        if let Ok(there) = world.find_in(to_directory, &to_name) {
            if world.walk(directory_of(from))?.contains(&there) {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            match (world.is_dir(ino), world.state.dirs.get(&there)) {
                _ if there == ino => return Ok(()),
                (true, None) => return Err(ErrorKind::NotADirectory.into()),
                (false, Some(_)) => return Err(ErrorKind::IsADirectory.into()),
                (true, Some(there)) if !there.live.is_empty() => return Err(ErrorKind::DirectoryNotEmpty.into()),
                _ => {}
            }
        }
        world.change_names(vec![
            NameChange { directory: from_directory, name: from_name, to: None },
            NameChange { directory: to_directory, name: to_name, to: Some(ino) },
        ]);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let world = &mut *self.world();
        let ino = world.find(from)?;
        let (directory, name) = world.place(to)?;
        if world.find_in(directory, &name).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if world.is_dir(ino) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        world.change_names(vec![NameChange { directory, name, to: Some(ino) }]);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let world = &mut *self.world();
        world.file_at(path)?;
        let (directory, name) = world.place(path)?;
        world.change_names(vec![NameChange { directory, name, to: None }]);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let world = &mut *self.world();
        let ino = world.directory_at(path)?;
        if !world.state.dirs[&ino].live.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let (directory, name) = world.place(path)?;
        world.change_names(vec![NameChange { directory, name, to: None }]);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.world().make_dir_all(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        let ino = world.directory_at(directory)?;
        Ok(world.state.dirs[&ino].live.keys().map(|name| name.to_string()).collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let world = self.world();
        let ino = world.find(path)?;
        Ok(match world.state.files.get(&ino) {
            Some(file) => Metadata { len_bytes: file.live.len(), is_dir: false },
            None => Metadata { len_bytes: 0, is_dir: true },
        })
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let mut world = self.world();
        let ino = world.directory_at(directory)?;
        world.apply(Op::SyncDir { ino });
        Ok(())
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Box<dyn FileLock>> {
        let world = &mut *self.world();
        match (world.file_at(path), mode) {
            (Err(error), LockMode::Exclusive) if error.kind() == ErrorKind::NotFound => {
                world.make(path, Kind::File)?;
            }
            (found, _) => {
                found?;
            }
        }
        let (directory, name) = world.place(path)?;
        let key = (directory, name.to_string());
        hold(&mut world.locks, &key, mode)?;
        Ok(Box::new(MemLock { world: Arc::clone(&self.world), key }))
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let world = self.world();
        world.find(path)?;
        Ok(world.space_for(LEN_MAX_BYTES))
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn random(&self) -> u64 {
        let mut world = self.world();
        world.random = world.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        split_mix(world.random)
    }
}

/// An open file: it stays as long as this does.
#[derive(Debug)]
struct Handle {
    world: Arc<Mutex<World>>,
    ino: Ino,
}

impl Handle {
    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.world().state.close(self.ino);
    }
}

#[derive(Debug)]
struct MemWriter {
    handle: Arc<Handle>,
    position: u64,
}

impl WritableFile for MemWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.handle.world().write(self.handle.ino, self.position, bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn preallocate(&mut self, len_bytes: u64) -> io::Result<()> {
        let mut world = self.handle.world();
        let more = len_bytes.saturating_sub(world.file(self.handle.ino).live.len());
        if more == 0 {
            return Ok(());
        }
        if len_bytes > LEN_MAX_BYTES {
            return Err(ErrorKind::FileTooLarge.into());
        }
        if world.space_for(more) < more {
            return Err(ErrorKind::StorageFull.into());
        }
        world.apply(Op::SetLen { ino: self.handle.ino, len: len_bytes });
        Ok(())
    }

    fn trim(&mut self) -> io::Result<()> {
        let mut world = self.handle.world();
        if world.file(self.handle.ino).live.len() > self.position {
            world.apply(Op::SetLen { ino: self.handle.ino, len: self.position });
        }
        Ok(())
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        Arc::new(MemSync { handle: Arc::clone(&self.handle) })
    }

    fn append_torn(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.handle.world().write(self.handle.ino, self.position, bytes)
    }
}

#[derive(Debug)]
struct MemSync {
    handle: Arc<Handle>,
}

impl FileSync for MemSync {
    fn sync(&self) -> io::Result<()> {
        self.handle.world().apply(Op::Sync { ino: self.handle.ino });
        Ok(())
    }

    fn lose_unsynced(&self) {
        self.handle.world().apply(Op::Lose { ino: self.handle.ino });
    }
}

#[derive(Debug)]
struct MemReader {
    handle: Handle,
    maps: bool,
}

impl ReadableFile for MemReader {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.handle.world().file(self.handle.ino).live.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let whole = self.handle.world().file(self.handle.ino).live.read(offset, buffer);
        if whole || buffer.is_empty() { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn map(&self) -> io::Result<Map> {
        if !self.maps {
            return Err(ErrorKind::Unsupported.into());
        }
        Ok(Map::from_bytes(self.handle.world().file(self.handle.ino).live.slice(0, u64::MAX)))
    }
}

#[derive(Debug)]
struct MemLock {
    world: Arc<Mutex<World>>,
    key: (Ino, String),
}

impl FileLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        release(&mut lock(&self.world).locks, &self.key);
    }
}
