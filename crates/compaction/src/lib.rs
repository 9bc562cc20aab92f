//! placeholder
#![forbid(unsafe_code)]

mod iter;
mod options;
mod picker;
mod plan;
mod shape;
mod span;

pub use iter::{CompactionIter, Counts};
pub use options::LeveledOptions;
pub use picker::Picker;
pub use plan::{Busy, Plan, PlanKind};
pub use shape::Pressure;
