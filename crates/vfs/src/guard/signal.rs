//! The handler of `SIGBUS`: what the system sends to a thread that touches a page of a map which can't be read, because the device fails, or the file ends before it.
//!
//! The handler runs in the middle of anything, so it takes no lock and no memory: it looks through the slots, which are atomics, and asks the kernel for a page of zeros. `mmap` is not among the
//! functions that POSIX lets a handler call; here it is the bare system call (rustix makes it without the C library), which is as good in a handler as anywhere.
//!
//! Whatever is not about a guarded map goes to the handler that was there before; where there was none the process dies, as it would have.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use super::slots;

/// What was there before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);

type Handler = extern "C" fn(c_int);
type HandlerOfInfo = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// The length of a page, once the handler is there.
pub(super) fn page_bytes() -> usize {
    // Relaxed: it is set before there is any map, and tells of nothing else.
    PAGE_BYTES.load(Ordering::Relaxed)
}

/// Has the handler take what comes from now on, for as long as the process lives. Does so once.
///
/// A handler that somebody installs later takes its place, and should hand on what is not its own.
pub(super) fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let failed = |error: io::Error| error.raw_os_error().unwrap_or(libc::EINVAL);
    INSTALLED.get_or_init(|| install_now().map_err(failed)).map_err(io::Error::from_raw_os_error)
}

#[expect(unsafe_code, reason = "rustix leaves signals to the C library")]
fn install_now() -> io::Result<()> {
    // SAFETY: the call takes a number.
    if let Ok(bytes) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) {
        PAGE_BYTES.store(bytes, Ordering::Relaxed);
    }
    // Before the handler is there, which needs it.
    let _ = PREVIOUS.set(act(None)?);
    act(Some(&ours())).map(drop)
}

#[expect(unsafe_code, reason = "as above")]
fn ours() -> libc::sigaction {
    // SAFETY: zeros are a valid `sigaction`: no flags, an empty mask.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    ours.sa_sigaction = handle as HandlerOfInfo as usize;
    // On the thread's stack for signals, if it has one: Rust's threads do. Calls of the system that it interrupts begin anew.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    ours
}

/// Takes the place of the default. A handler that was handed what somebody sent may have put that there, as the one of Rust's runtime does: it expects the signal to come again at once, and
/// to end the process. One that was sent does not, and the maps are still to be guarded.
fn stay() {
    if act(None).is_ok_and(|now| now.sa_sigaction == libc::SIG_DFL) {
        let _ = act(Some(&ours()));
    }
}

/// Says what is done about `SIGBUS` now, and has it done otherwise from now on if `new` is given.
#[expect(unsafe_code, reason = "as above")]
fn act(new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: zeros are a valid `sigaction`, and both pointers are of such, or null, which the call takes for nothing. A handler that is installed is a
    // function of the form that its flags say: ours, or `SIG_DFL`.
    let (result, old) = unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(libc::SIGBUS, new.map_or(std::ptr::null(), std::ptr::from_ref), &raw mut old), old)
    };
    if result == 0 { Ok(old) } else { Err(io::Error::last_os_error()) }
}

#[expect(
    unsafe_code,
    reason = "what the kernel tells of a signal comes by pointer; a page is put into address space that Rust knows nothing of"
)]
extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the handler is installed with `SA_SIGINFO`, so the kernel has filled this in, and nobody else has it; `SIGBUS` has an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // Anything else was sent by a process, or is news of memory that nobody has touched.
    let is_fault = matches!(code, libc::BUS_ADRERR | libc::BUS_OBJERR | libc::BUS_MCEERR_AR);
    if is_fault && let Some(hole) = slots::note(address, page_bytes()) {
        let at = std::ptr::with_exposed_provenance_mut(hole.start);
        // SAFETY: the range is one page of a guarded map or all of it. The thread that was interrupted is in the middle of a copy out of that map, which it borrows, so the map
        // is there, and its slot is given up before it goes. Nobody has references into it, and nobody relies on what its bytes are before having looked at the slot.
        let mapped = unsafe { mmap_anonymous(at, hole.len, ProtFlags::READ, MapFlags::PRIVATE | MapFlags::FIXED) };
        if mapped.is_ok() {
            return; // and the copy reads zeros
        }
    }
    pass_on(signal, info, context, is_fault);
}

/// Does what would have been done without our handler.
#[expect(unsafe_code, reason = "a handler is a number to the C library")]
fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void, is_fault: bool) {
    let previous = PREVIOUS.get().map_or((libc::SIG_DFL, 0), |previous| (previous.sa_sigaction, previous.sa_flags));
    match previous {
        // A fault can't be ignored: the kernel would end the process.
        (libc::SIG_IGN, _) if !is_fault => {}
        (libc::SIG_DFL | libc::SIG_IGN, _) => {
            // SAFETY: zeros are a valid `sigaction`: that of the default.
            let _ = act(Some(&unsafe { std::mem::zeroed() }));
            if !is_fault {
                // SAFETY: the call takes a number. It strikes when the handler returns; a fault comes again by itself, with its own address.
                unsafe { libc::raise(signal) };
            }
        }
        (handler, flags) if flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: it was installed as a function of this form, by its flags, and is neither of the two numbers that are none.
            let handler = unsafe { std::mem::transmute::<usize, HandlerOfInfo>(handler) };
            handler(signal, info, context);
        }
        (handler, _) => {
            // SAFETY: as above.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
            handler(signal);
        }
    }
    if !is_fault && previous.0 != libc::SIG_DFL {
        stay();
    }
}

#[cfg(test)]
mod tests;
