//! A control group with a limit of memory: what is measured in it has no more for its heap and for caches of its files, however much the machine has.
//!
//! ```text
//! parent   make the group, set its limit | start the child |                  | how much was used? | remove it
//! child                                  | join            | open, measure .. |
//! ```
//!
//! Pages of files belong to the group that read them first; so what lies in the directory is dropped from the system's cache before ([`evict`]), or the group
//! would find it there for nothing. Linux only, and only where this process may make a group: as root in most cases.

use crate::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// A group, removed when this is dropped; all that was in it must have ended by then.
#[derive(Debug)]
pub struct MemoryLimit {
    dir: PathBuf,
    version: Version,
}

/// The two kinds of control groups name their files differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    fn limit_file(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }

    /// Whatever is swapped out would be memory beyond the limit.
    fn swap(self, limit_bytes: u64) -> (&'static str, String) {
        match self {
            Self::One => ("memory.memsw.limit_in_bytes", limit_bytes.to_string()),
            Self::Two => ("memory.swap.max", "0".into()),
        }
    }
}

impl MemoryLimit {
    /// Makes a group that has `limit_mib` of memory.
    ///
    /// # Errors
    /// There are no control groups, or this process may not make one: says what was tried.
    pub fn new(limit_mib: u64) -> Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
        let mut tried = Vec::new();
        for (parent, version) in parents(&own) {
            match Self::within(&parent, version, limit_mib << 20) {
                Ok(group) => return Ok(group),
                Err(error) => tried.push(error.to_string()),
            }
        }
        if tried.is_empty() {
            tried.push(format!("no controller of memory is mounted below {ROOT}"));
        }
        Err(format!(
            "no control group for a limit of memory can be made ({}); as root it usually can",
            tried.join("; ")
        )
        .into())
    }

    fn within(parent: &Path, version: Version, limit_bytes: u64) -> Result<Self> {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        // Relaxed: only that each gets another number.
        let nth = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = parent.join(format!("esker-bench-{}-{nth}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        // From here on it is removed whatever happens.
        let group = Self { dir, version };
        group.write(version.limit_file(), &limit_bytes.to_string())?;
        let (file, limit) = version.swap(limit_bytes);
        // Not there where the kernel does not account for swap.
        if group.dir.join(file).exists() {
            group.write(file, &limit)?;
        }
        Ok(group)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// For the child: what [`join`] takes.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The most that was used at a time, caches of files included: the limit, if it was ever felt. Kernels before 5.19 don't say it of groups of version 2.
    pub fn peak_bytes(&self) -> Option<u64> {
        let file = match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // One that stays behind does no harm but to be there.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Where a group may be made: below the group that this process is in, and beside it, since one of version 2 with processes in it can't hand controllers on.
fn parents(own: &str) -> Vec<(PathBuf, Version)> {
    let mut parents = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, version) = match controllers {
            "" => (PathBuf::from(ROOT), Version::Two),
            controllers if controllers.split(',').any(|name| name == "memory") => {
                (Path::new(ROOT).join("memory"), Version::One)
            }
            _ => continue,
        };
        // In a container the path may be one that only the host sees: then the mount is the group itself.
        let below = mount.join(path.trim_start_matches('/'));
        let beside = below.parent().map(Path::to_path_buf);
        for parent in [Some(below), beside, Some(mount.clone())].into_iter().flatten() {
            if parent.starts_with(&mount)
                && hands_memory_on(&parent, version)
                && !parents.contains(&(parent.clone(), version))
            {
                parents.push((parent, version));
            }
        }
    }
    parents
}

fn hands_memory_on(parent: &Path, version: Version) -> bool {
    match version {
        Version::One => parent.join(version.limit_file()).exists(),
        Version::Two => fs::read_to_string(parent.join("cgroup.subtree_control"))
            .is_ok_and(|text| text.split_whitespace().any(|controller| controller == "memory")),
    }
}

/// Moves this process into a group: what it uses from now on counts there.
///
/// # Errors
/// The group is not there, or this process may not.
pub fn join(group: &Path) -> Result<()> {
    let path = group.join("cgroup.procs");
    // 0 stands for the writer.
    fs::write(&path, "0").map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Drops the files of a directory from the system's cache, once all that was written is on the device. Nobody may have them open.
///
/// # Errors
/// A file can't be opened or synced.
pub fn evict(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            evict(&entry.path())?;
            continue;
        }
        let file = fs::File::open(entry.path())?;
        file.sync_all()?;
        drop_cached(&file)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn drop_cached(file: &fs::File) -> Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(not(target_os = "linux"))]
fn drop_cached(_: &fs::File) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_looked_for_where_this_process_is() {
        let unified = parents("0::/no/such/group\n");
        assert!(unified.iter().all(|(parent, version)| parent.starts_with(ROOT) && *version == Version::Two));
        assert_eq!(parents("3:cpu,cpuacct:/a\nnonsense\n"), []);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_evicted_is_there_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        let path = dir.path().join("below/file");
        fs::write(&path, vec![7; 1 << 20]).unwrap();
        evict(dir.path()).unwrap();
        assert_eq!(fs::read(path).unwrap(), vec![7; 1 << 20]);
        assert!(evict(&dir.path().join("gone")).is_err());
    }

    /// Where groups can be made, this one goes away again; where not, it is said why.
    #[test]
    fn a_group_is_made_and_removed_or_the_reason_is_told() {
        match MemoryLimit::new(64) {
            Ok(group) => {
                let dir = group.dir().to_owned();
                assert!(dir.exists() && group.peak_bytes().unwrap_or(0) == 0);
                drop(group);
                assert!(!dir.exists());
            }
            Err(error) => assert!(error.to_string().starts_with("no control group"), "{error}"),
        }
    }
}
