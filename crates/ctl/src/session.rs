//! What a command works with once its arguments are right: a way to the cluster, its time limit, its output.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use client::{Balanced, Endpoint, Status};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::failure::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::{Answer, Printer};
use crate::settings::Settings;

pub(crate) struct Session {
    /// There until the session is dropped.
    runtime: Option<Runtime>,
    settings: Settings,
    pub cluster: Arc<Balanced>,
    pub printer: Printer,
}

impl Session {
    /// Reads the settings. Connects to nobody yet.
    ///
    /// # Errors
    /// If the settings cannot be used.
    pub(crate) fn open(invocation: &Invocation) -> Result<Session, Failure> {
        let settings = Settings::read(&invocation.given)?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
        let cluster = Arc::new(Balanced::new(settings.endpoints.clone(), settings.connect, settings.dial_timeout));
        let printer = settings.printer;
        Ok(Session { runtime: Some(runtime), settings, cluster, printer })
    }

    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.settings.endpoints
    }

    pub(crate) fn command_timeout(&self) -> Duration {
        self.settings.command_timeout
    }

    /// A further way to the cluster, with a connection of its own.
    pub(crate) fn further(&self) -> Balanced {
        Balanced::new(self.settings.endpoints.clone(), self.settings.connect, self.settings.dial_timeout)
    }

    /// A way to one endpoint alone.
    pub(crate) fn at(&self, endpoint: &Endpoint) -> Balanced {
        Balanced::new(vec![endpoint.clone()], self.settings.connect, self.settings.dial_timeout)
    }

    /// For as long as it takes.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is there until the session is dropped").block_on(work)
    }

    pub(crate) fn sleep(&self, time: Duration) {
        self.block_on(async { sleep(time).await });
    }

    /// Within the command's time limit, which servers are told.
    ///
    /// # Errors
    /// What `work` says, or that the time is over, with what kept the cluster from answering.
    pub(crate) fn limited<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Failure> {
        self.block_on(within(self.settings.command_timeout, &self.cluster, work))
    }

    pub(crate) fn print(&self, answer: &Answer<'_>) -> Result<(), Failure> {
        self.printer.print(answer)
    }
}

impl Drop for Session {
    /// A name that is still being looked up keeps nobody from ending.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// See [`Session::limited`].
pub(crate) async fn within<T>(
    limit: Duration,
    cluster: &Balanced,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Failure> {
    match client::within(limit, work).await {
        Some(outcome) => Ok(outcome?),
        None => {
            let failure = Failure::error("context deadline exceeded");
            Err(match cluster.last_failure() {
                Some(reason) => failure.note(format!("Unavailable: {reason}")),
                None => failure,
            })
        }
    }
}
