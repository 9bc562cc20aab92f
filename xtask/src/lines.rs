//! A program whose output is read line by line, while it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Starts `command` with nothing to read; what it prints, on either of its outputs, comes as lines.
pub(crate) fn start(command: &mut Command) -> Result<(Child, Receiver<String>), String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut process = started.map_err(|error| format!("`{}` did not start: {error}", crate::command_line(command)))?;
    let (sender, lines) = channel();
    forward(process.stdout.take().expect("it is piped"), sender.clone());
    forward(process.stderr.take().expect("it is piped"), sender);
    Ok((process, lines))
}

/// Sends the lines of `from` to `to`, as they come.
fn forward(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            // Nobody listens any more once it was killed.
            let _ = to.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

/// Runs `command` to its end, hands each line to `look` and shows it; whether it ended well.
pub(crate) fn follow(command: &mut Command, mut look: impl FnMut(&str)) -> Result<bool, String> {
    let (mut process, lines) = start(command)?;
    for line in lines {
        look(&line);
        eprintln!("{line}");
    }
    let status = process.wait().map_err(|error| format!("`{}`: {error}", crate::command_line(command)))?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_are_read_and_the_end_is_told() {
        let mut seen = Vec::new();
        let mut sh = |script: &str| follow(Command::new("sh").args(["-c", script]), |line| seen.push(line.to_owned()));
        assert_eq!(sh("echo a; echo b >&2"), Ok(true));
        assert_eq!(sh("echo c; exit 3"), Ok(false));
        seen.sort();
        assert_eq!(seen, ["a", "b", "c"]);
        assert!(follow(&mut Command::new("no-such-program"), |_| ()).unwrap_err().contains("did not start"));
    }
}
