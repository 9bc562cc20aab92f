//! Progress on standard error: how far, how fast, how long still. Only on a terminal; nothing at all elsewhere.

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::{IsTerminal, stderr};

const BYTES_BAR: &str = "{msg} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
const BYTES: &str = "{spinner} {msg} {bytes}  {bytes_per_sec}";
const COUNT_BAR: &str = "{msg} {wide_bar} {human_pos}/{human_len}  {rate}  {eta} left";
const COUNT: &str = "{spinner} {msg} {human_pos}  {rate}";

/// Progress through so many bytes, or through bytes without a known end.
pub(crate) fn bytes(doing: &'static str, total: Option<u64>) -> ProgressBar {
    bar(doing, total, if total.is_some() { BYTES_BAR } else { BYTES })
}

/// Progress through so many records, or through records without a known count.
pub(crate) fn records(doing: &'static str, total: Option<u64>) -> ProgressBar {
    bar(doing, total, if total.is_some() { COUNT_BAR } else { COUNT })
}

fn bar(doing: &'static str, total: Option<u64>, template: &str) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the templates above are well formed");
    let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{}/s", HumanCount(state.per_sec() as u64)); // the bar takes anything
    });
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
    bar.with_style(style).with_message(doing)
}
