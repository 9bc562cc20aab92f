//! What the writing process has told so far.

use crate::writers::{MARK, Newest, THREADS, is_synced};

#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// The last write that each thread has begun,
    pub(crate) begun: Newest,
    /// and the last of which it has heard that it was done.
    ended: Newest,
    /// What was done when it began the one that it is at.
    before: [Newest; THREADS],
    /// How far each thread's writes must outlast a power cut: what is synced has all that was done before it on stable storage too.
    pub(crate) synced: Newest,
    /// Errors, by their kinds and words.
    pub(crate) failed: Vec<String>,
}

impl Told {
    pub(crate) fn hear(&mut self, line: &str) {
        let Some((_, said)) = line.split_once(MARK) else { return };
        let Some((what, rest)) = said.split_once(' ') else { return };
        if what == "failed" {
            return self.failed.push(rest.to_owned());
        }
        let mut numbers = rest.split(' ').map_while(|word| word.parse::<u64>().ok());
        let (Some(thread), Some(i)) = (numbers.next(), numbers.next()) else { return };
        let thread = thread as usize;
        if what == "begin" {
            (self.begun[thread], self.before[thread]) = (i, self.ended);
            return;
        }
        self.ended[thread] = i;
        if is_synced(i) {
            let before = self.before[thread];
            self.synced.iter_mut().zip(before).for_each(|(synced, before)| *synced = before.max(*synced));
            self.synced[thread] = i;
        }
    }

    pub(crate) fn has_synced(&self) -> bool {
        self.synced != Newest::default()
    }
}
