//! Two servers, one random sequence of requests, and no difference to be seen.
//!
//! A seed fixes the sequence: [`Step`]s made by [`Generator`] from what the servers have answered so far. [`Duel`] sends
//! each step to both servers, one at a time on one connection each, and compares the answers to the last field. Watches
//! are compared with the history that one watch of everything has seen from the start.
//!
//! Left out of the comparison, because servers may choose: cluster and member ids and the raft term (they must stay the
//! same on each side), ids of leases the server chose, a second in a lease's remaining time, the order among equals of
//! a sort and among keys of a lease, and how catching-up watches batch revisions.

mod answer;
mod duel;
mod generator;
mod history;
mod step;
mod watches;

pub use duel::{Duel, run_duel};
pub use generator::Generator;
pub use step::Step;
