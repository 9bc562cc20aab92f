//! How what was found in a folder is shown: for people, one paragraph a finding; with `--json`, objects.

use crate::failure::Result;
use crate::output::Output;
use esker::{Finding, Gravity};
use serde_json::{Value, json};

/// What is wrong first, then what is only to be known; within each file by file.
pub(super) fn show(out: &mut Output, findings: &[Finding]) -> Result {
    for finding in sorted(findings) {
        let mark = words(finding.gravity).0;
        let place = finding.offset.map_or(String::new(), |offset| format!(" at {offset}"));
        out.say(format!("{mark}: {}{place}: {}", finding.file, finding.what))?;
        out.say(format!("    means: {}", finding.meaning))?;
        out.say(format!("    to do: {}", advice(finding)))?;
    }
    Ok(())
}

/// The same for programs.
pub(super) fn to_json(findings: &[Finding]) -> Vec<Value> {
    let one = |finding: &Finding| {
        json!({
            "gravity": words(finding.gravity).1,
            "file": finding.file,
            "offset": finding.offset,
            "what": finding.what,
            "meaning": finding.meaning,
            "advice": advice(finding),
        })
    };
    sorted(findings).into_iter().map(one).collect()
}

/// How bad it is, for people and for programs.
fn words(gravity: Gravity) -> (&'static str, &'static str) {
    match gravity {
        Gravity::Note => ("note", "note"),
        Gravity::Unread => ("unread", "unread"),
        _ => ("damaged", "damage"),
    }
}

/// What is to be done, in the words of the tool.
pub(super) fn advice(finding: &Finding) -> String {
    finding.advice.replace("RecoveryMode::Salvage", "--salvage, see docs/cli.md")
}

fn sorted(findings: &[Finding]) -> Vec<&Finding> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.gravity));
    sorted
}
