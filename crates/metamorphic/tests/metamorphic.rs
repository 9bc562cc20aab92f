//! The runner, by its program: scripts that were made up, scripts that are kept because they once failed, and lines that are none.

use esker_testkit::stress;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const OPERATIONS: u64 = 120;
const SETS: u64 = 40;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_esker-metamorphic"))
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/metamorphic")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// One script under all option sets; how many operations that were. One that fails is shrunk and kept in `testdata/metamorphic`.
fn one_case(seed: u64) -> u64 {
    let mut program = program();
    let program = program.args(["explore", "--scripts", "1", "--seconds", "86400", "--keep"]).arg(kept());
    let output = program.args(["--seed", &seed.to_string(), "--operations", &OPERATIONS.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    OPERATIONS * SETS
}

#[test]
fn histories_agree_whatever_the_options() {
    for round in stress::rounds("metamorphic", 1) {
        round.tried(one_case(round.seed()));
    }
}

#[test]
fn what_once_failed_agrees() {
    let mut scripts: Vec<_> = fs::read_dir(kept()).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    assert!(!scripts.is_empty(), "there are some");
    for script in scripts {
        let output = program().arg("compare").arg(&script).output().unwrap();
        assert!(output.status.success(), "{}: {}", script.display(), said(&output));
    }
}

#[test]
fn a_script_reads_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    for seed in 0..20 {
        let generated =
            program().args(["generate", "--seed", &seed.to_string(), "--operations", "300"]).output().unwrap();
        fs::write(&path, &generated.stdout).unwrap();
        let shown = program().arg("show").arg(&path).output().unwrap();
        assert!(shown.status.success(), "{}", said(&shown));
        let (script, shown) = (String::from_utf8_lossy(&generated.stdout), String::from_utf8_lossy(&shown.stdout));
        assert_eq!(script.lines().skip(1).collect::<Vec<_>>(), shown.lines().collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn what_is_no_operation_is_refused_by_line_with_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    for (line, expected) in [
        ("frobnicate 7", "expected an operation, found `frobnicate`"),
        ("write often default:a=1:1", "expected one of memory, os, sync, found `often`"),
        ("write os", "expected a write, found the end of the line"),
        ("write os default:a", "expected behind the key `=VALUE`"),
        ("write os default:a=long", "expected a value, TAG:LENGTH, found `long`"),
        ("write os default:a+1:1", "expected a merge into `merged`"),
        ("write os default:b..a", "expected a range whose end lies behind its beginning"),
        ("get now default", "expected a key, found the end of the line"),
        ("get s9 default a", "expected `now`, or `s0` to `s3`, found `s9`"),
        ("get now users a", "expected a keyspace, one of default, merged, living, found `users`"),
        ("get now default a%zz", "expected a key of letters, digits"),
        ("get now default a*99999", "expected a length from 1 to 65535, found 99999"),
        ("scan now default a - f", "expected a bound, `=KEY`, `~KEY` or `-`, found `a`"),
        ("walk now default - - hop", "expected a step, one of first, last"),
        ("begin 3", "expected a transaction's number below 3, found 3"),
        ("drop default", "expected a keyspace other than `default`"),
        ("crash gently", "expected one of synced, all, torn, subset=SEED, found `gently`"),
        ("crash all at 101", "expected a percentage below 101, found 101"),
        ("flush now", "expected the end of the line, found `now`"),
    ] {
        fs::write(&path, format!("# a comment\n\nflush\n{line}\n")).unwrap();
        let output = program().arg("show").arg(&path).output().unwrap();
        let said = said(&output);
        assert!(!output.status.success() && said.contains("line 4: ") && said.contains(expected), "{line}: {said}");
    }
}
