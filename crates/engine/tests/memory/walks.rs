//! What a walk over one section must meet.

use crate::store::{Kind, assert_is, parse};
use esker::{Result, Slice};

/// The keys that a walk must meet, in its order, with their versions.
pub(crate) struct There {
    pub(crate) kind: Kind,
    pub(crate) section: u8,
    pub(crate) keys: Vec<(u32, u32)>,
}

impl There {
    pub(crate) fn check(&self, walk: impl Iterator<Item = Result<(Slice, Slice)>>) -> Result<()> {
        let mut keys = self.keys.iter();
        for item in walk {
            let (at, found) = item?;
            let (i, version) = *keys.next().expect("nothing that is not there");
            assert_eq!(parse(&at), (self.section, i), "{:?}: a key left out or made up", self.kind);
            assert_is(self.kind, (self.section, i), Some(&found), version);
        }
        assert_eq!(keys.next(), None, "{:?} of section {}: the walk ended early", self.kind, self.section);
        Ok(())
    }
}
