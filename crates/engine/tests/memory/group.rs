//! A control group of Linux with a limit of memory, version 1 or 2. It takes root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A group below the one that this process is in (version 1) or beside it (version 2, where only the root may hold both processes and groups). It goes when it is dropped; by then its processes must have ended.
#[derive(Debug)]
pub(crate) struct Group {
    dir: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

fn read(path: impl AsRef<Path>) -> Result<String, String> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Where the hierarchy with the memory controller is mounted.
fn mount() -> Result<(PathBuf, Version), String> {
    let mounts = read("/proc/self/mounts")?;
    let mounted = |is: &dyn Fn(&str, &str) -> bool| {
        mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            is(words.get(2)?, words.get(3)?).then(|| PathBuf::from(words[1]))
        })
    };
    let one = mounted(&|kind, options| kind == "cgroup" && options.split(',').any(|option| option == "memory"));
    let two = || mounted(&|kind, _| kind == "cgroup2").filter(|root| has_memory(&root.join("cgroup.controllers")));
    one.map(|root| (root, Version::One))
        .or_else(|| two().map(|root| (root, Version::Two)))
        .ok_or_else(|| "no memory controller is mounted".to_owned())
}

fn has_memory(list: &Path) -> bool {
    read(list).is_ok_and(|text| text.split_whitespace().any(|controller| controller == "memory"))
}

/// The directory of the group that this process is in.
fn own(root: &Path, version: Version) -> Result<PathBuf, String> {
    let groups = read("/proc/self/cgroup")?;
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_it = match version {
            Version::One => controllers.split(',').any(|controller| controller == "memory"),
            Version::Two => controllers.is_empty(),
        };
        is_it.then_some(path)
    });
    let dir = root.join(path.ok_or("this process is in no group")?.trim_start_matches('/'));
    // In a container the path may be as the host sees it, and the mount no more than a part of that.
    Ok(if dir.is_dir() { dir } else { root.to_owned() })
}

impl Group {
    /// A group that may hold `limit_bytes`, page cache included, and no swap; or why there can be none.
    pub(crate) fn new(name: &str, limit_bytes: u64) -> Result<Self, String> {
        let (root, version) = mount()?;
        let own = own(&root, version)?;
        let parent = match version {
            Version::Two if own != root => own.parent().unwrap_or(&root).to_owned(),
            _ => own,
        };
        if version == Version::Two && !has_memory(&parent.join("cgroup.subtree_control")) {
            write(&parent.join("cgroup.subtree_control"), "+memory")?;
        }
        let dir = parent.join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let group = Self { dir, version };
        let (limit, swap, swap_limit) = match version {
            Version::One => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit_bytes),
            Version::Two => ("memory.max", "memory.swap.max", 0),
        };
        write(&group.dir.join(limit), &limit_bytes.to_string())?;
        // Not every kernel counts swap by group.
        if group.dir.join(swap).exists() {
            write(&group.dir.join(swap), &swap_limit.to_string())?;
        }
        // Else there would be nothing to be told by.
        group.oom_kills().and_then(|_| group.peak_bytes())?;
        Ok(group)
    }

    /// Runs `program` in it, from its first instruction on.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ >"$0" && exec "$@""#]).arg(self.dir.join("cgroup.procs")).arg(program);
        command
    }

    /// How many of its processes were killed for want of memory.
    pub(crate) fn oom_kills(&self) -> Result<u64, String> {
        match self.version {
            Version::One => self.count("memory.oom_control", "oom_kill"),
            Version::Two => self.count("memory.events", "oom_kill"),
        }
    }

    /// The most it has held, in bytes; the kernel takes page cache back when that comes to the limit.
    pub(crate) fn peak_bytes(&self) -> Result<u64, String> {
        match self.version {
            Version::One => self.count("memory.max_usage_in_bytes", ""),
            Version::Two => self.count("memory.peak", ""),
        }
    }

    /// The number behind `name` in `file`, or the only one.
    fn count(&self, file: &str, name: &str) -> Result<u64, String> {
        let path = self.dir.join(file);
        let text = read(&path)?;
        let number = text.lines().find_map(|line| {
            let (before, number) = line.rsplit_once(' ').unwrap_or(("", line));
            (before == name).then(|| number.parse().ok())?
        });
        number.ok_or_else(|| format!("{}: no `{name}` in it", path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that was killed may be in it for a moment yet.
        let begin = Instant::now();
        while fs::remove_dir(&self.dir).is_err() && begin.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
