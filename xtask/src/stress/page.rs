//! `docs/stress.md`: a row for each recorded run of each suite, and the totals beside the goals, made anew from the rows.
//!
//! The rows are the record; whatever stands between the two marks is rewritten. A row whose suite is none of today's, such as `model (6 sets)`, is in no total: it was run when that asked for less.

use super::Outcome;
use super::suites::{SUITES, Suite};
use crate::record::Record;
use std::fmt::Write;
use std::path::Path;

const TOTALS: &str = "<!-- totals -->\n";
const TOTALS_END: &str = "<!-- end of totals -->\n";

/// What one suite did in one run, as it stands in the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    suite: String,
    tried: u64,
    failures: u64,
    seconds: u64,
    seed: u64,
}

impl Recorded {
    /// Nothing of a suite that was skipped, or did nothing.
    pub(super) fn of(outcome: &Outcome) -> Option<Self> {
        let did_something = outcome.tried > 0 || !outcome.failures.is_empty();
        (outcome.skipped.is_none() && did_something).then(|| Self {
            suite: outcome.suite.name.to_owned(),
            tried: outcome.tried,
            failures: outcome.failures.len() as u64,
            seconds: outcome.seconds as u64,
            seed: outcome.seed,
        })
    }

    fn row(&self, begin: &str) -> String {
        let Self { suite, tried, failures, seconds, seed } = self;
        format!("{begin} {suite} | {tried} | {failures} | {seconds} | {seed} |\n")
    }

    /// A row of the page; `None` for any other line.
    fn parse(line: &str) -> Option<Self> {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [_, _, suite, tried, failures, seconds, seed] = cells[..] else { return None };
        let number = |text: &str| text.parse().ok();
        Some(Self {
            suite: suite.to_owned(),
            tried: number(tried)?,
            failures: number(failures)?,
            seconds: number(seconds)?,
            seed: number(seed)?,
        })
    }
}

/// Adds `run` to the page, and to its totals.
pub(super) fn add(root: &Path, record: &Record, run: &Recorded) -> Result<(), String> {
    record.write(root, |page, begin| with_totals(&format!("{page}{}", run.row(begin))))
}

/// The page, with its totals as its rows say.
fn with_totals(page: &str) -> Result<String, String> {
    let parts = page.split_once(TOTALS).and_then(|(head, rest)| Some((head, rest.split_once(TOTALS_END)?.1)));
    let (head, tail) = parts.ok_or("the marks of the totals are not there")?;
    let runs = runs(tail)?;
    let mut totals = String::from("| suite | tried | goal | of it | failures | minutes |\n|---|--:|--:|--:|--:|--:|\n");
    for suite in SUITES {
        let sum = |what: fn(&Recorded) -> u64| runs.iter().filter(|run| run.suite == suite.name).map(what).sum::<u64>();
        let (mut tried, failures, seconds) = (sum(|run| run.tried), sum(|run| run.failures), sum(|run| run.seconds));
        if suite.is_all {
            tried = done(suite, &runs).iter().map(|is_done| u64::from(*is_done)).sum();
        }
        let share = 100.0 * tried as f64 / suite.goal as f64;
        let (tried, goal) = (thousands(tried), thousands(suite.goal));
        writeln!(
            totals,
            "| {} | {tried} {} | {goal} | {share:.1} % | {failures} | {:.0} |",
            suite.name,
            suite.tries,
            seconds as f64 / 60.0
        )
        .expect("a string takes all");
    }
    Ok(format!("{head}{TOTALS}{totals}{TOTALS_END}{tail}"))
}

/// All runs that are recorded in `rows`.
fn runs(rows: &str) -> Result<Vec<Recorded>, String> {
    let rows = rows.lines().filter(|line| line.starts_with("| 2"));
    rows.map(|line| Recorded::parse(line).ok_or_else(|| format!("not a row of the record: {line}"))).collect()
}

/// Which of all that there are to `suite` the runs have done, that failed too: as many from the seed on, counted round.
fn done(suite: &Suite, runs: &[Recorded]) -> Vec<bool> {
    let mut done = vec![false; suite.goal as usize];
    for run in runs.iter().filter(|run| run.suite == suite.name) {
        for nth in 0..(run.tried + run.failures).min(suite.goal) {
            done[((run.seed % suite.goal + nth) % suite.goal) as usize] = true;
        }
    }
    done
}

/// The first of all that there are to `suite` that no recorded run has done; 0 again if there is none.
pub(super) fn first_left(page: &str, suite: &Suite) -> Result<u64, String> {
    let rows = page.split_once(TOTALS_END).ok_or("the marks of the totals are not there")?.1;
    Ok(done(suite, &runs(rows)?).iter().position(|is_done| !is_done).unwrap_or(0) as u64)
}

fn thousands(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_but_once_counts_once() {
        let bounded = SUITES.iter().find(|suite| suite.name == "bounded").unwrap();
        let run = |seed, tried, failures| Recorded { suite: "bounded".into(), tried, failures, seconds: 1, seed };
        let count = |runs: &[Recorded]| done(bounded, runs).iter().filter(|is_done| **is_done).count();
        assert_eq!(count(&[run(5, 10, 0), run(5 + 16_104, 10, 0), run(12, 4, 1)]), 12);
        // Counted round, and never more than there are.
        assert!(done(bounded, &[run(16_100, 10, 0)])[5]);
        assert_eq!(count(&[run(9, 40_000, 0)]), 16_104);
        let rows: String = [run(0, 7, 0), run(8, 3, 0)].map(|run| run.row("| 2026-11-27 | abc1234 |")).concat();
        let page = format!("{TOTALS}{TOTALS_END}{rows}");
        let made = with_totals(&page).unwrap();
        assert!(made.contains("| bounded | 10 sequences | 16,104 | 0.1 % |"), "{made}");
        assert_eq!(first_left(&page, bounded), Ok(7));
    }

    #[test]
    fn totals_are_the_sum_of_the_rows() {
        let run = |suite: &str, tried| Recorded { suite: suite.into(), tried, failures: 1, seconds: 600, seed: 9 };
        let row = run("kill", 1500).row("| 2026-11-27 | abc1234 |");
        assert_eq!(Recorded::parse(row.trim_end()), Some(run("kill", 1500)));
        let page = format!("# Stress\n{TOTALS}old\n{TOTALS_END}\n| date | commit |\n|---|--:|\n{row}{row}");
        let made = with_totals(&page).unwrap();
        assert!(made.contains("| kill | 3,000 kills | 10,000 | 30.0 % | 2 | 20 |\n"), "{made}");
        assert!(made.contains("| model | 0 operations | 1,000,000 | 0.0 % | 0 | 0 |\n"), "{made}");
        assert_eq!(with_totals(&page.replace("| kill |", "| kill (by half) |")).unwrap().matches("3,000").count(), 0);
        assert!(made.starts_with("# Stress\n") && made.ends_with(&format!("{row}{row}")) && !made.contains("old"));
        assert_eq!(with_totals(&made).unwrap(), made);
        assert!(with_totals("# Stress").is_err());
        assert!(with_totals(&page.replace("| 1500 |", "| 15 00 |")).unwrap_err().contains("not a row"));
    }
}
