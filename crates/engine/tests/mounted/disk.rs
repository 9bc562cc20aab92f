//! File systems in images, mounted by loop devices: for tests that run as root on Linux.
#![allow(dead_code, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs `command`; what it says if it fails.
pub(crate) fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command}: {said}")) }
}

/// A file system in an image, to be mounted again and again.
pub(crate) struct Disk {
    kind: Kind,
    pub(crate) image: PathBuf,
    /// Where it is mounted.
    pub(crate) at: PathBuf,
    _dir: tempfile::TempDir,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

impl Disk {
    /// Makes it, and mounts it.
    pub(crate) fn new(kind: Kind, bytes: u64) -> Result<Self, String> {
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

    pub(crate) fn mount(&self) -> Result<(), String> {
        let options = match self.kind {
            Kind::Ext4 => "loop,noauto_da_alloc",
            Kind::Xfs => "loop",
        };
        self.mount_with(options)
    }

    /// Nothing is written to it, also not what the journal holds.
    pub(crate) fn mount_read_only(&self) -> Result<(), String> {
        self.mount_with("loop,ro,noload")
    }

    fn mount_with(&self, options: &str) -> Result<(), String> {
        run(&format!("mount -o {options} {} {}", self.image.display(), self.at.display()))
    }

    pub(crate) fn unmount(&self) {
        // The loop device may be in use for a moment after its last user has died.
        let begin = Instant::now();
        while let Err(error) = run(&format!("umount {}", self.at.display())) {
            assert!(begin.elapsed() < Duration::from_secs(10), "{error}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It is not mounted where a test failed in between; and if it is in use, it goes when its last user does.
        let _ = run(&format!("umount -l {}", self.at.display()));
    }
}
