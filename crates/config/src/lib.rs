//! Settings: what the operator wrote, checked and turned into real types; and the log they ask for.
//!
//! One table ([`table`]) knows every flag. From it come the command line, the `ETCD_*` variables, the keys of the
//! settings file, the help text and `docs/configuration.md`.
//!
//! ```text
//! arguments, environment, file --> Written (raw, with origins) --> Settings (checked, real types) + notices
//! ```
//!
//! Invariants
//! - No flag is ignored in silence: it works, or start is refused with its name, or a notice says why it does nothing.
//! - All problems that can be seen at once are reported at once.
//! - Nothing here writes a file, opens a socket or reads a clock; [`log`] alone opens the files it writes to.
//!
//! Source of names, defaults, precedence and texts: etcd 3.5 to 3.7, `server/etcdmain` and `server/embed/config.go`.

mod flag;
pub mod table;

mod gate;
pub mod go;
mod url;

mod arguments;
mod environment;
mod file;
mod image;
mod yaml;

mod problem;
mod written;

mod check;

mod help;
mod load;
mod machine;
mod mounts;
mod settings;

pub mod log;

#[cfg(test)]
mod page;

pub use flag::{FileKey, Flag, Kind, Status};
pub use load::{Loaded, Outcome, Surroundings, load, refusal};
pub use log::{LogFormat, LogLevel, LogOutput, LogSettings};
pub use machine::{default_host, read_file};
pub use mounts::Mounts;
pub use problem::{Notice, Problem, reason};
pub use settings::{
    CorruptionChecks, Credentials, DiscoveryRegistry, DiscoverySrv, FeatureGate, InitialClusterState, Retention,
    Settings,
};
pub use url::{Url, UrlError};
