//! Finding the first members of a cluster, where no flag lists them.
//!
//! What comes of it is an [`types::InitialCluster`], as if it had been written down. Whether this member founds that
//! cluster or joins it, and whether it may, is others' business.
//!
//! - [`srv`]: name service lists them in SRV records. Decides without I/O; [`NameServers`] asks.
//! - [`Registry`]: they register at an etcd cluster that is there already, and wait for each other.

mod name_servers;
mod registry;
pub mod srv;

pub use name_servers::{NameServers, SrvRecord};
pub use registry::{Registry, RegistryError};
