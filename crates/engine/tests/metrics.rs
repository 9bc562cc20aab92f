//! The figures of [`esker::Metrics`] are what was done: each of them beside a count of its own, of calls, of events, of files that are read.

#[path = "metrics/driver.rs"]
mod driver;
#[path = "metrics/files.rs"]
mod files;
#[path = "metrics/told.rs"]
mod told;

use driver::Driver;
use esker_testkit::stress;

#[test]
fn figures_agree_with_what_was_done() {
    for round in stress::rounds("metrics", 12) {
        let mut driver = Driver::new(round.seed());
        for _ in 0..60 {
            driver.step();
            round.tried(1);
        }
        driver.check_trace();
    }
}
