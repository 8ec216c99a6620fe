//! Programs that are run for the user: once a lock is held, or for each event of a watch.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use tokio::process::Command;
use types::go_quote;

use crate::flags::Word;

/// How a program went, if not well: in Go's words, and with the exit code it ended with.
#[derive(Debug)]
pub(crate) struct Unsuccessful {
    pub text: String,
    pub code: Option<u8>,
}

/// Runs `words` with variables added to the environment, and waits for the end.
///
/// # Errors
/// If it cannot be run, or ends otherwise than with success.
pub(crate) async fn run(words: &[Word], variables: &[(&str, Vec<u8>)]) -> Result<(), Unsuccessful> {
    let [program, arguments @ ..] = words else { return Ok(()) };
    let mut command = Command::new(OsStr::from_bytes(program));
    command.args(arguments.iter().map(|word| OsStr::from_bytes(word))).stdin(Stdio::null());
    command.envs(variables.iter().map(|(name, value)| (name, OsStr::from_bytes(value))));
    match command.status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(unsuccessful(status)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !program.contains(&b'/') => {
            let text = format!("exec: {}: executable file not found in $PATH", go_quote(program));
            Err(Unsuccessful { text, code: None })
        }
        Err(error) => {
            let text = format!("fork/exec {}: {}", String::from_utf8_lossy(program), in_go(&error));
            Err(Unsuccessful { text, code: None })
        }
    }
}

/// The system's text of an error without its number, in lower case.
fn in_go(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn unsuccessful(status: ExitStatus) -> Unsuccessful {
    match (status.code(), status.signal()) {
        (Some(code), _) => Unsuccessful { text: format!("exit status {code}"), code: u8::try_from(code).ok() },
        (None, Some(signal)) => Unsuccessful { text: format!("signal: {signal}"), code: Some(u8::MAX) },
        (None, None) => Unsuccessful { text: status.to_string(), code: None },
    }
}
