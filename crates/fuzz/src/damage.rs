//! Damage to the files of a directory, as bytes tell it.

use crate::sign;
use esker::vfs::{MemVfs, Vfs, read_file};
use std::path::{Path, PathBuf};

/// Bytes one by one.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl Input<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn u16(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }
}

fn files(vfs: &MemVfs, dir: &Path) -> Vec<PathBuf> {
    let mut names = vfs.list(dir).expect("it is there");
    names.retain(|name| name != "LOCK");
    names.sort();
    names.iter().map(|name| dir.join(name)).collect()
}

/// Damages a file; whether its checksums were made right again.
pub(crate) fn damage(vfs: &MemVfs, dir: &Path, input: &mut Input<'_>) -> bool {
    let (kind, files) = (input.byte() % 9, files(vfs, dir));
    if files.is_empty() {
        return false;
    }
    let path = &files[usize::from(input.byte()) % files.len()];
    let (at, byte) = (input.u16(), input.byte());
    let bytes = read_file(vfs, path, 1 << 30).expect("it is there");
    // What is behind the last byte that is not zero was only allocated.
    let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let at = if len == 0 { 0 } else { at % len };
    let mut changed = bytes.clone();
    match kind {
        0 if len > 0 => changed[at] ^= 1 << (byte % 8),
        1 if len > 0 => changed[at] = byte,
        2 => changed.truncate(at),
        3 => changed.extend(std::iter::repeat_n(byte, 1 + at % 200)),
        4 => changed[at..len].iter_mut().take(512).for_each(|byte| *byte = 0),
        5 => {
            vfs.remove_file(path).expect("it is there");
            return false;
        }
        6 => {
            let other = &files[usize::from(byte) % files.len()];
            let others = read_file(vfs, other, 1 << 30).expect("it is there");
            write(vfs, other, bytes);
            write(vfs, path, others);
            return false;
        }
        7 if len > 0 => {
            let to = usize::from(byte) % len;
            changed.copy_within(at..len.min(at + 16).min(at + len - to), to);
        }
        _ => {
            let name = path.to_string_lossy();
            if len > 0 {
                changed[at] = byte;
            }
            changed = match () {
                () if name.ends_with(".sst") => sign::table(&changed),
                () if name.ends_with(".blob") => sign::blob(&changed),
                () => sign::log(&changed),
            };
            write(vfs, path, changed);
            return true;
        }
    }
    write(vfs, path, changed);
    false
}

fn write(vfs: &MemVfs, path: &Path, bytes: Vec<u8>) {
    vfs.edit(path, |file| *file = bytes).expect("it is there");
}
