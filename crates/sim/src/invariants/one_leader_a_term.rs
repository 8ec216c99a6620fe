//! No term has two leaders.

use std::collections::BTreeMap;

use types::{MemberId, Term};

#[derive(Default)]
pub(crate) struct Leaders(BTreeMap<Term, MemberId>);

impl Leaders {
    /// Notes who leads; returns whether that is news.
    pub(crate) fn leads(&mut self, term: Term, member: MemberId) -> Result<bool, String> {
        match self.0.get(&term) {
            None => {
                self.0.insert(term, member);
                Ok(true)
            }
            Some(leader) if *leader == member => Ok(false),
            Some(leader) => Err(format!("term {term} has two leaders, {leader} and {member}")),
        }
    }
}
