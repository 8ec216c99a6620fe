//! The world outside, behind small traits: disk, clock and randomness; and panics of others' code, and threads that may wait.
//!
//! Every other crate takes these as arguments, so that the same code runs against the real machine and against a
//! simulated one that forgets, tears, fails and fills up. Nothing else may call the operating system for them;
//! `clippy.toml` holds the ban.

mod clock;
mod direct;
mod disk;
mod panics;
mod priority;
mod random;
mod real_disk;
mod reclaim;
mod sim_disk;

pub use clock::{Clock, Monotonic, SystemClock};
pub use disk::{Disk, DiskFile, Entry, OpenMode};
pub use panics::{PanicFate, catch_panic, hook_text, panic_fate};
pub use priority::give_way;
pub use random::{Rng, SystemRng};
pub use real_disk::{DirectoryLock, RealDisk};
pub use sim_disk::{DiskOperation, Fault, SECTOR, SimDisk, Survival};
