//! `cargo xtask miri`, `tsan`, `asan`: the tests under tools that watch memory, where these can run them in reasonable time.
//!
//! | tool | sees | costs |
//! |---|---|---|
//! | Miri | undefined behaviour of any kind, on the paths that run; weak memory in part | some thousand times |
//! | ThreadSanitizer | data races, with the standard library built for it | some ten times |
//! | AddressSanitizer | use after free, reads out of bounds, leaks | two or three times |
//!
//! Each runs a list of test binaries ([`suites`]), also after one has failed, and prints one table at the end.

mod suites;

use crate::record::Record;
use crate::toolchain::{NIGHTLY, need_nightly};
use crate::{lines, run};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
pub(crate) use suites::{ASAN, MIRI, TSAN, Tool};
use suites::{Group, Suite};

/// What is run, and where it is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the suites of this package.
    #[arg(long, conflicts_with = "record")]
    package: Option<String>,
    /// Add the figures to `docs/stress.md`.
    #[arg(long)]
    record: bool,
    /// Print JSON, an object for each suite, in the place of the table.
    #[arg(long)]
    json: bool,
}

/// What became of one suite.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    suite: String,
    /// Tests that ran to their end, well or not.
    tests: u64,
    failed: u64,
    /// What the tool has found.
    reports: u64,
    seconds: f64,
    /// Why it did not come to its end, if neither a test nor a report says so.
    broken: Option<String>,
}

impl Outcome {
    fn is_clean(&self) -> bool {
        self.failed + self.reports == 0 && self.broken.is_none()
    }

    /// Counts what a line tells.
    fn look(&mut self, line: &str, report: &[&str]) {
        if let Some((passed, failed)) = results(line) {
            self.tests += passed + failed;
            self.failed += failed;
        }
        self.reports += u64::from(report.iter().any(|report| line.contains(report)));
    }
}

/// How many tests passed and failed, of the line that closes a test binary.
fn results(line: &str) -> Option<(u64, u64)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| {
        counts.split("; ").find_map(|count| count.strip_suffix(what)).map_or(Some(0), |number| number.parse().ok())
    };
    Some((count(" passed")?, count(" failed")?))
}

/// Runs what is listed for `tool`, prints what it did, and fails if anything was found.
pub(crate) fn run_tool(root: &Path, tool: &Tool, args: &Args) -> Result<(), String> {
    need_nightly(tool.components)?;
    let record = args.record.then(|| Record::of_head(root)).transpose()?;
    let all = tool.groups.iter().flat_map(|group| group.suites.iter().map(move |suite| (group, suite)));
    let is_asked_for = |suite: &Suite| args.package.as_ref().is_none_or(|package| suite.package == package);
    let chosen: Vec<_> = all.filter(|(_, suite)| is_asked_for(suite)).collect();
    if chosen.is_empty() {
        let mut all: Vec<&str> = tool.groups.iter().flat_map(|g| g.suites).map(|suite| suite.package).collect();
        all.sort();
        all.dedup();
        return Err(format!(
            "{}: no suite of that package is listed; there are some of: {}",
            tool.name,
            all.join(", ")
        ));
    }
    let outcomes: Vec<Outcome> = chosen.iter().map(|(group, suite)| one(root, tool, group, suite)).collect();
    print(&outcomes, args.json);
    if let Some(record) = record {
        record.add(root, "sanitizers", &[row(tool, &outcomes)])?;
    }
    let found: Vec<&str> = outcomes.iter().filter(|o| !o.is_clean()).map(|o| &*o.suite).collect();
    if found.is_empty() { Ok(()) } else { Err(format!("{}: something was found in {}", tool.name, found.join(", "))) }
}

fn one(root: &Path, tool: &Tool, group: &Group, suite: &Suite) -> Outcome {
    let mut outcome = Outcome { suite: suite.name(), ..Outcome::default() };
    eprintln!("\n== {}: {}", tool.name, outcome.suite);
    // Apart from the run, whose time is told.
    if let Err(error) = run(command(root, tool, group, suite).arg("--no-run")) {
        outcome.broken = Some(error);
        return outcome;
    }
    let start = Instant::now();
    let mut command = command(root, tool, group, suite);
    // Where one binary fails, the next runs all the same.
    let ended =
        lines::follow(command.args(["--no-fail-fast", "--"]).args(suite.tests), |line| outcome.look(line, tool.report));
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome.broken = match ended {
        Ok(true) if outcome.tests == 0 => Some("no test was run".into()),
        Ok(false) if outcome.is_clean() => Some("it did not end well, and nothing says why".into()),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    outcome
}

fn command(root: &Path, tool: &Tool, group: &Group, suite: &Suite) -> Command {
    let mut command = Command::new("cargo");
    // The toolchain that runs this program must not choose the one for that.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").current_dir(root);
    command.arg(NIGHTLY).args(tool.cargo).args(["-p", suite.package]).args(suite.targets);
    command.envs(group.environment.iter().copied()).env("CARGO_TARGET_DIR", root.join(tool.target_dir));
    // Tests run in the directories of their packages, and some look how a process dies of a fault. The other tools don't look.
    let suppressions = root.join("xtask/src/sanitize/tsan.supp");
    command.env("TSAN_OPTIONS", format!("handle_sigbus=0:suppressions={}", suppressions.display()));
    command
}

fn row(tool: &Tool, outcomes: &[Outcome]) -> String {
    let sum = |what: fn(&Outcome) -> u64| outcomes.iter().map(what).sum::<u64>();
    let (tests, failed, reports) = (sum(|o| o.tests), sum(|o| o.failed), sum(|o| o.reports));
    let broken = outcomes.iter().filter(|o| o.broken.is_some()).count();
    let seconds: f64 = outcomes.iter().map(|o| o.seconds).sum();
    format!("{} | {} | {broken} | {tests} | {failed} | {reports} | {seconds:.0}", tool.name, outcomes.len())
}

fn print(outcomes: &[Outcome], json: bool) {
    if json {
        for o in outcomes {
            let line = serde_json::json!({
                "suite": o.suite, "tests": o.tests, "failed": o.failed, "reports": o.reports, "seconds": o.seconds, "broken": o.broken,
            });
            println!("{line}");
        }
        return;
    }
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["suite", "tests", "failed", "reports", "seconds"]);
    for o in outcomes {
        let tests = o.broken.as_ref().map_or_else(|| o.tests.to_string(), |why| format!("{}: {why}", o.tests));
        table.add_row([
            o.suite.clone(),
            tests,
            o.failed.to_string(),
            o.reports.to_string(),
            format!("{:.0}", o.seconds),
        ]);
    }
    println!("{table}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command_line, workspace_root};

    #[test]
    fn what_is_listed_is_there() {
        let root = workspace_root();
        let tree = crate::tidy::Tree::load(&root).unwrap();
        for suite in [MIRI, TSAN, ASAN].iter().flat_map(|tool| tool.groups).flat_map(|group| group.suites) {
            let manifest = tree.manifests().find(|manifest| manifest.name == suite.package).expect(suite.package);
            let tests = tree.targets(&manifest.directory, "tests");
            for name in suite.targets.iter().filter(|name| !name.starts_with("--")) {
                assert!(tests.iter().any(|test| test == name), "{}: {name}", suite.package);
            }
        }
    }

    #[test]
    fn a_command_is_what_one_would_type() {
        let wal = TSAN.groups[0].suites.iter().find(|suite| suite.package == "esker-wal").unwrap();
        let line = command_line(&command(Path::new("/w"), &TSAN, &TSAN.groups[0], wal));
        assert_eq!(line, "cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu -p esker-wal --test group");
    }

    #[test]
    fn tests_and_reports_are_counted() {
        let mut outcome = Outcome::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.50s",
            "WARNING: ThreadSanitizer: data race (pid=1)",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "test result: none",
        ] {
            outcome.look(line, TSAN.report);
        }
        assert_eq!(outcome, Outcome { tests: 9, failed: 2, reports: 1, ..Outcome::default() });
        assert!(!outcome.is_clean());
        assert_eq!(row(&TSAN, &[outcome]), "tsan | 1 | 0 | 9 | 2 | 1 | 0");
    }
}
