//! Why a member does not start, and how the log says so.

use config::Problem;
use discovery::RegistryError;
use discovery::srv::SrvError;
use server::StartError;

use crate::descriptors::TooFew;
use crate::listeners::BindError;

/// What keeps a member from serving though every flag by itself is good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartFailure {
    #[error("{0}")]
    Settings(Problem),
    #[error(transparent)]
    Discovery(#[from] SrvError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    #[error(transparent)]
    Listeners(#[from] BindError),
    #[error(transparent)]
    Member(#[from] StartError),
}

impl StartFailure {
    /// Writes the last line of the log: what could not be done, and why.
    pub(crate) fn log(&self) {
        match self {
            StartFailure::Settings(problem) => problem.log(),
            other => tracing::error!(fatal = true, error = chain(other), "{}", other.task()),
        }
    }

    fn task(&self) -> &'static str {
        match self {
            StartFailure::Settings(_) => "failed to verify flags",
            StartFailure::Discovery(_) | StartFailure::Registry(_) => "failed to find the members",
            StartFailure::Listeners(_) => "failed to listen for clients",
            StartFailure::Descriptors(_) => "failed to start the member",
            StartFailure::Member(error) => match error {
                StartError::EtcdData { .. }
                | StartError::ForeignData { .. }
                | StartError::Locked { .. }
                | StartError::Directory { .. } => "failed to take the data directory",
                StartError::CutShort { .. }
                | StartError::LogMissing { .. }
                | StartError::Gap { .. }
                | StartError::Mismatch { .. }
                | StartError::NotAMember(_)
                | StartError::Log(_)
                | StartError::Backend(_)
                | StartError::Machine(_) => "failed to open the data",
                StartError::Consensus(_) | StartError::Thread(_) | StartError::Stopped(_) => {
                    "failed to start the member"
                }
            },
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
