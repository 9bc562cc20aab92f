//! Leveled compaction in three steps that know nothing of one another: pick, run, install.
//!
//! | module | step | does |
//! |---|---|---|
//! | `picker` | pick | a version goes in, a [`Plan`] comes out: pure, no I/O, no clock |
//! | `shape` | | how large each level should be, and how far behind the tree is |
//! | `plan` | | [`Plan`], and [`Busy`]: what running plans keep others away from |
//! | `iter` | run | which versions and tombstones may be dropped |
//! | `expiry` | run | what has expired for all who may read it |
//! | `iter/fold` | run | what merge operands amount to |
//! | `filter` | run | what the user has removed or replaced |
//! | `ranges` | run | what range tombstones hide, and which output takes which part of them |
//! | `garbage` | | which blob files are to be collected |
//! | `output` | run | where tables end; shared with flush |
//! | `values` | run | which values go into blob files |
//! | `job` | run | merges the inputs of a plan; takes no lock, installs nothing |
//!
//! Installing is the caller's: [`Plan::edit`] makes the edit, which is committed after the directory of the outputs is synced. An engine
//! does, under its state lock, `pick` and [`Busy::add`]; then without it [`run()`]; then, under it, commits the edit and calls [`Busy::remove`].
//! When `pick` has nothing, [`Picker::pick_garbage`] may, and then [`Picker::pick_idle`]. A manual compaction takes [`Picker::pick_range`] until it has nothing, then
//! [`Picker::pick_rewrite`].
//!
//! What holds, whatever is picked:
//! - Two plans that run at one time share no input and write to no common key range of a level.
//! - A version is never put below an older one of its key; no user key lies in two tables of a level below 0.
//! - A tombstone is dropped only when nothing older of its key lies outside the inputs and no snapshot needs it.
//!
//! ```
//! use esker_compaction::{Busy, LeveledOptions, Picker, PlanKind};
//! use esker_format::{FileId, FileNo, InternalKey, KeyspaceId, SeqNo, ValueKind};
//! use esker_manifest::{KeyspaceVersion, TableMeta};
//!
//! let table = |number: u64, from: &[u8], to: &[u8]| TableMeta {
//!     number: FileNo(number),
//!     file_id: FileId(number),
//!     file_bytes: 32 << 20,
//!     smallest: InternalKey::new(from, SeqNo(number), ValueKind::Put).to_buf(),
//!     largest: InternalKey::new(to, SeqNo(number), ValueKind::Put).to_buf(),
//!     smallest_seq: SeqNo(number),
//!     largest_seq: SeqNo(number),
//!     entries: 250_000,
//!     deletions: 0,
//!     created_unix_ms: 0,
//!     blobs: Vec::new(),
//!     ranges: None,
//!     table_seq: None,
//!     expiries: None,
//! };
//! let mut version = KeyspaceVersion::new(KeyspaceId::DEFAULT, "default", "");
//! version.levels[0] = vec![table(4, b"k", b"z").into(), table(3, b"a", b"m").into()];
//!
//! let picker = Picker::new(LeveledOptions { l0_trigger: 2, ..LeveledOptions::default() });
//! let plan = picker.pick(&version, &Busy::new()).expect("two tables are enough");
//! assert_eq!(plan.to_string(), "L0[4 3] -> L6 merge");
//! assert_eq!(plan.kind, PlanKind::Merge);
//! assert!(plan.is_bottom(), "nothing lies below: tombstones may go");
//! ```
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod changed;
mod error;
mod expiry;
mod filter;
mod garbage;
mod iter;
mod job;
mod options;
mod output;
mod picker;
mod place;
mod plan;
mod ranges;
mod relief;
mod shape;
mod span;
mod values;

pub use error::{Cause, CompactionError};
pub use expiry::Times;
pub use filter::{CompactionFilter, FilterDecision, Filtering, HasNewer};
pub use iter::{CompactionIter, Counts};
pub use job::run;
pub use options::LeveledOptions;
pub use output::{JobConfig, Outcome, Progress, Tables, write_tables};
pub use picker::Picker;
pub use place::place;
pub use plan::{Busy, Plan, PlanKind};
pub use relief::Relief;
pub use shape::Pressure;
pub use values::{BlobConfig, BlobFiles};
