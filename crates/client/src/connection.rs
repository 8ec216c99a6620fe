//! One connection and the calls on it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::address::{Address, Endpoint};
use crate::frame::frame;
#[cfg(feature = "raw")]
use crate::raw::{RawRequest, RawResponse};
use crate::stream::{Incoming, Outgoing, Stream};
use crate::{Status, limit};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");

/// Request metadata: lower-case names and values that need not be text.
pub type Metadata<'a> = &'a [(&'static str, &'a [u8])];

/// How much the server may send before the client has read it.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    pub stream_window_bytes: u32,
    pub connection_window_bytes: u32,
    /// No message in an answer may be larger.
    pub message_bytes_max: usize,
    /// Whether and how the server is asked for a sign of life; one that gives none loses the connection.
    pub keep_alive: Option<KeepAlive>,
    /// The version of etcd's API that the calls are made by, as servers are told (`client-api-version`).
    pub api_version: Option<&'static str>,
}

/// A ping every `time`, to be answered within `timeout`.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    pub time: Duration,
    pub timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            stream_window_bytes: 4 << 20,
            connection_window_bytes: 64 << 20,
            message_bytes_max: u32::MAX as usize,
            keep_alive: None,
            api_version: None,
        }
    }
}

/// A connection to one server. Clones share it; it closes when the last clone and the last stream are gone.
#[derive(Clone, Debug)]
pub struct Client {
    requests: SendRequest<Bytes>,
    authority: Authority,
    message_bytes_max: usize,
    api_version: Option<&'static str>,
    driver: AbortHandle,
}

impl Client {
    /// Connects in clear text.
    ///
    /// # Errors
    /// A transport status if nobody listens there or the HTTP/2 handshake cannot be sent.
    pub async fn connect(address: SocketAddr) -> Result<Client, Status> {
        Client::connect_with(address, ConnectOptions::default()).await
    }

    /// As [`Client::connect`], with windows of the caller's choice.
    pub async fn connect_with(address: SocketAddr, options: ConnectOptions) -> Result<Client, Status> {
        let socket = TcpStream::connect(address).await.map_err(Status::transport)?;
        socket.set_nodelay(true).map_err(Status::transport)?;
        let authority = Authority::try_from(address.to_string()).expect("an address is an authority");
        Ok(Client::over(socket, authority, options).await?.0)
    }

    /// Connects in clear text to a server named by its user, and waits until it has shown that it speaks HTTP/2.
    ///
    /// # Errors
    /// A transport status if it cannot be reached, or something else answers there.
    pub async fn connect_to(endpoint: &Endpoint, options: ConnectOptions) -> Result<Client, Status> {
        let authority = Authority::try_from(endpoint.authority()).map_err(Status::transport)?;
        let (client, mut pings) = match &endpoint.address {
            Address::Tcp { host, port } => {
                let socket = TcpStream::connect((host.as_str(), *port)).await.map_err(Status::transport)?;
                socket.set_nodelay(true).map_err(Status::transport)?;
                Client::over(socket, authority, options).await?
            }
            Address::Unix(path) => {
                let socket = UnixStream::connect(path).await.map_err(Status::transport)?;
                Client::over(socket, authority, options).await?
            }
        };
        pings.ping(Ping::opaque()).await.map_err(Status::transport)?;
        if let Some(keep_alive) = options.keep_alive {
            tokio::spawn(ask_for_life(pings, keep_alive, client.driver.clone()));
        }
        Ok(client)
    }

    async fn over<S>(socket: S, authority: Authority, options: ConnectOptions) -> Result<(Client, PingPong), Status>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (requests, mut connection) = h2::client::Builder::new()
            .initial_window_size(options.stream_window_bytes)
            .initial_connection_window_size(options.connection_window_bytes)
            .max_frame_size(1 << 20)
            .max_send_buffer_size(4 << 20)
            .enable_push(false)
            .handshake(socket)
            .await
            .map_err(Status::transport)?;
        let pings = connection.ping_pong().expect("nobody has taken it before");
        // Its outcome reaches every call that was on the connection; nobody else needs it.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        let ConnectOptions { message_bytes_max, api_version, .. } = options;
        Ok((Client { requests, authority, message_bytes_max, api_version, driver }, pings))
    }

    /// Whether the connection is known to be gone.
    pub fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }

    /// Whether both are the same connection.
    pub(crate) fn shares_connection_with(&self, other: &Client) -> bool {
        self.driver.id() == other.driver.id()
    }

    /// Calls `path` (`/package.Service/Method`) and waits for its one answer.
    pub async fn unary<Res: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<Res, Status> {
        self.unary_with(path, &[], request).await
    }

    /// As [`Client::unary`], with request metadata.
    pub async fn unary_with<Res: Message + Default>(
        &self,
        path: &'static str,
        metadata: Metadata<'_>,
        request: &impl Message,
    ) -> Result<Res, Status> {
        let answer = self.call(path, metadata, frame(request)).await?;
        Res::decode(answer).map_err(Status::transport)
    }

    /// Sends `body`, already framed (see [`crate::frame()`]), and returns the bytes of the one message in the answer.
    /// The cheapest call: nothing is encoded or decoded.
    pub async fn call(&self, path: &'static str, metadata: Metadata<'_>, body: Bytes) -> Result<Bytes, Status> {
        let (response, mut sending) = self.open(path, metadata).await?;
        sending.send_data(body, true).map_err(Status::transport)?;
        let mut incoming: Incoming = Incoming::new(response, self.message_bytes_max);
        let Some(answer) = incoming.next_bytes().await? else {
            return Err(Status::transport("success without a message"));
        };
        match incoming.next_bytes().await? {
            None => Ok(answer),
            Some(_) => Err(Status::transport("more than one message in a unary answer")),
        }
    }

    /// Sends one request, half-closes, and leaves the answers to be read one by one.
    pub async fn server_stream<Res: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<Incoming<Res>, Status> {
        let (response, mut sending) = self.open(path, &[]).await?;
        sending.send_data(frame(request), true).map_err(Status::transport)?;
        Ok(Incoming::new(response, self.message_bytes_max))
    }

    /// Opens a stream on which both sides talk. Returns before the server has answered anything.
    pub async fn stream<Req: Message, Res: Message + Default>(
        &self,
        path: &'static str,
        metadata: Metadata<'_>,
    ) -> Result<Stream<Req, Res>, Status> {
        let (response, sending) = self.open(path, metadata).await?;
        Ok(Stream { outgoing: Outgoing::new(sending), incoming: Incoming::new(response, self.message_bytes_max) })
    }

    #[cfg(feature = "raw")]
    /// Sends a request exactly as given, proper gRPC or not, and returns all that came back.
    pub async fn raw(&self, request: RawRequest) -> Result<RawResponse, Status> {
        let body = request.body.clone();
        let (response, mut sending) = self.send(request.into_http(&self.authority)?, body.is_empty()).await?;
        if !body.is_empty() {
            sending.send_data(body, true).map_err(Status::transport)?;
        }
        RawResponse::read(response).await
    }

    async fn open(
        &self,
        path: &'static str,
        metadata: Metadata<'_>,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), Status> {
        let mut headers = HeaderMap::with_capacity(4 + metadata.len());
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(left) = limit::left() {
            headers.insert(GRPC_TIMEOUT, HeaderValue::try_from(left).map_err(Status::transport)?);
        }
        if let Some(version) = self.api_version {
            headers.insert(CLIENT_API_VERSION, HeaderValue::from_static(version));
        }
        for (name, value) in metadata {
            let value = HeaderValue::from_bytes(value).map_err(Status::transport)?;
            headers.append(HeaderName::from_static(name), value);
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri(&self.authority, PathAndQuery::from_static(path));
        *request.headers_mut() = headers;
        self.send(request, false).await
    }

    async fn send(&self, request: Request<()>, end: bool) -> Result<(ResponseFuture, h2::SendStream<Bytes>), Status> {
        let mut requests = self.requests.clone();
        poll_fn(|context| requests.poll_ready(context)).await.map_err(Status::transport)?;
        requests.send_request(request, end).map_err(Status::transport)
    }
}

/// Ends the connection once a ping is not answered in time.
async fn ask_for_life(mut pings: PingPong, keep_alive: KeepAlive, driver: AbortHandle) {
    while !driver.is_finished() {
        sleep(keep_alive.time).await;
        let Ok(Ok(_)) = timeout(keep_alive.timeout, pings.ping(Ping::opaque())).await else { break };
    }
    driver.abort();
}

pub(crate) fn uri(authority: &Authority, path: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).expect("scheme, authority and path make a URI")
}
