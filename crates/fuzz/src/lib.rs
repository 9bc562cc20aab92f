//! Fuzz targets: one for each decoder, and one for the engine as a whole.
//!
//! ```text
//! data ── make ──> file, its checksums right ── attack ──> error or answer, never a panic, a hang, or much memory
//! ```
//! A [`Target`] is a pair of plain functions, so the same bodies run under cargo-fuzz, in a short test on a stable compiler, and for as long as one likes.
//! `make` costs whatever it costs; `attack` is what is judged, its memory too.
//!
//! Deliberately absent: coverage (cargo-fuzz has it), and a judgement of what hostile bytes that pass their checksums *mean*: whatever they say is the answer. Where two ways of
//! reading must agree all the same, `attack` asserts that they do.
//!
//! ```
//! let target = esker_fuzz::target("batch").unwrap();
//! target.run(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
//! ```
#![forbid(unsafe_code)]

mod blob;
mod bytes;
mod corpus;
mod damage;
mod directory;
mod engine;
mod feed;
mod log;
mod manifest;
mod mutate;
mod options;
mod outside;
mod salvage;
mod sign;
mod table;
mod text;

pub use corpus::corpus;
pub use mutate::{Random, mutated};

/// One thing to be fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, on the command line and as a directory of the corpus.
    pub name: &'static str,
    /// What is given to `attack`: mostly the data with its checksums made right.
    pub make: fn(&[u8]) -> Vec<u8>,
    /// Reads the bytes in every way there is.
    ///
    /// # Panics
    /// If something is wrong with Esker.
    pub attack: fn(Vec<u8>),
    /// How much heap `attack` may have in use at once.
    pub heap: Heap,
}

/// A bound of memory: `ratio` times the input, and `fixed_bytes`.
#[derive(Debug, Clone, Copy)]
pub struct Heap {
    /// Two, but where bytes are compressed: a block of LZ4 may be 255 times what is stored.
    pub ratio: usize,
    /// What a reader takes whatever it reads.
    pub fixed_bytes: usize,
}

impl Heap {
    /// The bound for an input of `len` bytes.
    pub fn max_bytes(self, len: usize) -> usize {
        self.ratio * len + self.fixed_bytes
    }

    /// Twice the input, and what readers of one file take whatever is in it.
    const DECODER: Self = Self { ratio: 2, fixed_bytes: 48 << 10 };
    /// As that, with blocks of LZ4.
    const COMPRESSED: Self = Self { ratio: 2 + 255, ..Self::DECODER };
    /// An engine has a budget of its own, and caches, tables and windows whatever is in them.
    const ENGINE: Self = Self { ratio: 257, fixed_bytes: 24 << 20 };
}

impl Target {
    /// Runs it on `data`.
    ///
    /// # Panics
    /// If something is wrong with Esker.
    pub fn run(&self, data: &[u8]) {
        (self.attack)((self.make)(data));
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "log", make: sign::log, attack: log::attack, heap: Heap::DECODER },
    Target { name: "batch", make: <[u8]>::to_vec, attack: log::attack_batch, heap: Heap::DECODER },
    Target { name: "table", make: sign::table, attack: table::attack, heap: Heap::COMPRESSED },
    Target { name: "table_footer", make: table::with_footer, attack: table::attack, heap: Heap::DECODER },
    Target { name: "table_index", make: table::with_index, attack: table::attack, heap: Heap::DECODER },
    Target { name: "table_block", make: table::with_block, attack: table::attack, heap: Heap::DECODER },
    Target { name: "table_lz4", make: table::with_lz4, attack: table::attack, heap: Heap::COMPRESSED },
    Target { name: "table_filter", make: table::with_filter, attack: table::attack, heap: Heap::DECODER },
    Target { name: "table_ranges", make: table::with_ranges, attack: table::attack, heap: Heap::DECODER },
    Target { name: "table_properties", make: table::with_properties, attack: table::attack, heap: Heap::DECODER },
    Target { name: "blob", make: sign::blob, attack: blob::attack, heap: Heap::DECODER },
    Target { name: "blob_reference", make: <[u8]>::to_vec, attack: blob::attack_reference, heap: Heap::DECODER },
    Target { name: "manifest", make: sign::log, attack: manifest::attack, heap: manifest::DIRECTORY_HEAP },
    Target { name: "manifest_edit", make: <[u8]>::to_vec, attack: manifest::attack_edit, heap: manifest::HEAP },
    Target { name: "current", make: <[u8]>::to_vec, attack: manifest::attack_current, heap: manifest::DIRECTORY_HEAP },
    Target { name: "file_name", make: <[u8]>::to_vec, attack: text::attack_file_name, heap: Heap::DECODER },
    Target { name: "edit_text", make: <[u8]>::to_vec, attack: text::attack_edit_text, heap: manifest::HEAP },
    Target { name: "options", make: <[u8]>::to_vec, attack: options::attack, heap: Heap::DECODER },
    Target { name: "keyspace_options", make: <[u8]>::to_vec, attack: options::attack_keyspace, heap: Heap::ENGINE },
    Target { name: "changes", make: sign::log, attack: feed::attack, heap: Heap::ENGINE },
    Target { name: "salvage_table", make: sign::table, attack: salvage::attack_table, heap: Heap::COMPRESSED },
    Target {
        name: "salvage_manifest",
        make: sign::log,
        attack: salvage::attack_manifest,
        heap: manifest::DIRECTORY_HEAP,
    },
    Target { name: "outside", make: sign::table, attack: outside::attack, heap: Heap::ENGINE },
    Target { name: "directory", make: <[u8]>::to_vec, attack: directory::attack, heap: Heap::ENGINE },
    Target { name: "engine", make: <[u8]>::to_vec, attack: engine::attack, heap: Heap::ENGINE },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
