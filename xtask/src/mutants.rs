//! `cargo xtask mutants`: what the tests of a crate make of it when one thing in it is wrong.
//!
//! cargo-mutants names them: another operator, a function that returns something made up. All that can be are [built together](together), the rest one by one, by cargo-mutants itself; the tests of that crate are to fail. Those that pass all the same have survived: either
//! a test is missing, or the change makes no difference that a user could see. `docs/mutants.md` lists the latter with the reason, and a survivor that is not listed there fails the task.

mod known;
mod page;
mod switches;
mod together;

use crate::record::Record;
use crate::toolchain::is_there;
use crate::{command_line, output};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use known::Known;
use page::Page;
use std::path::{Path, PathBuf};
use std::process::Command;
use switches::Mutant;

/// The crates on which all promises about files rest.
const CRATES: [&str; 4] = ["wal", "sstable", "manifest", "compaction"];

/// Of those that a compiler takes, in percent.
const CAUGHT_MIN: f64 = 90.0;

/// A mutant whose tests take longer hangs, in seconds: many times what they take on a quiet machine.
const HANGS_AFTER: &str = "90";

/// How cargo-mutants ends when it has tried all: they are caught, some are not, some hang.
const WHOLE: [i32; 3] = [0, 2, 3];

/// Which mutants.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this crate; may be given several times. All of wal, sstable, manifest and compaction if not given.
    #[arg(long = "crate", value_name = "CRATE", value_parser = clap::builder::PossibleValuesParser::new(CRATES))]
    crates: Vec<String>,
    /// Only every Nth of them, from the Kth on: 0/10 is a tenth.
    #[arg(long = "shard", value_name = "K/N", default_value = "0/1", value_parser = shard)]
    part: (usize, usize),
    /// How many at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
    /// Only those that survived so far, or were not tried yet; the figures are of all.
    #[arg(long)]
    again: bool,
    /// Add the figures to `docs/stress.md`.
    #[arg(long)]
    record: bool,
    /// Print JSON, an object for each crate, in the place of the table.
    #[arg(long)]
    json: bool,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    numbers.filter(|(k, n)| k < n).ok_or_else(|| "two numbers, the first below the second: 0/10".into())
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
    fn row(&self, (part, parts): (usize, usize)) -> String {
        let Self { name, caught, hung, survivors, .. } = self;
        format!(
            "{name} | {part}/{parts} | {} | {caught} | {hung} | {} | {:.1} %",
            self.tried(),
            survivors.len(),
            self.share()
        )
    }
}

/// Tries the mutants that `args` name, prints what became of them, and fails if too many survive, or one that no one has judged.
pub(crate) fn attack(root: &Path, args: &Args) -> Result<(), String> {
    if !is_there("cargo", &["mutants", "--version"]) {
        return Err("cargo-mutants is not there: `cargo install cargo-mutants --locked`".into());
    }
    let record = args.record.then(|| Record::of_head(root)).transpose()?;
    let page = Page::load(root)?;
    let chosen = CRATES.iter().filter(|name| args.crates.is_empty() || args.crates.iter().any(|one| one == *name));
    let (mut outcomes, mut broken) = (Vec::new(), Vec::new());
    for name in chosen {
        match try_all(root, name, args) {
            // At once: what comes next takes long, and may be stopped.
            Ok(outcome) => {
                record.iter().try_for_each(|record| record.add(root, "mutants", &[outcome.row(args.part)]))?;
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
    let tree = copy(root)?;
    let package = format!("esker-{name}");
    let list = output(&tree, "cargo", &["mutants", "--no-config", "--package", &package, "--list", "--json"])?;
    let all = Mutant::list(&list)?;
    let (part, parts) = args.part;
    let asked: Vec<&Mutant> = all.iter().skip(part).step_by(parts).collect();
    let wanted: Vec<Mutant> =
        asked.iter().filter(|one| !args.again || known.is_open(&one.name)).map(|one| (*one).clone()).collect();
    if !wanted.is_empty() {
        known.0.retain(|name, _| all.iter().any(|mutant| mutant.name == *name));
        let together = together::try_all(&tree, name, &wanted, args.jobs as usize)?;
        let left: Vec<&str> =
            wanted.iter().map(|one| one.name.as_str()).filter(|name| !together.0.contains_key(*name)).collect();
        known.0.extend(together.0.clone());
        known.store(&known_path)?;
        if !left.is_empty() {
            known.0.extend(one_by_one(&tree, &package, &left, &directory)?.0);
            known.store(&known_path)?;
        }
    }
    let outcome = outcome(name, &known, asked.iter().map(|one| one.name.as_str()))?;
    if outcome.tried() == 0 { Err(format!("{name}: no mutants")) } else { Ok(outcome) }
}

/// A copy of the workspace as it lies there, where files may be broken.
fn copy(root: &Path) -> Result<PathBuf, String> {
    let tree = root.join("target/mutants/tree");
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for file in output(root, "git", &["ls-files", "-z"])?.split_terminator('\0') {
        let (from, to) = (root.join(file), tree.join(file));
        let parent = to.parent().unwrap_or(&tree);
        std::fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        let text = std::fs::read(&from).map_err(|error| failed(&from, error))?;
        together::write(&to, text)?;
    }
    Ok(tree)
}

/// Those that can't be built together, each by a build of its own.
fn one_by_one(tree: &Path, package: &str, mutants: &[&str], directory: &Path) -> Result<Known, String> {
    let names: Vec<String> = mutants.iter().map(|name| literally(name)).collect();
    let mut command = Command::new("cargo");
    command.current_dir(tree).args(["mutants", "--no-config", "--in-place", "--package", package]);
    command.args(["--timeout", HANGS_AFTER, "--re", &format!("^(?:{})$", names.join("|")), "--output"]);
    command.arg(directory).args(["--cargo-test-arg=--lib", "--cargo-test-arg=--tests"]);
    together::build_quickly(together::test_briefly(&mut command), tree);
    let line = command_line(&command);
    // Its words are for who watches; those of this program may be for another.
    let status =
        command.stdout(std::io::stderr()).status().map_err(|error| format!("`{line}` did not start: {error}"))?;
    if !status.code().is_some_and(|code| WHOLE.contains(&code)) {
        return Err(format!("`{line}` failed: {status}"));
    }
    let outcomes = directory.join("mutants.out/outcomes.json");
    let text = std::fs::read_to_string(&outcomes).map_err(|error| format!("{}: {error}", outcomes.display()))?;
    Known::of_run(&text)
}

/// A name as a regular expression that fits it alone.
fn literally(name: &str) -> String {
    let escaped = |c: char| if r"\.+*?()|[]{}^$".contains(c) { format!("\\{c}") } else { c.to_string() };
    name.chars().map(escaped).collect()
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
            other => return Err(format!("what became of it is not known: {mutant}: {other:?}")),
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
        let found = outcome("wal", &known, ["a", "b", "c", "d"].into_iter()).unwrap();
        assert_eq!((found.tried(), found.caught, found.hung, found.refused), (3, 1, 1, 1));
        assert_eq!(found.survivors, ["c"]);
        assert!((found.share() - 66.7).abs() < 0.1);
        assert!(outcome("wal", &known, ["e"].into_iter()).unwrap_err().contains('e'));
    }

    #[test]
    fn a_name_fits_itself_alone() {
        assert_eq!(literally("a.rs:1:2: replace + with -> (x)"), r"a\.rs:1:2: replace \+ with -> \(x\)");
    }

    #[test]
    fn a_shard_is_one_of_so_many() {
        assert_eq!(shard("3/10"), Ok((3, 10)));
        ["10/10", "3", "a/b", "1/0", "-1/2", ""].iter().for_each(|text| assert!(shard(text).is_err(), "{text}"));
    }
}
