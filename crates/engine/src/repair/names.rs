//! What keyspaces are called, and to which one a table goes that nothing is known of.

use super::{Repair, tables};
use crate::options_text;
use esker_format::{FileKind, KeyspaceId};
use esker_manifest::DEFAULT_KEYSPACE;
use std::collections::{BTreeMap, BTreeSet};

impl Repair<'_> {
    /// Names and options of all keyspaces, those of sources without one included.
    pub(super) fn name_keyspaces(
        &mut self,
        met: &BTreeSet<KeyspaceId>,
        sources: &mut [tables::Source],
    ) -> BTreeMap<KeyspaceId, (String, String)> {
        let ids = |sources: &[tables::Source]| -> BTreeSet<KeyspaceId> {
            sources.iter().filter_map(|source| source.keyspace).collect()
        };
        let mut all: BTreeSet<KeyspaceId> = met | &ids(sources);
        all.extend(self.facts.keyspaces.keys());
        all.insert(KeyspaceId::DEFAULT);
        let only_default = all.len() == 1 && self.facts.dropped.is_empty() && self.facts.next_keyspace.0 <= 1;
        let mut own = BTreeMap::new();
        let above = all.iter().next_back().map_or(0, |id| id.0).max(self.facts.next_keyspace.0);
        let mut next = above.saturating_add(1);
        for source in sources.iter_mut().filter(|source| source.keyspace.is_none()) {
            let file = FileKind::Table(source.number).name();
            if source.table.is_none() {
                continue;
            }
            let id = if only_default { KeyspaceId::DEFAULT } else { KeyspaceId(next) };
            source.keyspace = Some(id);
            if only_default {
                self.remark(format!("nothing says to which keyspace {file} belongs; it was taken for 'default', of which alone there is a sign"));
                self.remark("if the directory had other keyspaces, of keys that two of them had only the newest values are there".into());
            } else {
                next = next.saturating_add(1);
                let name = format!("table-{}", source.number.0);
                self.remark(format!(
                    "nothing says to which keyspace {file} belongs; what it holds is in keyspace '{name}'"
                ));
                own.insert(id, name);
            }
        }
        all.extend(own.keys());
        let mut taken: BTreeSet<String> = BTreeSet::from([DEFAULT_KEYSPACE.to_owned()]);
        let mut names = BTreeMap::new();
        for id in all {
            let (told, options) = self.facts.keyspaces.get(&id).cloned().unzip();
            let mut name = match (id, told) {
                (KeyspaceId::DEFAULT, _) => DEFAULT_KEYSPACE.to_owned(),
                (_, Some(told)) => told,
                (id, None) => {
                    let name = own.get(&id).cloned().unwrap_or_else(|| format!("keyspace-{}", id.0));
                    self.remark(format!(
                        "the manifest does not tell the name of keyspace {}: it is called '{name}'",
                        id.0
                    ));
                    name
                }
            };
            while id != KeyspaceId::DEFAULT && !taken.insert(name.clone()) {
                let other = format!("{name}-{}", id.0);
                self.remark(format!(
                    "two keyspaces are called '{}', one of which was dropped; keyspace {} is called '{}'",
                    name.escape_debug(),
                    id.0,
                    other.escape_debug()
                ));
                name = other;
            }
            let options = options.unwrap_or_default();
            let options = match options_text::parse_keyspace(&options) {
                Ok(_) => options,
                Err(error) => {
                    self.remark(format!("keyspace '{}' has the options of a new one: {error}", name.escape_debug()));
                    String::new()
                }
            };
            names.insert(id, (name, options));
        }
        names
    }
}
