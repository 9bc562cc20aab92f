//! Open files and held locks of a memory file system.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use super::state::{Ino, Op};
use super::world::{World, lock};
use crate::lock::release;
use crate::{FileLock, FileSync, LogMap, LogRoom, Map, ReadableFile, WritableFile};

/// An open file: it stays as long as this does.
#[derive(Debug)]
pub(super) struct Handle {
    world: Arc<Mutex<World>>,
    ino: Ino,
}

impl Handle {
    /// `shared` is what `world` is locked of.
    pub(super) fn open(shared: &Arc<Mutex<World>>, world: &mut World, ino: Ino) -> Self {
        world.file_mut(ino).open += 1;
        Self { world: Arc::clone(shared), ino }
    }

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
pub(super) struct MemWriter {
    pub(super) handle: Arc<Handle>,
    pub(super) position: u64,
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
        self.handle.world().grow(self.handle.ino, len_bytes)
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
pub(super) struct MemLog {
    pub(super) handle: Arc<Handle>,
}

impl LogMap for MemLog {
    fn store(&mut self, offset: u64, parts: &[&[u8]]) {
        let bytes: Arc<[u8]> = parts.concat().into();
        let mut world = self.handle.world();
        let (end, len) = (offset + bytes.len() as u64, world.file(self.handle.ino).live.len());
        assert!(end <= len, "a store up to {end} in a log of {len} bytes");
        if !bytes.is_empty() {
            world.apply(Op::Write { ino: self.handle.ino, offset, bytes });
        }
    }

    fn len_bytes(&self) -> u64 {
        self.handle.world().file(self.handle.ino).live.len()
    }

    fn grow(&mut self, len_bytes: u64) -> io::Result<()> {
        self.handle.world().grow(self.handle.ino, len_bytes)
    }

    fn trim(&mut self, len_bytes: u64) -> io::Result<()> {
        let mut world = self.handle.world();
        if world.file(self.handle.ino).live.len() > len_bytes {
            world.apply(Op::SetLen { ino: self.handle.ino, len: len_bytes });
        }
        Ok(())
    }

    fn room(&self) -> Arc<dyn LogRoom> {
        Arc::new(MemRoom { handle: Arc::clone(&self.handle) })
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        Arc::new(MemSync { handle: Arc::clone(&self.handle) })
    }
}

#[derive(Debug)]
struct MemRoom {
    handle: Arc<Handle>,
}

impl LogRoom for MemRoom {
    fn len_bytes(&self) -> u64 {
        self.handle.world().file(self.handle.ino).live.len()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.handle.world().grow(self.handle.ino, len_bytes)
    }

    fn grow_written(&self, len_bytes: u64) -> io::Result<()> {
        // What is added reads as zeros here, and costs the same, whether it was written or not.
        self.grow(len_bytes)
    }

    fn populate(&self, _: u64, _: u64) {}
}

#[derive(Debug)]
pub(super) struct MemSync {
    pub(super) handle: Arc<Handle>,
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
pub(super) struct MemReader {
    pub(super) handle: Arc<Handle>,
    pub(super) maps: bool,
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

    /// Nothing fails here, and so there is nothing to guard: the file itself.
    fn map_guarded(&self) -> io::Result<Arc<dyn ReadableFile>> {
        if !self.maps {
            return Err(ErrorKind::Unsupported.into());
        }
        Ok(Arc::new(Self { handle: Arc::clone(&self.handle), maps: self.maps }))
    }
}

#[derive(Debug)]
pub(super) struct MemLock {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) key: Ino,
}

impl FileLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        release(&mut lock(&self.world).locks, &self.key);
    }
}
