//! Accounts that all threads move money between: what they hold together stays what it is.

use crate::store::{Kind, SECTIONS, Store, assert_whole, key};
use esker::{Result, Transaction, WriteBatch};
use esker_testkit::random::Random;

const ACCOUNTS: u64 = 200;
const EACH: u64 = 1_000;

/// What a transaction is to do.
pub(crate) struct Transfer {
    from: u64,
    to: u64,
    asked: u64,
    /// Where it reads besides.
    section: u8,
    first: u64,
}

impl Transfer {
    pub(crate) fn any(random: &mut Random) -> Self {
        Self {
            from: random.below(ACCOUNTS),
            to: random.below(ACCOUNTS),
            asked: random.below(EACH),
            section: random.below(u64::from(SECTIONS)) as u8,
            first: random.below(u64::from(Kind::Small.keys())),
        }
    }

    /// Reads much, of whichever section, so that much is to be remembered; then moves the money.
    pub(crate) fn make(&self, store: &Store, tx: &mut Transaction) -> Result<()> {
        let keys = u64::from(Kind::Small.keys());
        for at in 0..200 {
            // Scattered, so that each is remembered by itself.
            tx.get(key(self.section, ((self.first + at * 97) % keys) as u32))?;
        }
        for item in tx.range(key(self.section, self.first as u32)..).take(100) {
            let (at, found) = item?;
            assert_whole(Kind::Small, &at, &found);
        }
        let held = |tx: &Transaction, account: u64| -> Result<u64> {
            let found = tx.get_in(&store.bank, account.to_be_bytes())?.expect("the account is there");
            Ok(u64::from_be_bytes(found[..].try_into().unwrap()))
        };
        let there = held(tx, self.from)?;
        let amount = self.asked.min(there);
        tx.put_in(&store.bank, self.from.to_be_bytes(), (there - amount).to_be_bytes())?;
        let more = held(tx, self.to)? + amount;
        tx.put_in(&store.bank, self.to.to_be_bytes(), more.to_be_bytes())
    }
}

/// Gives each account its first money.
pub(crate) fn open_accounts(store: &Store) {
    let mut batch = WriteBatch::new();
    for account in 0..ACCOUNTS {
        batch.put_in(&store.bank, account.to_be_bytes(), EACH.to_be_bytes());
    }
    store.engine.write(&batch).unwrap();
}

/// Nothing was lost or made by any transaction.
pub(crate) fn check_accounts(store: &Store) {
    let held = store.bank.iter().map(|item| u64::from_be_bytes(item.unwrap().1[..].try_into().unwrap()));
    assert_eq!(held.sum::<u64>(), ACCOUNTS * EACH);
}
