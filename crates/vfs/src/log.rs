//! Log files that are written through memory: the face, and the operating system's form of it.
//!
//! ```text
//! file     | stored | allocated, not yet stored |
//! mapped   |--------|---------------------------|------- address space alone, of which nothing is touched -------|
//!                   ^ the caller's              ^ len_bytes
//! ```
//! Space is allocated before it is stored to, so a full disk is an error of [`LogMap::grow`] and never a signal in the middle of a store. More
//! address space is mapped than the file is long: growing is an allocation and a number, and may be done by another thread, ahead of the
//! one that stores.
//!
//! Invariants
//! - The file is never shorter than `len_bytes`, and has its blocks up to there.
//! - Nobody stores at or behind `len_bytes`; one thread at a time stores at all.
//! - Bytes behind `len_bytes` are written by whoever grows the file, those before it by whoever stores, and never the other way round.
//! - When the one who stores is gone, nobody grows the file any more: it may have become another log, with a length of its own.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::FileSync;

/// A log's file, written by storing into mapped memory. One thread stores; [`LogMap::syncer`] and [`LogMap::room`] may be used beside it.
///
/// What is stored is with the operating system at once: it survives the death of the process, and is on stable storage only after a sync.
pub trait LogMap: fmt::Debug + Send + Sync {
    /// Stores the concatenation of `parts` at `offset`. No system call; it can't fail.
    ///
    /// # Panics
    /// If it would reach beyond [`LogMap::len_bytes`].
    fn store(&mut self, offset: u64, parts: &[&[u8]]);

    /// How far the file may be stored to: its length, all of it allocated.
    fn len_bytes(&self) -> u64;

    /// Makes the file at least `len_bytes` long. What is added reads as zeros.
    ///
    /// # Errors
    /// `StorageFull`, and then nothing has changed.
    fn grow(&mut self, len_bytes: u64) -> io::Result<()>;

    /// Cuts the file to `len_bytes`, giving back the rest.
    fn trim(&mut self, len_bytes: u64) -> io::Result<()>;

    /// What makes room ahead of the one who stores.
    fn room(&self) -> Arc<dyn LogRoom>;

    /// A handle to sync the file by, usable from any thread and beside stores.
    fn syncer(&self) -> Arc<dyn FileSync>;
}

/// Makes room in a [`LogMap`] from another thread, beside stores. Once the `LogMap` is dropped, no more is made, and that is no error.
pub trait LogRoom: fmt::Debug + Send + Sync {
    /// The file's length.
    fn len_bytes(&self) -> u64;

    /// As [`LogMap::grow`].
    ///
    /// # Errors
    /// As there.
    fn grow(&self, len_bytes: u64) -> io::Result<()>;

    /// As [`LogRoom::grow`], but writes what it adds, as zeros: a sync of what is stored there later need not make the space known as
    /// written first, which costs more than the sync itself. Counts as written bytes.
    ///
    /// # Errors
    /// As there.
    fn grow_written(&self, len_bytes: u64) -> io::Result<()>;

    /// Makes the first store to each page from `from` up to `to` cheap, as far as the file reaches. Dirties the pages, so the next sync writes
    /// them all. A hint: where it can't be done nothing happens.
    fn populate(&self, from: u64, to: u64);
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{create, open};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::{File, OpenOptions};
    use std::io::{self, ErrorKind};
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use rustix::fs::FallocateFlags;

    use super::{LogMap, LogRoom};
    use crate::FileSync;
    use crate::region::Region;

    /// Address space is taken in multiples of this.
    const REGION_BYTES: u64 = 1 << 30;
    /// Zeros are written in pieces of a page: pages that were written in larger ones cost three times as much at each sync that follows.
    const ZEROS: [u8; 4 << 10] = [0; 4 << 10];

    /// File systems on which a page that has its blocks can be stored to whatever becomes of the free space.
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;

    /// Makes a new log of `len_bytes`. What can't be made whole is removed at once.
    pub(crate) fn create(path: &Path, len_bytes: u64) -> io::Result<Box<dyn LogMap>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        made(file, 0).and_then(|log| log.shared.grow(len_bytes, false).map(|()| log)).map_or_else(
            |error| {
                // Nobody has heard of it yet.
                let _ = std::fs::remove_file(path);
                Err(error)
            },
            |log| Ok(Box::new(log) as Box<dyn LogMap>),
        )
    }

    /// Opens a log that was one before; all of it is allocated.
    pub(crate) fn open(path: &Path) -> io::Result<Box<dyn LogMap>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = file.metadata()?.len();
        // Blocks it has are left as they are; those it lacks, since it is not one of ours, are made.
        if len > 0 {
            allocate(&file, 0, len)?;
        }
        Ok(Box::new(made(file, len)?))
    }

    fn made(file: File, len: u64) -> io::Result<OsLog> {
        if !is_mappable(&file)? {
            return Err(ErrorKind::Unsupported.into());
        }
        // Where there is no address space to spare, logs are better written by `write(2)`.
        let region = Region::of_file(&file, len.max(1).next_multiple_of(REGION_BYTES))
            .map_err(|error| io::Error::new(ErrorKind::Unsupported, error))?;
        let region = Arc::new(region);
        let shared = Shared {
            file,
            len: AtomicU64::new(len),
            growing: Mutex::new(Growing::Open),
            region: Mutex::new(Arc::clone(&region)),
        };
        Ok(OsLog { shared: Arc::new(shared), region })
    }

    fn is_mappable(file: &File) -> io::Result<bool> {
        // Signed here and unsigned there, of 32 bits or 64.
        let kind = rustix::fs::fstatfs(file)?.f_type as u64;
        Ok([EXT4, XFS, TMPFS].contains(&(kind & 0xffff_ffff)))
    }

    fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), offset, len))?)
    }

    #[derive(Debug)]
    struct OsLog {
        shared: Arc<Shared>,
        region: Arc<Region>,
    }

    #[derive(Debug)]
    struct Shared {
        file: File,
        len: AtomicU64,
        growing: Mutex<Growing>,
        /// That of the `OsLog`, which also lives as long as anybody may sync: unmapping what was written takes a while.
        region: Mutex<Arc<Region>>,
    }

    /// Whether the file may be made longer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Growing {
        Open,
        /// The `OsLog` is gone.
        Ended,
    }

    impl Drop for OsLog {
        fn drop(&mut self) {
            *self.shared.growing() = Growing::Ended;
        }
    }

    impl LogMap for OsLog {
        #[inline]
        fn store(&mut self, offset: u64, parts: &[&[u8]]) {
            let len = self.shared.len();
            let mut at = offset;
            for part in parts {
                let end = at + part.len() as u64;
                assert!(end <= len, "a store up to {end} in a log of {len} bytes");
                // Up to `len` the file has its blocks, and only `trim`, which needs `&mut self` as this does, takes any away.
                self.region.store(at, part);
                at = end;
            }
        }

        fn len_bytes(&self) -> u64 {
            // Another thread may have grown the file beyond what is mapped here.
            self.shared.len().min(self.region.len_bytes())
        }

        fn grow(&mut self, len_bytes: u64) -> io::Result<()> {
            self.shared.grow(len_bytes, false)?;
            if len_bytes > self.region.len_bytes() {
                let region = Region::of_file(&self.shared.file, len_bytes.next_multiple_of(REGION_BYTES))?;
                self.region = Arc::new(region);
                *self.shared.region() = Arc::clone(&self.region);
            }
            Ok(())
        }

        fn trim(&mut self, len_bytes: u64) -> io::Result<()> {
            let _growing = self.shared.growing();
            if len_bytes < self.shared.len() {
                // First, so that nobody takes the rest for allocated.
                self.shared.len.store(len_bytes, Ordering::Release);
                self.shared.file.set_len(len_bytes)?;
            }
            Ok(())
        }

        fn room(&self) -> Arc<dyn LogRoom> {
            Arc::clone(&self.shared) as Arc<dyn LogRoom>
        }

        fn syncer(&self) -> Arc<dyn FileSync> {
            Arc::clone(&self.shared) as Arc<dyn FileSync>
        }
    }

    impl Shared {
        #[inline]
        fn len(&self) -> u64 {
            // Pairs with the Release in `grow`: who sees the length finds the space allocated, and zeroed if it was to be.
            self.len.load(Ordering::Acquire)
        }

        fn growing(&self) -> MutexGuard<'_, Growing> {
            self.growing.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn region(&self) -> MutexGuard<'_, Arc<Region>> {
            self.region.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn grow(&self, len_bytes: u64, write: bool) -> io::Result<()> {
            let growing = self.growing();
            let old = self.len();
            if len_bytes <= old || *growing == Growing::Ended {
                return Ok(());
            }
            let grown = allocate(&self.file, old, len_bytes - old).and_then(|()| {
                let mut at = old;
                while write && at < len_bytes {
                    let piece = (len_bytes - at).min(ZEROS.len() as u64 - at % ZEROS.len() as u64);
                    self.file.write_all_at(&ZEROS[..piece as usize], at)?;
                    at += piece;
                }
                Ok(())
            });
            if let Err(error) = grown {
                // ext4 keeps what it got before it failed.
                let _ = self.file.set_len(old);
                return Err(error);
            }
            self.len.store(len_bytes, Ordering::Release);
            Ok(())
        }
    }

    impl LogRoom for Shared {
        fn len_bytes(&self) -> u64 {
            self.len()
        }

        fn grow(&self, len_bytes: u64) -> io::Result<()> {
            Shared::grow(self, len_bytes, false)
        }

        fn grow_written(&self, len_bytes: u64) -> io::Result<()> {
            Shared::grow(self, len_bytes, true)
        }

        fn populate(&self, from: u64, to: u64) {
            let region = Arc::clone(&*self.region());
            region.populate(from, to.min(self.len()).min(region.len_bytes()));
        }
    }

    impl FileSync for Shared {
        fn sync(&self) -> io::Result<()> {
            // What was stored counts as written: the kernel notes the first store to a clean page.
            self.file.sync_data()
        }
    }
}
