//! `cargo xtask stress`: the long forms of the suites, for as long as asked, and one table of what they tried and found.
//!
//! A suite is a test that goes by `esker_testkit::stress`. All of them are built first, in a profile of their own: optimised, with debug assertions and overflow
//! checks. Then each gets its share of the time, alone or `--jobs` at once. One that fails is kept and begun again behind the seed that failed.

mod child;
mod page;
mod suites;

use crate::record::{self, Record};
use child::Child;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use page::Recorded;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use suites::Suite;

/// A suite that has failed so often is not begun again.
const FAILURES_MAX: u64 = 5;

/// How long one round may take past its time, before the suite counts as hanging.
const GRACE: Duration = Duration::from_secs(600);

/// What to run, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Hours in all, shared by the suites in equal parts; 0.5 is half an hour.
    #[arg(long, default_value_t = 1.0, value_parser = hours)]
    hours: f64,
    /// Only this suite; may be given several times. All of them if not given; a name that is none has them listed.
    #[arg(long = "suite", value_name = "SUITE")]
    suites: Vec<String>,
    /// Suites that run at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
    /// The first seed of each suite. If not given, it is made from the time, and of suites of which there is an end it is the first that no recorded run has done.
    #[arg(long)]
    seed: Option<u64>,
    /// Add the figures to `docs/stress.md`.
    #[arg(long)]
    record: bool,
    /// Print JSON, an object for each suite, in the place of the table.
    #[arg(long)]
    json: bool,
}

fn hours(text: &str) -> Result<f64, String> {
    let hours: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if hours > 0.0 && hours < 10_000.0 { Ok(hours) } else { Err("from above 0 to 10,000".into()) }
}

/// What one suite did.
struct Outcome {
    suite: &'static Suite,
    seed: u64,
    rounds: u64,
    tried: u64,
    seconds: f64,
    /// Why it did not run at all, where it can't.
    skipped: Option<String>,
    /// Where each failing case is kept.
    failures: Vec<PathBuf>,
    /// Why it could not be run to its end.
    broken: Option<String>,
}

impl Outcome {
    fn new(suite: &'static Suite, seed: u64) -> Self {
        Self { suite, seed, rounds: 0, tried: 0, seconds: 0.0, skipped: None, failures: Vec::new(), broken: None }
    }
}

/// Runs the suites that `args` name, prints what they did, and fails if one of them did.
pub(crate) fn run(root: &Path, args: &Args) -> Result<(), String> {
    let chosen = suites::choose(&args.suites)?;
    let record = args.record.then(|| Record::of_head(root)).transpose()?;
    let now = seed_of_now();
    let seed_of = |suite: &Suite| match args.seed {
        Some(seed) => Ok(seed),
        None if suite.is_all => page::first_left(&record::page(root)?, suite),
        None => Ok(now),
    };
    let programs = chosen.iter().map(|suite| Ok((*suite, suite.build(root)?, seed_of(suite)?)));
    let programs = programs.collect::<Result<VecDeque<_>, String>>()?;
    let lanes = (args.jobs as usize).min(chosen.len());
    let share = Duration::from_secs_f64(args.hours * 3600.0 * lanes as f64 / chosen.len() as f64);
    eprintln!("{} suites, {:.0} s each", chosen.len(), share.as_secs_f64());
    programs.iter().for_each(|(suite, _, seed)| eprintln!("{} from seed {seed}", suite.name));

    let bars = MultiProgress::new();
    let left = Mutex::new(programs);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                loop {
                    let Some((suite, program, seed)) = left.lock().expect("no lane panics").pop_front() else { return };
                    let mut outcome = Outcome::new(suite, seed);
                    outcome.broken = attack(root, &program, share, &bars, &mut outcome).err();
                    let mut outcomes = outcomes.lock().expect("no lane panics");
                    // At once: what comes next takes hours, and may be stopped.
                    if let (Some(record), Some(run)) = (&record, Recorded::of(&outcome)) {
                        let added = page::add(root, record, &run);
                        outcome.broken = outcome.broken.or(added.err());
                    }
                    outcomes.push(outcome);
                }
            });
        }
    });
    let mut outcomes: Vec<Outcome> = outcomes.into_inner().expect("no lane panics");
    outcomes.sort_by_key(|outcome| outcome.suite.position());
    print(&outcomes, args.json);
    let broken: Vec<&str> = outcomes.iter().filter_map(|o| o.broken.as_deref()).collect();
    if !broken.is_empty() {
        return Err(format!("stress: {}", broken.join("\nxtask: ")));
    }
    let failed: Vec<&str> = outcomes.iter().filter(|o| !o.failures.is_empty()).map(|o| o.suite.name).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("stress: {} failed", failed.join(", "))) }
}

/// Runs one suite until its time is over, again from behind each seed that fails.
fn attack(
    root: &Path,
    program: &Path,
    share: Duration,
    bars: &MultiProgress,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let suite = outcome.suite;
    let style = "{prefix:>14} {wide_bar} {elapsed_precise}  {msg}";
    let style = ProgressStyle::with_template(style).expect("a template that is well formed");
    let bar = bars.add(ProgressBar::new(share.as_secs()).with_style(style).with_prefix(suite.name));
    let start = Instant::now();
    let mut from = outcome.seed;
    while let Some(left) = share.checked_sub(start.elapsed()).filter(|left| left.as_millis() > 0) {
        let ran = Child::start(root, suite, program, from, left)?.watch(left + GRACE, |rounds, tried| {
            bar.set_position(start.elapsed().as_secs());
            bar.set_message(format!(
                "{} {}, {} rounds, {} failures",
                HumanCount(outcome.tried + tried),
                suite.tries,
                HumanCount(outcome.rounds + rounds),
                outcome.failures.len()
            ));
        })?;
        outcome.rounds += ran.rounds;
        outcome.tried += ran.tried;
        outcome.skipped = ran.skipped;
        outcome.seconds = start.elapsed().as_secs_f64();
        let Some(failure) = ran.failure else { break };
        from = failure.seed.unwrap_or(from).wrapping_add(1);
        outcome.failures.push(failure.keep(root, suite)?);
        if outcome.failures.len() as u64 == FAILURES_MAX {
            break;
        }
    }
    bar.finish();
    if outcome.tried == 0 && outcome.skipped.is_none() && outcome.failures.is_empty() {
        return Err(format!("{}: {} rounds have tried nothing", suite.name, outcome.rounds));
    }
    Ok(())
}

fn seed_of_now() -> u64 {
    // Far enough apart that a run does not try the seeds of one a little later.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs()) << 24
}

fn print(outcomes: &[Outcome], json: bool) {
    if json {
        for o in outcomes {
            let line = serde_json::json!({
                "suite": o.suite.name, "tries": o.suite.tries, "tried": o.tried, "rounds": o.rounds, "seconds": o.seconds,
                "failures": o.failures, "seed": o.seed, "skipped": o.skipped, "broken": o.broken,
            });
            println!("{line}");
        }
        return;
    }
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["suite", "tried", "what", "failures", "seconds", "first seed"]);
    for o in outcomes {
        let tried = o.skipped.as_ref().map_or_else(|| HumanCount(o.tried).to_string(), |why| format!("skipped: {why}"));
        let row = [o.suite.name, &tried, o.suite.tries, &o.failures.len().to_string()];
        let more = [format!("{:.0}", o.seconds), o.seed.to_string()];
        table.add_row(row.into_iter().map(str::to_owned).chain(more));
    }
    println!("{table}");
    for failure in outcomes.iter().flat_map(|o| &o.failures) {
        println!("kept: {}", failure.display());
    }
}
