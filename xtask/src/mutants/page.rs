//! `docs/mutants.md`: the survivors that were judged, each with the reason why it may live.

use std::path::Path;

pub(super) const PAGE: &str = "docs/mutants.md";

/// The page as it lies there.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
}

impl Page {
    pub(super) fn load(root: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(root.join(PAGE)).map_err(|error| format!("{PAGE}: {error}"))?;
        Ok(Self { text })
    }

    /// Whether a row names it and gives a reason. Lines and columns change with every edit, so a name goes without: two of one name are judged together.
    pub(super) fn judges(&self, mutant: &str) -> bool {
        let name = without_place(mutant);
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
            .any(|(judged, reason)| judged == name && !reason.trim().is_empty())
    }
}

/// `crates/wal/src/a.rs:14:31: replace << with >>` as `wal/src/a.rs: replace << with >>`; a `|` would end a cell of the table, so it is `or`.
pub(super) fn without_place(mutant: &str) -> String {
    let (place, what) = mutant.split_once(": ").unwrap_or(("", mutant));
    let file = place.split(':').next().unwrap_or(place);
    format!("{}: {}", file.strip_prefix("crates/").unwrap_or(file), what.replace('|', "or"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survivor_is_judged_wherever_it_has_moved_to() {
        let page =
            "| `wal/src/a.rs: replace << with >> in f` | no difference |\n| `wal/src/a.rs: replace or with ^` |  |\n";
        let page = Page { text: page.into() };
        assert!(page.judges("crates/wal/src/a.rs:14:31: replace << with >> in f"));
        assert!(page.judges("crates/wal/src/a.rs:2:3: replace << with >> in f"));
        assert!(!page.judges("crates/wal/src/b.rs:14:31: replace << with >> in f"));
        assert!(!page.judges("crates/wal/src/a.rs:14:31: replace << with >>"));
        // Without a reason it is not judged.
        assert!(!page.judges("crates/wal/src/a.rs:14:31: replace | with ^"));
    }
}
