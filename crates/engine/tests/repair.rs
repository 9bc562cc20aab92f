//! Directories damaged in every way: `verify_deep` says so, `repair` makes of what is left one that opens, and neither touches what was there.

#[path = "repair/asker.rs"]
mod asker;
#[path = "repair/deep.rs"]
mod deep;
#[path = "repair/failing.rs"]
mod failing;
#[path = "repair/logs.rs"]
mod logs;
#[path = "repair/newer.rs"]
mod newer;
#[path = "model/options.rs"]
#[expect(dead_code, reason = "the other sets of options are for other suites")]
mod options;
#[path = "repair/random.rs"]
mod random;
#[path = "repair/rebuild.rs"]
mod rebuild;
#[path = "repair/small.rs"]
mod small;
#[path = "repair/stale.rs"]
mod stale;
#[path = "repair/unreadable.rs"]
mod unreadable;
