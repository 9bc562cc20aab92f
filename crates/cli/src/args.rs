//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Look into and work on an Esker store: an ordered map of byte-string keys to byte-string values, in a folder.
#[derive(Debug, Parser)]
#[command(name = "esker", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit code: 0 fine, 1 not found or damage found, 2 bad use or error.")]
pub(crate) struct Cli {
    /// What holds for all commands.
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What holds for all commands.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The keyspace [default: default; for stats and compact: all of them]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) keyspace: Option<String>,
    /// Print JSON, one value a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Keys and values, given and printed, are hex
    #[arg(long, global = true)]
    pub(crate) hex: bool,
    /// Open also a store that has lost writes which were promised to last, without them; see docs/cli.md before
    #[arg(long, global = true)]
    pub(crate) salvage: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set a key to a value; durable when it returns. Makes the store if there is none
    Put {
        /// The store's folder
        db: PathBuf,
        /// The key
        #[arg(allow_negative_numbers = true)]
        key: OsString,
        /// The value
        #[arg(allow_negative_numbers = true)]
        value: OsString,
        /// How long it lives, for example 500ms, 30s, 10m, 12h or 7d [default: as its keyspace says, else for ever]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        ttl: Option<Duration>,
    },
    /// Print a key's value as it is, with nothing added
    Get {
        /// The store's folder
        db: PathBuf,
        /// The key
        #[arg(allow_negative_numbers = true)]
        key: OsString,
        /// Print when it expires instead: milliseconds since 1970, and how long that is from now; with --json beside the value
        #[arg(long)]
        expires: bool,
    },
    /// Merge an operand into the value of a key, as the keyspace's merge operator does; durable when it returns
    Merge {
        /// The store's folder
        db: PathBuf,
        /// The key
        #[arg(allow_negative_numbers = true)]
        key: OsString,
        /// The operand; for esker.counter a number, unless it is given as hex
        #[arg(allow_negative_numbers = true)]
        operand: OsString,
        /// Make store and keyspace with this merge operator if they are not there: esker.counter, esker.max, esker.min or esker.append
        #[arg(long, value_name = "NAME")]
        operator: Option<String>,
    },
    /// Remove a key; durable when it returns. Fine if it is not there
    Delete {
        /// The store's folder
        db: PathBuf,
        /// The key
        #[arg(allow_negative_numbers = true)]
        key: OsString,
    },
    /// Remove all keys from one on, up to another, which stays; durable when it returns
    DeleteRange {
        /// The store's folder
        db: PathBuf,
        /// The first key to remove, if it is there
        #[arg(allow_negative_numbers = true)]
        from: OsString,
        /// The first key behind it that stays
        #[arg(allow_negative_numbers = true)]
        to: OsString,
    },
    /// Print keys and values in key order, one KEY TAB VALUE a line (see --json, --hex)
    Scan(Scan),
    /// Store the records of a file. Makes the store if there is none
    Import(Import),
    /// Write the records of a file, sorted by key, as a table that ingest takes
    BuildTable(BuildTable),
    /// Take in tables built outside the store, all at once; durable when it returns. Makes the store if there is none
    Ingest(Ingest),
    /// Print all records in key order, in a form that import takes
    Export(Export),
    /// Print what was committed, in order, as far as the logs still have it
    Changes {
        /// The store's folder
        db: PathBuf,
        /// Only what has a sequence number above this one [default: all that can be told]
        #[arg(long, value_name = "N")]
        since: Option<u64>,
    },
    /// Show levels, sizes and counts
    Stats {
        /// The store's folder
        db: PathBuf,
    },
    /// Check every byte of every table against its checksums
    Verify {
        /// The store's folder
        db: PathBuf,
        /// Check every file, logs and manifest too, also of a store that does not open, and say all that is wrong
        #[arg(long)]
        deep: bool,
    },
    /// Merge all tables, dropping what was replaced or deleted
    Compact {
        /// The store's folder
        db: PathBuf,
    },
    /// Make a copy of the store as it is now, sharing the tables' files where the file system can
    Checkpoint {
        /// The store's folder
        db: PathBuf,
        /// The copy's folder, which must be new or empty
        to: PathBuf,
    },
    /// Say in plain words what is wrong with a store and what to do; changes nothing
    Doctor {
        /// The store's folder
        db: PathBuf,
    },
    /// Make a new store of what can be read of a damaged one, which is not touched, and say what is lost
    Repair {
        /// The damaged store's folder
        from: PathBuf,
        /// The new store's folder, which must be new or empty
        to: PathBuf,
    },
    /// Print what a single file holds, as far as it can be read, and then what is wrong with it
    Dump {
        /// What kind of file it is
        kind: DumpKind,
        /// The file
        file: PathBuf,
    },
    /// Load a million records, kill the loading process in the middle, and prove that nothing acknowledged was lost
    Demo(Demo),
    /// The part of demo that is killed
    #[command(hide = true)]
    DemoLoad {
        /// The store's folder
        db: PathBuf,
        /// How many records
        records: u64,
    },
}

/// Arguments of `scan`.
#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// The store's folder
    pub(crate) db: PathBuf,
    /// Only keys that begin with this
    #[arg(long, value_name = "BYTES")]
    pub(crate) prefix: Option<OsString>,
    /// Only keys at or behind this
    #[arg(long, value_name = "KEY")]
    pub(crate) from: Option<OsString>,
    /// Only keys before this
    #[arg(long, value_name = "KEY")]
    pub(crate) to: Option<OsString>,
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Without the values
    #[arg(long)]
    pub(crate) keys_only: bool,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The store's folder
    pub(crate) db: PathBuf,
    /// Where the records come from
    #[command(flatten)]
    pub(crate) input: Input,
    /// The keys ascend, each comes once: write tables straight away, past the log, and store all records or none
    #[arg(long)]
    pub(crate) sorted: bool,
}

/// Arguments of `build-table`.
#[derive(Debug, Args)]
pub(crate) struct BuildTable {
    /// Where the records come from, in ascending order of their keys
    #[command(flatten)]
    pub(crate) input: Input,
    /// The table, a file that is not there yet
    pub(crate) table: PathBuf,
}

/// Arguments of `ingest`.
#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// The store's folder
    pub(crate) db: PathBuf,
    /// The tables, of which none overlaps another
    #[arg(required = true)]
    pub(crate) tables: Vec<PathBuf>,
    /// Take the files over instead of copying them
    #[arg(long = "move")]
    pub(crate) moves: bool,
}

/// A file of records.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// The file; - for standard input
    pub(crate) file: PathBuf,
    /// How the file is written [default: pairs; with --key as the file's name ends, else jsonl]
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// The field or column whose text is the key; the value is the record as it stands
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,
    /// Double quotes in csv or tsv mean nothing special
    #[arg(long)]
    pub(crate) no_quotes: bool,
    /// Leave out what is not a record, and go on
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Longest record, in bytes; K, M and G may follow the number
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = parse_bytes)]
    pub(crate) record_limit: usize,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The store's folder
    pub(crate) db: PathBuf,
    /// How to write: pairs for any keys and values, the others for values that are such records [default: pairs; jsonl with --key]
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// Refuse to go on at a record whose field or column FIELD is not its key
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,
    /// Line to put before csv or tsv records
    #[arg(long, value_name = "LINE")]
    pub(crate) header: Option<OsString>,
    /// Double quotes in csv or tsv mean nothing special
    #[arg(long)]
    pub(crate) no_quotes: bool,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How many records
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// Work in this folder, which must be new or empty, and leave the store there
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// How records are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON objects, one a line
    Jsonl,
    /// Comma-separated values after a header line
    Csv,
    /// Tab-separated values after a header line
    Tsv,
    /// {"key":..,"value":..} a line, hex where not UTF-8: moves any keyspace
    Pairs,
}

/// Kinds of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DumpKind {
    /// A write-ahead log, NNNNNN.wal
    Wal,
    /// A sorted table, NNNNNN.sst
    Sst,
    /// A blob file, NNNNNN.blob
    Blob,
    /// A manifest, MANIFEST-NNNNNN
    Manifest,
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((end, 'K' | 'k')) => (&text[..end], 1 << 10),
        Some((end, 'M' | 'm')) => (&text[..end], 1 << 20),
        Some((end, 'G' | 'g')) => (&text[..end], 1 << 30),
        _ => (text, 1),
    };
    let number: usize = number.parse().map_err(|_| "a number is expected, and K, M or G may follow it".to_owned())?;
    number.checked_mul(unit).filter(|&bytes| bytes > 0).ok_or_else(|| "out of range".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a number and ms, s, m, h or d are expected".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a number and ms, s, m, h or d are expected".to_owned())?;
    let ms = number.checked_mul(unit_ms).filter(|&ms| ms > 0).ok_or("out of range")?;
    Ok(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_take_units() {
        let ms = |text: &str| parse_duration(text).map(|found| found.as_millis());
        assert_eq!([ms("5ms"), ms("30s"), ms("10m")], [Ok(5), Ok(30_000), Ok(600_000)]);
        assert_eq!([ms("12h"), ms("7d")], [Ok(43_200_000), Ok(604_800_000)]);
        for bad in ["", "5", "s", "0s", "-1s", "1.5h", "1w", "99999999999999999999s", "9999999999999999999d", "5é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_take_units() {
        assert_eq!(parse_bytes("12"), Ok(12));
        assert_eq!(parse_bytes("2K"), Ok(2048));
        assert_eq!(parse_bytes("1g"), Ok(1 << 30));
        for bad in ["", "K", "0", "-1", "1.5M", "99999999999999999999", "18446744073709551615K", "1é"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
