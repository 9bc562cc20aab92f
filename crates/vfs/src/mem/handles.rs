//! Open files and held locks of a memory file system.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use super::state::{Ino, Op};
use super::world::{LEN_MAX_BYTES, World, lock};
use crate::lock::release;
use crate::{FileLock, FileSync, Map, ReadableFile, WritableFile};

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
    pub(super) handle: Handle,
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
}

#[derive(Debug)]
pub(super) struct MemLock {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) key: (Ino, String),
}

impl FileLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        release(&mut lock(&self.world).locks, &self.key);
    }
}
