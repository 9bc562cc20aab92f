//! Clocks and counters of a measurement: one [`Meter`] for each thread, one [`Progress`] for all.

use crate::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Measures the operations of one thread. An operation ends where the next begins, so each costs one look at the clock.
#[derive(Debug)]
pub struct Meter<'a> {
    latencies: Histogram<u64>,
    last: Instant,
    operations: u64,
    progress: &'a Progress,
}

/// Operations between two reports of a thread's progress.
const REPORT_EVERY: u64 = 1 << 10;

impl<'a> Meter<'a> {
    fn new(progress: &'a Progress) -> Self {
        // From 1 ns to 100 s, three digits: 200 KiB.
        let latencies = Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("bounds and digits are valid");
        Self { latencies, last: Instant::now(), operations: 0, progress }
    }

    /// One call has ended that did `operations`.
    #[inline]
    pub fn lap(&mut self, operations: u64) {
        let now = Instant::now();
        self.latencies.saturating_record((now - self.last).as_nanos() as u64);
        self.last = now;
        self.count(operations);
    }

    /// Operations that nobody takes the time of.
    #[inline]
    pub fn count(&mut self, operations: u64) {
        let before = self.operations;
        self.operations += operations;
        if before / REPORT_EVERY != self.operations / REPORT_EVERY {
            // Relaxed: for a display.
            self.progress.done.fetch_add(REPORT_EVERY, Ordering::Relaxed);
        }
    }
}

/// Latency of one operation, or of one batch, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half took at most this long.
    pub p50_us: f64,
    /// All but one in a hundred.
    pub p99_us: f64,
    /// All but one in a thousand.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// What the threads of a measurement did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Operations.
    pub operations: u64,
    /// From the first thread's start to the last one's end.
    pub time: Duration,
    /// `None` if no single one was timed.
    pub latency: Option<Latency>,
}

/// Runs `work` in `threads` threads at once, each with its number and a meter, and adds up.
///
/// # Errors
/// The first that a thread returned.
///
/// # Panics
/// If a thread does.
pub fn measure(
    threads: usize,
    progress: &Progress,
    work: impl Fn(usize, &mut Meter<'_>) -> Result<()> + Sync,
) -> Result<Measured> {
    let barrier = std::sync::Barrier::new(threads);
    let run = |thread: usize| {
        let mut meter = Meter::new(progress);
        barrier.wait();
        let start = Instant::now();
        meter.last = start;
        work(thread, &mut meter)?;
        Ok((meter, start, Instant::now()))
    };
    let results: Vec<Result<_>> = std::thread::scope(|scope| {
        let run = &run;
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        handles.into_iter().map(|handle| handle.join().expect("the thread did not panic")).collect()
    });
    let results = results.into_iter().collect::<Result<Vec<_>>>()?;
    let first = results.iter().map(|(_, start, _)| *start).min().expect("there is a thread");
    let last = results.iter().map(|(_, _, end)| *end).max().expect("there is a thread");
    let mut latencies = Histogram::new_with_bounds(1, 100_000_000_000, 3)?;
    for (meter, ..) in &results {
        latencies.add(&meter.latencies)?;
    }
    let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    let latency =
        Latency { p50_us: us(0.5), p99_us: us(0.99), p999_us: us(0.999), max_us: latencies.max() as f64 / 1e3 };
    Ok(Measured {
        operations: results.iter().map(|(meter, ..)| meter.operations).sum(),
        time: last - first,
        latency: (!latencies.is_empty()).then_some(latency),
    })
}

/// How far a measurement is; shown in one line of a terminal.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    ended: AtomicBool,
}

impl Progress {
    /// Does `work`, and meanwhile shows `label` and how much of `total` is done, if the standard error is a terminal.
    pub fn shown<T>(label: &str, total: u64, work: impl FnOnce(&Self) -> T) -> T {
        let progress = Self::default();
        if !std::io::stderr().is_terminal() {
            return work(&progress);
        }
        std::thread::scope(|scope| {
            let display = scope.spawn(|| progress.display(label, total));
            let result = work(&progress);
            progress.ended.store(true, Ordering::Relaxed);
            display.thread().unpark();
            result
        })
    }

    fn display(&self, label: &str, total: u64) {
        let start = Instant::now();
        let mut err = std::io::stderr();
        while !self.ended.load(Ordering::Relaxed) {
            let done = self.done.load(Ordering::Relaxed);
            let per_second = done as f64 / start.elapsed().as_secs_f64().max(1e-9);
            let percent = 100 * done / total.max(1);
            let _ = write!(err, "\r\x1b[K{label}  {percent} %  {per_second:.0}/s");
            std::thread::park_timeout(Duration::from_millis(200));
        }
        let _ = write!(err, "\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_and_laps_show_as_latency() {
        let progress = Progress::default();
        let measured = measure(3, &progress, |thread, meter| {
            for _ in 0..1100 {
                meter.count(1);
            }
            std::thread::sleep(Duration::from_millis(20));
            if thread == 1 {
                meter.lap(5);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(measured.operations, 3 * 1100 + 5);
        assert_eq!(progress.done.load(Ordering::Relaxed), 3 * REPORT_EVERY);
        let latency = measured.latency.unwrap();
        assert!(measured.time >= Duration::from_millis(20));
        assert!(latency.p50_us >= 20_000.0 && latency.p50_us <= latency.max_us * 1.001);
    }

    #[test]
    fn what_a_thread_finds_wrong_comes_out() {
        let work = |thread, _: &mut Meter<'_>| if thread == 1 { Err("wrong".into()) } else { Ok(()) };
        assert_eq!(measure(2, &Progress::default(), work).unwrap_err().to_string(), "wrong");
    }
}
