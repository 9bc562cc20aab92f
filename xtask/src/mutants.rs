//! `cargo xtask mutants`: what the tests of a crate make of it when one thing in it is wrong.
//!
//! cargo-mutants changes one operator, or has one function return something made up, builds, and runs the tests of that crate, by cargo-nextest, which ends with the first that fails; they are to fail. Those that pass all the same have survived: either
//! a test is missing, or the change makes no difference that a user could see. `docs/mutants.md` lists the latter with the reason, and a survivor that is not listed there fails the task.

mod known;
mod page;

use crate::command_line;
use crate::output;
use crate::record::Record;
use crate::toolchain::is_there;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use known::Known;
use page::Page;
use std::path::Path;
use std::process::Command;

/// The crates on which all promises about files rest.
const CRATES: [&str; 4] = ["wal", "sstable", "manifest", "compaction"];

/// Of those that a compiler takes, in percent.
const CAUGHT_MIN: f64 = 90.0;

/// A mutant whose tests take longer hangs, in seconds: many times what they take on a quiet machine.
const HANGS_AFTER: &str = "90";

/// The programs that it takes, and how to ask whether they are there.
const PROGRAMS: [(&str, &[&str]); 2] =
    [("cargo-mutants", &["mutants", "--version"]), ("cargo-nextest", &["nextest", "--version"])];

/// How cargo-mutants ends when it has tried all: they are caught, some are not, some hang.
const WHOLE: [i32; 3] = [0, 2, 3];

/// Which mutants.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this crate; may be given several times. All of wal, sstable, manifest and compaction if not given.
    #[arg(long = "crate", value_name = "CRATE", value_parser = clap::builder::PossibleValuesParser::new(CRATES))]
    crates: Vec<String>,
    /// Only every Nth of them, from the Kth on: 0/10 is a tenth.
    #[arg(long, value_name = "K/N", default_value = "0/1", value_parser = shard)]
    shard: String,
    /// How many at once; each has a copy of the tree and objects of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
    /// Break the files of this very tree, one at a time, and put them right again, in the place of a copy of it: what is built stays. For a clone where nobody works.
    #[arg(long, conflicts_with = "jobs")]
    in_place: bool,
    /// Only those that survived so far, or were not tried yet; the figures are of all.
    #[arg(long, conflicts_with = "shard")]
    again: bool,
    /// Add the figures to `docs/stress.md`.
    #[arg(long)]
    record: bool,
    /// Print JSON, an object for each crate, in the place of the table.
    #[arg(long)]
    json: bool,
}

fn shard(text: &str) -> Result<String, String> {
    let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse::<u32>().ok()?, n.parse::<u32>().ok()?)));
    match numbers {
        Some((k, n)) if k < n => Ok(format!("{k}/{n}")),
        _ => Err("two numbers, the first below the second: 0/10".into()),
    }
}

/// What became of the mutants of one crate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    name: String,
    caught: u64,
    /// Their tests came to no end, which is seen too.
    hung: u64,
    /// The compiler does not take them, so they are no mutants.
    refused: u64,
    /// Where they are, with line and column, in the words of cargo-mutants.
    survivors: Vec<String>,
}

impl Outcome {
    fn tried(&self) -> u64 {
        self.caught + self.hung + self.survivors.len() as u64
    }

    /// In percent of those tried.
    fn share(&self) -> f64 {
        100.0 * (self.caught + self.hung) as f64 / self.tried().max(1) as f64
    }

    /// Of the record.
    fn row(&self, shard: &str) -> String {
        let Self { name, caught, hung, survivors, .. } = self;
        format!("{name} | {shard} | {} | {caught} | {hung} | {} | {:.1} %", self.tried(), survivors.len(), self.share())
    }
}

/// Tries the mutants that `args` name, prints what became of them, and fails if too many survive, or one that no one has judged.
pub(crate) fn attack(root: &Path, args: &Args) -> Result<(), String> {
    if let Some((name, _)) = PROGRAMS.iter().find(|(_, question)| !is_there("cargo", question)) {
        return Err(format!("{name} is not there: `cargo install {name} --locked`"));
    }
    let record = args.record.then(|| Record::of_head(root)).transpose()?;
    let page = Page::load(root)?;
    let chosen = CRATES.iter().filter(|name| args.crates.is_empty() || args.crates.iter().any(|one| one == *name));
    let (mut outcomes, mut broken) = (Vec::new(), Vec::new());
    for name in chosen {
        match try_all(root, name, args) {
            // At once: what comes next takes hours, and may be stopped.
            Ok(outcome) => {
                record.iter().try_for_each(|record| record.add(root, "mutants", &[outcome.row(&args.shard)]))?;
                outcomes.push(outcome);
            }
            Err(error) => broken.push(error),
        }
    }
    print(&outcomes, args.json);
    if !broken.is_empty() {
        return Err(format!("mutants: {}", broken.join("\nxtask: ")));
    }
    let unjudged: Vec<&str> = outcomes.iter().flat_map(|o| &o.survivors).map(String::as_str).collect();
    let unjudged: Vec<&str> = unjudged.into_iter().filter(|name| !page.judges(name)).collect();
    let weak: Vec<&str> = outcomes.iter().filter(|o| o.share() < CAUGHT_MIN).map(|o| o.name.as_str()).collect();
    match (unjudged.is_empty(), weak.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(format!("mutants: under {CAUGHT_MIN} % are caught of {}", weak.join(", "))),
        (false, _) => Err(format!("mutants: not judged in {}:\n{}", page::PAGE, unjudged.join("\n"))),
    }
}

fn try_all(root: &Path, name: &str, args: &Args) -> Result<Outcome, String> {
    let directory = root.join("target/mutants").join(name);
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let known_path = directory.join("known.json");
    let mut known = Known::load(&known_path)?;
    let package = format!("esker-{name}");
    let all = output(root, "cargo", &["mutants", "--no-config", "--package", &package, "--list"])?;
    let mut command = command(root, &package, args, &directory);
    if args.again {
        let open: Vec<String> = all.lines().filter(|name| known.is_open(name)).map(literally).collect();
        if open.is_empty() {
            return outcome(name, &known, all.lines());
        }
        command.args(["--re", &format!("^(?:{})$", open.join("|"))]);
    }
    let line = command_line(&command);
    // Its words are for who watches; those of this program may be for another.
    let status =
        command.stdout(std::io::stderr()).status().map_err(|error| format!("`{line}` did not start: {error}"))?;
    // Else what lies there is of an earlier run, or of a part of this one.
    if !status.code().is_some_and(|code| WHOLE.contains(&code)) {
        return Err(format!("`{line}` failed: {status}"));
    }
    let outcomes = directory.join("mutants.out/outcomes.json");
    let text = std::fs::read_to_string(&outcomes).map_err(|error| format!("{}: {error}", outcomes.display()))?;
    let tried = Known::of_run(&text)?;
    known.0.extend(tried.0.clone());
    known.store(&known_path)?;
    let outcome = if args.again { outcome(name, &known, all.lines()) } else { outcome(name, &tried, tried.names()) }?;
    if outcome.tried() == 0 { Err(format!("{name}: no mutants")) } else { Ok(outcome) }
}

/// A name as a regular expression that fits it alone.
fn literally(name: &str) -> String {
    let escaped = |c: char| if c.is_ascii_punctuation() { format!("\\{c}") } else { c.to_string() };
    name.chars().map(escaped).collect()
}

fn command(root: &Path, package: &str, args: &Args, directory: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["mutants", "--no-config", "--package", package, "--test-tool", "nextest"]);
    command.args(["--shard", &args.shard, "--sharding", "round-robin", "--timeout", HANGS_AFTER, "--output"]);
    command.arg(directory).arg("--cargo-test-arg=--max-fail=1:immediate");
    match args.in_place {
        true => command.arg("--in-place"),
        false => command.args(["--jobs", &args.jobs.to_string()]),
    };
    // A second for what has changed in the place of many for all; nothing is looked at in a debugger, and a failure is one however long its script.
    command.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0");
    command.env("PROPTEST_CASES", "32").env("PROPTEST_MAX_SHRINK_ITERS", "0");
    command
}

/// What became of these mutants of a crate.
fn outcome<'a>(name: &str, known: &Known, mutants: impl Iterator<Item = &'a str>) -> Result<Outcome, String> {
    let mut outcome = Outcome { name: name.to_owned(), ..Outcome::default() };
    for mutant in mutants {
        match known.0.get(mutant).map(String::as_str) {
            Some("CaughtMutant") => outcome.caught += 1,
            Some("Timeout") => outcome.hung += 1,
            Some("Unviable") => outcome.refused += 1,
            Some("MissedMutant") => outcome.survivors.push(mutant.to_owned()),
            other => return Err(format!("outcomes.json: {mutant}: {other:?}")),
        }
    }
    Ok(outcome)
}

fn print(outcomes: &[Outcome], json: bool) {
    if json {
        for o in outcomes {
            let line = serde_json::json!({
                "crate": o.name, "tried": o.tried(), "caught": o.caught, "hung": o.hung, "refused": o.refused,
                "share": o.share(), "survivors": o.survivors,
            });
            println!("{line}");
        }
        return;
    }
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["crate", "mutants", "caught", "hung", "survived", "caught of all"]);
    for o in outcomes {
        let counts = [o.tried(), o.caught, o.hung, o.survivors.len() as u64].map(|count| count.to_string());
        table.add_row([o.name.clone()].into_iter().chain(counts).chain([format!("{:.1} %", o.share())]));
    }
    println!("{table}");
    for survivor in outcomes.iter().flat_map(|o| &o.survivors) {
        println!("survived: {survivor}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted() {
        let ends = ["CaughtMutant", "Timeout", "MissedMutant", "Unviable"];
        let known = Known(["a", "b", "c", "d"].into_iter().map(str::to_owned).zip(ends.map(str::to_owned)).collect());
        let found = outcome("wal", &known, known.names()).unwrap();
        assert_eq!((found.tried(), found.caught, found.hung, found.refused), (3, 1, 1, 1));
        assert_eq!(found.survivors, ["c"]);
        assert!((found.share() - 66.7).abs() < 0.1);
        assert!(outcome("wal", &known, ["e"].into_iter()).unwrap_err().contains('e'));
    }

    #[test]
    fn a_name_fits_itself_alone() {
        assert_eq!(literally("a.rs:1:2: replace + with -"), r"a\.rs\:1\:2\: replace \+ with \-");
    }

    #[test]
    fn a_shard_is_one_of_so_many() {
        assert_eq!(shard("3/10"), Ok("3/10".into()));
        ["10/10", "3", "a/b", "1/0", "-1/2", ""].iter().for_each(|text| assert!(shard(text).is_err(), "{text}"));
    }
}
