//! The folder: is it a store, who has it open, can its manifest be read, is what that names there?

use super::{Doctor, Rank};
use crate::failure::{Failure, Result, describe};
use crate::shell;
use crate::text::counted;
use esker::vfs::{LockMode, OsVfs, Vfs, is_of_the_asker};
use esker_format::FileKind;
use esker_manifest::{ManifestError, Version, VersionSet};
use indicatif::HumanBytes;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Less than this is not enough to go on with: a log, and a table or two.
const SPACE_BYTES_MIN: u64 = 256 << 20;

/// What was found, if the folder is a store.
pub(super) struct Found {
    /// What the manifest ends with, if it can be read.
    pub(super) version: Option<Arc<Version>>,
    /// Whether some process has it open for writing.
    pub(super) is_locked: bool,
    /// The tables and blob files of which something was said.
    pub(super) told: BTreeSet<FileKind>,
    /// How many files lie there that the manifest does not name, and their length in all.
    strays: (u64, u64),
}

/// Looks at the folder. `None`: it is no store, or can't be looked into.
pub(super) fn look(doctor: &mut Doctor<'_>) -> Result<Option<Found>> {
    let db = doctor.db;
    match fs::metadata(db) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::error(format!("there is no folder '{}'; check the path", db.display())));
        }
        Err(error) => return Err(Failure::io("looking at", db, &error)),
        Ok(found) if !found.is_dir() => {
            let parent = db.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.map_or(".".to_owned(), shell::path);
            doctor.sees(
                Rank::Closed,
                "this is a file, and a store is a folder",
                "a store's files are of no use one by one",
                format!("give the folder that it lies in: esker doctor {parent}"),
            );
            return Ok(None);
        }
        Ok(_) => {}
    }
    let names = match OsVfs.list(db) {
        Ok(names) => names,
        Err(error) => {
            let (what, next) = (format!("the folder can't be listed: {}", describe(&error)), doctor.mend(&error));
            doctor.sees(Rank::Closed, what, "no store can be opened in it", next);
            return Ok(None);
        }
    };
    let kinds: BTreeSet<FileKind> = names.iter().filter_map(|name| FileKind::parse(name)).collect();
    let is_bare = kinds.iter().all(|kind| matches!(kind, FileKind::Lock | FileKind::Temp | FileKind::Options(_)));
    if is_bare && !kinds.contains(&FileKind::Lock) {
        not_a_store(doctor);
        return Ok(None);
    }
    let is_locked = lock(doctor, kinds.contains(&FileKind::Current));
    if is_bare && !is_locked {
        // What is the matter with LOCK was told.
        if doctor.signs.is_empty() {
            not_a_store(doctor);
        }
        return Ok(None);
    }
    let version = manifest(doctor, is_locked);
    let mut found = Found { version, is_locked, told: BTreeSet::new(), strays: (0, 0) };
    files(doctor, &kinds, &mut found);
    if names.iter().any(|name| name == "000000.wal.tmp") {
        doctor.sees(
            Rank::Broken,
            "a sync of a log failed when the store was last open",
            "the device may have lost what the system still shows; the next open for writing writes all of it anew before anything else",
            "look into the system's messages (dmesg) for errors of the disk before you go on with it",
        );
    }
    space(doctor);
    Ok(Some(found))
}

fn not_a_store(doctor: &mut Doctor<'_>) {
    // Those too whose names are no UTF-8, which are none of ours.
    let entries: Vec<_> = fs::read_dir(doctor.db).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let below = entries.iter().find(|path| path.join("CURRENT").exists());
    let what = match entries.len() {
        0 => "the folder is empty: no store was ever made in it".to_owned(),
        count => format!("the folder holds {}, and none of a store", counted(count as u64, "file")),
    };
    let next = match below {
        Some(path) => format!("there is a store in the folder below: esker doctor {}", shell::path(path)),
        None => "check the path; 'esker put' and 'esker import' make a store".to_owned(),
    };
    doctor.sees(Rank::Closed, what, "there is nothing to be opened", next);
}

/// Whether somebody has the store open for writing, or makes it.
fn lock(doctor: &mut Doctor<'_>, has_current: bool) -> bool {
    let path = FileKind::Lock.path(doctor.db);
    match OsVfs.lock(&path, LockMode::Shared) {
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            // By the folder too, which is locked whatever has become of the file.
            let holder = [&path, doctor.db].into_iter().find_map(|locked| holder_of(&fs::metadata(locked).ok()?));
            let who = match &holder {
                Some((pid, name)) => format!("process {pid} ({name})"),
                None => "some process".to_owned(),
            };
            if !has_current {
                doctor.sees(
                    Rank::Closed,
                    format!("{who} is at work here, and there is no file CURRENT yet"),
                    "that is the last that is written where a store is made: most likely a repair or a checkpoint is under way",
                    format!("wait for it to end, and look again: esker doctor {}", doctor.quoted),
                );
                return true;
            }
            let what = format!("{who} has the store open for writing");
            let next = match holder {
                Some((pid, _)) => format!(
                    "ask or end that process ('ps -fp {pid}'), or have it make a checkpoint and look at that. Never remove LOCK"
                ),
                None => {
                    "find who has it open ('fuser -v LOCK' in the folder), or look at a checkpoint. Never remove LOCK"
                        .to_owned()
                }
            };
            let meaning = "nobody else can open it; only what the files say can be told here, and that may be changing. Its metrics tell errors in the background, old snapshots and stopped writes";
            doctor.sees(Rank::Closed, what, meaning, next);
            true
        }
        Err(error) => {
            let what = format!("the file LOCK can't be opened: {}", describe(&error));
            let next = match error.kind() {
                io::ErrorKind::PermissionDenied => super::AS_ITS_USER.to_owned(),
                // Of a file system that can lock no folder.
                io::ErrorKind::NotFound => format!("make an empty one: touch {}", shell::path(&path)),
                _ if is_of_the_asker(&error) => doctor.mend(&error),
                _ => {
                    format!("move away what has this name, and make an empty file of it: touch {}", shell::path(&path))
                }
            };
            doctor.sees(Rank::Closed, what, "the store can't be opened", next);
            false
        }
    }
}

/// Number and name of the process that holds a lock on this file or folder, where the system tells.
fn holder_of(locked: &fs::Metadata) -> Option<(u32, String)> {
    let pid = pid_in(&fs::read_to_string("/proc/locks").ok()?, locked.dev(), locked.ino())?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some((pid, name.trim().to_owned()))
}

/// The process that has a lock in these lines of `/proc/locks` on the file of this device and inode: `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`. Inodes alone are the same on many devices.
fn pid_in(locks: &str, device: u64, inode: u64) -> Option<u32> {
    // As Linux packs the two into one number.
    let major = device >> 32 & 0xffff_f000 | device >> 8 & 0xfff;
    let minor = device >> 12 & 0xffff_ff00 | device & 0xff;
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == file)?;
        // One who waits for it (`->`) has it not.
        (words.get(1) != Some(&"->")).then(|| words.get(at.checked_sub(1)?)?.parse().ok())?
    })
}

/// The version that the manifest ends with, or what is wrong with it.
fn manifest(doctor: &mut Doctor<'_>, is_locked: bool) -> Option<Arc<Version>> {
    let error = match VersionSet::read(&OsVfs, doctor.db) {
        Ok(recovered) => return Some(recovered.version),
        // It is being made, which was told.
        Err(ManifestError::NoEngine(_) | ManifestError::CurrentMissing { .. }) if is_locked => return None,
        Err(error) => error,
    };
    let what = match &error {
        ManifestError::NoEngine(_) => "the making of this store was interrupted before it held anything".to_owned(),
        ManifestError::CurrentMissing { found, .. } => format!("the file CURRENT is missing, though {found} is there"),
        ManifestError::Current { .. } => format!("the file CURRENT is damaged: {error}"),
        ManifestError::ManifestMissing { name, .. } => format!("the manifest {name} is missing, which CURRENT names"),
        error if error.is_unsupported() => format!("a newer version of esker has written this store: {error}"),
        error if error.io().is_some() => format!("the manifest can't be read: {error}"),
        error => format!("the manifest is damaged: {error}"),
    };
    let (meaning, next) = match &error {
        ManifestError::NoEngine(_) => {
            ("there is nothing in it", "make it anew: 'esker put' or 'esker import'".to_owned())
        }
        error if error.is_unsupported() => (
            "this version can't read it, and leaves it alone",
            "use that version, or a newer one; 'esker --version' tells this one's".to_owned(),
        ),
        error => {
            let next = error.io().map_or_else(|| doctor.restore(), |io| doctor.mend(io));
            ("it says which files belong together, so without it the store does not open", next)
        }
    };
    doctor.sees(Rank::Closed, what, meaning, next);
    None
}

/// Are the files there that the manifest names, and as long? And which others are?
fn files(doctor: &mut Doctor<'_>, kinds: &BTreeSet<FileKind>, found: &mut Found) {
    let Some(version) = &found.version else { return };
    let named: Vec<(FileKind, u64)> = version
        .tables()
        .map(|(_, _, table)| (FileKind::Table(table.number), table.file_bytes))
        .chain(version.blobs().map(|(_, blob)| (FileKind::Blob(blob.meta.number), blob.meta.file_bytes)))
        .collect();
    for (kind, expected) in &named {
        let name = kind.name();
        let lost = match kind {
            FileKind::Table(_) => super::TABLE_LOST,
            _ => super::BLOB_LOST,
        };
        let what = match fs::metadata(kind.path(doctor.db)) {
            // What is being compacted may go between two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound && found.is_locked => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => format!("{name} is missing"),
            Err(error) => format!("{name}: {}", describe(&error)),
            Ok(there) if !there.is_file() => format!("{name} is no file, but something else of this name"),
            Ok(there) if there.len() != *expected => {
                let bytes = there.len();
                format!("{name} has {bytes} bytes, and the manifest says {expected}: cut short, or another file")
            }
            Ok(_) => continue,
        };
        let next = doctor.restore();
        doctor.sees(Rank::Broken, what, lost, next);
        found.told.insert(*kind);
    }
    let named: BTreeSet<FileKind> = named.into_iter().map(|(kind, _)| kind).collect();
    let extra = kinds.iter().filter(|kind| match kind {
        FileKind::Table(_) | FileKind::Blob(_) => !named.contains(kind),
        FileKind::WalAside(_) => true,
        _ => false,
    });
    for kind in extra {
        found.strays.0 += 1;
        found.strays.1 += fs::metadata(kind.path(doctor.db)).map_or(0, |there| there.len());
    }
}

/// Files that the manifest does not name mean nothing, but to a store that does not open: there they may be what is missing.
pub(super) fn strays(doctor: &mut Doctor<'_>, found: &Found, opens: bool) {
    let (count, bytes) = found.strays;
    if count == 0 {
        return;
    }
    let what = format!("{} of {} that the manifest does not name", counted(count, "file"), HumanBytes(bytes));
    if found.is_locked {
        doctor.sees(
            Rank::Strained,
            what,
            "snapshots and iterators of the process that has the store open keep them, or it is just writing or removing them",
            "let go of old snapshots there (its metrics tell the oldest one's age)",
        );
    } else if !opens {
        let meaning = "as long as the store does not open, it is not known whether they hold what is missing";
        doctor.sees(Rank::Broken, what, meaning, "leave them where they are, and see to the store first");
    } else {
        let meaning = "a crash left them, or recovery set them aside; they mean nothing, and take space";
        doctor.sees(Rank::Fine, what, meaning, "nothing: the next open for writing removes them");
    }
}

fn space(doctor: &mut Doctor<'_>) {
    let Ok(free) = OsVfs.free_space(doctor.db) else { return };
    if free >= SPACE_BYTES_MIN {
        return;
    }
    let rank = if free < SPACE_BYTES_MIN / 8 { Rank::Broken } else { Rank::Strained };
    doctor.sees(
        rank,
        format!("the disk has {} left", HumanBytes(free)),
        "on a full disk writes are refused, opening for writing after a crash too; reads go on, and nothing is lost",
        "make room on the disk; a program that has the store open can also delete keys and compact",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_on_another_device_is_another_ones() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:02:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 22 fd:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  READ 33 08:01:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 44 08:01:77 0 EOF\n";
        assert_eq!(pid_in(locks, 0x0801, 77), Some(44));
        assert_eq!(pid_in(locks, 0xfd01, 77), Some(22));
        assert_eq!(pid_in(locks, 0x0803, 77), None);
    }
}
