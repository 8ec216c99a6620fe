//! Looks for settings, pings, cancellations and answers in a stream of HTTP/2 bytes.
//!
//! The HTTP/2 library answers pings by itself and tells nobody, hardly minds calls that are cancelled as soon as they are
//! opened, and never misses settings, or the rest of a call's headers, that do not come. Clients that overdo any of it must
//! be sent away, so somebody has to look: this reads the nine bytes in front of every frame and skips the rest. It judges
//! nothing; bytes that are no HTTP/2 are the library's to refuse.
//!
//! What we send is gone over as well: one long answer leaves in many frames, as the client takes them, and only here is it seen when.

const PREFACE_LEN: usize = 24;
const HEAD_LEN: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Where in the stream we are.
#[derive(Debug)]
pub(crate) struct FrameWalker {
    /// Bytes to pass over until the next frame head.
    skip: usize,
    head: [u8; HEAD_LEN],
    head_len: usize,
    settings_seen: bool,
    headers: Headers,
    header_blocks: u64,
    pings: u32,
    resets: u64,
    answers: u64,
}

/// Where in the headers of a call we are: they may be cut into several frames, with no others in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Headers {
    Outside,
    /// Other frames are to follow.
    Open,
    /// In the last frame.
    Ending,
}

impl FrameWalker {
    /// For what a client sends.
    pub(crate) fn of_client() -> FrameWalker {
        FrameWalker { skip: PREFACE_LEN, ..FrameWalker::of_server() }
    }

    /// For what a server sends.
    pub(crate) fn of_server() -> FrameWalker {
        FrameWalker {
            skip: 0,
            head: [0; HEAD_LEN],
            head_len: 0,
            settings_seen: false,
            headers: Headers::Outside,
            header_blocks: 0,
            pings: 0,
            resets: 0,
            answers: 0,
        }
    }

    /// Goes over the next bytes that were sent.
    pub(crate) fn walk(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = (HEAD_LEN - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + taken].copy_from_slice(&bytes[..taken]);
            self.head_len += taken;
            bytes = &bytes[taken..];
            if self.head_len == HEAD_LEN {
                self.read_head();
            }
        }
    }

    fn read_head(&mut self) {
        let [length_high, length_middle, length_low, kind, flags, ..] = self.head;
        self.skip = u32::from_be_bytes([0, length_high, length_middle, length_low]) as usize;
        self.head_len = 0;
        self.headers = match kind {
            HEADERS | CONTINUATION if flags & END_HEADERS == 0 => Headers::Open,
            HEADERS | CONTINUATION => Headers::Ending,
            _ => Headers::Outside,
        };
        self.header_blocks += u64::from(kind == HEADERS);
        match kind {
            PING if flags & ACK == 0 => self.pings = self.pings.saturating_add(1),
            RST_STREAM => self.resets += 1,
            DATA | HEADERS => self.answers += 1,
            SETTINGS => self.settings_seen = true,
            _ => {}
        }
    }

    /// The pings (answers to ours left out) since the last call.
    pub(crate) fn take_pings(&mut self) -> u32 {
        std::mem::take(&mut self.pings)
    }

    /// The number of what the peer has to say to its end before anything else can go on: 0 is its settings, then come
    /// the headers of calls, counted.
    pub(crate) fn owed(&self) -> Option<u64> {
        let is_inside = match self.headers {
            Headers::Outside => !self.settings_seen,
            Headers::Open => true,
            Headers::Ending => self.skip > 0,
        };
        is_inside.then_some(self.header_blocks)
    }

    /// The calls cancelled so far.
    pub(crate) fn resets(&self) -> u64 {
        self.resets
    }

    /// The frames so far that are more than control: headers and data.
    pub(crate) fn answers(&self) -> u64 {
        self.answers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 0]);
        bytes.extend(payload);
        bytes
    }

    proptest! {
        #[test]
        fn pings_are_counted_however_the_bytes_are_cut(cuts in prop::collection::vec(1usize..40, 1..60)) {
            let mut stream = vec![b'x'; PREFACE_LEN];
            stream.extend(frame(4, 0, b""));
            stream.extend(frame(PING, 0, b"12345678"));
            stream.extend(frame(0, 1, &[PING; 300]));
            stream.extend(frame(PING, ACK, b"12345678"));
            stream.extend(frame(RST_STREAM, 0, b"1234"));
            stream.extend(frame(PING, 0, b"12345678"));
            let (mut walker, mut rest) = (FrameWalker::of_client(), &stream[..]);
            for cut in cuts.into_iter().cycle() {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                walker.walk(piece);
                rest = later;
                if rest.is_empty() { break }
            }
            prop_assert_eq!(walker.owed(), None);
            prop_assert_eq!(walker.take_pings(), 2);
            prop_assert_eq!(walker.take_pings(), 0);
            prop_assert_eq!(walker.resets(), 1);
            prop_assert_eq!(walker.answers(), 1);
        }
    }
}
