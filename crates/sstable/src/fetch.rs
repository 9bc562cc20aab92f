//! What is sent for ahead of its use. Such hints show in no result and in no count of instructions, only in how long a look-up waits; so this
//! crate's tests can see them.

#[cfg(test)]
mod noted;
#[cfg(test)]
mod tests;

#[cfg(not(test))]
pub(crate) use esker_vfs::{prefetch, prefetch_range};
#[cfg(test)]
pub(crate) use noted::{prefetch, prefetch_range};
