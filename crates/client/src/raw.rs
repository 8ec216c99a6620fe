//! Requests as given and answers as they came, for input no proper client sends.

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, Request, StatusCode};

use crate::Status;
use crate::connection::uri;

/// An HTTP/2 request. Nothing is added to its headers, and the body goes out without any framing.
#[derive(Clone, Debug)]
pub struct RawRequest {
    pub method: Method,
    pub path: String,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub body: Bytes,
}

impl RawRequest {
    /// A well-formed gRPC request up to its body.
    pub fn grpc(path: &str, body: impl Into<Bytes>) -> RawRequest {
        RawRequest {
            method: Method::POST,
            path: path.to_owned(),
            headers: vec![("te", b"trailers".to_vec()), ("content-type", b"application/grpc".to_vec())],
            body: body.into(),
        }
    }

    /// Sets a header, replacing one of that name.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> RawRequest {
        self.headers.retain(|(held, _)| *held != name);
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn into_http(self, authority: &Authority) -> Result<Request<()>, Status> {
        let mut request = Request::new(());
        let path = PathAndQuery::try_from(self.path).map_err(Status::transport)?;
        *request.method_mut() = self.method;
        *request.uri_mut() = uri(authority, path);
        for (name, value) in self.headers {
            let value = HeaderValue::from_bytes(&value).map_err(Status::transport)?;
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        Ok(request)
    }
}

/// All that came back.
#[derive(Clone, Debug)]
pub struct RawResponse {
    pub http_status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl RawResponse {
    pub(crate) async fn read(response: ResponseFuture) -> Result<RawResponse, Status> {
        let (head, mut incoming) = response.await.map_err(Status::transport)?.into_parts();
        let mut body = BytesMut::new();
        while let Some(data) = incoming.data().await {
            let data = data.map_err(Status::transport)?;
            incoming.flow_control().release_capacity(data.len()).map_err(Status::transport)?;
            body.extend_from_slice(&data);
        }
        let trailers = incoming.trailers().await.map_err(Status::transport)?;
        Ok(RawResponse { http_status: head.status, headers: head.headers, body: body.freeze(), trailers })
    }

    /// How the call ended, wherever the server said so; `None` if nowhere.
    pub fn outcome(&self) -> Option<Result<(), Status>> {
        let trailers = self.trailers.as_ref().and_then(Status::from_headers);
        trailers.or_else(|| Status::from_headers(&self.headers))
    }
}
