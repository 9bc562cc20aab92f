//! Directories damaged in every way: `verify_deep` says so, `repair` makes of what is left one that opens, and neither touches what was there.

#[path = "repair/deep.rs"]
mod deep;
#[path = "model/options.rs"]
mod options;
#[path = "repair/small.rs"]
mod small;
