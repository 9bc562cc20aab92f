//! What the operating system says of this process and of a directory. Figures that only Linux gives are `None` elsewhere.

use std::fs;
use std::io;
use std::path::Path;

/// Peak of the resident memory since [`reset_peak_memory`], in bytes; mapped files count as far as they are resident.
pub fn peak_memory_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// Resident memory that is not of files, in bytes: heap and stacks.
pub fn heap_bytes() -> Option<u64> {
    status("RssAnon:")
}

fn status(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let kib: u64 = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// Begins [`peak_memory_bytes`] anew, where the system can; else the peak stays that of the whole process.
pub fn reset_peak_memory() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Bytes that this process has handed to `write` and the like. Stores into mapped files are not in it.
pub fn written_bytes() -> Option<u64> {
    io("wchar: ")
}

/// Bytes of pages that this process has made dirty, by `write` or by stores into mapped files: what goes to the device, in whole pages. A page that is changed again before
/// it has been written out counts once.
pub fn dirtied_bytes() -> Option<u64> {
    io("write_bytes: ")
}

fn io(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// Processor time that all threads of this process have used, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold anything; fields count from behind it. Times are in hundredths of a second on every Linux.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

/// Load average over the last minute: how busy the machine is with other work, too.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Space that the files of `dir` and its subdirectories take, in bytes, with what is allocated ahead.
///
/// # Errors
/// A directory can't be read. A file that goes away meanwhile counts as nothing.
pub fn disk_bytes(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sum += disk_bytes(&entry.path())?,
            Ok(metadata) => sum += allocated_bytes(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

#[cfg(unix)]
fn allocated_bytes(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated_bytes(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn figures_of_this_process_move_as_they_should() {
        let before = written_bytes().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("below/file"), vec![7; 1 << 20]).unwrap();
        assert!(written_bytes().unwrap() >= before + (1 << 20));
        fs::File::open(dir.path().join("below/file")).unwrap().sync_all().unwrap();
        assert!(disk_bytes(dir.path()).unwrap() >= 1 << 20);

        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(heap_bytes().unwrap() > 64 << 20);
        assert!(peak_memory_bytes().unwrap() > 64 << 20);
        drop(block);
        assert!(cpu_seconds().is_some() && load_average().is_some());
    }
}
