//! One file, several programs: which one is decided by the name it was called by.

use std::ffi::OsStr;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Server,
    /// What people and health checks ask a server with.
    Ctl,
    /// What is done to files.
    Utl,
}

impl Program {
    /// `called` is the first argument, with or without a directory. A name that says nothing means the server.
    pub(crate) fn named(called: &OsStr) -> Program {
        match Path::new(called).file_name().and_then(OsStr::to_str) {
            Some("quoratectl" | "etcdctl") => Program::Ctl,
            Some("quorateutl" | "etcdutl") => Program::Utl,
            _ => Program::Server,
        }
    }

    /// Whether `called` is a name of the server's, and not just of no other program.
    pub(crate) fn is_server(called: &OsStr) -> bool {
        matches!(Path::new(called).file_name().and_then(OsStr::to_str), Some("quorate" | "etcd"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_wherever_the_file_lies() {
        let named = |name: &str| Program::named(OsStr::new(name));
        assert_eq!(["etcd", "/usr/local/bin/etcd", "quorate", "", "other"].map(named), [Program::Server; 5]);
        assert_eq!(["etcdctl", "./quoratectl"].map(named), [Program::Ctl; 2]);
        assert_eq!(["etcdutl", "/bin/quorateutl"].map(named), [Program::Utl; 2]);
        assert!(Program::is_server(OsStr::new("/usr/local/bin/etcd")) && !Program::is_server(OsStr::new("/sbin/init")));
    }
}
