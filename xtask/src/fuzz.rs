//! `cargo xtask fuzz`: the targets of `esker-fuzz` under cargo-fuzz, led by coverage, one after the other, and one table of what they did.
//!
//! ```text
//! testdata/fuzz/TARGET   checked in, never written to       fuzz/corpus/TARGET   what was found to be new, this machine's own
//! fuzz/artifacts/TARGET  what failed
//! ```

use crate::lines;
use crate::record::Record;
use crate::toolchain::{NIGHTLY, is_there, need_nightly};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use indicatif::HumanCount;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// libfuzzer ends what allocates more at once, in MiB; memory in all is bounded by the tests of `esker-fuzz`, target by target.
const MALLOC_MIB_MAX: u32 = 512;
/// A case that takes longer hangs.
const CASE_SECONDS_MAX: u32 = 20;

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which; all without it. They are the directories of `testdata/fuzz`.
    targets: Vec<String>,
    /// For how long, each.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Add the figures to `docs/stress.md`.
    #[arg(long)]
    record: bool,
    /// Print JSON, an object for each target, in the place of the table.
    #[arg(long)]
    json: bool,
}

/// What became of one target.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    target: String,
    executions: u64,
    /// Edges of the program that were gone over.
    edges: u64,
    /// Inputs that each do something no other does.
    corpus: u64,
    peak_mib: u64,
    seconds: f64,
    /// Where the input that failed is kept; libfuzzer ends at the first.
    failed: Option<String>,
    /// Why it did not come to its end, if no input says so.
    broken: Option<String>,
}

impl Outcome {
    /// Takes from a line of libfuzzer what it tells.
    fn look(&mut self, line: &str) {
        let number = |text: &str| text.trim().parse().ok();
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:").and_then(number) {
            self.executions = count;
        }
        if let Some(mib) = line.strip_prefix("stat::peak_rss_mb:").and_then(number) {
            self.peak_mib = mib;
        }
        if let Some(path) = line.split_once("Test unit written to ").map(|(_, path)| path) {
            self.failed = Some(path.trim().to_owned());
        }
        if line.starts_with('#')
            && let Some((_, rest)) = line.split_once(" cov: ")
        {
            let mut words = rest.split_whitespace();
            self.edges = words.next().and_then(number).unwrap_or(self.edges);
            let corpus = words.skip_while(|word| *word != "corp:").nth(1);
            self.corpus = corpus.and_then(|word| number(word.split('/').next()?)).unwrap_or(self.corpus);
        }
    }

    fn row(&self) -> String {
        let Self { target, executions, edges, corpus, seconds, .. } = self;
        let failed = u64::from(self.failed.is_some() || self.broken.is_some());
        format!("{target} | {executions} | {edges} | {corpus} | {failed} | {seconds:.0}")
    }
}

/// Runs what `args` name, prints what was done, and fails if anything did.
pub(crate) fn run(root: &Path, args: &Args) -> Result<(), String> {
    let all = targets(root)?;
    if let Some(unknown) = args.targets.iter().find(|name| !all.contains(name)) {
        return Err(format!("{unknown} is no target; there are {}", all.join(", ")));
    }
    need_nightly(&[])?;
    if !is_there("cargo-fuzz", &["--version"]) {
        return Err("cargo-fuzz is not there: `cargo install cargo-fuzz --locked`. Without it: \
                    `cargo xtask stress --suite fuzz`, on any compiler"
            .into());
    }
    let record = args.record.then(|| Record::of_head(root)).transpose()?;
    let chosen = if args.targets.is_empty() { &all } else { &args.targets };
    let mut outcomes = Vec::new();
    for name in chosen {
        let outcome = one(root, name, args.seconds);
        // At once: what comes next takes its time, and may be stopped.
        record.iter().try_for_each(|record| record.add(root, "fuzzing", &[outcome.row()]))?;
        outcomes.push(outcome);
    }
    print(&outcomes, args.json);
    let failed = outcomes.iter().filter(|o| o.failed.is_some() || o.broken.is_some());
    let failed: Vec<&str> = failed.map(|o| &*o.target).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("fuzz: {} failed", failed.join(", "))) }
}

fn one(root: &Path, name: &str, seconds: u64) -> Outcome {
    let mut outcome = Outcome { target: name.to_owned(), ..Outcome::default() };
    eprintln!("\n== fuzz {name}: {seconds} s");
    // Apart from the run, whose time is told.
    let built = crate::run(cargo_fuzz(root).args(["build", name])).and_then(|()| command(root, name, seconds));
    let start = Instant::now();
    let ended = built.and_then(|mut command| lines::follow(&mut command, |line| outcome.look(line)));
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome.broken = match ended {
        Ok(false) if outcome.failed.is_none() => Some("it did not end well, and no input says why".into()),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    outcome
}

fn cargo_fuzz(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    // The toolchain that runs this program must not choose the one for that.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").current_dir(root);
    command.args([NIGHTLY, "fuzz"]);
    command
}

fn command(root: &Path, name: &str, seconds: u64) -> Result<Command, String> {
    let found = root.join("fuzz/corpus").join(name);
    fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let seeds = root.join("testdata/fuzz").join(name);
    let mut command = cargo_fuzz(root);
    command.args(["run", name]).arg(found).arg(seeds).arg("--");
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-malloc_limit_mb={MALLOC_MIB_MAX}"),
        format!("-timeout={CASE_SECONDS_MAX}"),
        "-print_final_stats=1".into(),
    ]);
    Ok(command)
}

fn print(outcomes: &[Outcome], json: bool) {
    if json {
        for o in outcomes {
            let line = serde_json::json!({
                "target": o.target, "executions": o.executions, "edges": o.edges, "corpus": o.corpus, "peak_mib": o.peak_mib,
                "seconds": o.seconds, "failed": o.failed, "broken": o.broken,
            });
            println!("{line}");
        }
        return;
    }
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["target", "executions", "edges", "corpus", "peak MiB", "seconds", "failed"]);
    for o in outcomes {
        let failed = o.failed.as_ref().or(o.broken.as_ref()).map_or("-", |why| why);
        let numbers =
            [o.executions, o.edges, o.corpus, o.peak_mib, o.seconds as u64].map(|n| HumanCount(n).to_string());
        table.add_row(std::iter::once(o.target.clone()).chain(numbers).chain([failed.to_owned()]));
    }
    println!("{table}");
}

/// The targets, which have a directory each in the corpus.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let dir = root.join("testdata/fuzz");
    let entries = fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_corpus_has_a_program_and_the_other_way_round() {
        let root = crate::workspace_root();
        let manifest: toml::Table = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap().parse().unwrap();
        let programs = manifest["bin"].as_array().unwrap().iter();
        let programs: BTreeSet<_> = programs.map(|bin| bin["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(programs, targets(&root).unwrap().into_iter().collect());
    }

    #[test]
    fn figures_are_taken_from_what_libfuzzer_prints() {
        let mut outcome = Outcome { target: "log".into(), ..Outcome::default() };
        for line in [
            "INFO: Seed: 1",
            "#2\tINITED cov: 120 ft: 130 corp: 1/1b exec/s: 0 rss: 40Mb",
            "#4096\tDONE   cov: 1543 ft: 5120 corp: 217/51Kb lim: 4096 exec/s: 68 rss: 90Mb",
            "stat::number_of_executed_units: 4096",
            "stat::peak_rss_mb:              91",
        ] {
            outcome.look(line);
        }
        assert_eq!((outcome.executions, outcome.edges, outcome.corpus, outcome.peak_mib), (4096, 1543, 217, 91));
        assert_eq!(outcome.row(), "log | 4096 | 1543 | 217 | 0 | 0");
        outcome.look("artifact_prefix='/w/artifacts/log/'; Test unit written to /w/artifacts/log/crash-0a");
        assert_eq!(outcome.failed.as_deref(), Some("/w/artifacts/log/crash-0a"));
        assert_eq!(outcome.row(), "log | 4096 | 1543 | 217 | 1 | 0");
    }
}
