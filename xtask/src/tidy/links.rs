//! What a page or a comment points to is there, and nothing points out of the repository.

use super::{Problem, Tree};

/// Where development machines keep checkouts and homes; spelled so that this file does not find itself.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "farm/"), concat!("shared/", "design")];

/// Local links of all Markdown files resolve, heading anchors included, and pages of `docs/` that sources name exist.
pub(super) fn check_links(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts() {
        let is_page = path.ends_with(".md") && !path.starts_with("testdata/");
        for (line, target) in is_page.then(|| links(text)).into_iter().flatten() {
            if let Some(what) = broken(tree, path, target) {
                problems.push(Problem::new(path, line, what));
            }
        }
        let names_pages = path.ends_with(".rs") || path.ends_with(".toml");
        for (line, page) in names_pages.then(|| pages_named(text)).into_iter().flatten() {
            let made_up = path.starts_with("xtask/src/tidy/");
            if !made_up && !tree.exists(page) {
                problems.push(Problem::new(path, line, format!("`{page}` does not exist")));
            }
        }
    }
    problems
}

/// No file tells where on a developer's machine something lies.
pub(super) fn check_machine_paths(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts() {
        for (i, line) in text.lines().enumerate() {
            let here = MACHINE_PATHS.iter().find(|machine_path| {
                line.match_indices(**machine_path).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "_-.~/".contains(c))
                })
            });
            if let Some(machine_path) = here {
                problems.push(Problem::new(path, i + 1, format!("names a path of one machine: `{machine_path}`")));
            }
        }
    }
    problems
}

/// Why the link does not lead anywhere.
fn broken(tree: &Tree, page: &str, target: &str) -> Option<String> {
    let elsewhere = ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
    if elsewhere {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let resolved = if file.is_empty() { Some(page.to_owned()) } else { resolve(page, file) };
    let Some(resolved) = resolved.filter(|resolved| tree.exists(resolved)) else {
        return Some(format!("link to `{target}`, which does not exist"));
    };
    let text = tree.text(&resolved).unwrap_or("");
    let there = anchor.is_empty() || !resolved.ends_with(".md") || anchors(text).any(|slug| slug == anchor);
    (!there).then(|| format!("link to `{target}`: no such heading in {resolved}"))
}

/// `file` as seen from the page, from the root; `None` if it leads out of the repository.
fn resolve(page: &str, file: &str) -> Option<String> {
    let mut parts: Vec<_> = page.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Targets of `[text](target)` and `[name]: target`, with their lines; code is left out.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose_lines(text).flat_map(|(number, line)| {
        let mut found = Vec::new();
        let code = code_spans(line);
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            let Some(end) = rest.find([')', ' ']) else { continue };
            if !code.iter().any(|span| span.contains(&at)) {
                found.push((number, rest[..end].trim_matches(['<', '>'])));
            }
        }
        if let Some((name, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "))
            && !name.contains(']')
        {
            found.push((number, target.trim()));
        }
        found
    })
}

/// The lines outside fenced code, numbered from 1.
fn prose_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((i + 1, line))
    })
}

/// The ranges of a line that stand between backticks.
fn code_spans(line: &str) -> Vec<std::ops::Range<usize>> {
    let ticks: Vec<_> = line.match_indices('`').map(|(at, _)| at).collect();
    ticks.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them: lower case, words joined by `-`, other marks dropped.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    prose_lines(text).filter_map(|(_, line)| {
        let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        Some(kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect())
    })
}

/// `docs/NAME.md` and the like in a source, with their lines.
fn pages_named(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(i, line)| {
        line.match_indices("docs/").filter_map(move |(at, _)| {
            let part_of_longer = line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-./".contains(c));
            let end = line[at..].find(|c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c)));
            let name = line[at..][..end.unwrap_or(line.len() - at)].trim_end_matches('.');
            (!part_of_longer && name.ends_with(".md")).then_some((i + 1, name))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        let tree = Tree::of(files);
        let found = check_links(&tree).into_iter().chain(check_machine_paths(&tree));
        found.map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn links_lead_somewhere() {
        let page = "# Keys\nSee [batch](batch.md), [up](../README.md#what-it-is), [self](#keys), [dir](./), [out](https://x.y/z).\n\
                    ```\n[code](gone.md)\n```\nand `[span](gone.md)`\n[ref]: batch.md\n";
        let readme = "# Esker\n## What it *is*\n";
        assert_eq!(
            problems([("docs/format/keys.md", page), ("docs/README.md", readme), ("docs/format/batch.md", "")]),
            [""; 0]
        );
    }

    #[test]
    fn broken_links_are_named() {
        let page = "[a](gone.md)\n[b](../../../x.md) [c](#nowhere)\n[d]: missing/\n";
        assert_eq!(
            problems([("docs/page.md", page)]),
            [
                "docs/page.md:1: link to `gone.md`, which does not exist",
                "docs/page.md:2: link to `../../../x.md`, which does not exist",
                "docs/page.md:2: link to `#nowhere`: no such heading in docs/page.md",
                "docs/page.md:3: link to `missing/`, which does not exist",
            ]
        );
    }

    #[test]
    fn sources_name_pages_that_exist() {
        let source = "//! See `docs/format/keys.md`, and docs/format/wal.md.\n//! Not mine: other/docs/x.md, https://x/docs/y.md\n";
        assert_eq!(
            problems([("crates/wal/src/lib.rs", source), ("docs/format/keys.md", "")]),
            ["crates/wal/src/lib.rs:1: `docs/format/wal.md` does not exist"]
        );
    }

    #[test]
    fn paths_of_a_machine_are_found_and_their_like_are_not() {
        let bad = MACHINE_PATHS.map(|path| format!("see {path}x\n")).concat();
        let found =
            problems([("notes.toml", &bad), ("fine.toml", "a/work/b, ./root/x, https://x.y/farm/z, /workspace/")]);
        assert_eq!(found.len(), MACHINE_PATHS.len(), "{found:?}");
        assert!(found[0].starts_with("notes.toml:1: names a path of one machine"), "{found:?}");
    }
}
