//! [`Tree`]: the workspace's files, read once.

use super::source;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use toml::Table;

/// Directories that hold no sources of ours. Those that begin with a dot are left out too, but for [`DOT_DIRECTORIES`].
const SKIPPED_DIRECTORIES: [&str; 2] = ["target", "book"];
const DOT_DIRECTORIES: [&str; 3] = [".ci", ".cargo", ".github"];

/// Longer files are data: their names count, their contents are not looked at.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Paths relative to the workspace, with `/`, and the text of what is text.
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

/// A package of the workspace.
pub(crate) struct Manifest {
    pub(crate) name: String,
    /// `crates/wal`
    pub(crate) directory: String,
    pub(crate) table: Table,
}

impl Manifest {
    /// The path of its `Cargo.toml`.
    pub(crate) fn path(&self) -> String {
        format!("{}/Cargo.toml", self.directory)
    }
}

impl Tree {
    /// Reads all files below `root`.
    pub(crate) fn load(root: &Path) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        walk(root, "", &mut files)?;
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(super) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        Self { files: files.map(|(path, text)| (path.into(), Some(text.into()))).into() }
    }

    /// All text files, in order of path.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The text of one file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether there is such a file, or a directory with files in it.
    pub(super) fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self.files.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
    }

    /// All Rust sources, taken apart into code and comments.
    pub(super) fn sources(&self) -> impl Iterator<Item = source::Source<'_>> {
        self.texts().filter(|(path, _)| path.ends_with(".rs")).map(|(path, text)| source::Source::new(path, text))
    }

    /// The packages of the workspace: those in `crates/`, and `xtask`. One that does not parse is left out; cargo says why.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = Manifest> {
        self.texts().filter_map(|(path, text)| {
            let directory = path.strip_suffix("/Cargo.toml")?;
            let ours =
                directory == "xtask" || directory.strip_prefix("crates/").is_some_and(|name| !name.contains('/'));
            let table: Table = text.parse().ok().filter(|_| ours)?;
            let name = table.get("package")?.get("name")?.as_str()?.to_owned();
            Some(Manifest { name, directory: directory.into(), table })
        })
    }

    /// The names of a package's targets in its directory `kind` (`examples`, `benches`): `x.rs` or `x/main.rs`.
    pub(crate) fn targets(&self, package_directory: &str, kind: &str) -> Vec<String> {
        let below = format!("{package_directory}/{kind}/");
        let names = self.files.keys().filter_map(|path| {
            let name = path.strip_prefix(&below)?;
            let name = name.strip_suffix("/main.rs").or(name.strip_suffix(".rs"))?;
            (!name.contains('/')).then(|| name.to_owned())
        });
        names.collect()
    }
}

fn walk(directory: &Path, prefix: &str, files: &mut BTreeMap<String, Option<String>>) -> Result<(), String> {
    let error = |error: std::io::Error| format!("{}: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(error)? {
        let entry = entry.map_err(error)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(error)?;
        if kind.is_dir() {
            let ours = !SKIPPED_DIRECTORIES.contains(&&*name) && !name.starts_with('.');
            if ours || DOT_DIRECTORIES.contains(&&*name) {
                walk(&entry.path(), &format!("{path}/"), files)?;
            }
        } else if path != ".git" {
            // (A second working tree has a file `.git`, which says where on this machine the first is.)
            // A file that goes away meanwhile (an editor's) is not ours to complain about.
            let short = entry.metadata().is_ok_and(|m| m.len() <= TEXT_BYTES_MAX);
            let text = short.then(|| fs::read(entry.path()).ok()).flatten();
            files.insert(path, text.and_then(|bytes| String::from_utf8(bytes).ok()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_exist_by_what_is_in_them() {
        let tree = Tree::of([("docs/format/keys.md", ""), ("docs/formats", "")]);
        for (path, there) in
            [("docs", true), ("docs/format/", true), ("docs/form", false), ("docs/format/keys.md", true), ("", true)]
        {
            assert_eq!(tree.exists(path), there, "{path}");
        }
    }

    #[test]
    fn targets_are_files_or_directories_with_a_main() {
        let tree = Tree::of([
            ("crates/a/examples/one.rs", ""),
            ("crates/a/examples/two/main.rs", ""),
            ("crates/a/examples/two/part.rs", ""),
            ("crates/a/examples/data.csv", ""),
            ("crates/ab/examples/other.rs", ""),
        ]);
        assert_eq!(tree.targets("crates/a", "examples"), ["one", "two"]);
    }
}
