//! What must hold, one file for each.
//!
//! While a run goes on, whatever fails: [`one_leader_a_term`], [`one_history`], [`digest`], [`unexpected_stop`],
//! [`rot_is_seen`]. Once nothing fails any more: [`recovery`], [`convergence`]. Of all that clients saw, at the end:
//! [`linearizability`], [`watches`], [`leases`].

mod convergence;
mod digest;
mod leases;
mod linearizability;
mod one_history;
mod one_leader_a_term;
mod recovery;
mod rot_is_seen;
mod unexpected_stop;
mod watches;

pub(crate) use one_history::Ledger;
pub(crate) use one_leader_a_term::Leaders;
