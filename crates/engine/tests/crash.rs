//! Power cuts: after every operation of made-up runs, and where it matters most.

#[path = "crash/bounded.rs"]
mod bounded;
#[path = "model/driver.rs"]
mod driver;
#[path = "crash/logs.rs"]
mod logs;
#[path = "model/options.rs"]
mod options;
#[path = "crash/scripts.rs"]
mod scripts;
#[path = "crash/sweep.rs"]
mod sweep;
#[path = "crash/torn.rs"]
mod torn;
