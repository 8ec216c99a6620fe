//! The programs under test.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Which program a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The real etcd: what it does is right, save for [`crate::Difference`].
    Etcd,
    Quorate,
}

impl Target {
    /// The server program.
    ///
    /// etcd is looked for in `$ETCD_BIN_DIR`, by default `.cache/etcd/usr/bin` in the workspace; Quorate is
    /// `$QUORATE_BIN`, by default the one in cargo's target directory this test was built into.
    ///
    /// # Errors
    /// If it is not there, with the command that puts it there.
    pub fn server_program(self) -> Result<PathBuf> {
        match self {
            Target::Etcd => etcd_program("etcd"),
            Target::Quorate => {
                let program = match env::var_os("QUORATE_BIN") {
                    Some(path) => PathBuf::from(path),
                    None => beside_this_test("quorate")?,
                };
                ensure!(program.is_file(), "{} is missing: run `cargo build -p quorate`", program.display());
                Ok(program)
            }
        }
    }

    /// Both programs, the reference first.
    pub const BOTH: [Target; 2] = [Target::Etcd, Target::Quorate];
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::Etcd => "etcd",
            Target::Quorate => "quorate",
        })
    }
}

/// Which program a script of commands runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// The real etcdctl: what it prints is right.
    Etcdctl,
    Quoratectl,
}

impl Tool {
    /// The program: etcdctl lies beside etcd, quoratectl is `$QUORATECTL_BIN`, by default the one in cargo's target
    /// directory.
    ///
    /// # Errors
    /// If it is not there, with the command that puts it there.
    pub fn program(self) -> Result<PathBuf> {
        match self {
            Tool::Etcdctl => etcd_program("etcdctl"),
            Tool::Quoratectl => {
                let program = match env::var_os("QUORATECTL_BIN") {
                    Some(path) => PathBuf::from(path),
                    None => beside_this_test("quoratectl")?,
                };
                ensure!(program.is_file(), "{} is missing: run `cargo build -p ctl`", program.display());
                Ok(program)
            }
        }
    }
}

/// A program of the real etcd: `etcd`, `etcdctl` or `etcdutl`.
///
/// # Errors
/// If it is not there, with the command that fetches it.
pub(crate) fn etcd_program(name: &str) -> Result<PathBuf> {
    let dir = match env::var_os("ETCD_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => workspace_root().join(".cache/etcd/usr/bin"),
    };
    let program = dir.join(name);
    ensure!(program.is_file(), "{} is missing: run `ci/get-etcd` (or set ETCD_BIN_DIR)", program.display());
    Ok(program)
}

/// A file that a script puts under `.cache`.
///
/// # Errors
/// If it is not there, with the command that puts it there.
pub fn cached(file: &str, command: &str) -> Result<PathBuf> {
    let path = workspace_root().join(".cache").join(file);
    ensure!(path.exists(), "{} is missing: run `{command}`", path.display());
    Ok(path)
}

fn workspace_root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("the crate lies two levels below the workspace root").to_path_buf()
}

/// Test programs lie in `<target dir>/<profile>/deps`, other programs one level up.
fn beside_this_test(name: &str) -> Result<PathBuf> {
    let test = env::current_exe().context("where this test program lies")?;
    let profile = test.ancestors().nth(2).context("a test program lies in its profile's deps directory")?;
    Ok(profile.join(name))
}
