//! File systems in images, mounted by loop devices: for tests that run as root on Linux.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs `command`, of which no word has a space in it.
///
/// # Errors
/// What it says if it fails.
pub fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command}: {said}")) }
}

/// A file system in an image, to be mounted again and again.
#[derive(Debug)]
pub struct Disk {
    kind: Kind,
    /// The file that is the device.
    pub image: PathBuf,
    /// Where it is mounted.
    pub at: PathBuf,
    _dir: tempfile::TempDir,
}

/// Of which kind it is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// ext4, which shows a sync that is missing before a rename as mounted by [`Disk::mount`].
    Ext4,
    /// xfs, of `xfsprogs`.
    Xfs,
}

impl Disk {
    /// Makes it, and mounts it.
    ///
    /// # Errors
    /// Why that can't be done here: it takes root, and loop devices.
    ///
    /// # Panics
    /// If there is no place for the image.
    pub fn new(kind: Kind, bytes: u64) -> Result<Self, String> {
        let shared = Path::new("/dev/shm");
        let dir = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("at"));
        std::fs::create_dir(&at).unwrap();
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        match kind {
            Kind::Ext4 => run(&format!("mkfs.ext4 -q -m 0 {}", image.display()))?,
            Kind::Xfs => run(&format!("mkfs.xfs -q {}", image.display()))?,
        }
        let disk = Self { kind, image, at, _dir: dir };
        disk.mount()?;
        Ok(disk)
    }

    /// Mounts it, for writing.
    ///
    /// # Errors
    /// What the system says to it.
    pub fn mount(&self) -> Result<(), String> {
        let options = match self.kind {
            Kind::Ext4 => "loop,noauto_da_alloc",
            Kind::Xfs => "loop",
        };
        self.mount_with(options)
    }

    /// Mounts it so that nothing is written to it, also not what the journal holds.
    ///
    /// # Errors
    /// What the system says to it.
    pub fn mount_read_only(&self) -> Result<(), String> {
        self.mount_with("loop,ro,noload")
    }

    fn mount_with(&self, options: &str) -> Result<(), String> {
        run(&format!("mount -o {options} {} {}", self.image.display(), self.at.display()))
    }

    /// Takes it off.
    ///
    /// # Panics
    /// If somebody goes on using it for ten seconds.
    pub fn unmount(&self) {
        // The loop device may be in use for a moment after its last user has died.
        let begin = Instant::now();
        while let Err(error) = run(&format!("umount {}", self.at.display())) {
            assert!(begin.elapsed() < Duration::from_secs(10), "{error}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where in the image the block lies that begins at byte `at` of a file of these bytes, of which there is no second one. Blocks have at least 1 KiB.
    ///
    /// # Panics
    /// If it does not lie there.
    pub fn place_of(&self, bytes: &[u8], at: usize) -> u64 {
        let (image, mut block) = (File::open(&self.image).unwrap(), [0; 1024]);
        let wanted = &bytes[at..bytes.len().min(at + block.len())];
        let mut places = (0..image.metadata().unwrap().len() / 1024).map(|n| n * 1024);
        let place = places.find(|place| {
            image.read_exact_at(&mut block, *place).unwrap();
            block.starts_with(wanted)
        });
        place.expect("the file lies in the image")
    }

    /// Makes one page of a file, at byte `at`, give `EIO`: there the device ends, but what is in memory can be read on, as all the rest of this file. It must be mounted for reading only.
    ///
    /// # Panics
    /// If the file can't be read, or the image not be cut.
    pub fn lose_page(&self, file: &Path, at: usize) {
        let bytes = std::fs::read(file).unwrap();
        let page = format!("bs=4096 skip={} count=1 of=/dev/null status=none", at / 4096);
        run(&format!("dd if={} iflag=nocache {page}", file.display())).unwrap();
        self.end_at(self.place_of(&bytes, at & !4095), []);
    }

    /// Lets the device end at `place`: what lies behind gives `EIO`, also of these files, which may have been read before. It must be mounted for reading only.
    ///
    /// # Panics
    /// If the image can't be cut.
    pub fn end_at<'a>(&self, place: u64, files: impl IntoIterator<Item = &'a PathBuf>) {
        // What is in memory already would be read from there.
        for file in files {
            run(&format!("dd if={} iflag=nocache count=0 status=none", file.display())).unwrap();
        }
        File::options().write(true).open(&self.image).unwrap().set_len(place).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It is not mounted where a test failed in between; and if it is in use, it goes when its last user does.
        let _ = run(&format!("umount -l {}", self.at.display()));
    }
}
