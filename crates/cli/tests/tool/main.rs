//! The tool, run as its users run it: one process a command, judged by exit code, standard output and standard error.

mod bad_disk;
mod damage;
mod demo;
mod doctor;
mod dump;
mod full;
mod keys;
mod misuse;
mod names;
mod packages;
mod records;
mod scan;
mod tables;
mod upkeep;

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What came of one run.
struct Ran {
    code: i32,
    out: Vec<u8>,
    err: String,
    line: String,
}

impl Ran {
    /// Standard output of a run that went well and had nothing to complain of.
    #[track_caller]
    fn bytes(self) -> Vec<u8> {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.line);
        self.out
    }

    /// The same as text.
    #[track_caller]
    fn text(self) -> String {
        String::from_utf8(self.bytes()).expect("text")
    }

    /// The same as one JSON value.
    #[track_caller]
    fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.text()).expect("one JSON value")
    }

    /// The one line on standard error of a run that ended with `code`.
    #[track_caller]
    fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}: {}", self.line, self.err);
        let message = self.err.strip_prefix("esker: ").and_then(|rest| rest.strip_suffix('\n'));
        let message = message.unwrap_or_else(|| panic!("{}: said {:?}", self.line, self.err));
        assert!(!message.contains('\n'), "{}: more than one line: {message}", self.line);
        message.to_owned()
    }
}

fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esker"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ran(mut command: Command) -> Ran {
    let line = format!("{command:?}").chars().take(300).collect();
    let output = command.output().expect("the tool starts");
    let code = output.status.code().unwrap_or_else(|| panic!("{line}: {}", output.status));
    Ran { code, out: output.stdout, err: String::from_utf8(output.stderr).expect("text"), line }
}

/// A folder for one test, and in it the path of a store, `db`.
struct Place {
    dir: TempDir,
    db: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let db = dir.path().join("db");
        Self { dir, db }
    }

    /// Runs `esker` with these words, of which `DB` stands for the store's path and `DIR/..` for one beside it.
    fn esker<const N: usize>(&self, words: [&str; N]) -> Ran {
        ran(command(words.map(|word| self.word(word))))
    }

    /// The same, given `input` on standard input.
    fn esker_fed<const N: usize>(&self, words: [&str; N], input: &[u8]) -> Ran {
        let file = self.file("standard-input", input);
        let mut command = command(words.map(|word| self.word(word)));
        command.stdin(std::fs::File::open(file).expect("just written"));
        ran(command)
    }

    /// The same, by somebody who has no right to read this file.
    fn without_rights<const N: usize>(&self, file: &Path, words: [&str; N]) -> Ran {
        let mut denied = command(words.map(|word| self.word(word)));
        let rights = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("rights");
        if std::fs::metadata(file).expect("a file").uid() == 0 {
            // Root has them all: somebody else runs it, from where everybody comes.
            let tool = self.path("tool");
            std::fs::copy(env!("CARGO_BIN_EXE_esker"), &tool).expect("the tool is copied");
            [self.dir.path(), &self.db, &tool].into_iter().for_each(|path| rights(path, 0o755));
            files(&self.db).iter().for_each(|(name, ..)| rights(&self.db.join(name), 0o644));
            let nobody = 65534;
            denied = Command::new(tool);
            denied.args(words.map(|word| self.word(word))).stdin(Stdio::null()).uid(nobody).gid(nobody);
        }
        rights(file, 0);
        let ran = ran(denied);
        rights(file, 0o644);
        ran
    }

    fn word(&self, word: &str) -> PathBuf {
        match word.strip_prefix("DIR/") {
            Some(name) => self.path(name),
            None if word == "DB" => self.db.clone(),
            None => PathBuf::from(word),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("a file is written");
        path
    }

    /// The store's files: name, length and time of change.
    fn files(&self) -> Vec<(String, u64, std::time::SystemTime)> {
        files(&self.db)
    }

    /// The path of the manifest that CURRENT names.
    fn newest_manifest(&self) -> PathBuf {
        let current = std::fs::read_to_string(self.db.join("CURRENT")).expect("a store");
        self.db.join(current.split_whitespace().next().expect("a name"))
    }

    /// The path of the newest file of the store whose name ends so.
    fn newest(&self, ending: &str) -> PathBuf {
        let names = self.files().into_iter().map(|(name, ..)| name).filter(|name| name.ends_with(ending));
        self.db.join(names.max().unwrap_or_else(|| panic!("no file *{ending} in {:?}", self.files())))
    }
}

fn files(folder: &Path) -> Vec<(String, u64, std::time::SystemTime)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable"));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let metadata = entry.metadata().expect("readable");
            (entry.file_name().into_string().expect("our names"), metadata.len(), metadata.modified().expect("a time"))
        })
        .collect();
    files.sort();
    files
}
