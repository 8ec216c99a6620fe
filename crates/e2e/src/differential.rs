//! Two servers, one random sequence of requests, and no difference to be seen.
//!
//! A seed fixes the sequence: [`Step`]s made by [`Generator`] from what the servers have answered so far. [`Duel`] sends
//! each step to both servers, one at a time on one connection each, and compares the answers to the last field. Watches
//! are compared with the history that one watch of everything has seen from the start.
//!
//! Now and then both servers are killed or stopped and started again, and must be as they were.
//!
//! Left out of the comparison, because servers may choose: cluster and member ids and the raft term (they must stay the
//! same on each side until it is started anew), ids of leases the server chose, seconds in a lease's remaining time, the
//! order among equals of a sort and among keys of a lease, and how catching-up watches batch revisions.
//!
//! A stream of a range, which etcd 3.5 does not have, is compared with the range.

mod answer;
mod duel;
mod generator;
mod history;
mod step;
mod watches;

pub use duel::{Duel, run_duel};
pub use generator::Generator;
pub use step::Step;
