//! A process whose memory is limited to twice the engine's budget is not killed for want of it, whatever it does with several times as much data, and finds what it wrote.
//!
//! The child is this binary again, in a control group (Linux, root; elsewhere the test says so and stops). It lives from the first round to the last, so what leaks adds up. It counts its heap by its own allocator.

#[path = "memory/bank.rs"]
mod bank;
#[path = "memory/group.rs"]
mod group;
#[path = "pressure/heap.rs"]
mod heap;
#[path = "memory/load.rs"]
mod load;
#[path = "memory/section.rs"]
mod section;
#[path = "memory/store.rs"]
mod store;
#[path = "memory/walks.rs"]
mod walks;

use esker_testkit::stress;
use group::Group;
use load::Report;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use store::BUDGET;

const CHILD: &str = "ESKER_MEMORY_TEST_CHILD";
const TEST: &str = "twice_the_budget_is_enough";
/// Of the process: its page cache is among it.
const LIMIT: usize = 2 * BUDGET;
/// What the load itself may hold, and batches in flight, and what flush and compaction work with, in bytes.
const BESIDES: usize = BUDGET / 2;
/// glibc's allocator keeps what was freed, in up to eight arenas for each processor: with that as it comes, the process was seen to hold nearly twice what was allocated, and was killed. So tuning.md says what to set.
const ALLOCATOR: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "131072")];
/// What each thread does in a round.
const STEPS: u64 = 250;

/// A process under the limit.
struct Limited {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    group: Group,
}

impl Limited {
    fn start(group: Group, dir: &Path) -> Self {
        let mut process = group
            .command(&std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
            .env(CHILD, dir)
            .envs(ALLOCATOR)
            // To print where it panics it would read debug information of more than the limit.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines, group }
    }

    /// Has it do one round; what that came to, unless it has died.
    fn round(&mut self, seed: u64) -> Option<Report> {
        let input = self.process.stdin.as_mut().expect("it is piped");
        // Where nobody reads any more, there is nothing to be read either.
        let _ = writeln!(input, "{seed} {STEPS}");
        self.lines.by_ref().map_while(Result::ok).find_map(|line| Report::parse(&line))
    }

    /// Has it end; how it did.
    fn end(&mut self) -> String {
        drop(self.process.stdin.take());
        // What it still prints is for nobody, but it must not wait for that.
        self.lines.by_ref().for_each(drop);
        let status = self.process.wait().unwrap();
        let kills = self.group.oom_kills().unwrap();
        assert_eq!(kills, 0, "killed for want of memory: {status}");
        assert!(status.success(), "{status}");
        status.to_string()
    }
}

/// Does not outlive the test, whatever becomes of that.
impl Drop for Limited {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Files in memory can't be written back, so what is limited would be all of the data.
fn is_in_memory(dir: &Path) -> bool {
    let kind = Command::new("stat").args(["-f", "-c", "%T"]).arg(dir).output();
    kind.is_ok_and(|kind| matches!(String::from_utf8_lossy(&kind.stdout).trim(), "tmpfs" | "ramfs"))
}

#[test]
fn twice_the_budget_is_enough() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return load::child(Path::new(&dir));
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    if is_in_memory(dir.path()) {
        return stress::skip("memory", "the target directory lies in memory");
    }
    let group = match Group::new("esker-memory", LIMIT as u64) {
        Ok(group) => group,
        Err(why) => return stress::skip("memory", &why),
    };
    let mut limited = Limited::start(group, dir.path());
    let (mut counted, mut heap, mut data) = (0, 0, 0);
    for round in stress::rounds("memory", 2) {
        let Some(report) = limited.round(round.seed()) else {
            let ended = limited.end();
            panic!("seed {}: it ended before its time: {ended}", round.seed());
        };
        (counted, heap, data) = (report.counted.max(counted), report.heap.max(heap), report.data.max(data));
        assert!(heap <= BUDGET + BESIDES, "seed {}: {heap} bytes of heap", round.seed());
        round.tried(report.operations);
    }
    limited.end();
    let peak = limited.group.peak_bytes().unwrap();
    println!("at most {counted} bytes counted, {heap} of heap, {data} of data; {peak} in the group");
    assert!(peak >= LIMIT as u64 * 9 / 10, "the limit was never near: {peak} bytes");
}
