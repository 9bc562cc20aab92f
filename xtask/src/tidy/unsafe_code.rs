//! Unsafe code is rare, listed and argued: each file with some stands in `docs/unsafe.md`, and each block and impl has a
//! `// SAFETY:` comment right above.

use super::source::{Source, words};
use super::{Problem, Tree};

const PAGE: &str = "docs/unsafe.md";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let page = tree.text(PAGE).unwrap_or("");
    let listed: Vec<_> = listed(page).collect();
    let mut with_unsafe = Vec::new();
    for source in tree.sources() {
        let uses: Vec<_> = words(&source.code, "unsafe").collect();
        if uses.is_empty() {
            continue;
        }
        with_unsafe.push(source.path.to_owned());
        if !listed.iter().any(|(_, path)| *path == source.path) {
            problems.push(Problem::new(
                source.path,
                0,
                format!("unsafe code, but no entry `{}` in {PAGE}", source.path),
            ));
        }
        for at in uses {
            let rest = source.code[at + "unsafe".len()..].trim_start();
            let needs_comment = rest.starts_with('{') || rest.starts_with("impl");
            if needs_comment && !has_safety_comment(&source, source.line(at)) {
                problems.push(Problem::new(source.path, source.line(at), "no `// SAFETY:` comment right above"));
            }
        }
    }
    for (line, path) in listed {
        if tree.text(path).is_none() {
            problems.push(Problem::new(PAGE, line, format!("`{path}` does not exist")));
        } else if !with_unsafe.iter().any(|p| p == path) {
            problems.push(Problem::new(PAGE, line, format!("`{path}` has no unsafe code any more")));
        }
    }
    problems
}

/// The Rust files that the page names in backticks, with their lines.
fn listed(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = page.lines().enumerate();
    let quoted = lines.flat_map(|(i, line)| line.split('`').skip(1).step_by(2).map(move |quoted| (i + 1, quoted)));
    quoted.filter(|(_, quoted)| quoted.ends_with(".rs") && quoted.contains('/'))
}

/// Whether a comment with `// SAFETY:` ends right above the statement or attribute that `line` belongs to, or stands on `line`.
fn has_safety_comment(source: &Source<'_>, line: usize) -> bool {
    let code: Vec<_> = source.code.lines().collect();
    let comments: Vec<_> = source.comments.lines().collect();
    let is_safety = |i: usize| comments[i].trim_start().starts_with("// SAFETY:");
    let mut at = line - 1;
    if is_safety(at) {
        return true;
    }
    while at > 0 {
        at -= 1;
        match (code[at].trim(), comments[at].trim()) {
            ("", "") => return false,
            ("", _) if is_safety(at) => return true,
            ("", _) => {}
            // The lines above a `let x =` or within a call are still the same statement; those above its end are not.
            (code, _) if code.ends_with([';', '{', '}', ',']) => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(code: &str, page: &str) -> Vec<String> {
        let tree = Tree::of([("crates/vfs/src/map.rs", code), (PAGE, page)]);
        check(&tree).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn lints_comments_and_strings_are_not_unsafe_code() {
        assert_eq!(problems("#![forbid(unsafe_code)]\n// unsafe {\nf(\"unsafe {\");", ""), [""; 0]);
    }

    #[test]
    fn an_argued_and_listed_block_is_fine() {
        let page = "| `crates/vfs/src/map.rs` | maps |";
        for code in [
            "// SAFETY: the file is immutable.\nlet x = unsafe { f() };",
            "// SAFETY: the file\n// is immutable.\n#[inline]\nlet x =\n    unsafe { f() };",
            "// SAFETY: `T` is.\nunsafe impl Send for T {}",
            "let x = unsafe { f() }; // SAFETY: the file is immutable.",
        ] {
            assert_eq!(problems(code, page), [""; 0], "{code}");
        }
    }

    #[test]
    fn a_block_without_its_own_argument_is_found() {
        let page = "`crates/vfs/src/map.rs`";
        for code in [
            "let x = unsafe { f() };",
            "// SAFETY: far off\n\nlet x = unsafe { f() };",
            "// SAFETY: of another\nlet y = unsafe { g() };\nlet x = unsafe { f() };",
            "// not an argument\nunsafe impl Send for T {}",
        ] {
            let found = problems(code, page);
            assert!(found.len() == 1 && found[0].ends_with("no `// SAFETY:` comment right above"), "{code}: {found:?}");
        }
    }

    #[test]
    fn the_list_and_the_code_agree() {
        let code = "// SAFETY: fine\nunsafe impl Send for T {}";
        assert_eq!(
            problems(code, ""),
            ["crates/vfs/src/map.rs: unsafe code, but no entry `crates/vfs/src/map.rs` in docs/unsafe.md"]
        );
        assert_eq!(
            problems(code, "`crates/vfs/src/map.rs`\n`crates/vfs/src/gone.rs`"),
            ["docs/unsafe.md:2: `crates/vfs/src/gone.rs` does not exist"]
        );
        assert_eq!(
            problems("safe()", "`crates/vfs/src/map.rs`"),
            ["docs/unsafe.md:1: `crates/vfs/src/map.rs` has no unsafe code any more"]
        );
    }
}
