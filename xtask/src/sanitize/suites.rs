//! What runs under which tool: unsafe code first, then what is built on it.

/// Tests that run under a tool.
pub(crate) struct Suite {
    pub(super) package: &'static str,
    /// What cargo is told of the tests to build: `--lib`, `--test x`.
    pub(super) targets: &'static [&'static str],
    /// What the tests are told: names, and `--skip` of those that take too long or can't run.
    pub(super) tests: &'static [&'static str],
}

impl Suite {
    /// Package and targets; the tests are of one of them.
    pub(super) fn name(&self) -> String {
        let targets = self.targets.iter().filter(|word| **word != "--test").map(|word| word.trim_start_matches('-'));
        let words: Vec<&str> = std::iter::once(self.package).chain(targets).collect();
        words.join(" ")
    }
}

const fn suite(package: &'static str, targets: &'static [&'static str], tests: &'static [&'static str]) -> Suite {
    Suite { package, targets, tests }
}

/// Suites that run in one environment.
pub(crate) struct Group {
    pub(super) environment: &'static [(&'static str, &'static str)],
    pub(super) suites: &'static [Suite],
}

/// A tool, and what is run under it.
pub(crate) struct Tool {
    pub(super) name: &'static str,
    pub(super) components: &'static [&'static str],
    /// What stands behind `cargo +nightly`.
    pub(super) cargo: &'static [&'static str],
    /// What a line of each of its reports has in it.
    pub(super) report: &'static [&'static str],
    /// Has objects of its own, since its flags are others than those of daily work.
    pub(super) target_dir: &'static str,
    pub(super) groups: &'static [Group],
}

/// Miri. What runs is what lies in memory, the engine on `MemVfs` included. Not run, and by whom instead:
///
/// - maps of files, mapped log regions, `sync_file_range` and `fallocate` (`vfs`: `map`, `region`, `write_out`): Miri has no such calls; AddressSanitizer;
/// - the prefetch instruction: left out of the code under Miri, since it has no effect that could be seen;
/// - the pool of regions (`memtable`: `pool`): it moves tens of MiB, which Miri follows byte by byte; the rooms and the list that it is made of run, and AddressSanitizer has all of it;
/// - crossbeam's skip list, the other form of a memtable: with rules of its own, below;
/// - loom's models, which switch stacks by themselves; property tests, which hold the tree against that skip list, and tests of safe code alone, which would take hours;
/// - the rest of the tree's tests, of the index and of `life`, and wal, sstable and iterator alone: not seen to come to their ends within the minutes that there were.
pub(crate) const MIRI: Tool = Tool {
    name: "miri",
    components: &["miri", "rust-src"],
    cargo: &["miri", "test"],
    report: &["error: Undefined Behavior", "error: memory leaked", "error: unsupported operation", "error: deadlock"],
    target_dir: "target/miri",
    groups: &[
        Group {
            environment: &[("MIRIFLAGS", "-Zmiri-disable-isolation"), ("PROPTEST_CASES", "2")],
            suites: &[
                // The unsafe code: arena, rooms, list; and the tree above them.
                suite(
                    "esker-memtable",
                    &["--lib"],
                    &[
                        "arena",
                        "room",
                        "list_tests",
                        "record::tests",
                        "many_versions",
                        "a_key_is_not",
                        "--skip",
                        "skiplist",
                    ],
                ),
                // `Map` and `Slice` point into what others own.
                suite("esker-vfs", &["--lib"], &["map::", "piece", "prefetch", "--skip", "a_file_is_mapped"]),
                suite("esker-format", &["--lib"], &["slice"]),
            ],
        },
        // parking_lot's queues keep flags in the low bits of pointers and make pointers of them again, which Miri then can't follow so closely; it says so at each.
        Group {
            environment: &[("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-permissive-provenance")],
            suites: &[suite("esker", &["--test", "life"], &["among_threads"])],
        },
        // crossbeam's skip list passes only without stacked borrows, and keeps garbage until the process ends.
        Group {
            environment: &[
                ("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-disable-stacked-borrows -Zmiri-ignore-leaks"),
                ("PROPTEST_CASES", "2"),
            ],
            suites: &[suite("esker-memtable", &["--lib"], &["skiplist"])],
        },
    ],
};

/// ThreadSanitizer: everything with threads. Left out is what compares itself with a clock or a budget, and the models, which have no threads to watch.
pub(crate) const TSAN: Tool = Tool {
    name: "tsan",
    components: &["rust-src"],
    cargo: &["test", "-Zbuild-std", "--target", "x86_64-unknown-linux-gnu"],
    report: &["WARNING: ThreadSanitizer"],
    target_dir: "target/tsan",
    groups: &[Group {
        // Maps by the C library's calls, which the tool watches: of raw ones it is not told, and takes memory given back and given out again for a race.
        environment: &[("RUSTFLAGS", "-Zsanitizer=thread --cfg rustix_use_libc")],
        suites: &[
            suite(
                "esker-memtable",
                &["--lib", "--test", "concurrent"],
                &["--skip", "_model", "--skip", "many_versions_of_one_key"],
            ),
            suite("esker-vfs", &["--lib"], &["guard", "--skip", "faults_that_are_not_ours", "--skip", "_model"]),
            suite("esker-wal", &["--test", "group"], &[]),
            // Histories of threads, checked for cycles; and the ends of ranges, raced for.
            suite("esker", &["--lib"], &["transaction::tests", "--skip", "it_is_as_walking"]),
            suite("esker", &["--test", "life", "--test", "mapped"], &[]),
            suite("esker", &["--test", "group_commit", "--test", "multi_get", "--test", "conditional"], &[]),
            suite("esker", &["--test", "exclusive", "--test", "scans", "--test", "following"], &[]),
        ],
    }],
};

/// AddressSanitizer, with LeakSanitizer: what maps files, and what points into memory that others own.
pub(crate) const ASAN: Tool = Tool {
    name: "asan",
    components: &[],
    cargo: &["test", "--target", "x86_64-unknown-linux-gnu"],
    report: &["ERROR: AddressSanitizer", "ERROR: LeakSanitizer"],
    target_dir: "target/asan",
    groups: &[Group {
        environment: &[("RUSTFLAGS", "-Zsanitizer=address"), ("ASAN_OPTIONS", "detect_leaks=1")],
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
    }],
};
