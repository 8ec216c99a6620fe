//! What a request is answered with.

use bytes::{Bytes, BytesMut};
use mvcc::{MvccError, RangeResult, RangeRows};

use crate::wire;

/// An answer: everything of the response message but field 1, the header, which the front end writes in front.
#[derive(Debug)]
pub struct Reply {
    /// For the header: the revision of the change, or the current one if nothing changed; 0 where etcd sends 0.
    pub revision: i64,
    pub body: Body,
}

/// The fields of a response message after its header.
#[derive(Debug)]
pub enum Body {
    Encoded(Bytes),
    /// A range answer that is encoded while it is sent, piece by piece.
    Rows(RangeBody),
}

/// The fields of a `RangeResponse` after its header.
#[derive(Debug)]
pub struct RangeBody {
    rows: RangeRows,
    more: bool,
    count: i64,
    is_finished: bool,
}

impl Reply {
    pub(crate) fn empty(revision: i64) -> Reply {
        Reply { revision, body: Body::Encoded(Bytes::new()) }
    }

    pub(crate) fn encoded(revision: i64, body: BytesMut) -> Reply {
        Reply { revision, body: Body::Encoded(body.freeze()) }
    }

    pub(crate) fn range(result: RangeResult) -> Reply {
        Reply { revision: result.revision, body: Body::Rows(RangeBody::new(result)) }
    }
}

impl Body {
    /// Bytes of the whole body.
    pub fn encoded_len(&self) -> u64 {
        match self {
            Body::Encoded(bytes) => bytes.len() as u64,
            Body::Rows(rows) => rows.encoded_len(),
        }
    }

    /// The whole body in one piece.
    ///
    /// # Errors
    /// If a value that lies in the backend cannot be read.
    pub fn into_bytes(self) -> Result<Bytes, MvccError> {
        match self {
            Body::Encoded(bytes) => Ok(bytes),
            Body::Rows(mut rows) => {
                let mut out = BytesMut::with_capacity(usize::try_from(rows.encoded_len()).unwrap_or(0));
                while rows.encode_next(&mut out, usize::MAX)? {}
                Ok(out.freeze())
            }
        }
    }
}

impl RangeBody {
    pub(crate) fn new(result: RangeResult) -> RangeBody {
        RangeBody { rows: result.rows, more: result.more, count: result.count, is_finished: false }
    }

    /// Bytes that are still to be encoded.
    pub fn encoded_len(&self) -> u64 {
        if self.is_finished {
            return 0;
        }
        self.rows.encoded_len() + wire::range_tail_len(self.more, self.count) as u64
    }

    /// About how much memory is held until the last key is encoded.
    pub fn held_bytes(&self) -> usize {
        self.rows.held_bytes()
    }

    /// How many keys are still to be encoded.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether the request's limit cut keys off.
    pub fn more(&self) -> bool {
        self.more
    }

    /// How many keys the range holds, whatever was cut off or filtered out.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// Appends the next keys to `out`: at least one, then further ones until about `max_bytes` were added; after the
    /// last key `more` and `count`. Returns whether anything is left.
    ///
    /// # Errors
    /// If a value that lies in the backend cannot be read.
    pub fn encode_next(&mut self, out: &mut BytesMut, max_bytes: usize) -> Result<bool, MvccError> {
        if self.is_finished {
            return Ok(false);
        }
        if self.encode_rows(out, max_bytes)? {
            return Ok(true);
        }
        wire::put_range_tail(out, self.more, self.count);
        self.is_finished = true;
        Ok(false)
    }

    /// As [`RangeBody::encode_next`], but never `more` and `count`: for streams that send them apart. Returns whether
    /// keys are left.
    ///
    /// # Errors
    /// If a value that lies in the backend cannot be read.
    pub fn encode_rows(&mut self, out: &mut BytesMut, max_bytes: usize) -> Result<bool, MvccError> {
        if self.rows.is_empty() { Ok(false) } else { self.rows.encode_next(out, max_bytes) }
    }
}
