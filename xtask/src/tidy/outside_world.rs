//! Library crates reach files, clocks and threads only by way of `esker-vfs` and the engine's background module, so that a test
//! can stand in for all three.

use super::source::path_uses;
use super::{Problem, Tree};

const DIRECT: [(&str, &str); 7] = [
    ("std", "fs"),
    ("Instant", "now"),
    ("SystemTime", "now"),
    ("thread", "spawn"),
    ("thread", "Builder"),
    ("thread", "scope"),
    ("thread", "sleep"),
];

/// Sources that may: the way out itself, the threads' module, tools, and what only tests use.
const EXEMPT: [&str; 8] = [
    "crates/vfs/",
    "crates/engine/src/background",
    "crates/cli/",
    "crates/bench/",
    "crates/fuzz/",
    "crates/gate/",
    "crates/metamorphic/",
    "crates/testkit/",
    "xtask/",
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in tree.sources() {
        if source.is_test_file() || EXEMPT.iter().any(|exempt| source.path.starts_with(exempt)) {
            continue;
        }
        let code = source.code_without_tests();
        for (head, tail) in DIRECT {
            problems.extend(path_uses(&code, head, tail).map(|at| {
                let what = format!("`{head}::{tail}` in a library crate: go through `esker_vfs::Vfs`, its `Clock`, or the engine's background");
                Problem::new(source.path, source.line(at), what)
            }));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_use_is_found_and_tests_are_let_be() {
        let code = "//! std::fs in a comment is fine\nuse std::{fs, io};\nfn f() { thread::spawn(g); }\n\
                    #[cfg(test)]\nmod tests { fn t() { Instant::now(); } }\nfn h() { std::time::Instant::now(); }\n";
        let tree = Tree::of([
            ("crates/wal/src/lib.rs", code),
            ("crates/wal/src/reader/tests.rs", code),
            ("crates/wal/tests/torn.rs", code),
            ("crates/vfs/src/os.rs", code),
            ("crates/engine/src/background.rs", code),
            ("crates/engine/src/background/worker.rs", code),
            ("crates/cli/src/main.rs", code),
        ]);
        let mut found: Vec<_> = check(&tree).into_iter().map(|p| (p.path, p.line)).collect();
        found.sort();
        assert_eq!(found, [2, 3, 6].map(|line| ("crates/wal/src/lib.rs".to_owned(), line)));
    }
}
