//! Workloads in the manner of `db_bench`, on Esker and on stores to compare it with.
//!
//! ```text
//! main   args -> for each repetition, workload, store: a child process -> report
//! child  job  -> fresh directory -> load, settle | measure | settle, verify -> one line of JSON
//! ```
//!
//! Each measurement is made in a process and a directory of its own, so that peak memory, caches and files are that workload's alone. Whatever is read is checked:
//! a value follows from its key ([`data`]), and walks are counted.
#![deny(unsafe_code)]

pub mod args;
pub mod compare;
pub mod data;
pub mod driver;
pub mod job;
pub mod machine;
pub mod memory_limit;
pub mod meter;
pub mod model;
pub mod page;
pub mod plan;
pub mod process;
pub mod reopen;
pub mod report;
pub mod scale;
pub mod state;
pub mod store;
pub mod work;
pub mod workload;
pub mod ycsb;

/// The error of everything here: shown to a person, never matched on.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A result whose error is for a person.
pub type Result<T> = std::result::Result<T, Error>;
