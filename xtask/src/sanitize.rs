//! `cargo xtask miri`, `tsan`, `asan`: the tests under tools that watch memory, where these can run them in reasonable time.
//!
//! | tool | sees | costs |
//! |---|---|---|
//! | Miri | undefined behaviour of any kind, on the paths that run; weak memory in part | some thousand times |
//! | ThreadSanitizer | data races, with the standard library built for it | some ten times |
//! | AddressSanitizer | use after free, reads out of bounds, leaks | two or three times |
//!
//! Each runs a list of test binaries, in this order: unsafe code first, then what is built on it.

use crate::run;
use crate::toolchain::{NIGHTLY, need_nightly};
use std::path::Path;
use std::process::Command;

/// Tests that run under a tool.
struct Suite {
    package: &'static str,
    /// What cargo is told of the tests to build: `--lib`, `--test x`.
    targets: &'static [&'static str],
    /// What the tests are told: names, and `--skip` of those that take too long or can't run.
    tests: &'static [&'static str],
}

const fn suite(package: &'static str, targets: &'static [&'static str], tests: &'static [&'static str]) -> Suite {
    Suite { package, targets, tests }
}

/// A tool, and what is run under it.
struct Tool {
    components: &'static [&'static str],
    /// What stands behind `cargo +nightly`.
    cargo: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// Has objects of its own, since its flags are others than those of daily work.
    target_dir: &'static str,
    suites: &'static [Suite],
}

/// Miri. Files of the system can be read and not be mapped, so what runs is what runs on `MemVfs`; crossbeam's skip list passes only without stacked borrows, and
/// keeps garbage until the process ends, so the tests that need it run by a rule of their own ([`MIRI_SKIP_LIST`]). Loom's models switch stacks by themselves. Property tests that are long by nature are left to the others.
const MIRI: Tool = Tool {
    components: &["miri", "rust-src"],
    cargo: &["miri", "test"],
    environment: &[("MIRIFLAGS", "-Zmiri-disable-isolation"), ("PROPTEST_CASES", "2")],
    target_dir: "target/miri",
    suites: &[
        // The unsafe code: arena, rooms, list; and the tree and its index above them.
        suite("esker-memtable", &["--lib"], &["--skip", "skiplist", "--skip", "_model"]),
        // `Map` and `Slice` point into what others own.
        suite("esker-vfs", &["--lib"], &["map::", "piece", "prefetch", "--skip", "a_file_is_mapped"]),
        suite("esker-format", &["--lib"], &["slice", "varint", "head", "hash"]),
        suite("esker-sstable", &["--lib"], &["footer", "frame", "words", "filter"]),
    ],
};

/// As [`MIRI`], for the skip list.
const MIRI_SKIP_LIST: Tool = Tool {
    environment: &[
        ("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-disable-stacked-borrows -Zmiri-ignore-leaks"),
        ("PROPTEST_CASES", "2"),
    ],
    suites: &[suite("esker-memtable", &["--lib"], &["skiplist"])],
    ..MIRI
};

/// ThreadSanitizer: everything with threads. Left out is what compares itself with a clock or a budget, and the models, which have no threads to watch.
const TSAN: Tool = Tool {
    components: &["rust-src"],
    cargo: &["test", "-Zbuild-std", "--target", "x86_64-unknown-linux-gnu"],
    environment: &[("RUSTFLAGS", "-Zsanitizer=thread"), ("TSAN_OPTIONS", "halt_on_error=1")],
    target_dir: "target/tsan",
    suites: &[
        suite("esker-memtable", &["--lib", "--test", "concurrent"], &["--skip", "_model"]),
        suite("esker-wal", &["--test", "group"], &[]),
        suite("esker", &["--test", "group_commit", "--test", "multi_get", "--test", "conditional"], &[]),
        suite("esker", &["--test", "exclusive", "--test", "scans", "--test", "following"], &[]),
    ],
};

/// AddressSanitizer: what maps files, and what points into memory that others own.
const ASAN: Tool = Tool {
    components: &[],
    cargo: &["test", "--target", "x86_64-unknown-linux-gnu"],
    environment: &[("RUSTFLAGS", "-Zsanitizer=address")],
    target_dir: "target/asan",
    suites: &[
        suite("esker-memtable", &["--lib", "--test", "concurrent"], &["--skip", "_model"]),
        // The sanitizer has a handler of `SIGBUS` of its own, so what a fault that is not ours ends in is another thing.
        suite(
            "esker-vfs",
            &["--lib", "--test", "os", "--test", "conformance"],
            &["--skip", "faults_that_are_not_ours", "--skip", "_model"],
        ),
        suite("esker-sstable", &["--lib", "--test", "conformance"], &[]),
        suite("esker-fuzz", &["--test", "targets"], &[]),
        suite("esker", &["--test", "pinned", "--test", "blobs", "--test", "group_commit"], &[]),
    ],
};

/// Runs what is listed under Miri.
pub(crate) fn miri(root: &Path) -> Result<(), String> {
    run_tool(root, &MIRI)?;
    run_tool(root, &MIRI_SKIP_LIST)
}

/// Runs what is listed under ThreadSanitizer.
pub(crate) fn tsan(root: &Path) -> Result<(), String> {
    run_tool(root, &TSAN)
}

/// Runs what is listed under AddressSanitizer.
pub(crate) fn asan(root: &Path) -> Result<(), String> {
    run_tool(root, &ASAN)
}

/// Runs all suites, also after one has failed.
fn run_tool(root: &Path, tool: &Tool) -> Result<(), String> {
    need_nightly(tool.components)?;
    let mut failed = Vec::new();
    for suite in tool.suites {
        println!("\n== {} {} {}", suite.package, suite.targets.join(" "), suite.tests.join(" "));
        failed.extend(run(&mut command(root, tool, suite)).err());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\nxtask: ")) }
}

fn command(root: &Path, tool: &Tool, suite: &Suite) -> Command {
    let mut command = Command::new("cargo");
    // The toolchain that runs this program must not choose the one for that.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").current_dir(root);
    command.arg(NIGHTLY).args(tool.cargo).args(["-p", suite.package]).args(suite.targets);
    command.arg("--").args(suite.tests);
    command.envs(tool.environment.iter().copied()).env("CARGO_TARGET_DIR", root.join(tool.target_dir));
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command_line, workspace_root};

    #[test]
    fn what_is_listed_is_there() {
        let root = workspace_root();
        let tree = crate::tidy::Tree::load(&root).unwrap();
        for suite in [MIRI, MIRI_SKIP_LIST, TSAN, ASAN].iter().flat_map(|tool| tool.suites) {
            let manifest = tree.manifests().find(|manifest| manifest.name == suite.package).expect(suite.package);
            let tests = tree.targets(&manifest.directory, "tests");
            for name in suite.targets.iter().filter(|name| !name.starts_with("--")) {
                assert!(tests.iter().any(|test| test == name), "{}: {name}", suite.package);
            }
        }
    }

    #[test]
    fn a_command_is_what_one_would_type() {
        let line = command_line(&command(Path::new("/w"), &TSAN, &TSAN.suites[1]));
        assert_eq!(
            line,
            "cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu -p esker-wal --test group --"
        );
    }
}
