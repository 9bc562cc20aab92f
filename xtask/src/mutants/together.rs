//! Tries many mutants with one build: each behind its [switch](super::switches), each test asked once which switches it comes by, and each mutant given those tests alone, the quickest first, until one fails.
//!
//! What the compiler does not take behind a switch, as in a constant, is left to cargo-mutants.

use super::known::Known;
use super::switches::{Mutant, Switched, switched};
use crate::output;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A test that works for so much longer than without a mutant has come to no end. It is the processor's time, so that a test is not caught for a machine that does something else besides.
const HANGS_AFTER: Duration = Duration::from_secs(5);
const HANGS_TIMES: u32 = 10;

/// One that waits for ever does no work; it is given so many times that by the clock.
const WAITS_TIMES: u32 = 12;

/// What ends a process that has had its time.
const SIGXCPU: i32 = 24;

/// How often what the compiler refuses is taken out and the rest built again.
const BUILDS_MAX: usize = 40;

/// What a test may take of addresses, in KiB: a loop that no longer ends fills memory faster than it hangs.
const ADDRESSES_KIB: u64 = 16 << 20;

/// A test by itself.
struct Case {
    program: PathBuf,
    name: String,
    /// What it took.
    time: Duration,
    reaches: BTreeSet<u32>,
}

/// Tries `mutants` of the crate `name` in `tree`, a copy of the workspace that is as it was behind this. What is not in the answer could not be switched.
pub(super) fn try_all(tree: &Path, name: &str, mutants: &[Mutant], jobs: usize) -> Result<Known, String> {
    let mut before = BTreeMap::new();
    let built = build(tree, name, mutants, &mut before);
    let known = built.and_then(|(programs, numbers)| {
        let directory = tree.join("crates").join(name);
        let cases = trace(&directory, &programs, jobs)?;
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let bar = bar(name, numbers.len());
        let ends = in_threads(jobs, &numbers, |number| {
            let end = attempt(&directory, &cases, *number);
            bar.inc(1);
            end
        });
        bar.finish_and_clear();
        let named =
            numbers.iter().zip(ends).map(|(number, end)| Ok((mutants[*number as usize].name.clone(), end?.to_owned())));
        named.collect::<Result<_, String>>().map(Known)
    });
    before.iter().try_for_each(|(path, text): (&PathBuf, &String)| write(path, text))?;
    known
}

/// Builds the tests with all switches that the compiler takes: the programs, and the numbers of the switches. `before` is given what each changed file was.
fn build(
    tree: &Path,
    name: &str,
    mutants: &[Mutant],
    before: &mut BTreeMap<PathBuf, String>,
) -> Result<(Vec<PathBuf>, BTreeSet<u32>), String> {
    let mut refused: BTreeSet<u32> = BTreeSet::new();
    let library = format!("crates/{name}/src/lib.rs");
    for _ in 0..BUILDS_MAX {
        let mut by_file = BTreeMap::from([(library.as_str(), Vec::new())]);
        for (number, mutant) in (0..).zip(mutants).filter(|(number, _)| !refused.contains(number)) {
            by_file.entry(&mutant.file).or_default().push((number, mutant));
        }
        let mut files: BTreeMap<PathBuf, Switched> = BTreeMap::new();
        for (file, numbered) in by_file {
            let path = tree.join(file);
            let text = original(&path, before)?;
            files.insert(path, switched(text, &numbered).map_err(|error| format!("{file}: {error}"))?);
        }
        if let Some(library) = files.get_mut(&tree.join(&library)) {
            library.text.push_str(&SWITCH.replace("COUNT", &mutants.len().to_string()));
        }
        // One that was refused may have been the last of its file.
        for (path, text) in before.iter() {
            write(path, files.get(path).map_or(text, |made| &made.text))?;
        }
        match compile(tree, name)? {
            Compiled::Programs(programs) => {
                return Ok((programs, files.values().flat_map(Switched::numbers).collect()));
            }
            Compiled::Errors(errors, said) => {
                let found: BTreeSet<u32> = errors.iter().flat_map(|error| blamed(error, &files, tree)).collect();
                if found.is_empty() {
                    let text = errors.first().map_or(said.as_str(), |error| error.text.as_str());
                    return Err(format!("{name} does not build, and no mutant is at fault:\n{text}"));
                }
                refused.extend(found);
            }
        }
    }
    Err(format!("{name} does not build: {} mutants were taken out in vain", refused.len()))
}

/// The switches to which an error is owed.
fn blamed(error: &CompileError, files: &BTreeMap<PathBuf, Switched>, tree: &Path) -> Vec<u32> {
    let Some(made) = files.get(&tree.join(&error.file)) else { return Vec::new() };
    if error.lacks_arm { made.blamed_behind(error.at) } else { made.blamed(error.at) }
}

fn original<'a>(path: &Path, before: &'a mut BTreeMap<PathBuf, String>) -> Result<&'a String, String> {
    if !before.contains_key(path) {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        before.insert(path.to_owned(), text);
    }
    Ok(&before[path])
}

/// Only what changes, so that only that is built.
pub(super) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<(), String> {
    let text = text.as_ref();
    if std::fs::read(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

struct CompileError {
    /// In the workspace.
    file: PathBuf,
    /// Where, in bytes.
    at: usize,
    /// A `match` that does not cover all.
    lacks_arm: bool,
    text: String,
}

/// What the compiler says.
enum Compiled {
    Programs(Vec<PathBuf>),
    /// And what cargo has to say.
    Errors(Vec<CompileError>, String),
}

/// A second for what has changed in the place of many for all, and nothing is looked at in a debugger.
pub(super) fn build_quickly<'a>(command: &'a mut Command, tree: &Path) -> &'a mut Command {
    command.env("CARGO_TARGET_DIR", tree.join("target"));
    command.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0")
}

/// What is long by nature is as long as a mutant needs to be seen, and a failure is one however long its script.
pub(super) fn test_briefly(command: &mut Command) -> &mut Command {
    command.env("PROPTEST_CASES", "32").env("PROPTEST_MAX_SHRINK_ITERS", "0")
}

fn compile(tree: &Path, name: &str) -> Result<Compiled, String> {
    let mut command = Command::new("cargo");
    command.current_dir(tree).args(["test", "--no-run", "--lib", "--tests", "--message-format=json"]);
    command.args(["--package", &format!("esker-{name}")]);
    let output = build_quickly(&mut command, tree).output().map_err(|error| format!("cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if output.status.success() {
        let programs = lines.iter().filter(|line| line["profile"]["test"] == true);
        return Ok(Compiled::Programs(
            programs.filter_map(|line| line["executable"].as_str().map(PathBuf::from)).collect(),
        ));
    }
    let errors = lines.iter().map(|line| &line["message"]).filter(|message| message["level"] == "error");
    let places = errors.flat_map(|message| {
        let text = message["rendered"].as_str().unwrap_or_default();
        let spans =
            message["spans"].as_array().map_or(&[][..], Vec::as_slice).iter().filter(|span| span["is_primary"] == true);
        spans.filter_map(move |span| {
            let at = span["byte_start"].as_u64()? as usize;
            let file = PathBuf::from(span["file_name"].as_str()?);
            Some(CompileError { file, at, lacks_arm: message["code"]["code"] == "E0004", text: text.to_owned() })
        })
    });
    Ok(Compiled::Errors(places.collect(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Runs each test by itself with no switch on, and notes which it comes by.
fn trace(directory: &Path, programs: &[PathBuf], jobs: usize) -> Result<Vec<Case>, String> {
    let mut names = Vec::new();
    for program in programs {
        let list = output(directory, &program.to_string_lossy(), &["--list", "--format", "terse"])?;
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
        names.extend(tests.map(|name| (program.clone(), name.to_owned())));
    }
    let bar = bar("tests", names.len());
    let traces = in_threads(jobs, &names, |(program, name)| {
        let file = directory.join(format!("trace-{:?}", std::thread::current().id()).replace(['(', ')'], ""));
        let _ = std::fs::remove_file(&file);
        let begin = Instant::now();
        let status = test(directory, program, name, None).env("ESKER_SWITCH_TRACE", &file).status();
        let time = begin.elapsed();
        bar.inc(1);
        if !status.is_ok_and(|status| status.success()) {
            return Err(format!("{name} fails without any mutant"));
        }
        let trace = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(&file);
        let reaches = trace.lines().filter_map(|line| line.parse().ok()).collect();
        Ok(Case { program: program.clone(), name: name.clone(), time, reaches })
    });
    bar.finish_and_clear();
    let mut cases: Vec<Case> = traces.into_iter().collect::<Result<_, _>>()?;
    cases.sort_by_key(|case| case.time);
    Ok(cases)
}

/// One test of a program, with little memory, without a word, and with so much of the processor.
fn test(directory: &Path, program: &Path, name: &str, work: Option<Duration>) -> Command {
    let mut command = Command::new("sh");
    let seconds = work.map_or_else(|| "unlimited".to_owned(), |work| (work.as_secs() + 1).to_string());
    let limits = format!(r#"ulimit -v {ADDRESSES_KIB}; ulimit -S -t {seconds}; exec "$0" "$@""#);
    command.current_dir(directory).args(["-c", &limits]);
    command.arg(program).args([name, "--exact"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("CARGO_MANIFEST_DIR", directory).env("RUST_BACKTRACE", "0");
    test_briefly(&mut command);
    command
}

/// What becomes of a mutant, in the words of cargo-mutants.
fn attempt(directory: &Path, cases: &[Case], number: u32) -> Result<&'static str, String> {
    for case in cases.iter().filter(|case| case.reaches.contains(&number)) {
        let work = HANGS_AFTER + case.time * HANGS_TIMES;
        let mut child = test(directory, &case.program, &case.name, Some(work))
            .env("ESKER_SWITCH", number.to_string())
            .spawn()
            .map_err(|error| format!("{}: {error}", case.name))?;
        let end = Instant::now() + work * WAITS_TIMES;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| format!("{}: {error}", case.name))? {
                break Some(status);
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        match status {
            None => return Ok("Timeout"),
            Some(status) if status.signal() == Some(SIGXCPU) => return Ok("Timeout"),
            Some(status) if !status.success() => return Ok("CaughtMutant"),
            Some(_) => {}
        }
    }
    Ok("MissedMutant")
}

/// What `work` says of each item, by so many threads.
fn in_threads<T: Sync, R: Send>(jobs: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let answer = work(item);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, answer));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, answer)| answer).collect()
}

fn bar(name: &str, len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:12} {bar:40} {pos}/{len}, {eta} to go").expect("a template");
    ProgressBar::new(len as u64).with_style(style).with_prefix(name.to_owned())
}

/// Behind the library of the crate: which switch is on, or, if none is, a note of each that is come by, once.
const SWITCH: &str = r#"
#[doc(hidden)]
#[allow(missing_docs, dead_code, unreachable_pub)]
pub mod switch {
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    static ON: LazyLock<Option<u32>> = LazyLock::new(|| std::env::var("ESKER_SWITCH").ok()?.parse().ok());
    static TRACE: LazyLock<Option<std::fs::File>> = LazyLock::new(|| {
        std::fs::File::options().create(true).append(true).open(std::env::var("ESKER_SWITCH_TRACE").ok()?).ok()
    });
    static REACHED: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];

    #[inline]
    pub fn on(number: u32) -> bool {
        match *ON {
            Some(on) => on == number,
            None => {
                reached(number);
                false
            }
        }
    }

    fn reached(number: u32) {
        if !REACHED[number as usize].swap(true, Ordering::Relaxed)
            && let Some(mut trace) = TRACE.as_ref()
        {
            writeln!(trace, "{number}").expect("a trace");
        }
    }
}
"#;
