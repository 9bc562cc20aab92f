//! One run of the child under `strace`: where it is disturbed, what it told, and what must be there for that.

use crate::child::{CHILD, MARK, Script, level};
use esker::Durability;
use esker_format::{FileKind, FileNo};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Numbers of files that the child comes to.
const FILES: u64 = 80;
/// After so long it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Calls, and how each may fail. `+`: all from then on do.
const FAULTS: [(&str, &[&str]); 15] = [
    ("write", &["error=EIO", "error=ENOSPC", "error=ENOSPC+", KILL]),
    ("pwrite64", &["error=EIO", "error=ENOSPC", "error=ENOSPC+", KILL]),
    ("fsync", &["error=EIO", "error=EIO+", KILL]),
    ("fdatasync", &["error=EIO", "error=EIO+", KILL]),
    ("rename", &["error=EIO", "error=ENOSPC", KILL]),
    ("ftruncate", &["error=EIO", "error=EIO+", KILL]),
    ("fallocate", &["error=ENOSPC", "error=ENOSPC+", "error=EIO", KILL]),
    ("openat", &["error=EMFILE", "error=EMFILE+", "error=EACCES", KILL]),
    ("linkat", &["error=EIO", KILL]),
    ("unlink", &["error=EIO", "error=EIO+", KILL]),
    ("mmap", &["error=ENOMEM", "error=ENOMEM+", KILL]),
    ("sync_file_range", &["error=EIO", "error=EIO+", KILL]),
    ("pread64", &["error=EIO", "error=EIO+", KILL]),
    ("mkdir", &["error=EIO", KILL]),
    ("flock", &["error=EINTR", "error=ENOLCK", KILL]),
];
const KILL: &str = "signal=SIGKILL";

/// Which call is disturbed, and how.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    call: &'static str,
    fault: &'static str,
    nth: u64,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fault, on) = self.fault.strip_suffix('+').map_or((self.fault, ""), |fault| (fault, "+"));
        write!(f, "inject={}:{fault}:when={}{on}", self.call, self.nth)
    }
}

/// Whether `strace` is there and may trace; if not, why.
pub(crate) fn probe() -> Result<(), String> {
    let output = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("strace: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("strace: {}", said.lines().next().unwrap_or("fails"))) }
}

/// Every point at which a run that nothing disturbed can be.
pub(crate) fn points(undisturbed: &Run) -> Vec<Point> {
    let mut points = Vec::new();
    for (call, faults) in FAULTS {
        let count = undisturbed.calls.get(call).copied().unwrap_or(0);
        for nth in 1..=count {
            points.extend(faults.iter().map(|fault| Point { call, fault, nth }));
        }
    }
    assert!(points.len() > 300, "only {} points: {:?}", points.len(), undisturbed.calls);
    points
}

/// What one run of the child came to.
pub(crate) struct Run {
    temp: tempfile::TempDir,
    /// What it told, in order.
    said: Vec<String>,
    /// How many calls of each kind there were.
    calls: BTreeMap<String, u64>,
    /// Lines of calls that were made to fail.
    injected: Vec<String>,
    was_killed: bool,
}

/// Each file that there may be in `dir`, and itself.
fn paths(dir: &Path) -> Vec<PathBuf> {
    let numbered = |number| {
        let number = FileNo(number);
        let kinds = [
            FileKind::Manifest(number),
            FileKind::Options(number),
            FileKind::Wal(number),
            FileKind::Table(number),
            FileKind::Blob(number),
        ];
        kinds.map(FileKind::name)
    };
    let names = ["CURRENT", "LOCK"].map(String::from).into_iter().chain((1..=FILES).flat_map(numbered));
    let paths = names.flat_map(|name| [dir.join(format!("{name}.tmp")), dir.join(name)]);
    std::iter::once(dir.to_owned()).chain(paths).collect()
}

impl Run {
    pub(crate) fn new(script: &Script, point: Option<&Point>, what: &str) -> Self {
        let shared = Path::new("/dev/shm");
        let temp = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        // By the name that the kernel has for it.
        let dir = temp.path().canonicalize().unwrap().join("db");
        let trace = temp.path().join("trace");
        let mut command = Command::new("strace");
        // With a file to write to, `strace` would let no signal end it: `-I`. Descriptors with their paths: `-y`.
        command.args(["-I", "2", "-f", "-qq", "-y", "-e", "signal=none", "-o"]).arg(&trace);
        for path in paths(&dir) {
            command.arg("-P").arg(path);
        }
        let calls: Vec<&str> = FAULTS.iter().map(|(call, _)| *call).collect();
        command.arg("-e").arg(format!("trace={}", calls.join(",")));
        if let Some(point) = point {
            command.arg("-e").arg(point.to_string());
        }
        command.arg(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "whatever_call_fails_nothing_acknowledged_is_lost",
            "--nocapture",
            "--test-threads=1",
        ]);
        command.env(CHILD, script.spec(&dir)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let id = child.id();
        let (ends, ended) = channel();
        let waiter = std::thread::spawn(move || ends.send(child.wait_with_output().unwrap()));
        let Ok(output) = ended.recv_timeout(PATIENCE) else {
            // `strace` takes what it has started with it.
            let _ = Command::new("kill").args(["-TERM", &id.to_string()]).status();
            panic!("{what}: it hangs");
        };
        waiter.join().unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let said = text.lines().filter_map(|line| Some(line.split_once(MARK)?.1.to_owned())).collect();
        // `strace` dies as its child did.
        let was_killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
        let wants_kill = point.is_some_and(|point| point.fault == KILL);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || was_killed && wants_kill, "{what}: {}\n{errors}", output.status);
        let lines = std::fs::read_to_string(&trace).unwrap();
        let mut calls = BTreeMap::new();
        let mut injected = Vec::new();
        for line in lines.lines() {
            let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
            if let Some((name, _)) = call.split_once('(') {
                *calls.entry(name.to_owned()).or_default() += 1;
            }
            if line.ends_with("(INJECTED)") {
                injected.push(call.to_owned());
            }
        }
        Self { temp, said, calls, injected, was_killed }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.temp.path().join("db")
    }

    /// Whether the point was reached.
    pub(crate) fn is_hit(&self) -> bool {
        self.was_killed || !self.injected.is_empty()
    }

    /// Panics if calls failed and the child heard of no failure, unless they are such as nothing depends on.
    pub(crate) fn is_told(&self, what: &str) {
        let is_told = self.said.iter().any(|said| said.starts_with("failed") || said.starts_with("event"));
        let needed = self.injected.iter().find(|call| !is_spared(call));
        if let Some(call) = needed.filter(|_| !is_told && !self.was_killed) {
            panic!("{what}: {call} was told to nobody: {:#?}", self.said);
        }
    }

    /// Holds which writes were found against what was told of them.
    pub(crate) fn judge(&self, found: &[bool], what: &str) {
        let number = |said: &str, words: &str| said.strip_prefix(words)?.trim().parse::<u64>().ok();
        let is_there = |i: &u64| found[*i as usize];
        let (mut begun, mut open) = (BTreeSet::new(), Vec::new());
        // What is open may be lost, from some write on, until something carries it to the kernel, which outlives the process.
        let must = |open: &mut Vec<u64>, carried: bool| {
            let there = if carried { open.len() } else { open.iter().take_while(|i| is_there(i)).count() };
            let is_so = open.iter().enumerate().all(|(nth, i)| is_there(i) == (nth < there));
            assert!(
                is_so,
                "{what}: {open:?} were acknowledged, carried: {carried}; found: {found:?}; {:#?}",
                self.said
            );
            open.clear();
        };
        for said in &self.said {
            if let Some(i) = number(said, "begin") {
                begun.insert(i);
            } else if let Some(i) = number(said, "did write") {
                open.push(i);
                if level(i) != Durability::Memory {
                    must(&mut open, true);
                }
            } else if ["did sync", "did flush", "did close"].contains(&&said[..]) {
                must(&mut open, true);
            } else if said.starts_with("failed close") {
                must(&mut open, false);
            }
        }
        must(&mut open, false);
        let made_up = (0..).zip(found).find(|(i, is_there)| **is_there && !begun.contains(i));
        assert!(made_up.is_none(), "{what}: {made_up:?} is there and was never begun");
    }
}

/// Calls whose failure changes nothing that anyone has asked for.
fn is_spared(call: &str) -> bool {
    // What is not needed any more is removed by a later open, of which a listing that fails takes care too.
    let sweeps = call.starts_with("unlink") || call.contains("O_DIRECTORY") && call.contains("O_NONBLOCK");
    // Room ahead is made by the writer where nobody has made it before, and given back or not.
    let makes_room = call.starts_with("fallocate") || call.starts_with("ftruncate");
    // A log that can't be mapped is written by calls; the lock goes with its file.
    let is_replaced = call.starts_with("mmap") && call.contains("PROT_WRITE") || call.contains("LOCK_UN");
    // Where directories can't be locked the file's lock is all there is.
    let is_added = call.starts_with("flock") && !call.contains("/LOCK>");
    sweeps || makes_room || is_replaced || is_added
}
