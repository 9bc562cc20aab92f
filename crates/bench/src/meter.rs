//! Clocks and counters of a measurement: one [`Meter`] for each thread.
//!
//! A look at the clock costs as much as a cheap read, so of the calls that take less than a few microseconds only every 17th is timed by itself: the number is
//! prime, so as not to fall in step with a period of the store's own. What the whole took is measured at its two ends.

use crate::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Of how many calls one is timed, where calls are short.
pub const SHORT_CALLS: u32 = 17;

/// How a measurement goes about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Threads that share the operations.
    pub threads: usize,
    /// Of how many calls one is timed: 1 or [`SHORT_CALLS`].
    pub timed_every: u32,
    /// Threads stop at the first timed call that ends later than this after they began.
    pub time_max: Duration,
}

/// Measures the operations of one thread.
#[derive(Debug)]
pub struct Meter {
    latencies: Histogram<u64>,
    timed_every: u32,
    /// Calls until one is timed.
    calls_left: u32,
    operations: u64,
    end: Instant,
    is_over: bool,
}

impl Meter {
    fn new(pace: &Pace) -> Self {
        Self {
            latencies: histogram(),
            timed_every: pace.timed_every,
            calls_left: 1,
            operations: 0,
            end: Instant::now() + pace.time_max,
            is_over: false,
        }
    }

    /// Makes a call that does `operations`.
    #[inline]
    pub fn call<T>(&mut self, operations: u64, work: impl FnOnce() -> T) -> T {
        self.operations += operations;
        self.calls_left -= 1;
        let start = (self.calls_left == 0).then(Instant::now);
        let result = work();
        if let Some(start) = start {
            self.record(start);
        }
        result
    }

    fn record(&mut self, start: Instant) {
        self.calls_left = self.timed_every;
        let now = Instant::now();
        self.latencies.saturating_record((now - start).as_nanos() as u64);
        self.is_over = now >= self.end;
    }

    /// Operations that nobody takes the time of.
    #[inline]
    pub fn count(&mut self, operations: u64) {
        self.operations += operations;
    }

    /// Whether the time is up: looked at between calls.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

/// From 1 ns to 100 s, three digits: 200 KiB.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("bounds and digits are valid")
}

/// Latency of one call, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half took at most this long.
    pub p50_us: f64,
    /// All but one in a hundred.
    pub p99_us: f64,
    /// All but one in a thousand.
    pub p999_us: f64,
    /// The longest of those that were timed.
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
    /// Whether a thread stopped because the time was up.
    pub is_cut_short: bool,
}

/// Runs `work` in `pace.threads` threads at once, each with its number and a meter, and adds up.
///
/// # Errors
/// The first that a thread returned.
///
/// # Panics
/// If a thread does.
pub fn measure(pace: &Pace, work: impl Fn(usize, &mut Meter) -> Result<()> + Sync) -> Result<Measured> {
    let barrier = std::sync::Barrier::new(pace.threads);
    let run = |thread: usize| {
        let mut meter = Meter::new(pace);
        barrier.wait();
        let start = Instant::now();
        meter.end = start + pace.time_max;
        work(thread, &mut meter)?;
        Ok((meter, start, Instant::now()))
    };
    let results: Vec<Result<_>> = std::thread::scope(|scope| {
        let run = &run;
        let handles: Vec<_> = (0..pace.threads).map(|thread| scope.spawn(move || run(thread))).collect();
        handles.into_iter().map(|handle| handle.join().expect("the thread did not panic")).collect()
    });
    let results = results.into_iter().collect::<Result<Vec<_>>>()?;
    let first = results.iter().map(|(_, start, _)| *start).min().expect("there is a thread");
    let last = results.iter().map(|(_, _, end)| *end).max().expect("there is a thread");
    let mut latencies = histogram();
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
        is_cut_short: results.iter().any(|(meter, ..)| meter.is_over),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { threads: 3, timed_every: 5, time_max: Duration::from_secs(100) };

    #[test]
    fn threads_add_up_and_calls_show_as_latency() {
        let measured = measure(&PACE, |thread, meter| {
            meter.count(1100);
            // Of each five calls the first is timed.
            for call in 0..6 {
                let time = if call % 5 == 0 && thread == 1 { 20 } else { 0 };
                meter.call(2, || std::thread::sleep(Duration::from_millis(time)));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(measured.operations, 3 * (1100 + 12));
        assert!(!measured.is_cut_short);
        let latency = measured.latency.unwrap();
        assert!(measured.time >= Duration::from_millis(40));
        assert!(latency.max_us >= 20_000.0 && latency.p50_us <= 20_000.0, "{latency:?}");
    }

    #[test]
    fn a_thread_learns_that_its_time_is_up() {
        let pace = Pace { threads: 1, timed_every: 1, time_max: Duration::from_millis(1) };
        let measured = measure(&pace, |_, meter| {
            while !meter.is_over() {
                meter.call(1, || std::thread::sleep(Duration::from_micros(300)));
            }
            Ok(())
        })
        .unwrap();
        assert!(measured.is_cut_short && (1..=10).contains(&measured.operations));
    }

    #[test]
    fn what_a_thread_finds_wrong_comes_out() {
        let work = |thread, _: &mut Meter| if thread == 1 { Err("wrong".into()) } else { Ok(()) };
        assert_eq!(measure(&PACE, work).unwrap_err().to_string(), "wrong");
    }
}
