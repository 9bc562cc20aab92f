//! What is needed beyond a stable compiler, and what to type where it is missing.

use std::process::{Command, Stdio};

/// How rustup's cargo is told which compiler to use.
pub(crate) const NIGHTLY: &str = "+nightly";

/// Whether the program starts, and ends well.
pub(crate) fn is_there(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.env_remove("RUSTUP_TOOLCHAIN").args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Fails, with the command to type, where the nightly compiler or one of its `components` is missing.
pub(crate) fn need_nightly(components: &[&str]) -> Result<(), String> {
    if !is_there("rustc", &[NIGHTLY, "--version"]) {
        return Err("a nightly compiler is not there: `rustup toolchain install nightly`".into());
    }
    let listed = Command::new("rustup").args(["component", "list", "--toolchain", "nightly", "--installed"]).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    match missing(&listed, components) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(format!("not there: `rustup component add --toolchain nightly {}`", missing.join(" "))),
    }
}

/// Those of `components` that no line of rustup's list names, with or without a target behind.
fn missing<'a>(listed: &str, components: &[&'a str]) -> Vec<&'a str> {
    let is_listed = |component: &&str| {
        listed.lines().any(|line| {
            line.strip_prefix(component).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', ' ']))
        })
    };
    components.iter().copied().filter(|component| !is_listed(component)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_found_with_a_target_behind_them() {
        let listed = "cargo-x86_64-unknown-linux-gnu\nmiri-x86_64-unknown-linux-gnu\nrust-src\n";
        assert_eq!(missing(listed, &["miri", "rust-src"]), [""; 0]);
        assert_eq!(missing(listed, &["mir", "llvm-tools", "rust"]), ["mir", "llvm-tools"]);
        assert_eq!(missing("", &["miri"]), ["miri"]);
    }

    #[test]
    fn a_program_that_is_missing_or_fails_is_not_there() {
        assert!(is_there("true", &[]) && !is_there("false", &[]) && !is_there("no-such-program", &[]));
    }
}
