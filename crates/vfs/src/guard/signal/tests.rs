//! What a process does of which this handler is a part: each in a process of its own, which may die of it.

use super::*;
use crate::{OsVfs, ReadableFile, Vfs};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

const CHILD: &str = "ESKER_SIGBUS_TEST_CHILD";
/// What the other handlers end the process with.
const THEIRS: i32 = 42;

/// Runs the case in a process of its own. The tests' own threads are those of Rust, whose runtime has a handler of `SIGBUS` too.
fn ends(case: &str) -> ExitStatus {
    let test = "guard::signal::tests::faults_that_are_not_ours_end_as_they_would_have";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, case)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{case}: {said}");
    output.status
}

/// Two maps of a file of one page that is cut, the guarded one first.
fn read_what_is_cut(dir: &Path) {
    let path = dir.join("file");
    let mut file = OsVfs.create_new(&path).unwrap();
    file.append(&[7; 4096]).unwrap();
    let open: Arc<dyn ReadableFile> = OsVfs.open_read(&path).unwrap();
    let cut = std::fs::File::options().write(true).open(&path).unwrap();
    let plain = open.map().unwrap();
    let guarded = open.map_guarded().unwrap();
    cut.set_len(0).unwrap();
    let error = guarded.read_exact_at(&mut [0], 9).unwrap_err();
    assert_eq!(crate::UnreadablePage::of(&error).unwrap().offset, 9);
    std::hint::black_box(plain[0]);
}

extern "C" fn theirs(signal: c_int) {
    assert_eq!(signal, libc::SIGBUS);
    std::process::exit(THEIRS);
}

#[expect(unsafe_code, reason = "what the kernel tells comes by pointer")]
extern "C" fn theirs_of_info(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: as in `handle`, which hands it on.
    let code = unsafe { (*info).si_code };
    assert!(signal == libc::SIGBUS && code == libc::BUS_ADRERR && !context.is_null());
    std::process::exit(THEIRS);
}

#[expect(unsafe_code, reason = "as in `install_now`")]
fn set(handler: usize, flags: c_int) {
    // SAFETY: as in `install_now`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (handler, flags);
    act(Some(&action)).unwrap();
}

fn send_to_self() {
    let sent = Command::new("kill").args(["-BUS", &std::process::id().to_string()]).status().unwrap();
    assert!(sent.success());
    // It comes to whichever thread the kernel chooses.
    std::thread::sleep(std::time::Duration::from_millis(200));
}

fn child(case: &str) {
    let dir = tempfile::tempdir().unwrap();
    match case {
        "default" | "default, sent" => set(libc::SIG_DFL, 0),
        "ignored" | "ignored, sent" => set(libc::SIG_IGN, 0),
        "handler" => set(theirs as Handler as usize, 0),
        "handler of info" => set(theirs_of_info as HandlerOfInfo as usize, libc::SA_SIGINFO),
        "runtime" | "runtime, sent before" => {}
        _ => panic!("{case}"),
    }
    if case.contains("sent") {
        install().unwrap();
        send_to_self();
    }
    match case {
        // Rust's runtime took a signal that was sent for the last, and put the default there; so what came then was not guarded.
        "runtime, sent before" => {}
        sent if sent.contains("sent") => std::process::exit(THEIRS),
        _ => {}
    }
    read_what_is_cut(dir.path());
    unreachable!("a read of what is not there");
}

#[test]
fn faults_that_are_not_ours_end_as_they_would_have() {
    if let Ok(case) = std::env::var(CHILD) {
        return child(&case);
    }
    for case in ["runtime", "runtime, sent before", "default", "ignored", "default, sent"] {
        assert_eq!(ends(case).signal(), Some(libc::SIGBUS), "{case}");
    }
    for case in ["handler", "handler of info", "ignored, sent"] {
        assert_eq!(ends(case).code(), Some(THEIRS), "{case}");
    }
}
