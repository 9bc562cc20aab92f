//! Options as readable text: `OPTIONS-NNNNNN`, and what the manifest stores with a keyspace (`docs/format/files.md`).
//!
//! ```text
//! # Options of an Esker engine, as it was last opened.
//! format = 1
//! comparator = bytewise
//! durability = os
//! memtable_bytes = auto
//! ```

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry;
use crate::options::{Durability, KeyspaceOptions, LogBackend, Options, RecoveryMode};
use esker_format::FileKind;
use esker_manifest::{LEVELS, Level};
use esker_sstable::{Codec, ReadMode, Verify};
use esker_vfs::{Vfs, read_file, replace_file};
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

const FORMAT: &str = "1";
const COMPARATOR: &str = "bytewise";
const AUTO: &str = "auto";
const MERGE_OPERATOR: &str = "merge_operator";
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A value with a form in text.
trait Text: Sized {
    fn show(&self) -> String;
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! text_by_std {
    ($($t:ty),*) => {$(
        impl Text for $t {
            fn show(&self) -> String {
                self.to_string()
            }

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

text_by_std!(bool, u32, u64, usize);

macro_rules! text_by_name {
    ($($t:ident { $($variant:ident = $name:literal),* })*) => {$(
        impl Text for $t {
            fn show(&self) -> String {
                match self { $($t::$variant => $name),* }.into()
            }

            fn parse(text: &str) -> Option<Self> {
                match text { $($name => Some($t::$variant),)* _ => None }
            }
        }
    )*};
}

text_by_name! {
    Durability { EngineDefault = "default", Memory = "memory", Os = "os", Sync = "sync" }
    LogBackend { Mapped = "mapped", Write = "write" }
    RecoveryMode { PointInTime = "point-in-time", Salvage = "salvage" }
    Verify { FirstUse = "first-use", Always = "always" }
    ReadMode { Map = "map", Pread = "pread", GuardedMap = "guarded-map" }
    Codec { None = "none", Lz4 = "lz4", Zstd = "zstd" }
}

impl Text for Duration {
    fn show(&self) -> String {
        format!("{} ms", self.as_millis())
    }

    fn parse(text: &str) -> Option<Self> {
        text.strip_suffix(" ms")?.parse().ok().map(Duration::from_millis)
    }
}

/// A name, in quotes.
impl Text for String {
    fn show(&self) -> String {
        format!("\"{self}\"")
    }

    fn parse(text: &str) -> Option<Self> {
        text.strip_prefix('"')?.strip_suffix('"').map(Self::from)
    }
}

impl Text for Level {
    fn show(&self) -> String {
        self.0.to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|level| usize::from(*level) < LEVELS).map(Level)
    }
}

impl<T: Text> Text for Option<T> {
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| AUTO.into(), T::show)
    }

    fn parse(text: &str) -> Option<Self> {
        if text == AUTO { Some(None) } else { T::parse(text).map(Some) }
    }
}

impl<T: Text + Copy, const N: usize> Text for [T; N] {
    fn show(&self) -> String {
        self.iter().map(T::show).collect::<Vec<_>>().join(" ")
    }

    fn parse(text: &str) -> Option<Self> {
        text.split(' ').map(T::parse).collect::<Option<Vec<T>>>()?.try_into().ok()
    }
}

/// Names each option once, for writing and for reading.
macro_rules! fields {
    ($show:ident, $set:ident, $t:ty, $($name:literal => $($path:ident).+;)*) => {
        fn $show(options: &$t) -> String {
            let mut text = String::new();
            $(writeln!(text, "{} = {}", $name, options.$($path).+.show()).expect("a string takes what is written");)*
            text
        }

        /// Whether there is an option of that name, and its value can be read.
        fn $set(options: &mut $t, name: &str, value: &str) -> Option<()> {
            match name {
                $($name => options.$($path).+ = Text::parse(value)?,)*
                _ => return None,
            }
            Some(())
        }
    };
}

fields! { show_options, set_option, Options,
    "create_if_missing" => create_if_missing;
    "durability" => durability;
    "memory_budget_bytes" => memory_budget_bytes;
    "memtable_bytes" => memtable_bytes;
    "memtable_age_max" => memtable_age_max;
    "block_cache_bytes" => block_cache_bytes;
    "block_size_bytes" => block_size_bytes;
    "compression" => compression;
    "filter_bits_per_key" => filter_bits_per_key;
    "blob_bytes_min" => blob_bytes_min;
    "compaction.l0_trigger" => compaction.l0_trigger;
    "compaction.l0_slowdown" => compaction.l0_slowdown;
    "compaction.l0_stop" => compaction.l0_stop;
    "compaction.level_base_bytes" => compaction.level_base_bytes;
    "compaction.level_ratio" => compaction.level_ratio;
    "compaction.table_bytes" => compaction.table_bytes;
    "compaction.grandparent_factor" => compaction.grandparent_factor;
    "compaction.codec_changes_at" => compaction.codec_changes_at;
    "compaction.debt_slowdown_bytes" => compaction.debt_slowdown_bytes;
    "compaction.debt_stop_bytes" => compaction.debt_stop_bytes;
    "compaction.blob_garbage_percent_max" => compaction.blob_garbage_percent_max;
    "compaction.compact_for_reads" => compaction.compact_for_reads;
    "background_threads" => background_threads;
    "wal_bytes_max" => wal_bytes_max;
    "wal_retain_bytes" => wal_retain_bytes;
    "wal_retain_age" => wal_retain_age;
    "log_backend" => log_backend;
    "verify" => verify;
    "read_mode" => read_mode;
    "recovery" => recovery;
    "transaction_tracking_bytes" => transaction_tracking_bytes;
    "flush_on_close" => flush_on_close;
}

fields! { show_keyspace, set_keyspace_option, KeyspaceOptions,
    "memtable_bytes" => memtable_bytes;
    "block_size_bytes" => block_size_bytes;
    "compression" => compression;
    "filter_bits_per_key" => filter_bits_per_key;
    "blob_bytes_min" => blob_bytes_min;
    "ttl" => ttl;
    "compaction_filter" => compaction_filter;
}

/// Those that versions before them don't know: named only where they are set, so that these can read what does not need them.
const NAMED_IF_SET: [&str; 2] = ["ttl", "compaction_filter"];

/// What the manifest stores with a keyspace.
pub(crate) fn keyspace_text(options: &KeyspaceOptions) -> String {
    if *options == KeyspaceOptions::default() {
        return String::new();
    }
    // What is begun of a millisecond counts as a whole one.
    let whole = |ttl| expiry::ttl_ms(ttl).map_or(ttl, Duration::from_millis);
    let options = KeyspaceOptions { ttl: options.ttl.map(whole), ..options.clone() };
    let text = show_keyspace(&options);
    let is_said = |line: &&str| !NAMED_IF_SET.iter().any(|name| *line == format!("{name} = {AUTO}\n"));
    let mut said: String = text.split_inclusive('\n').filter(is_said).collect();
    if let Some(name) = &options.merge_operator {
        writeln!(said, "{MERGE_OPERATOR} = {name}").expect("a string takes what is written");
    }
    said
}

/// What the manifest stored with a keyspace. An option that is not known is from a newer version, and may matter.
pub(crate) fn parse_keyspace(text: &str) -> Result<KeyspaceOptions> {
    let mut options = KeyspaceOptions::default();
    for (name, value) in lines(text) {
        // It stands there only if it is set, so that who has none needs no reader that knows of it.
        if name == MERGE_OPERATOR {
            options.merge_operator = Some(value.into());
            continue;
        }
        set_keyspace_option(&mut options, name, value).ok_or_else(|| unknown("a keyspace", name, value))?;
    }
    Ok(options)
}

/// The lines that say something, as names and values.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(" = ").unwrap_or((line, "")))
}

fn unknown(whose: &str, name: &str, value: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("options of {whose}: this version does not know {name} = {value}"))
}

/// The newest options file in `dir`; none if there is no such directory either.
pub(crate) fn newest_file(vfs: &dyn Vfs, dir: &Path) -> Result<Option<FileKind>> {
    let names = match vfs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        names => names.map_err(|error| Error::io("list", dir, error))?,
    };
    let options = |name: &String| FileKind::parse(name).filter(|kind| matches!(kind, FileKind::Options(_)));
    Ok(names.iter().filter_map(options).max())
}

fn read_text(vfs: &dyn Vfs, path: &Path) -> io::Result<String> {
    read_file(vfs, path, FILE_BYTES_MAX).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The newest options file in `dir`, and its text.
fn newest(vfs: &dyn Vfs, dir: &Path) -> Result<Option<(FileKind, String)>> {
    let Some(file) = newest_file(vfs, dir)? else { return Ok(None) };
    let path = file.path(dir);
    let text = read_text(vfs, &path).map_err(|error| Error::io("read", &path, error))?;
    Ok(Some((file, text)))
}

/// The options stored in `dir`.
pub(crate) fn read_newest(vfs: &dyn Vfs, dir: &Path) -> Result<Options> {
    let Some((file, text)) = newest(vfs, dir)? else {
        return Err(Error::new(ErrorKind::NotFound, format!("there are no options in {}", dir.display())));
    };
    let name = file.name();
    let mut options = Options::default();
    for (key, value) in lines(&text) {
        match (key, value) {
            ("format", FORMAT) | ("comparator", COMPARATOR) => {}
            _ => set_option(&mut options, key, value).ok_or_else(|| unknown(&name, key, value))?,
        }
    }
    Ok(options)
}

/// Whether the newest options file in `dir` looks as a version of this engine writes it, be it with options or values not known here.
pub(crate) fn may_be_newer(vfs: &dyn Vfs, dir: &Path) -> bool {
    let is_named =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b));
    newest(vfs, dir).ok().flatten().is_some_and(|(_, text)| {
        let is_plain = text.chars().all(|letter| letter == '\n' || !letter.is_control() && letter != '\u{fffd}');
        is_plain && text.ends_with('\n') && lines(&text).all(|(name, value)| is_named(name) && !value.is_empty())
    })
}

/// Checks what was stored against what holds for every engine of this version. Before anything else is done with the directory.
///
/// All other lines are for people and for [`read_newest`]; they keep nobody from opening. Nor does a file that can't be read: manifest and tables name the comparator too, under a checksum. Returns the text, and why
/// there is none, to be told.
pub(crate) fn check_stored(vfs: &dyn Vfs, dir: &Path) -> Result<(String, Option<Error>)> {
    let Some(file) = newest_file(vfs, dir)? else { return Ok((String::new(), None)) };
    let path = file.path(dir);
    let stored = match read_text(vfs, &path) {
        Ok(stored) => stored,
        Err(error) => return Ok((String::new(), Some(Error::io("read", &path, error)))),
    };
    if let Some((name, value)) = lines(&stored).find(|(name, value)| *name == "comparator" && *value != COMPARATOR) {
        return Err(unknown(&file.name(), name, value));
    }
    Ok((stored, None))
}

/// What the file says.
pub(crate) fn text(options: &Options) -> String {
    format!(
        "# Options of an Esker engine, as it was last opened.\nformat = {FORMAT}\ncomparator = {COMPARATOR}\n{}",
        show_options(options)
    )
}

/// Whether the options are stored as they are.
pub(crate) fn are_stored(core: &Core) -> bool {
    core.stored_options.get().is_some_and(|stored| *stored == text(&core.options))
}

/// Stores the options if they have changed.
pub(crate) fn write(core: &Core) -> Result<()> {
    if are_stored(core) {
        return Ok(());
    }
    let text = text(&core.options);
    let number = core.with_manifest(|manifest| Ok(manifest.new_file_no()?))?;
    let path = FileKind::Options(number).path(&core.dir);
    replace_file(&*core.vfs, &path, text.as_bytes()).map_err(|error| Error::io("write", &path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_reads_back_as_it_was_written() {
        let mut compression = [Codec::None; LEVELS];
        compression[3] = Codec::Zstd;
        let options = Options {
            create_if_missing: false,
            durability: Durability::Sync,
            memory_budget_bytes: 7 << 20,
            memtable_bytes: Some(123),
            blob_bytes_min: 0,
            memtable_age_max: Duration::from_millis(1234),
            compression,
            verify: Verify::Always,
            log_backend: LogBackend::Write,
            read_mode: ReadMode::GuardedMap,
            recovery: RecoveryMode::Salvage,
            transaction_tracking_bytes: 321,
            flush_on_close: false,
            ..Options::default()
        };
        let mut read = Options::default();
        for (name, value) in lines(&show_options(&options)) {
            set_option(&mut read, name, value).unwrap();
        }
        assert_eq!(read, options);
    }

    #[test]
    fn options_of_a_keyspace_read_back_and_new_ones_are_named_if_set() {
        let mut options = KeyspaceOptions { memtable_bytes: Some(9), ..Default::default() };
        assert!(!keyspace_text(&options).contains("ttl"));
        assert_eq!(parse_keyspace(&keyspace_text(&options)).unwrap(), options);
        options.ttl = Some(Duration::from_millis(7));
        assert_eq!(parse_keyspace(&keyspace_text(&options)).unwrap(), options);
        options.compaction_filter = Some("auto = 1 ".into());
        assert_eq!(parse_keyspace(&keyspace_text(&options)).unwrap(), options);
    }

    #[test]
    fn an_option_from_the_future_is_refused_by_name() {
        let error = parse_keyspace("colour = blue\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("colour = blue"), "{error}");
    }

    #[test]
    fn a_merge_operator_is_named_where_there_is_one() {
        let blobs = KeyspaceOptions { blob_bytes_min: Some(99), ..Default::default() };
        let named = |name: &str| KeyspaceOptions { merge_operator: Some(name.into()), ..blobs.clone() };
        for options in
            [named("auto"), named("a = b"), named("esker.counter"), blobs.clone(), KeyspaceOptions::default()]
        {
            options.check().unwrap();
            let text = keyspace_text(&options);
            assert_eq!(text.contains("merge_operator"), options.merge_operator.is_some());
            assert_eq!(parse_keyspace(&text).unwrap(), options);
        }
        for bad in ["", " a", "a\nb = c", &"x".repeat(256)] {
            assert_eq!(named(bad).check().unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }
}
