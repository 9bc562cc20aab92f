//! A file system in memory that can be crashed.

mod content;
mod crash;
mod handles;
mod state;
mod world;

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

pub use crash::CrashPolicy;
pub(crate) use crash::{mix, split_mix};
use handles::{Handle, MemLock, MemLog, MemReader, MemSync, MemWriter};
use state::{Kind, NameChange, Op, ROOT, State};
use world::{LEN_MAX_BYTES, World, lock};

use crate::lock::{hold, release};
use crate::{
    Clock, FileLock, FileSync, LockMode, LogMap, ManualClock, Metadata, ReadableFile, Vfs, WritableFile, directory_of,
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

impl MemVfs {
    /// An empty file system, with maps and without a limit.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::with(World::new(State::new(), ROOT + 1, 0, None), Arc::new(ManualClock::new()), true))
    }

    fn with(world: World, clock: Arc<dyn Clock>, maps: bool) -> Self {
        Self { world: Arc::new(Mutex::new(world)), clock, maps }
    }

    /// The same files, with another clock.
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, ..self.clone() })
    }

    /// The same files, with maps or without ([`ReadableFile::map`] and [`Vfs::create_log`] fail as `Unsupported`).
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
        self.world().operations()
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
        let image = world.image_at(operations, policy);
        Self::with(world.reborn(image, operations), Arc::clone(&self.clock), self.maps)
    }

    /// What a power cut now might leave; see [`MemVfs::crash_image`].
    pub fn crash_now(&self, policy: CrashPolicy) -> Self {
        let world = self.world();
        let image = crash::image(&world.state, policy);
        Self::with(world.reborn(image, world.operations()), Arc::clone(&self.clock), self.maps)
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
}

impl Vfs for MemVfs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let world = &mut *self.world();
        let ino = world.make(path, Kind::File)?;
        Ok(Box::new(MemWriter { handle: Arc::new(Handle::open(&self.world, world, ino)), position: 0 }))
    }

    fn create_log(&self, path: &Path, len_bytes: u64) -> io::Result<Box<dyn LogMap>> {
        if !self.maps {
            return Err(ErrorKind::Unsupported.into());
        }
        let world = &mut *self.world();
        let ino = world.make(path, Kind::File)?;
        if let Err(error) = world.grow(ino, len_bytes) {
            let (directory, name) = world.place(path)?;
            world.change_names(vec![NameChange { directory, name, to: None }]);
            return Err(error);
        }
        Ok(Box::new(MemLog { handle: Arc::new(Handle::open(&self.world, world, ino)) }))
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogMap>> {
        if !self.maps {
            return Err(ErrorKind::Unsupported.into());
        }
        let world = &mut *self.world();
        let ino = world.file_at(path)?;
        Ok(Box::new(MemLog { handle: Arc::new(Handle::open(&self.world, world, ino)) }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        let world = &mut *self.world();
        let ino = world.file_at(path)?;
        Ok(Arc::new(MemReader { handle: Arc::new(Handle::open(&self.world, world, ino)), maps: self.maps }))
    }

    fn open_sync(&self, path: &Path) -> io::Result<Arc<dyn FileSync>> {
        let world = &mut *self.world();
        let ino = world.file_at(path)?;
        Ok(Arc::new(MemSync { handle: Arc::new(Handle::open(&self.world, world, ino)) }))
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
            return Err(ErrorKind::Unsupported.into());
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
        let (key, _) = world.place(path)?;
        hold(&mut world.locks, &key, mode)?;
        let found = match (world.file_at(path), mode) {
            (Err(error), LockMode::Exclusive) if error.kind() == ErrorKind::NotFound => {
                world.make(path, Kind::File).map(drop)
            }
            // One of the directory.
            (Err(error), LockMode::Shared) if error.kind() == ErrorKind::NotFound => Ok(()),
            (found, _) => found.map(drop),
        };
        if let Err(error) = found {
            release(&mut world.locks, &key);
            return Err(error);
        }
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
