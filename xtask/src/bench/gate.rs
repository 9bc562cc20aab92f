//! `cargo xtask bench gate`: counts the instructions of the hot parts and compares them with those recorded.
//!
//! ```text
//! build esker-gate ─> callgrind, one run for each part ─> instructions an entry ─> record of this compiler and machine
//!                                                                                   │ there is one: more than 5 % above it fails
//!                                                                                   └ none: the difference to the nearest is printed
//! ```
//!
//! A count is the same on a busy machine as on a quiet one, so it shows a regression that no clock could. It knows nothing of cache misses, of the kernel, or of waiting:
//! those are for `cargo xtask bench`. What callgrind found of each part stays in `gate/` of the target directory, for `callgrind_annotate`.

mod record;

use crate::{cargo, run as run_command};
use clap::Parser;
use record::{Comparison, Counts, Records, Setup};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// Where the record is kept.
const RECORDS: &str = "docs/bench/instructions.toml";

const NO_VALGRIND: &str = "valgrind, which counts the instructions, is not there; `apt-get install valgrind`, or \
                           as your system installs packages. Nothing was counted";

/// Instructions of the hot parts, an entry each, beside those recorded.
#[derive(Parser)]
#[command(name = "cargo xtask bench gate")]
struct Args {
    /// Only these; all if none is named.
    parts: Vec<String>,
    /// Make what is counted the record for this compiler and machine.
    #[arg(long)]
    record: bool,
    /// Write the counts as JSON to this file; `-` is the standard output, in place of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs `bench gate ARGS..`.
pub(super) fn run(root: &Path, args: &[String]) -> Result<(), String> {
    let name = [String::from("cargo xtask bench gate")];
    let args = Args::parse_from(name.iter().chain(args));
    let valgrind = output(root, "valgrind", &["--version"]).map_err(|_| NO_VALGRIND)?;
    run_command(&mut cargo(root, &["build", "--release", "--quiet", "-p", "esker-gate"]))?;
    let program = Program::find()?;
    let parts = program.parts(&args.parts)?;
    let (counts, machine) = program.count_all(&parts)?;

    let setup = Setup {
        rustc: after(&output(root, "rustc", &["--version"])?, "rustc "),
        machine: machine + &flags(),
        libc: output(root, "getconf", &["GNU_LIBC_VERSION"]).unwrap_or_else(|_| "unknown".into()),
        valgrind: after(&valgrind, "valgrind-"),
    };
    let path = root.join(RECORDS);
    let mut records = Records::read(&path)?;
    let comparison = Comparison::new(&records, setup, counts, args.parts.is_empty());
    match args.json.as_deref() {
        Some(file) if file == Path::new("-") => print!("{}", comparison.json()),
        Some(file) => {
            fs::write(file, comparison.json()).map_err(|error| format!("{}: {error}", file.display()))?;
            print!("{comparison}");
        }
        None => print!("{comparison}"),
    }
    if args.record {
        comparison.record_in(&mut records);
        records.write(&path)?;
        eprintln!("recorded in {RECORDS}");
        return Ok(());
    }
    comparison.verdict().map_err(|what| {
        let annotate = format!("`callgrind_annotate {}`", program.profile("PART").display());
        format!("{what}\n  {annotate} shows which functions the instructions are in.\n  Is it meant so? `cargo xtask bench gate --record`, and say why in the commit.")
    })
}

/// Compiler flags from the environment: they change all counts.
fn flags() -> String {
    let set =
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"].into_iter().filter_map(std::env::var_os);
    let flags: Vec<_> =
        set.filter(|flags| !flags.is_empty()).map(|flags| flags.to_string_lossy().replace('\x1f', " ")).collect();
    if flags.is_empty() { String::new() } else { format!(", flags {}", flags.join(" ")) }
}

/// The first line that a program prints.
fn output(root: &Path, program: impl AsRef<OsStr>, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(args).current_dir(root).stdin(Stdio::null());
    let text = printed(&mut command)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// All that a program prints; what it complains of, if it fails.
fn printed(command: &mut Command) -> Result<String, String> {
    let line = crate::command_line(command);
    let output = command.output().map_err(|error| format!("`{line}` did not start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`{line}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end()))
}

fn after(text: &str, prefix: &str) -> String {
    text.strip_prefix(prefix).unwrap_or(text).to_owned()
}

/// `esker-gate`, as it was built.
struct Program {
    path: PathBuf,
    /// Where callgrind's files go.
    profiles: PathBuf,
}

impl Program {
    /// Beside this program's own directory: `target/debug` is where `xtask` is, `target/release` where it is.
    fn find() -> Result<Self, String> {
        let here = std::env::current_exe().map_err(|error| error.to_string())?;
        let target = here.parent().and_then(Path::parent).ok_or("xtask lies nowhere")?;
        let profiles = target.join("gate");
        fs::create_dir_all(&profiles).map_err(|error| format!("{}: {error}", profiles.display()))?;
        Ok(Self { path: target.join("release").join("esker-gate"), profiles })
    }

    fn profile(&self, part: &str) -> PathBuf {
        self.profiles.join(format!("{part}.callgrind"))
    }

    /// The parts there are, or those of them that are named.
    fn parts(&self, named: &[String]) -> Result<Vec<String>, String> {
        let all: Vec<String> = printed(Command::new(&self.path).arg("--list"))?.lines().map(String::from).collect();
        match named.iter().find(|name| !all.contains(name)) {
            Some(unknown) => Err(format!("there is no part `{unknown}`; there are {}", all.join(", "))),
            None if named.is_empty() => Ok(all),
            None => Ok(all.into_iter().filter(|name| named.contains(name)).collect()),
        }
    }

    /// Counts all parts, as many at a time as there are processors, and says what machine the parts saw.
    fn count_all(&self, parts: &[String]) -> Result<(Counts, String), String> {
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                let (next, sender) = (&next, sender.clone());
                scope.spawn(move || {
                    // Relaxed: nothing but the number itself is handed over.
                    while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // There is a receiver as long as this scope lasts.
                        let _ = sender.send((part, self.count(part)));
                    }
                });
            }
        });
        drop(sender);
        let (mut counts, mut machines) = (Counts::new(), Vec::new());
        for (part, counted) in receiver {
            let (instructions, machine) = counted?;
            counts.insert(part.clone(), instructions);
            machines.push(machine);
        }
        machines.dedup();
        match &machines[..] {
            [machine] => Ok((counts, machine.clone())),
            _ => Err(format!("parts do not agree on what the machine is: {}", machines.join("; "))),
        }
    }

    /// Instructions of one part, by the entry, and the machine that it saw.
    fn count(&self, part: &str) -> Result<(f64, String), String> {
        let profile = self.profile(part);
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*measured*"]);
        command.arg(format!("--callgrind-out-file={}", profile.display())).arg(&self.path).arg(part);
        let said = printed(command.stdin(Stdio::null()))?;
        let text = fs::read_to_string(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
        instructions(&said, &text).map_err(|what| format!("{part}: {what}"))
    }
}

/// From what a part says (`entries: N`, `machine: ..`) and what callgrind writes of it (`summary: N`).
fn instructions(said: &str, profile: &str) -> Result<(f64, String), String> {
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned());
        line.ok_or_else(|| format!("no line `{name}`"))
    };
    let number = |text: &str, name: &str| {
        let value = field(text, name)?;
        value.parse::<u64>().map_err(|_| format!("`{name} {value}` is no number"))
    };
    let (entries, count) = (number(said, "entries:")?, number(profile, "summary:")?);
    // A count of nothing would be under every limit: the function that is counted has another name, or does nothing.
    if entries == 0 || count < entries {
        return Err(format!("{count} instructions for {entries} entries can't be"));
    }
    Ok((count as f64 / entries as f64, field(said, "machine:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_told_by_the_entry_and_none_is_an_error() {
        let said = "entries: 200\nmachine: x86_64-linux avx2, logs mapped\n";
        let profile = "# callgrind format\nevents: Ir\nsummary: 12345\n\nfn=(1) f\n";
        assert_eq!(instructions(said, profile), Ok((61.725, "x86_64-linux avx2, logs mapped".into())));
        for (said, profile, expected) in [
            (said, "events: Ir\n", "no line `summary:`"),
            (said, "summary: 0\n", "0 instructions for 200 entries"),
            ("entries: many\nmachine: x\n", profile, "`entries: many` is no number"),
            ("entries: 200\n", profile, "no line `machine:`"),
        ] {
            let error = instructions(said, profile).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_a_program_complains_of_is_passed_on() {
        let error = printed(Command::new("sh").args(["-c", "echo seen >&2; exit 3"])).unwrap_err();
        assert!(error.contains("exit status: 3") && error.contains("seen"), "{error}");
        assert!(output(Path::new("."), "no-such-program", &[]).unwrap_err().contains("did not start"));
        assert_eq!(after("rustc 1.95.0", "rustc "), "1.95.0");
    }
}
