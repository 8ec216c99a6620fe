//! Several servers of one cluster as one.
//!
//! There is one connection at a time, to whichever server answered first. Once a call found it unavailable, the next
//! call goes to another. Those who wait for a connection wait for the same one. Nothing gives up by itself: callers put a
//! time limit around what they ask for, and may tell their users [`Balanced::last_failure`] when it has passed.

use std::future::Future;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{Client, Code, ConnectOptions, Endpoint, Status};

/// Between two rounds of attempts to connect, and between two attempts of a call.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Balanced {
    endpoints: Vec<Endpoint>,
    options: ConnectOptions,
    dial_timeout: Duration,
    preferred: Option<usize>,
    state: Mutex<State>,
    /// Held by the one that connects, for all who wait.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<(usize, Client)>,
    /// Where a call found nobody, to be tried last.
    avoided: Option<usize>,
    last_failure: Option<String>,
}

impl Balanced {
    /// Connects to nobody yet. One attempt to connect takes `dial_timeout` at most.
    pub fn new(endpoints: Vec<Endpoint>, options: ConnectOptions, dial_timeout: Duration) -> Balanced {
        Balanced {
            endpoints,
            options,
            dial_timeout,
            preferred: None,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Of several that share a load, each tries one server before all others.
    #[must_use]
    pub fn preferring(self, endpoint: usize) -> Balanced {
        Balanced { preferred: Some(endpoint % self.endpoints.len().max(1)), ..self }
    }

    /// The last server that could not be reached, and why.
    pub fn last_failure(&self) -> Option<String> {
        self.state.lock().last_failure.clone()
    }

    /// A connection that was alive a moment ago. Tries for as long as it takes.
    pub async fn connection(&self) -> Client {
        if let Some(client) = self.current() {
            return client;
        }
        let _turn = self.connecting.lock().await;
        let mut pause = PAUSE;
        loop {
            if let Some(client) = self.current() {
                return client;
            }
            if let Some((index, client)) = self.connect().await {
                self.state.lock().current = Some((index, client.clone()));
                return client;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// A call that may be made any number of times: while servers are unavailable, it is.
    pub async fn read<T, F: Future<Output = Result<T, Status>>>(
        &self,
        call: impl Fn(Client) -> F,
    ) -> Result<T, Status> {
        loop {
            let client = self.connection().await;
            match call(client.clone()).await {
                Err(status) if status.code == Code::Unavailable => {
                    self.leave(&client, &status);
                    sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// A call that must not be made twice: once it was sent, its failure is the answer.
    pub async fn write<T, F: Future<Output = Result<T, Status>>>(
        &self,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, Status> {
        let client = self.connection().await;
        let outcome = call(client.clone()).await;
        if let Err(status) = &outcome
            && status.code == Code::Unavailable
        {
            self.leave(&client, status);
        }
        outcome
    }

    /// Has later calls go to another server than `client`'s, if there is one. A newer connection than that one stays.
    pub fn leave(&self, client: &Client, why: &Status) {
        let mut state = self.state.lock();
        if let Some((index, _)) = state.current.take_if(|(_, current)| current.shares_connection_with(client)) {
            state.avoided = Some(index);
            state.last_failure = Some(format!("{}: {}", self.endpoints[index].text(), why.message));
        }
    }

    fn current(&self) -> Option<Client> {
        let current = self.state.lock().current.clone();
        current.map(|(_, client)| client).filter(|client| !client.is_closed())
    }

    /// Asks all servers at once and takes the first that answers; the one to avoid only if nobody else does.
    async fn connect(&self) -> Option<(usize, Client)> {
        let avoided = self.state.lock().avoided;
        if let Some(connected) = self.first_of(self.preferred.filter(|preferred| Some(*preferred) != avoided)).await {
            return Some(connected);
        }
        let first = (0..self.endpoints.len()).filter(|index| Some(*index) != avoided);
        if let Some(connected) = self.first_of(first).await {
            return Some(connected);
        }
        self.first_of(avoided).await
    }

    async fn first_of(&self, indices: impl IntoIterator<Item = usize>) -> Option<(usize, Client)> {
        let mut attempts = JoinSet::new();
        for index in indices {
            let (endpoint, options, limit) = (self.endpoints[index].clone(), self.options, self.dial_timeout);
            attempts.spawn(async move {
                let attempt = timeout(limit, Client::connect_to(&endpoint, options)).await;
                (index, attempt.unwrap_or_else(|_| Err(Status::transport("no answer"))))
            });
        }
        while let Some(attempt) = attempts.join_next().await {
            let Ok((index, outcome)) = attempt else { continue };
            match outcome {
                Ok(client) => return Some((index, client)),
                Err(status) => {
                    let failure = format!("{}: {}", self.endpoints[index].text(), status.message);
                    self.state.lock().last_failure = Some(failure);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    /// A server that accepts connections once it is `open`, and answers no calls.
    struct Server {
        endpoint: Endpoint,
        accepted: Arc<AtomicUsize>,
    }

    impl Server {
        async fn new() -> Server {
            Server::opened_by(std::future::ready(())).await
        }

        async fn opened_by(open: impl Future<Output = ()> + Send + 'static) -> Server {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
            let accepted = Arc::new(AtomicUsize::new(0));
            let count = accepted.clone();
            tokio::spawn(async move {
                open.await;
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(async move {
                        let mut connection = h2::server::handshake(socket).await.unwrap();
                        while let Some(Ok(_)) = connection.accept().await {}
                    });
                }
            });
            Server { endpoint, accepted }
        }

        fn cluster(&self) -> Arc<Balanced> {
            let long = Duration::from_secs(60);
            Arc::new(Balanced::new(vec![self.endpoint.clone()], ConnectOptions::default(), long))
        }

        fn accepted(&self) -> usize {
            self.accepted.load(Ordering::Relaxed)
        }
    }

    fn gone() -> Status {
        Status::new(Code::Unavailable, "gone")
    }

    #[tokio::test]
    async fn a_call_that_fails_late_leaves_only_the_connection_it_was_on() {
        let server = Server::new().await;
        let cluster = server.cluster();
        let (fail, fails) = oneshot::channel();
        let late = cluster.write(|_| async move {
            fails.await.unwrap();
            Err::<(), _>(gone())
        });
        let others = async {
            yield_now().await;
            cluster.connection().await;
            cluster.write(|_| async { Err::<(), _>(gone()) }).await.unwrap_err();
            cluster.connection().await;
            fail.send(()).unwrap();
        };
        let _ = tokio::join!(late, others);
        cluster.connection().await;
        assert_eq!(server.accepted(), 2, "the one that was left, and the one after it");
    }

    #[tokio::test]
    async fn those_who_wait_for_a_connection_share_one() {
        let server = Server::new().await;
        let cluster = server.cluster();
        let mut waiting = JoinSet::new();
        for _ in 0..10 {
            let cluster = cluster.clone();
            waiting.spawn(async move { cluster.connection().await });
        }
        waiting.join_all().await;
        assert_eq!(server.accepted(), 1);
    }

    #[tokio::test]
    async fn who_gives_up_while_connecting_holds_up_nobody() {
        let (open, opens) = oneshot::channel::<()>();
        let server = Server::opened_by(async move { drop(opens.await) }).await;
        let cluster = server.cluster();
        let waiting = cluster.connection();
        tokio::select! {
            biased;
            _ = waiting => panic!("nobody has answered"),
            () = yield_now() => (),
        }
        open.send(()).unwrap();
        cluster.connection().await;
    }
}
