//! `cargo xtask fuzz`: the targets of `esker-fuzz` under cargo-fuzz, led by coverage.
//!
//! ```text
//! testdata/fuzz/TARGET   checked in, never written to       fuzz/corpus/TARGET   what was found to be new, this machine's own
//! fuzz/artifacts/TARGET  what failed
//! ```

use crate::run;
use crate::toolchain::{NIGHTLY, is_there, need_nightly};
use std::fs;
use std::path::Path;
use std::process::Command;

/// libfuzzer ends what allocates more at once, in MiB; memory in all is bounded by the tests of `esker-fuzz`, target by target.
const MALLOC_MIB_MAX: u32 = 512;
/// A case that takes longer hangs.
const CASE_SECONDS_MAX: u32 = 20;

/// Runs `target`, or all one after the other, each for `seconds`.
pub(crate) fn run_targets(root: &Path, target: Option<&str>, seconds: u64) -> Result<(), String> {
    let targets = targets(root)?;
    let chosen: Vec<&String> = targets.iter().filter(|name| target.is_none_or(|target| target == *name)).collect();
    if chosen.is_empty() {
        return Err(format!("no such target; there are {}", targets.join(", ")));
    }
    need_nightly(&[])?;
    if !is_there("cargo-fuzz", &["--version"]) {
        return Err("cargo-fuzz is not there: `cargo install cargo-fuzz --locked`. Without it: \
                    `cargo xtask stress --suite fuzz`, on any compiler"
            .into());
    }
    for name in chosen {
        println!("\n== fuzz {name}: {seconds} s");
        run(&mut command(root, name, seconds)?)?;
    }
    Ok(())
}

fn command(root: &Path, name: &str, seconds: u64) -> Result<Command, String> {
    let found = root.join("fuzz/corpus").join(name);
    fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let seeds = root.join("testdata/fuzz").join(name);
    let mut command = Command::new("cargo");
    // The toolchain that runs this program must not choose the one for that.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").current_dir(root);
    command.args([NIGHTLY, "fuzz", "run", name]).arg(found).arg(seeds).arg("--");
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-malloc_limit_mb={MALLOC_MIB_MAX}"),
        format!("-timeout={CASE_SECONDS_MAX}"),
        "-print_final_stats=1".into(),
    ]);
    Ok(command)
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
}
