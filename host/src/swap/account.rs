//! What a newcomer accounts for, held against the host's ledgers.

use crate::inspect::{Ledger, Stage};
use crate::stack::Stack;
use bulkhead_wit::{Endpoint, Handle, Summary};
use std::fmt;

impl Stack {
    /// Every connection that the module knows of is accounted for once, with the host's own numbers.
    pub(crate) fn holds_against(&self, accounts: &[Summary]) -> Result<(), String> {
        let mut seen = vec![false; accounts.len()];
        let mut order = Order { accounts, next: 0, sorted: None };
        for (_, ledger) in self.ledgers.living() {
            match order.find(ledger.handle) {
                Some(at) => {
                    seen[at] = true;
                    compare(ledger, &accounts[at])?;
                }
                // An embryo of a deferring listener is no connection yet; an open may not have been told.
                None if ledger.stage == Stage::Offered || self.is_untold(ledger.handle) => {}
                None => return Err(format!("{:?} is missing", ledger.handle)),
            }
        }
        match seen.iter().position(|seen| !seen) {
            Some(at) => Err(format!("{:?} is unknown here, or named twice", accounts[at].connection)),
            None => Ok(()),
        }
    }
}

/// Accounts by handle. They mostly come in the order in which they are asked for; else they are sorted once.
struct Order<'a> {
    accounts: &'a [Summary],
    next: usize,
    sorted: Option<Vec<(Handle, usize)>>,
}

impl Order<'_> {
    fn find(&mut self, handle: Handle) -> Option<usize> {
        let accounts = self.accounts;
        if accounts.get(self.next).is_none_or(|account| account.connection != handle) {
            let sorted = self.sorted.get_or_insert_with(|| {
                let mut all: Vec<(Handle, usize)> =
                    accounts.iter().enumerate().map(|(at, account)| (account.connection, at)).collect();
                all.sort_unstable();
                all
            });
            let found = sorted.binary_search_by_key(&handle, |(handle, _)| *handle).ok()?;
            self.next = sorted[found].1;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

/// One connection's numbers.
fn compare(ledger: &Ledger, account: &Summary) -> Result<(), String> {
    let differ = |what: &str, host: &dyn fmt::Debug, module: &dyn fmt::Debug| {
        Err(format!("{:?}: {what} is {host:?}, the newcomer says {module:?}", ledger.handle))
    };
    let is_chosen = |end: &Endpoint| end.port != 0 && !end.address.is_unspecified();
    if is_chosen(&ledger.local) && ledger.local != account.local {
        return differ("our end", &ledger.local, &account.local);
    }
    if ledger.remote != account.remote {
        return differ("the peer", &ledger.remote, &account.remote);
    }
    if ledger.stage != Stage::Open {
        return Ok(());
    }
    let numbers = [
        ("the receive base", u64::from(ledger.receive_base), u64::from(account.receive_base)),
        ("the send base", u64::from(ledger.send_base), u64::from(account.send_base)),
        ("exposed", ledger.exposed, account.exposed),
        ("acknowledged", ledger.acknowledged, account.acknowledged),
        ("sent", ledger.sent, account.sent),
        ("the limit", ledger.limit, account.limit),
    ];
    match numbers.into_iter().find(|(_, host, module)| host != module) {
        Some((what, host, module)) => differ(what, &host, &module),
        None => Ok(()),
    }
}
