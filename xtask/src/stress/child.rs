//! One run of one suite, in a process of its own: what it prints is read line by line, and kept if it fails.

use super::suites::Suite;
use crate::output;
use std::collections::VecDeque;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Lines of output that are kept of a run that failed: a script of the model takes some hundred.
const LINES_KEPT: usize = 2000;

/// A suite that runs.
pub(super) struct Child {
    suite: &'static Suite,
    process: Process,
    lines: Receiver<String>,
}

/// How a run ended.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) rounds: u64,
    pub(super) tried: u64,
    /// Why the suite said that it can't run here.
    pub(super) skipped: Option<String>,
    pub(super) failure: Option<Failure>,
}

/// What is known of a failure.
#[derive(Debug)]
pub(super) struct Failure {
    /// Of the round that failed, or in which it died.
    pub(super) seed: Option<u64>,
    output: VecDeque<String>,
}

/// A line of the protocol of `esker_testkit::stress`.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Progress { rounds: u64, tried: u64 },
    Begin { seed: u64 },
    Failed { seed: u64 },
    Skipped { why: &'a str },
    Other,
}

fn parse<'a>(line: &'a str, suite: &str) -> Line<'a> {
    // The harness may have begun the line with the name of the test.
    let of_suite = format!("stress suite={suite} ");
    let Some(at) = line.find(&of_suite) else { return Line::Other };
    let rest = &line[at + of_suite.len()..];
    if let Some(why) = rest.strip_prefix("skipped=") {
        return Line::Skipped { why };
    }
    let field = |name: &str| rest.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
    match (field("rounds"), field("tried")) {
        (Some(rounds), Some(tried)) => Line::Progress { rounds, tried },
        _ => match (field("begin"), field("failed")) {
            (Some(seed), _) => Line::Begin { seed },
            (_, Some(seed)) => Line::Failed { seed },
            _ => Line::Other,
        },
    }
}

impl Child {
    /// Starts the test `program` of `suite` from `seed` on, for `time`.
    pub(super) fn start(
        root: &Path,
        suite: &'static Suite,
        program: &Path,
        seed: u64,
        time: Duration,
    ) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.current_dir(root.join("crates").join(suite.directory));
        command.args([suite.test, "--exact", "--nocapture", "--test-threads=1"]);
        command.env("ESKER_STRESS_SECONDS", format!("{:.3}", time.as_secs_f64()));
        command.env("ESKER_STRESS_SEED", seed.to_string());
        // A group of its own, so that a suite that hangs is killed with the children it has.
        command.process_group(0);
        let (process, lines) = crate::lines::start(&mut command)?;
        Ok(Self { suite, process, lines })
    }

    /// Reads to the end, or kills it after `time_max`; `progress` is called with rounds and things tried.
    pub(super) fn watch(mut self, time_max: Duration, mut progress: impl FnMut(u64, u64)) -> Result<Ran, String> {
        let start = Instant::now();
        let (mut ran, mut seed, mut output) = (Ran::default(), None, VecDeque::new());
        loop {
            let line = match self.lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if start.elapsed() < time_max => {
                    progress(ran.rounds, ran.tried);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {
                    output.push_back(format!("killed: it did not end within {} s", time_max.as_secs()));
                    self.kill();
                    break;
                }
            };
            match parse(&line, self.suite.name) {
                Line::Progress { rounds, tried } => (ran.rounds, ran.tried) = (rounds, tried),
                // One that dies without a word died in the round that it began last.
                Line::Begin { seed: begun } => seed = Some(begun),
                Line::Failed { seed: failed } => seed = Some(failed),
                Line::Skipped { why } => ran.skipped = Some(why.to_owned()),
                Line::Other => {
                    output.push_back(line);
                    if output.len() > LINES_KEPT {
                        output.pop_front();
                    }
                }
            }
            progress(ran.rounds, ran.tried);
        }
        let status = self.process.wait().map_err(|error| format!("{}: {error}", self.suite.name))?;
        if !status.success() {
            ran.failure = Some(Failure { seed, output });
        } else if ran.rounds == 0 && ran.skipped.is_none() {
            return Err(format!(
                "{}: no round was run; is its test, {}, still there?",
                self.suite.name, self.suite.test
            ));
        }
        Ok(ran)
    }

    /// Kills it and all its children. If it has just ended by itself, there is nothing to kill.
    fn kill(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.kill();
    }
}

impl Failure {
    /// Writes the case to `testdata/failures`, as a script for `sh` that runs it again; below stands what it printed, which is a script of operations where the suite has such.
    pub(super) fn keep(&self, root: &Path, suite: &Suite) -> Result<PathBuf, String> {
        let directory = root.join("testdata/failures");
        let (name, again) = match self.seed {
            Some(seed) => (seed.to_string(), format!("ESKER_STRESS_SEED={seed} ESKER_STRESS_ROUNDS=1 ")),
            None => ("unknown".to_owned(), String::new()),
        };
        let path = directory.join(format!("{}-{name}.sh", suite.name));
        let command = format!("{again}cargo {} {} -- --exact --nocapture", suite.cargo_args().join(" "), suite.test);
        // Where there is no repository it runs all the same.
        let commit = output(root, "git", &["rev-parse", "--short", "HEAD"]).unwrap_or_else(|_| "unknown".into());
        let script = self.script(suite.name, commit.trim(), &command);
        std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(&path, script))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path.strip_prefix(root).unwrap_or(&path).to_path_buf())
    }

    fn script(&self, suite: &str, commit: &str, command: &str) -> String {
        let mut script = format!(
            "#!/bin/sh\n\
             # {suite} failed at commit {commit}; what it printed is below. Of another commit the same seed may make another case.\n\
             cd \"$(dirname \"$0\")/../..\" || exit\n\
             exec env {command}\n\n"
        );
        for line in &self.output {
            script.push_str(line);
            script.push('\n');
        }
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_protocol() {
        assert_eq!(parse("stress suite=kill rounds=2 tried=31", "kill"), Line::Progress { rounds: 2, tried: 31 });
        assert_eq!(parse("test a ... stress suite=kill begin=7", "kill"), Line::Begin { seed: 7 });
        assert_eq!(parse("test a ... stress suite=kill failed=7", "kill"), Line::Failed { seed: 7 });
        assert_eq!(parse("stress suite=power skipped=not root", "power"), Line::Skipped { why: "not root" });
        for other in ["stress suite=killed failed=7", "stress suite=kill", "kill", "stress suite=kill rounds=x tried=1"]
        {
            assert_eq!(parse(other, "kill"), Line::Other);
        }
    }

    #[test]
    fn a_case_that_is_kept_is_a_script() {
        let output = ["the smallest that fails: (", "$(exit 3) `exit 4` 'put"].map(String::from).into();
        let script = Failure { seed: Some(7), output }.script("kill", "1234567", "SEED=7 sh -c 'echo $SEED'");
        assert!(script.ends_with("`exit 4` 'put\n"), "{script}");
        let ran = Command::new("sh").args(["-c", &script, "testdata/failures/kill-7.sh"]).output().unwrap();
        assert_eq!((ran.status.code(), &*ran.stdout, &*ran.stderr), (Some(0), &b"7\n"[..], &b""[..]), "{ran:?}");
    }
}
