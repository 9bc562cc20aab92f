//! The suites: which test each is, what it counts, and how many of these are the goal.

use crate::cargo;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A test that goes by `esker_testkit::stress`.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) name: &'static str,
    package: &'static str,
    /// Of the package, in `crates`.
    pub(super) directory: &'static str,
    /// The integration test; unit tests of the library if `None`.
    target: Option<&'static str>,
    /// The full name of the test.
    pub(super) test: &'static str,
    /// What it counts.
    pub(super) tries: &'static str,
    /// How many of these, over all recorded runs, are the goal.
    pub(super) goal: u64,
    /// Whether there are no more than these, of which each round does the one that its seed names, counted round: what several runs have done counts once.
    pub(super) is_all: bool,
}

const fn engine(name: &'static str, target: &'static str, test: &'static str, tries: &'static str, goal: u64) -> Suite {
    Suite { name, package: "esker", directory: "engine", target: Some(target), test, tries, goal, is_all: false }
}

const fn all_of(suite: Suite) -> Suite {
    Suite { is_all: true, ..suite }
}

/// All of them, in the order in which they run.
pub(super) const SUITES: &[Suite] = &[
    engine("model", "model", "the_engine_does_what_a_map_of_versions_does", "operations", 1_000_000),
    engine("cursors", "cursors", "whatever_a_cursor_lies_over_it_shows_what_is_there", "steps", 1_000_000_000),
    engine("crash", "crash", "sweep::crashes_anywhere", "images", 100_000),
    all_of(engine("bounded", "crash", "bounded::all_short_sequences_crashed_anywhere", "sequences", 16_104)),
    engine("torn", "crash", "torn::the_last_append_torn_in_every_way", "images", 1_000_000),
    engine("flip", "flip", "every_damage_is_an_error_or_changes_nothing", "damages", 10_000_000),
    engine("upgrade", "upgrade", "random::every_format_so_far_goes_on", "opened directories", 100_000),
    engine("errno", "failing", "whatever_fails_nothing_acknowledged_is_lost", "runs", 100_000),
    engine("strace", "strace", "whatever_call_fails_nothing_acknowledged_is_lost", "runs", 100_000),
    engine("power", "mounted", "what_is_synced_outlasts_power_cuts", "power cuts", 10_000),
    engine("fill", "mounted", "a_real_disk_that_fills_up_loses_nothing", "full disks", 1_000),
    engine("mapped", "mapped", "whatever_is_cut_under_an_open_engine_nothing_is_wrong_or_lost", "cut files", 10_000),
    engine("kill", "kill", "nothing_acknowledged_is_lost_in_kills", "kills", 10_000),
    engine("bank", "kill_bank", "not_a_penny_is_lost_in_kills", "kills", 10_000),
    engine("kill-ingest", "kill_ingest", "an_ingest_is_whole_or_not_there_after_a_kill", "kills", 10_000),
    engine("feed", "feed_random", "whatever_is_asked_it_is_all_or_a_gap", "changes", 1_000_000),
    engine("repair", "repair", "random::random_directories_damaged_at_random", "damaged directories", 1_000_000),
    engine("cycles", "cycles", "lives_leave_nothing_behind", "lives", 100_000),
    engine("metrics", "metrics", "figures_agree_with_what_was_done", "operations", 1_000_000),
    engine("memory", "memory", "twice_the_budget_is_enough", "operations", 500_000),
    Suite {
        name: "metamorphic",
        package: "esker-metamorphic",
        directory: "metamorphic",
        target: Some("metamorphic"),
        test: "histories_agree_whatever_the_options",
        tries: "operations",
        goal: 1_000_000,
        is_all: false,
    },
    Suite {
        name: "history",
        package: "esker",
        directory: "engine",
        target: None,
        test: "transaction::tests::scheduler::histories_are_serializable",
        tries: "transactions",
        goal: 1_000_000_000,
        is_all: false,
    },
    Suite {
        name: "fuzz",
        package: "esker-fuzz",
        directory: "fuzz",
        target: Some("targets"),
        test: "changed_files_pass",
        tries: "executions",
        goal: 1_000_000_000,
        is_all: false,
    },
];

/// Those called so, in their own order; all if nothing is named.
pub(super) fn choose(names: &[String]) -> Result<Vec<&'static Suite>, String> {
    if let Some(unknown) = names.iter().find(|name| !SUITES.iter().any(|suite| suite.name == **name)) {
        let all: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        return Err(format!("stress: no suite is called `{unknown}`; there are: {}", all.join(", ")));
    }
    let named = |suite: &&Suite| names.is_empty() || names.iter().any(|name| name == suite.name);
    Ok(SUITES.iter().filter(named).collect())
}

impl Suite {
    /// Where it stands in the order.
    pub(super) fn position(&self) -> usize {
        SUITES.iter().position(|suite| suite.name == self.name).expect("it is one of them")
    }

    /// Of the cargo that builds or runs its test, optimised and with all checks.
    pub(super) fn cargo_args(&self) -> Vec<&'static str> {
        let mut args = vec!["test", "--profile", "stress", "-p", self.package];
        match self.target {
            Some(target) => args.extend(["--test", target]),
            None => args.push("--lib"),
        }
        args
    }

    /// Builds its test; where the program lies.
    pub(super) fn build(&self, root: &Path) -> Result<PathBuf, String> {
        let mut command = cargo(root, &self.cargo_args());
        command.args(["--no-run", "--message-format=json-render-diagnostics"]).stderr(Stdio::inherit());
        let output = command.output().map_err(|error| format!("cargo did not start: {error}"))?;
        let programs = String::from_utf8_lossy(&output.stdout);
        let mut program = programs.lines().filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            // Programs that the test runs are built beside it.
            let is_test = message["profile"]["test"] == true;
            message["executable"].as_str().filter(|_| is_test).map(PathBuf::from)
        });
        match program.next_back() {
            Some(program) if output.status.success() => Ok(program),
            _ => Err(format!("{}: its test was not built: {}", self.name, output.status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn suites_are_chosen_by_name() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            choose(&names).map(|suites| suites.iter().map(|suite| suite.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), SUITES.len());
        assert_eq!(names(&["kill", "model"]), Ok(vec!["model", "kill"]));
        assert!(names(&["kil"]).unwrap_err().contains("`kil`; there are: model,"));
    }

    fn page(name: &str) -> String {
        std::fs::read_to_string(crate::workspace_root().join("docs").join(name)).unwrap()
    }

    #[test]
    fn each_suite_attacks_a_promise_and_is_explained() {
        let (testing, stress) = (page("testing.md"), page("stress.md"));
        let promises = testing.split_once("\n## By promise\n").unwrap().1.split("\n## ").next().unwrap();
        let at_length = promises.lines().filter_map(|line| line.split(" | ").nth(2));
        let named: BTreeSet<&str> = at_length.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert_eq!(named, SUITES.iter().map(|suite| suite.name).collect());
        let explained = stress.split_once("| suite | one of what it counts |").unwrap().1.split("\n\n").next().unwrap();
        let explained = explained.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let explained: BTreeSet<&str> = explained.flat_map(|names| names.split(", ")).collect();
        assert_eq!(named, explained);
    }

    #[test]
    fn each_section_of_promises_says_how_it_is_attacked() {
        let guarantees = page("guarantees.md");
        for section in guarantees.split("\n## ").skip(1) {
            let (heading, promises) = section.split_once('\n').unwrap();
            let slug = heading.to_lowercase().replace(' ', "-").replace(',', "");
            let is_linked = promises.contains(&format!("(testing.md#{slug})"));
            assert!(is_linked || ["Out of scope", "Platforms"].contains(&heading), "{heading}");
        }
    }
}
