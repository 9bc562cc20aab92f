//! The bytes of a file, in chunks that copies share until one of them is written.

use std::fmt;
use std::sync::{Arc, LazyLock};

const CHUNK_BYTES: usize = 4096;

type Chunk = [u8; CHUNK_BYTES];

/// Shared by all that was never written.
static ZEROS: LazyLock<Arc<Chunk>> = LazyLock::new(|| Arc::new([0; CHUNK_BYTES]));

/// The bytes of a file. A clone costs a pointer a chunk.
///
/// Invariant: just the chunks that `len` bytes need are there, and what lies behind `len` in the last one is zero.
#[derive(Clone, Default)]
pub(crate) struct Content {
    chunks: Vec<Arc<Chunk>>,
    len: u64,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Cuts, or grows by zeros.
    pub(crate) fn set_len(&mut self, len: u64) {
        self.chunks.resize(len.div_ceil(CHUNK_BYTES as u64) as usize, Arc::clone(&ZEROS));
        let end = (len % CHUNK_BYTES as u64) as usize;
        if len < self.len && end != 0 {
            Arc::make_mut(self.chunks.last_mut().expect("len is not 0"))[end..].fill(0);
        }
        self.len = len;
    }

    /// Writes, growing as needed; a gap reads as zeros.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if end > self.len {
            self.set_len(end);
        }
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let start = (at % CHUNK_BYTES as u64) as usize;
            let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES - start));
            let chunk = &mut self.chunks[(at / CHUNK_BYTES as u64) as usize];
            Arc::make_mut(chunk)[start..start + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            rest = later;
        }
    }

    /// Fills `buffer` from `offset` on; false if there are not so many bytes.
    #[must_use]
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.len) {
            return false;
        }
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let start = (at % CHUNK_BYTES as u64) as usize;
            let now = rest.len().min(CHUNK_BYTES - start);
            let chunk = &self.chunks[(at / CHUNK_BYTES as u64) as usize];
            rest[..now].copy_from_slice(&chunk[start..start + now]);
            at += now as u64;
            rest = &mut rest[now..];
        }
        true
    }

    /// The bytes from `offset` on, at most `len` and as many as there are.
    pub(crate) fn slice(&self, offset: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len.min(self.len.saturating_sub(offset)) as usize];
        let whole = bytes.is_empty() || self.read(offset, &mut bytes);
        debug_assert!(whole, "cut to what there is");
        bytes
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u16, Vec<u8>),
        SetLen(u16),
        Read(u16, u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..9000u16, prop::collection::vec(any::<u8>(), 0..6000)).prop_map(|(at, bytes)| Step::Write(at, bytes)),
            (0..15_000u16).prop_map(Step::SetLen),
            (0..15_000u16, 0..5000u16).prop_map(|(at, len)| Step::Read(at, len)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn behaves_as_a_vec_and_copies_stay_as_they_were(steps in prop::collection::vec(step(), 1..20)) {
            let (mut content, mut model) = (Content::default(), Vec::new());
            let mut copies = Vec::new();
            for step in steps {
                copies.push((content.clone(), model.clone()));
                match step {
                    Step::Write(at, bytes) => {
                        let end = usize::from(at) + bytes.len();
                        model.resize(model.len().max(end), 0);
                        model[usize::from(at)..end].copy_from_slice(&bytes);
                        content.write(at.into(), &bytes);
                    }
                    Step::SetLen(len) => {
                        model.resize(len.into(), 0);
                        content.set_len(len.into());
                    }
                    Step::Read(at, len) => {
                        let mut buffer = vec![7; len.into()];
                        let expected = model.get(usize::from(at)..usize::from(at) + usize::from(len));
                        prop_assert_eq!(content.read(at.into(), &mut buffer), expected.is_some());
                        prop_assert!(expected.is_none_or(|expected| expected == buffer));
                    }
                }
                prop_assert_eq!(content.slice(0, u64::MAX), &model[..]);
            }
            for (copy, model) in copies {
                prop_assert_eq!(copy.slice(0, u64::MAX), model);
            }
        }
    }
}
