//! Streams of messages in either direction.

use std::marker::PhantomData;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use prost::Message;

use crate::Status;
use crate::frame::{Frames, frame};

/// A call on which both sides talk. The halves may be taken apart.
#[derive(Debug)]
pub struct Stream<Req, Res> {
    pub outgoing: Outgoing<Req>,
    pub incoming: Incoming<Res>,
}

impl<Req: Message, Res: Message + Default> Stream<Req, Res> {
    /// See [`Outgoing::send`].
    pub fn send(&mut self, message: &Req) -> Result<(), Status> {
        self.outgoing.send(message)
    }

    /// See [`Incoming::next`].
    pub async fn next(&mut self) -> Result<Option<Res>, Status> {
        self.incoming.next().await
    }
}

/// The client's half of a stream.
#[derive(Debug)]
pub struct Outgoing<Req> {
    sending: SendStream<Bytes>,
    message: PhantomData<fn(Req)>,
}

impl<Req: Message> Outgoing<Req> {
    pub(crate) fn new(sending: SendStream<Bytes>) -> Outgoing<Req> {
        Outgoing { sending, message: PhantomData }
    }

    /// Queues one message; it leaves as the server's window allows.
    pub fn send(&mut self, message: &Req) -> Result<(), Status> {
        self.send_bytes(frame(message))
    }

    /// Queues body bytes as they are.
    pub fn send_bytes(&mut self, body: Bytes) -> Result<(), Status> {
        self.sending.send_data(body, false).map_err(Status::transport)
    }

    /// Says that nothing more will come.
    pub fn close(&mut self) -> Result<(), Status> {
        self.sending.send_data(Bytes::new(), true).map_err(Status::transport)
    }

    /// Tells the server that the call is off (RST_STREAM with CANCEL).
    pub fn cancel(&mut self) {
        self.sending.send_reset(h2::Reason::CANCEL);
    }
}

/// The server's half of a stream. What is not read is not acknowledged: a reader that stops fills its window and then
/// stops the server.
#[derive(Debug)]
pub struct Incoming<Res = ()> {
    body: Body,
    frames: Frames,
    message: PhantomData<fn() -> Res>,
}

#[derive(Debug)]
enum Body {
    Expected(ResponseFuture),
    Open(RecvStream),
    Ended,
}

impl<Res: Message + Default> Incoming<Res> {
    /// The next message; `None` once the server has ended the call with OK. May be dropped half-way without loss.
    ///
    /// # Errors
    /// The status the server ended the call with, or a transport status.
    pub async fn next(&mut self) -> Result<Option<Res>, Status> {
        match self.next_bytes().await? {
            Some(bytes) => Res::decode(bytes).map(Some).map_err(Status::transport),
            None => Ok(None),
        }
    }
}

impl<Res> Incoming<Res> {
    pub(crate) fn new(response: ResponseFuture, message_bytes_max: usize) -> Incoming<Res> {
        Incoming { body: Body::Expected(response), frames: Frames::new(message_bytes_max), message: PhantomData }
    }

    /// As [`Incoming::next`], undecoded.
    pub async fn next_bytes(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.frames.next()? {
                return Ok(Some(message));
            }
            match &mut self.body {
                Body::Expected(response) => {
                    let (head, body) = response.await.map_err(Status::transport)?.into_parts();
                    self.body = Body::Open(body);
                    if head.status != http::StatusCode::OK {
                        self.body = Body::Ended;
                        return Err(Status::transport(format_args!("HTTP status {}", head.status)));
                    }
                    if let Some(outcome) = Status::from_headers(&head.headers) {
                        self.body = Body::Ended;
                        return outcome.map(|()| None);
                    }
                }
                Body::Open(body) => match body.data().await {
                    Some(data) => {
                        let data = data.map_err(Status::transport)?;
                        body.flow_control().release_capacity(data.len()).map_err(Status::transport)?;
                        self.frames.push(data);
                    }
                    None => return self.end().await,
                },
                Body::Ended => return Ok(None),
            }
        }
    }

    async fn end(&mut self) -> Result<Option<Bytes>, Status> {
        let Body::Open(body) = &mut self.body else { return Ok(None) };
        let trailers = body.trailers().await.map_err(Status::transport)?;
        self.body = Body::Ended;
        let outcome = trailers.as_ref().and_then(Status::from_headers);
        outcome.ok_or_else(|| Status::transport("the answer ended without a status"))??;
        match self.frames.is_empty() {
            true => Ok(None),
            false => Err(Status::transport("the answer ended inside a message")),
        }
    }
}
