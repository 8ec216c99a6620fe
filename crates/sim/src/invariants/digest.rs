//! Members whose applied entries are the same have the same digest of what they did.

use types::{Index, MemberId};

use crate::life::Life;
use crate::world::World;

impl World {
    /// Followers tell the digest of their state at some indexes, as in the server; the leader compares.
    pub(crate) fn compare_digest(&mut self, life: &Life, from: MemberId, report: &[u8]) {
        let Some((index, digest)) = report.split_first_chunk::<8>() else { return };
        let index = Index(u64::from_be_bytes(*index));
        let Some(own) = life.machine.shared().digest_at(index) else { return };
        if own.to_be_bytes() != *digest {
            self.fail("Digest", format!("member {from} differs from its leader at entry {index}"));
        }
    }
}
