//! How a command fails: a line on standard error and an exit code, which scripts look at.

use std::process::ExitCode;

use api::errors;
use client::{Code, Status};

use crate::standard;

/// etcdctl's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Error = 1,
    BadConnection = 2,
    InvalidInput = 3,
    BadFeature = 4,
    Interrupted = 5,
    Io = 6,
    BadArguments = 128,
    /// As a shell shows a program that wrote to nobody.
    BrokenPipe = 141,
}

#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// What went before: lines of their own, not part of the error.
    notes: Vec<String>,
    /// Without one, all has been said.
    text: Option<String>,
    /// What comes after: where to look.
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure { code: exit as u8, notes: Vec::new(), text: Some(text.into()), hint: None }
    }

    /// Of a program that was run for the user: its exit code is passed on.
    pub(crate) fn with_code(code: u8, text: impl Into<String>) -> Failure {
        Failure { code, notes: Vec::new(), text: Some(text.into()), hint: None }
    }

    /// A failure that was told already.
    pub(crate) fn silent(exit: Exit) -> Failure {
        Failure { code: exit as u8, notes: Vec::new(), text: None, hint: None }
    }

    pub(crate) fn arguments(text: impl Into<String>) -> Failure {
        Failure::new(Exit::BadArguments, text)
    }

    pub(crate) fn error(text: impl Into<String>) -> Failure {
        Failure::new(Exit::Error, text)
    }

    #[must_use]
    pub(crate) fn note(mut self, line: String) -> Failure {
        self.notes.push(line);
        self
    }

    #[must_use]
    pub(crate) fn after(self, hint: String) -> Failure {
        Failure { hint: Some(hint), ..self }
    }

    /// The same failure in a sentence of the command, with its code.
    #[must_use]
    pub(crate) fn told(mut self, exit: Exit, sentence: impl FnOnce(&str) -> String) -> Failure {
        self.code = exit as u8;
        self.text = Some(sentence(self.text.as_deref().unwrap_or_default()));
        self
    }

    #[must_use]
    pub(crate) fn exiting(self, exit: Exit) -> Failure {
        Failure { code: exit as u8, ..self }
    }

    /// The error's text.
    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// The lines that explain the error.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(crate) fn report(&self) -> ExitCode {
        for note in &self.notes {
            standard::complain(note);
        }
        if let Some(text) = &self.text {
            standard::complain(&format!("Error: {text}"));
        }
        if let Some(hint) = &self.hint {
            standard::complain(hint);
        }
        ExitCode::from(self.code)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::error(go_text(&status))
    }
}

/// A status as etcd's Go client prints it: etcd's own errors by their text alone.
pub(crate) fn go_text(status: &Status) -> String {
    let own =
        errors::ALL.iter().any(|error| error.text == status.message) || status.message.starts_with("etcdserver: ");
    match (own, status.code) {
        (true, _) => status.message.clone(),
        (false, Code::DeadlineExceeded) => "context deadline exceeded".to_owned(),
        (false, code) => format!("rpc error: code = {} desc = {}", code.go_name(), status.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_etcd_are_told_by_their_text() {
        let known = Status::new(Code::InvalidArgument, "etcdserver: key is not provided");
        assert_eq!(go_text(&known), "etcdserver: key is not provided");
        let unknown = Status::new(Code::Internal, "oops");
        assert_eq!(go_text(&unknown), "rpc error: code = Internal desc = oops");
    }
}
