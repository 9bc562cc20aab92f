//! `esker-gate PART`: runs one hot part of the store, the same every time, for its instructions to be counted.
//!
//! ```text
//! cargo xtask bench gate ─> valgrind --tool=callgrind esker-gate PART ─> instructions an entry ─> compared with what is recorded
//!                                      set up | measured() | check
//! ```
//!
//! A part is single-threaded, takes its data from fixed numbers and waits for nothing, so its count is the same whatever else the machine does. Only what runs inside
//! [`measured`] is counted; what it found is checked behind it, so that no work can be skipped. The program says how many entries that were, and on
//! what the count may depend beside the code.
#![forbid(unsafe_code)]

mod data;
mod engine;
mod parts;

use std::hint::black_box;
use std::process::ExitCode;

/// Shown to a person, never matched on.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// One thing whose instructions are counted.
struct Part {
    name: &'static str,
    /// Sets up, runs [`measured`] once, checks, and returns how many entries were measured.
    run: fn() -> Result<u64>,
}

/// All of them, the engine's first.
const PARTS: [Part; 34] = [
    Part { name: "put-random", run: engine::put_random },
    Part { name: "put-beside", run: engine::put_beside },
    Part { name: "put-sequential", run: engine::put_sequential },
    Part { name: "put-batch-100", run: engine::put_batches },
    Part { name: "get-memtable", run: engine::get_from_memtable },
    Part { name: "get-table", run: engine::get_from_table },
    Part { name: "get-compressed", run: engine::get_from_compressed_table },
    Part { name: "get-miss", run: engine::get_missing },
    Part { name: "seek-10", run: engine::seek },
    Part { name: "seek-10-merged", run: engine::seek_merged },
    Part { name: "seek-empty", run: engine::seek_empty },
    Part { name: "seek-deleted", run: engine::seek_deleted },
    Part { name: "cross-empty", run: engine::cross_empty },
    Part { name: "cross-deleted", run: engine::cross_deleted },
    Part { name: "cross-empty-memory", run: engine::cross_empty_memory },
    Part { name: "cross-deleted-memory", run: engine::cross_deleted_memory },
    Part { name: "walk-forward", run: engine::walk_forward },
    Part { name: "walk-backward", run: engine::walk_backward },
    Part { name: "walk-merged", run: engine::walk_merged },
    Part { name: "walk-merged-backward", run: engine::walk_merged_backward },
    Part { name: "walk-even", run: engine::walk_even },
    Part { name: "walk-even-backward", run: engine::walk_even_backward },
    Part { name: "flush", run: engine::flush },
    Part { name: "compaction", run: engine::compaction },
    Part { name: "recovery", run: engine::recovery },
    Part { name: "log-append", run: parts::log_append },
    Part { name: "memtable-insert", run: parts::memtable_insert },
    Part { name: "memtable-get", run: parts::memtable_get },
    Part { name: "block-search", run: parts::block_search },
    Part { name: "filter-probe", run: parts::filter_probe },
    Part { name: "merge-step", run: parts::merge_step },
    Part { name: "compaction-step", run: parts::compaction_step },
    Part { name: "crc-record", run: parts::crc_of_records },
    Part { name: "crc-block", run: parts::crc_of_blocks },
];

/// What is counted: callgrind is told this name, and so counts whatever it calls, and nothing else.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    // The result is used here, so that the call above is no jump out of this function.
    black_box(work())
}

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("esker-gate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is said of the part that the only argument names; the names of all if it is `--list`.
fn run(args: &[String]) -> Result<String> {
    match args {
        [list] if list == "--list" => Ok(PARTS.map(|part| part.name).join("\n")),
        [name] => {
            let part = PARTS.iter().find(|part| part.name == name);
            let part = part.ok_or_else(|| format!("there is no part `{name}`; --list names all"))?;
            let entries = (part.run)().map_err(|error| format!("{name}: {error}"))?;
            Ok(format!("entries: {entries}\nmachine: {}", machine()?))
        }
        _ => Err("usage: esker-gate PART | --list".into()),
    }
}

/// On what a count depends beside the code and its compiler: instructions that are chosen when the program runs, and whether logs are mapped.
fn machine() -> Result<String> {
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let logs = if parts::logs_are_mapped()? { "logs mapped" } else { "logs written" };
    let words: Vec<_> = std::iter::once(target).chain(features().into_iter().map(String::from)).collect();
    Ok(format!("{}, {logs}", words.join(" ")))
}

/// Instructions that some of our code, or a library's, uses where they are there.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let all = [
        (std::is_x86_feature_detected!("sse4.2"), "sse4.2"),
        (std::is_x86_feature_detected!("pclmulqdq"), "pclmulqdq"),
        (std::is_x86_feature_detected!("avx2"), "avx2"),
        (std::is_x86_feature_detected!("bmi2"), "bmi2"),
        (std::is_x86_feature_detected!("avx512f"), "avx512f"),
    ];
    all.into_iter().filter_map(|(is_there, name)| is_there.then_some(name)).collect()
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let all = [
        (std::arch::is_aarch64_feature_detected!("crc"), "crc"),
        (std::arch::is_aarch64_feature_detected!("aes"), "aes"),
        (std::arch::is_aarch64_feature_detected!("sve"), "sve"),
    ];
    all.into_iter().filter_map(|(is_there, name)| is_there.then_some(name)).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(args: &[&str]) -> Result<String> {
        run(&args.iter().map(|arg| String::from(*arg)).collect::<Vec<_>>())
    }

    #[test]
    fn every_part_runs_checks_what_it_did_and_says_how_much_that_was() {
        for name in run_with(&["--list"]).unwrap().lines() {
            let said = run_with(&[name]).unwrap();
            let (entries, machine) = said.split_once('\n').expect("two lines");
            let entries: u64 = entries.strip_prefix("entries: ").unwrap().parse().unwrap();
            assert!(entries >= 1000, "{name}: {entries}");
            assert!(machine.starts_with("machine: ") && machine.contains(", logs "), "{name}: {machine}");
        }
    }

    #[test]
    fn names_are_told_apart_and_others_refused() {
        let names: std::collections::BTreeSet<_> = PARTS.iter().map(|part| part.name).collect();
        assert_eq!(names.len(), PARTS.len());
        assert!(run_with(&["put"]).unwrap_err().to_string().contains("no part `put`"));
        assert!(run_with(&[]).unwrap_err().to_string().starts_with("usage"));
    }
}
