//! Compressed messages.

use std::io::{self, Read};

use api::errors::Code;
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use crate::status::Status;

/// Undoes gzip; never makes more than `max` bytes, whatever the data claims.
///
/// # Errors
/// The data is no gzip, or holds more than `max` bytes. The texts are those of grpc-go and of Go's `compress/gzip`.
pub(crate) fn decompress(compressed: &[u8], max: usize) -> Result<Bytes, Status> {
    let mut message = Vec::new();
    let decoder = MultiGzDecoder::new(compressed);
    let failed = match decoder.header() {
        None => "grpc: failed to decompress the message",
        Some(_) => "grpc: failed to read decompressed data",
    };
    decoder.take(max as u64 + 1).read_to_end(&mut message).map_err(|error| {
        let reason = if compressed.is_empty() { "EOF" } else { reason(&error) };
        Status::new(Code::Internal, format!("{failed}: {reason}"))
    })?;
    if message.len() > max {
        let text = format!("grpc: received message after decompression larger than max {max}");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(message.into())
}

/// What Go says to it. Where in the data it is corrupt, our decoder does not tell.
fn reason(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "unexpected EOF";
    }
    match error.to_string().as_str() {
        "invalid gzip header" => "gzip: invalid header",
        "corrupt gzip stream does not have a matching checksum" => "gzip: invalid checksum",
        _ => "flate: corrupt input",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn compress(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_message_comes_back() {
        assert_eq!(decompress(&compress(b"message"), 7).unwrap(), "message");
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = compress(&vec![0; 10 << 20]);
        assert!(bomb.len() < 20_000);
        assert_eq!(decompress(&bomb, 1000).unwrap_err().code, Code::ResourceExhausted);
    }

    /// The texts of flate2 that are translated are no promise of its.
    #[test]
    fn what_is_no_gzip_is_an_error_in_gos_words() {
        let whole = compress(b"message");
        let changed = |at: usize, to: u8| {
            let mut changed = whole.clone();
            changed[at] = to;
            changed
        };
        let cases = [
            (vec![], "grpc: failed to decompress the message: EOF"),
            (b"plain".to_vec(), "grpc: failed to decompress the message: unexpected EOF"),
            (b"no gzip at all".to_vec(), "grpc: failed to decompress the message: gzip: invalid header"),
            (whole[..15].to_vec(), "grpc: failed to read decompressed data: unexpected EOF"),
            (whole[..whole.len() - 1].to_vec(), "grpc: failed to read decompressed data: unexpected EOF"),
            (changed(10, 0xff), "grpc: failed to read decompressed data: flate: corrupt input"),
            (changed(whole.len() - 1, 1), "grpc: failed to read decompressed data: gzip: invalid checksum"),
            ([&whole[..], b"more than ten"].concat(), "grpc: failed to read decompressed data: gzip: invalid header"),
        ];
        for (wrong, text) in cases {
            let refused = decompress(&wrong, 1000).unwrap_err();
            assert_eq!((refused.code, refused.text.as_ref()), (Code::Internal, text), "{wrong:?}");
        }
    }
}
