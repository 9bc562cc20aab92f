//! Memory that is sent for before it is needed. No answer depends on it, so the unit tests look at what was asked for.

#[cfg(not(test))]
pub(crate) use esker_vfs::{prefetch, prefetch_range};
#[cfg(test)]
pub(crate) use noted::{prefetch, prefetch_range, sent_for};

#[cfg(test)]
mod noted {
    use std::cell::RefCell;
    use std::ops::Range;

    thread_local! {
        static SENT: RefCell<Option<Vec<Range<usize>>>> = const { RefCell::new(None) };
    }

    fn note(bytes: &[u8], range: Range<usize>) {
        let within = range.start..range.end.min(bytes.len());
        if !within.is_empty() {
            SENT.with_borrow_mut(|sent| sent.iter_mut().for_each(|sent| sent.push(within.clone())));
        }
    }

    pub(crate) fn prefetch(bytes: &[u8], at: usize) {
        note(bytes, at..at.saturating_add(1));
        esker_vfs::prefetch(bytes, at);
    }

    pub(crate) fn prefetch_range(bytes: &[u8], from: usize, len: usize) {
        note(bytes, from..from.saturating_add(len));
        esker_vfs::prefetch_range(bytes, from, len);
    }

    /// What `run` sends for on this thread, in its order, as far as it is there.
    pub(crate) fn sent_for(run: impl FnOnce()) -> Vec<Range<usize>> {
        SENT.set(Some(Vec::new()));
        run();
        SENT.take().unwrap_or_default()
    }
}
