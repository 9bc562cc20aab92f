//! The figures of [`esker::Metrics`] are what was done: each of them beside a count of its own, of calls, of events, of files that are read.

#[path = "metrics/driver.rs"]
mod driver;
#[path = "metrics/files.rs"]
mod files;
#[path = "metrics/rare.rs"]
mod rare;
#[path = "metrics/told.rs"]
mod told;

use driver::Driver;
use esker::{KeyspaceMetrics, LevelMetrics, Metrics};
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

/// A figure that is new is looked at here, or this fails.
#[test]
fn no_figure_is_left_out() {
    let tests = [
        include_str!("metrics/checks.rs"),
        include_str!("metrics/driver.rs"),
        include_str!("metrics/files.rs"),
        include_str!("metrics/rare.rs"),
    ];
    let shown = [
        format!("{:#?}", Metrics::default()),
        format!("{:#?}", KeyspaceMetrics::default()),
        format!("{:#?}", LevelMetrics::default()),
    ];
    let names = shown.iter().flat_map(|shown| shown.lines()).filter_map(|line| Some(line.trim().split_once(':')?.0));
    let names: Vec<_> = names.collect();
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        assert!(tests.iter().any(|test| test.contains(&format!(".{name}"))), "nothing looks at `{name}`");
    }
}
