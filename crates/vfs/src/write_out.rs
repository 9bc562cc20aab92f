//! [`begin`]: the device begins with a file while it is still written.

use std::fs::File;
use std::io;
use std::ops::Range;

/// Has the kernel hand the bytes in `range` to the device, without waiting for it. `sync_file_range(2)` with `SYNC_FILE_RANGE_WRITE` alone, which neither makes anything durable nor takes away an
/// error that the next sync has to report.
#[cfg(all(target_os = "linux", not(miri)))]
#[expect(unsafe_code, reason = "rustix has no such call")]
pub(crate) fn begin(file: &File, range: Range<u64>) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let (Ok(from), Ok(len)) = (range.start.try_into(), range.end.saturating_sub(range.start).try_into()) else {
        return Ok(());
    };
    if len == 0 {
        // A length of 0 would mean the rest of the file.
        return Ok(());
    }
    // SAFETY: the call takes numbers only, and the descriptor is open while `file` is borrowed.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // The file system, or what stands in for a kernel, does not have it.
        Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::ESPIPE) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
pub(crate) fn begin(_: &File, _: Range<u64>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write as _;

    #[test]
    fn any_range_of_a_file_may_be_asked_for_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        for range in [0..0, 0..1, 4096..8192, 0..10_000, 9_999..1 << 40, 1 << 40..1 << 41, u64::MAX - 1..u64::MAX] {
            begin(&file, range).unwrap();
        }
        file.sync_data().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [7; 10_000]);
    }

    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn what_the_kernel_refuses_is_an_error() {
        // Not open for anything that could be written out.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/");
        let error = begin(&file.unwrap(), 0..1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    use std::os::unix::fs::OpenOptionsExt as _;
}
