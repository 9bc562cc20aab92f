//! What this process holds, as Linux counts it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a thread may be seen after it was joined: the kernel wakes who waits for it a little before it is gone.
const LINGER: Duration = Duration::from_secs(5);

/// What it holds for the engine's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    /// Maps of files in the directory.
    pub(crate) maps: usize,
}

fn entries(dir: &str) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// Why it can't be counted here.
pub(crate) fn why_not() -> Option<&'static str> {
    (!Path::new("/proc/self/task").is_dir()).then_some("no /proc of Linux")
}

/// What is held now, of maps those of files below `dir`.
pub(crate) fn held(dir: &Path) -> Held {
    let dir = dir.to_str().expect("a name in UTF-8");
    let maps = fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains(dir)).count();
    Held { descriptors: entries("/proc/self/fd"), threads: entries("/proc/self/task"), maps }
}

/// What is held when threads that have ended are gone; `expected`, or else what it comes to.
pub(crate) fn held_behind(dir: &Path, expected: Held) -> Held {
    let begin = Instant::now();
    loop {
        let now = held(dir);
        // Only threads: a descriptor or map that is closed is closed.
        if now.threads <= expected.threads || begin.elapsed() > LINGER {
            return now;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// All maps there are, stacks and heaps too.
pub(crate) fn maps() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// Memory of its own that is resident, in bytes.
pub(crate) fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux 4.5 or later");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}
