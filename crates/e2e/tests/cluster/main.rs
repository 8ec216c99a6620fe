//! What a client can observe of a cluster of several members, by area.
#![allow(clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod corruption;
mod founding;
mod leadership;
mod learners;
mod leases;
mod membership;
mod serving;
mod unwell;
mod upkeep;
mod watching;
