//! What became of each mutant, kept under `target` from run to run, so that who has written a test tries what is left.

use std::collections::BTreeMap;
use std::path::Path;

/// By name, with line and column; what cargo-mutants calls it: `CaughtMutant`, `MissedMutant`, `Timeout`, `Unviable`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known(pub(super) BTreeMap<String, String>);

impl Known {
    /// From cargo-mutants' own file of a run.
    pub(super) fn of_run(text: &str) -> Result<Self, String> {
        let file: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("outcomes.json: {error}"))?;
        let list = file["outcomes"].as_array().ok_or("outcomes.json: there are no outcomes")?;
        let ended = list.iter().filter_map(|one| {
            let name = one["scenario"]["Mutant"]["name"].as_str()?;
            Some((name.to_owned(), one["summary"].as_str().unwrap_or("no summary").to_owned()))
        });
        Ok(Self(ended.collect()))
    }

    /// From a file of its own; nothing if that is not there.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map(Self).map_err(|error| format!("{}: {error}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    pub(super) fn store(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(&self.0).map_err(|error| error.to_string())?;
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Whether it is to be tried again: it survived, or was never tried.
    pub(super) fn is_open(&self, name: &str) -> bool {
        self.0.get(name).is_none_or(|end| end == "MissedMutant")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_survived_or_is_new_is_tried_again() {
        let one = |name: &str, summary: &str| {
            format!(r#"{{"scenario":{{"Mutant":{{"name":"{name}"}}}},"summary":"{summary}"}}"#)
        };
        let list = [one("a", "CaughtMutant"), one("b", "MissedMutant"), one("c", "Unviable"), one("d", "Timeout")];
        let known = Known::of_run(&format!(r#"{{"outcomes":[{}]}}"#, list.join(","))).unwrap();
        let open = ["a", "b", "c", "d", "e"].map(|name| known.is_open(name));
        assert_eq!(open, [false, true, false, false, true]);
        assert!(Known::of_run("{}").is_err());

        let dir = std::env::temp_dir().join(format!("esker-known-{}", std::process::id()));
        assert_eq!(Known::load(&dir).unwrap(), Known::default());
        known.store(&dir).unwrap();
        assert_eq!(Known::load(&dir).unwrap(), known);
        std::fs::remove_file(&dir).unwrap();
    }
}
