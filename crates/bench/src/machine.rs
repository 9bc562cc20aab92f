//! [`Machine`]: where and when a run was made, as far as it explains figures.

use crate::process;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// What of the machine, and of the build, explains figures. What can't be found out is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The day, in UTC: `2026-11-26`.
    pub date: String,
    /// What was measured; with `-dirty` if files were changed since.
    pub commit: Option<String>,
    /// The compiler.
    pub rustc: Option<String>,
    /// The processor.
    pub cpu: Option<String>,
    /// Threads that can run at a time.
    pub cores: usize,
    /// Its memory.
    pub memory_bytes: Option<u64>,
    /// The operating system.
    pub kernel: Option<String>,
    /// The file system that stores lay on.
    pub file_system: Option<String>,
    /// Load average of the last minute before the run: what else went on.
    pub load_before: Option<f64>,
    /// The same after it, with the run itself.
    pub load_after: Option<f64>,
}

impl Machine {
    /// Before the first measurement, in `dir` or the system's folder for temporary files.
    pub fn at_start(dir: Option<&Path>) -> Self {
        let line_of = |path: &str, name: &str| {
            let text = fs::read_to_string(path).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches([':', ' ', '\t']).trim().to_owned())
        };
        let kib = line_of("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Self {
            date: date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())),
            commit: output("git", &["describe", "--always", "--dirty", "--exclude=*"]),
            rustc: output("rustc", &["--version"]),
            cpu: line_of("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.map(|kib| kib << 10),
            kernel: kernel.map(|release| format!("{} {}", std::env::consts::OS, release.trim())),
            file_system: file_system(dir.unwrap_or(&std::env::temp_dir())),
            load_before: process::load_average(),
            load_after: None,
        }
    }

    /// After the last one.
    #[must_use]
    pub fn at_end(self) -> Self {
        Self { load_after: process::load_average(), ..self }
    }

    /// All that is known, in one line.
    pub fn line(&self) -> String {
        let memory = self.memory_bytes.map(|bytes| format!("{:.0} GiB", bytes as f64 / f64::from(1 << 30)));
        let load = self.load_before.zip(self.load_after);
        let parts = [
            self.cpu.clone(),
            Some(format!("{} cores", self.cores)),
            memory,
            self.kernel.clone(),
            self.file_system.clone(),
            self.rustc.clone(),
            self.commit.as_ref().map(|commit| format!("commit {commit}")),
            Some(self.date.clone()),
            load.map(|(before, after)| format!("load {before:.1} before, {after:.1} after")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// What a program says in one line.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    let line = String::from_utf8(output.stdout).ok()?.lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

/// The type of the mount that `dir` lies on: the longest that is a prefix.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let of_dir = fields.filter(|(point, _)| dir.starts_with(point));
    Some(of_dir.max_by_key(|(point, _)| point.len())?.1.to_owned())
}

/// The day of a time in seconds since 1970. Years are counted from March, so that a leap day is a year's last.
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) = if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year_of_era + next_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let dates = [0, 951_782_399, 951_782_400, 951_868_800, 1_735_689_599, 1_795_651_200].map(date);
        assert_eq!(dates, ["1970-01-01", "2000-02-28", "2000-02-29", "2000-03-01", "2024-12-31", "2026-11-26"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_where_it_runs() {
        let machine = Machine::at_start(None).at_end();
        assert!(machine.kernel.is_some() && machine.memory_bytes > Some(1 << 20) && machine.file_system.is_some());
        assert!(machine.line().contains("load"), "{}", machine.line());
    }
}
