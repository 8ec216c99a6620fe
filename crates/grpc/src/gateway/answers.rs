//! The answers of a call: messages as they come in, JSON out.

use api::schema::Message;
use bytes::{Buf, Bytes, BytesMut};
use json::Writer;

use crate::transport::Charge;

const PREFIX_LEN: usize = 5;

/// About how much text is handed out at a time.
const PART_BYTES: usize = 64 << 10;

/// How the answers of a stream may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A line is handed out whole.
    AtLines,
    Anywhere,
}

/// Translates the answers of one call. Those of a stream are a line each, in an envelope.
pub(super) struct Answers {
    schema: &'static Message,
    is_stream: bool,
    has_whole_lines: bool,
    /// What has come and is not written yet.
    wire: Bytes,
    /// The message that is being written.
    current: Option<Writer>,
    /// What is written and not handed out yet.
    text: Vec<u8>,
    /// For a line until it is whole.
    charge: Charge,
}

/// A part of the answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) text: Vec<u8>,
    /// Whether a message ends with it.
    pub(super) ends_message: bool,
}

/// Why an answer cannot be translated.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Untold {
    /// What came is no message of this type.
    Unreadable,
    /// There is no room for a line until its end.
    NoRoom,
}

impl From<json::Unreadable> for Untold {
    fn from(_: json::Unreadable) -> Untold {
        Untold::Unreadable
    }
}

impl Answers {
    pub(super) fn new(schema: &'static Message, is_stream: bool, cut: Cut, charge: Charge) -> Answers {
        let has_whole_lines = is_stream && cut == Cut::AtLines;
        Answers { schema, is_stream, has_whole_lines, wire: Bytes::new(), current: None, text: Vec::new(), charge }
    }

    /// Takes in the next piece; to be called once there is nothing next.
    pub(super) fn push(&mut self, piece: Bytes) {
        if self.wire.is_empty() {
            self.wire = piece;
            return;
        }
        // The start of a field, or a few bytes of one.
        let mut wire = BytesMut::with_capacity(self.wire.len() + piece.len());
        wire.extend_from_slice(&self.wire);
        wire.extend_from_slice(&piece);
        self.wire = wire.freeze();
    }

    /// The next text: whole lines, if they are not to be cut, else what can be written, a bounded part at a time.
    /// Nothing if that needs more than has come.
    pub(super) fn next(&mut self) -> Result<Option<Part>, Untold> {
        loop {
            let Some(writer) = &mut self.current else {
                if self.wire.len() < PREFIX_LEN {
                    return Ok(None);
                }
                self.wire.advance(1);
                let len = self.wire.get_u32() as usize;
                if self.is_stream {
                    self.text.extend_from_slice(b"{\"result\":");
                }
                self.current = Some(Writer::new(self.schema, len));
                continue;
            };
            let text_bytes_max = if self.has_whole_lines { self.text.len() + PART_BYTES } else { PART_BYTES };
            let mut unwritten = &self.wire[..];
            let has_ended = writer.push(&mut unwritten, &mut self.text, text_bytes_max)?;
            let written = self.wire.len() - unwritten.len();
            self.wire.advance(written);
            if self.wire.is_empty() {
                // What is charged for it is let go.
                self.wire = Bytes::new();
            }
            let is_full = self.text.len() >= text_bytes_max;
            if has_ended {
                self.current = None;
                if self.is_stream {
                    self.text.extend_from_slice(b"}\n");
                }
                return Ok(Some(self.part(true)));
            }
            if !self.has_whole_lines {
                return Ok((!self.text.is_empty()).then(|| self.part(false)));
            }
            self.charge.resize(self.text.capacity());
            if !self.charge.account().has_room() {
                self.part(false);
                return Err(Untold::NoRoom);
            }
            if !is_full {
                return Ok(None);
            }
        }
    }

    fn part(&mut self, ends_message: bool) -> Part {
        self.charge.resize(0);
        Part { text: std::mem::take(&mut self.text), ends_message }
    }
}

#[cfg(test)]
mod tests {
    use api::etcdserverpb::RangeResponse;
    use api::mvccpb::KeyValue;
    use api::schema::Method;

    use super::*;
    use crate::header::bare;
    use crate::transport::{Account, Budget};

    fn range() -> &'static Message {
        Method::find("/etcdserverpb.KV/Range").unwrap().output
    }

    fn answers(is_stream: bool, cut: Cut) -> Answers {
        Answers::new(range(), is_stream, cut, Account::open(&Budget::new(16 << 20)).charge(0))
    }

    fn kv(key: &'static str, value: Vec<u8>) -> KeyValue {
        KeyValue { key: key.into(), mod_revision: 7, value: value.into(), ..KeyValue::default() }
    }

    /// What is handed out of `wire`, message by message, and how long the longest part is.
    fn told(mut answers: Answers, wire: &[u8], piece_len: usize) -> (Vec<String>, usize) {
        let (mut messages, mut longest, mut begun) = (Vec::new(), 0, Vec::new());
        for piece in wire.chunks(piece_len) {
            answers.push(Bytes::copy_from_slice(piece));
            while let Some(part) = answers.next().unwrap() {
                longest = longest.max(part.text.len());
                begun.extend(part.text);
                if part.ends_message {
                    messages.push(String::from_utf8(std::mem::take(&mut begun)).unwrap());
                }
            }
        }
        assert!(begun.is_empty() && answers.wire.is_empty());
        (messages, longest)
    }

    #[test]
    fn it_does_not_matter_how_answers_are_cut() {
        let kvs = vec![kv("a", Vec::new()), kv("b", Vec::new())];
        let both = RangeResponse { kvs, count: 2, ..RangeResponse::default() };
        let wire = [bare(&both), bare(&RangeResponse::default()), bare(&both)].concat();
        let text = r#"{"kvs":[{"key":"YQ==","mod_revision":"7"},{"key":"Yg==","mod_revision":"7"}],"count":"2"}"#;
        let lines = [text, "{}", text].map(|text| format!("{{\"result\":{text}}}\n"));
        for size in 1..=wire.len() {
            for cut in [Cut::AtLines, Cut::Anywhere] {
                assert_eq!(told(answers(true, cut), &wire, size).0, lines, "{cut:?}");
            }
            assert_eq!(told(answers(false, Cut::AtLines), &bare(&both), size).0, [text]);
        }
        let mut broken = answers(false, Cut::AtLines);
        broken.push(Bytes::from_static(b"\0\0\0\0\x02\x12\x05"));
        assert_eq!(broken.next(), Err(Untold::Unreadable));
    }

    #[test]
    fn long_answers_are_handed_out_in_bounded_parts() {
        let long = RangeResponse { kvs: vec![kv("a", vec![7; 10 * PART_BYTES])], ..RangeResponse::default() };
        let wire = bare(&long);
        for (is_stream, cut) in [(false, Cut::AtLines), (false, Cut::Anywhere), (true, Cut::Anywhere)] {
            for size in [PART_BYTES, wire.len()] {
                let (messages, longest) = told(answers(is_stream, cut), &wire, size);
                assert!(longest < PART_BYTES + 1000, "{longest} bytes at once");
                assert!(messages.len() == 1 && messages[0].len() > 13 * PART_BYTES);
            }
        }
        let (messages, longest) = told(answers(true, Cut::AtLines), &wire, PART_BYTES);
        assert_eq!((messages.len(), messages[0].len()), (1, longest));
    }

    #[test]
    fn a_line_that_is_not_to_be_cut_is_charged_while_it_grows() {
        let budget = Budget::new(1 << 20);
        let account = Account::open(&budget);
        let long = RangeResponse { kvs: vec![kv("a", vec![7; 1 << 20])], ..RangeResponse::default() };
        let mut answers = Answers::new(range(), true, Cut::AtLines, account.charge(0));
        answers.push(bare(&long));
        assert_eq!(answers.next(), Err(Untold::NoRoom));
        assert!(account.has_room(), "what is given up is not charged");
    }
}
