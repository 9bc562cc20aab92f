//! What was counted before, for each compiler and machine, and how a new count compares with it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// A part may take this much more than recorded, in percent.
const MORE_PERCENT_MAX: f64 = 5.0;

const HEAD: &str = "# Instructions an entry of each hot part. Written by `cargo xtask bench gate --record` and compared by \
                    `cargo xtask bench gate`; docs/benchmarks.md says more.\n";

/// Instructions by the entry, by part.
pub(super) type Counts = BTreeMap<String, f64>;

/// What counts depend on beside the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setup {
    /// Version of the compiler.
    pub(super) rustc: String,
    /// Target, instructions that are chosen at run time, and how logs are written.
    pub(super) machine: String,
    /// Version of the C library, whose `memcpy` and `malloc` are counted too.
    pub(super) libc: String,
    /// Version of what counts.
    pub(super) valgrind: String,
}

impl Setup {
    /// Whether counts of the two compare, so that one too high is a failure. Another C library or valgrind moves them a little, which is told.
    fn fits(&self, other: &Self) -> bool {
        (&self.rustc, &self.machine) == (&other.rustc, &other.machine)
    }

    /// What is not the same, as `rustc 1.95.0, here 1.96.0`.
    fn differences(&self, here: &Self) -> Vec<String> {
        let pairs = [
            ("rustc", &self.rustc, &here.rustc),
            ("machine", &self.machine, &here.machine),
            ("libc", &self.libc, &here.libc),
            ("valgrind", &self.valgrind, &here.valgrind),
        ];
        let different = pairs.into_iter().filter(|(_, recorded, here)| recorded != here);
        different.map(|(name, recorded, here)| format!("{name} {recorded}, here {here}")).collect()
    }
}

/// Counts under one setup.
#[derive(Debug, Clone, PartialEq)]
struct Record {
    setup: Setup,
    counts: Counts,
}

/// All records there are: one for each setup, the latest last.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Records(Vec<Record>);

impl Records {
    /// Reads a file; one that is not there has none.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        Self::parse(&text).map_err(|what| format!("{}: {what}", path.display()))
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), String> {
        fs::write(path, self.to_string()).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let records = table.get("record").and_then(Value::as_array).ok_or("no `[[record]]`")?;
        records.iter().map(record).collect::<Result<_, _>>().map(Self)
    }

    /// The record of this setup; else the latest of this compiler; else the latest.
    fn nearest(&self, setup: &Setup) -> Option<&Record> {
        let latest = |fits: &dyn Fn(&Setup) -> bool| self.0.iter().rfind(|record| fits(&record.setup));
        latest(&|other| other.fits(setup)).or_else(|| latest(&|other| other.rustc == setup.rustc)).or(self.0.last())
    }
}

fn record(value: &Value) -> Result<Record, String> {
    let text = |name: &str| {
        let text = value.get(name).and_then(Value::as_str).map(String::from);
        text.ok_or_else(|| format!("a record without `{name}`"))
    };
    let setup =
        Setup { rustc: text("rustc")?, machine: text("machine")?, libc: text("libc")?, valgrind: text("valgrind")? };
    let counts = value.get("instructions").and_then(Value::as_table).ok_or("a record without `instructions`")?;
    let count = |(part, count): (&String, &Value)| {
        let count = count.as_float().filter(|count| *count > 0.0 && count.is_finite());
        count.map(|count| (part.clone(), count)).ok_or_else(|| format!("`{part}` has no count"))
    };
    Ok(Record { setup, counts: counts.iter().map(count).collect::<Result<_, _>>()? })
}

/// As the file is: one line for each part, so that a difference of two commits shows what moved.
impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEAD}")?;
        for Record { setup: Setup { rustc, machine, libc, valgrind }, counts } in &self.0 {
            writeln!(f, "\n[[record]]")?;
            for (name, text) in [("rustc", rustc), ("machine", machine), ("libc", libc), ("valgrind", valgrind)] {
                writeln!(f, "{name} = {}", Value::String(text.clone()))?;
            }
            writeln!(f, "[record.instructions]")?;
            for (part, count) in counts {
                writeln!(f, "{part} = {count:.2}")?;
            }
        }
        Ok(())
    }
}

/// One part beside its record.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    part: String,
    recorded: Option<f64>,
    now: f64,
}

impl Row {
    fn change_percent(&self) -> Option<f64> {
        let recorded = self.recorded?;
        Some(100.0 * (self.now - recorded) / recorded)
    }

    fn remark(&self) -> &'static str {
        match self.change_percent() {
            None => "not recorded",
            Some(percent) if percent > MORE_PERCENT_MAX => "MORE",
            Some(percent) if percent < -MORE_PERCENT_MAX => "fewer",
            Some(_) => "",
        }
    }
}

/// New counts beside the nearest record. Its `Display` is the table.
pub(super) struct Comparison {
    setup: Setup,
    /// What the nearest record was made under; `None` if there is no record at all.
    recorded: Option<Setup>,
    rows: Vec<Row>,
    /// Recorded parts that there are no more.
    gone: Vec<String>,
}

impl Comparison {
    /// `is_whole`: all parts were counted, so that one without a count is gone.
    pub(super) fn new(records: &Records, setup: Setup, counts: Counts, is_whole: bool) -> Self {
        let record = records.nearest(&setup);
        let recorded = |part: &str| record.and_then(|record| record.counts.get(part).copied());
        let all = record.into_iter().flat_map(|record| record.counts.keys());
        let gone = all.filter(|part| is_whole && !counts.contains_key(*part)).cloned().collect();
        let rows = counts.into_iter().map(|(part, now)| Row { recorded: recorded(&part), part, now }).collect();
        Self { setup, recorded: record.map(|record| record.setup.clone()), rows, gone }
    }

    /// Whether a count too high fails.
    fn is_binding(&self) -> bool {
        self.recorded.as_ref().is_some_and(|recorded| recorded.fits(&self.setup))
    }

    /// Fails where a part takes too much, or was not recorded, under the setup that the record was made under. Under another nothing fails.
    pub(super) fn verdict(&self) -> Result<(), String> {
        if !self.is_binding() {
            return Ok(());
        }
        let with = |remark: &str| {
            let rows = self.rows.iter().filter(|row| row.remark() == remark);
            rows.map(|row| row.part.as_str()).collect::<Vec<_>>().join(", ")
        };
        let failures = [
            (format!("more than {MORE_PERCENT_MAX} % above the record"), with("MORE")),
            ("without a record".into(), with("not recorded")),
            ("recorded, but there no more".into(), self.gone.join(", ")),
        ];
        let failures = failures.iter().filter(|(_, parts)| !parts.is_empty());
        let failures: Vec<_> = failures.map(|(what, parts)| format!("instructions: {what}: {parts}")).collect();
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n  ")) }
    }

    /// Takes the counts over; parts that were not counted keep theirs.
    pub(super) fn record_in(&self, records: &mut Records) {
        let counted = self.rows.iter().map(|row| (row.part.clone(), row.now));
        let old = records.0.iter().position(|record| record.setup.fits(&self.setup)).map(|at| records.0.remove(at));
        let mut counts = old.map(|record| record.counts).unwrap_or_default();
        counts.retain(|part, _| !self.gone.contains(part));
        counts.extend(counted);
        records.0.push(Record { setup: self.setup.clone(), counts });
    }

    /// All of it, for programs.
    pub(super) fn json(&self) -> String {
        let Setup { rustc, machine, libc, valgrind } = &self.setup;
        let mut text = String::from("{\n");
        for (name, value) in [("rustc", rustc), ("machine", machine), ("libc", libc), ("valgrind", valgrind)] {
            // Writing to a string does not fail; nor below.
            let _ = writeln!(text, "  \"{name}\": {},", json_string(value));
        }
        let _ = writeln!(text, "  \"is_binding\": {},", self.is_binding());
        let number = |number: Option<f64>| number.map_or_else(|| "null".into(), |number| format!("{number:.2}"));
        let rows = self.rows.iter().map(|row| {
            let (part, recorded, now) = (json_string(&row.part), number(row.recorded), row.now);
            let change = number(row.change_percent());
            format!(
                "    {{ \"part\": {part}, \"recorded\": {recorded}, \"now\": {now:.2}, \"change_percent\": {change} }}"
            )
        });
        let _ = write!(text, "  \"instructions_an_entry\": [\n{}\n  ]\n}}\n", rows.collect::<Vec<_>>().join(",\n"));
        text
    }
}

fn json_string(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.into(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<18}{:>12}{:>12}{:>12}", "part", "recorded", "now", "change")?;
        for row in &self.rows {
            let recorded = row.recorded.map_or_else(|| "-".into(), |recorded| format!("{recorded:.2}"));
            // Without a sign before nothing: rounded counts differ in their last digit from those that are not.
            let percent = row.change_percent().map(|percent| if percent.abs() < 0.005 { 0.0 } else { percent });
            let change = percent.map_or_else(|| "-".into(), |percent| format!("{percent:+.2} %"));
            let line = format!("{:<18}{recorded:>12}{:>12.2}{change:>12}  {}", row.part, row.now, row.remark());
            writeln!(f, "{}", line.trim_end())?;
        }
        let Setup { rustc, machine, libc, valgrind } = &self.setup;
        writeln!(f, "instructions an entry; rustc {rustc}; {machine}; {libc}; valgrind {valgrind}")?;
        let Some(recorded) = &self.recorded else {
            return writeln!(f, "nothing is recorded, so nothing fails; `--record` makes a record");
        };
        let differences = recorded.differences(&self.setup).join("; ");
        match (self.is_binding(), differences.as_str()) {
            (true, "") => {}
            (true, differences) => writeln!(f, "recorded with {differences}: that moves counts a little")?,
            (false, differences) => writeln!(
                f,
                "recorded with {differences}: the difference is shown, and nothing fails; `--record` adds a record"
            )?,
        }
        if self.is_binding() && self.rows.iter().any(|row| row.remark() == "fewer") {
            writeln!(f, "some take fewer than recorded: `--record` makes that the bar")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With quotes, which a file has to escape.
    const RUSTC: &str = "1.95.0 (a \"b\")";

    fn setup(rustc: &str) -> Setup {
        let machine = "x86_64-linux avx2, logs mapped".into();
        Setup { rustc: rustc.into(), machine, libc: "glibc 2.36".into(), valgrind: "3.19.0".into() }
    }

    fn counts<const N: usize>(counts: [(&str, f64); N]) -> Counts {
        counts.into_iter().map(|(part, count)| (part.into(), count)).collect()
    }

    fn records() -> Records {
        Records(vec![Record { setup: setup(RUSTC), counts: counts([("get", 800.0), ("put", 5354.49)]) }])
    }

    fn compare<const N: usize>(rustc: &str, now: [(&str, f64); N]) -> Comparison {
        Comparison::new(&records(), setup(rustc), counts(now), true)
    }

    #[test]
    fn five_percent_more_pass_and_a_little_over_fails_by_name() {
        assert_eq!(compare(RUSTC, [("get", 840.0), ("put", 5354.49)]).verdict(), Ok(()));
        let worse = compare(RUSTC, [("get", 840.1), ("put", 5354.49)]);
        assert_eq!(worse.verdict(), Err("instructions: more than 5 % above the record: get".into()));
        let row = ["get", "800.00", "840.10", "+5.01", "%", "MORE"];
        let is_row = |line: &str| line.split_whitespace().eq(row);
        assert!(worse.to_string().lines().any(is_row), "{worse}");
    }

    #[test]
    fn fewer_ask_for_a_record_and_do_not_fail() {
        let better = compare(RUSTC, [("get", 700.0), ("put", 5354.49)]);
        assert_eq!(better.verdict(), Ok(()));
        assert!(
            better.to_string().contains("-12.50 %  fewer\n") && better.to_string().contains("--record"),
            "{better}"
        );
    }

    #[test]
    fn parts_without_a_record_and_records_without_a_part_fail() {
        let other = compare(RUSTC, [("seek", 1.0), ("put", 5354.49)]);
        let expected = "instructions: without a record: seek\n  instructions: recorded, but there no more: get";
        assert_eq!(other.verdict(), Err(expected.into()));
        let some = Comparison::new(&records(), setup(RUSTC), counts([("put", 5354.49)]), false);
        assert_eq!(some.verdict(), Ok(()), "only some were counted");
    }

    #[test]
    fn another_compiler_or_machine_is_shown_and_fails_nothing() {
        let newer = compare("1.96.0", [("get", 9000.0), ("put", 5354.49)]);
        assert_eq!(newer.verdict(), Ok(()));
        let text = newer.to_string();
        let told = format!("rustc {RUSTC}, here 1.96.0: the difference is shown");
        assert!(text.contains("+1025.00 %  MORE") && text.contains(&told), "{text}");

        let elsewhere = Setup { machine: "aarch64-linux crc, logs mapped".into(), ..setup(RUSTC) };
        let elsewhere = Comparison::new(&records(), elsewhere, counts([("get", 9000.0)]), true);
        assert_eq!(elsewhere.verdict(), Ok(()));
        let none = Comparison::new(&Records::default(), setup("1.95.0"), counts([("get", 9000.0)]), true);
        assert_eq!(none.verdict(), Ok(()));
        assert!(none.to_string().contains("nothing is recorded"), "{none}");
    }

    #[test]
    fn another_c_library_is_told_of_and_binds_all_the_same() {
        let other = Setup { libc: "glibc 2.41".into(), ..setup(RUSTC) };
        let other = Comparison::new(&records(), other, counts([("get", 9000.0), ("put", 5354.49)]), true);
        assert!(other.verdict().is_err() && other.to_string().contains("libc glibc 2.36, here glibc 2.41"), "{other}");
    }

    #[test]
    fn a_record_replaces_its_own_setup_and_leaves_others_and_reads_back() {
        let mut all = records();
        compare("1.96.0", [("get", 7.0), ("put", 8.0)]).record_in(&mut all);
        let same = setup(RUSTC);
        Comparison::new(&all, same.clone(), counts([("get", 790.5)]), false).record_in(&mut all);
        assert_eq!(all.0.len(), 2);
        let binding = all.nearest(&same).unwrap();
        assert_eq!(binding.counts, counts([("get", 790.5), ("put", 5354.49)]), "what was not counted stays");
        assert_eq!(Records::parse(&all.to_string()), Ok(all.clone()));

        let other_machine = Setup { machine: "riscv64-linux".into(), ..setup("1.96.0") };
        assert_eq!(all.nearest(&other_machine).unwrap().setup.rustc, "1.96.0", "of the same compiler before another's");
    }

    #[test]
    fn a_file_that_is_wrong_is_refused() {
        let whole = records().to_string();
        for (from, to) in [
            ("rustc = ", "rust = "),
            ("800.00", "0.0"),
            ("800.00", "\"many\""),
            ("[[record]]", "[[x]]"),
            ("800.00", ""),
        ] {
            assert!(Records::parse(&whole.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn json_has_what_the_table_has() {
        let json = compare(RUSTC, [("get", 840.0), ("seek", 3.0)]).json();
        assert!(
            json.contains("\"rustc\": \"1.95.0 (a \\\"b\\\")\"") && json.contains("\"is_binding\": true"),
            "{json}"
        );
        let [get, seek] = [("get", "800.00", "840.00", "5.00"), ("seek", "null", "3.00", "null")].map(|row| {
            let (part, recorded, now, change) = row;
            format!(
                "{{ \"part\": \"{part}\", \"recorded\": {recorded}, \"now\": {now}, \"change_percent\": {change} }}"
            )
        });
        assert!(json.contains(&format!("{get},\n")) && json.contains(&format!("{seek}\n")), "{json}");
    }
}
