//! Standard input, output and error. Bytes, because keys and values are.

use std::io::{self, Read, Write};

use tokio::sync::mpsc;

use crate::failure::{Exit, Failure};

/// Writes to standard output, at once.
///
/// # Errors
/// If nobody reads it any more, quietly; if it cannot be written for another reason, with the reason.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(Exit::BrokenPipe),
        _ => Failure::new(Exit::Io, format!("standard output: {error}")),
    })
}

/// Writes a line to standard error. Where that cannot be written to, there is nobody to tell.
pub(crate) fn complain(line: &str) {
    let mut line = line.to_owned();
    line.push('\n');
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// All of standard input.
pub(crate) fn read_all() -> io::Result<Vec<u8>> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    Ok(input)
}

/// The next line of standard input without its end; `None` once there is none that was ended.
pub(crate) fn read_line() -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    io::BufRead::read_until(&mut io::stdin().lock(), b'\n', &mut line)?;
    Ok(line.pop_if(|last| *last == b'\n').map(|_| line))
}

/// The lines of standard input as they come, read by a thread of their own; the channel closes at the end.
pub(crate) fn lines() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(Some(line)) = read_line() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
