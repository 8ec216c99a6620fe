//! Compressed messages.

use std::io::Read;

use api::errors::Code;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;

use crate::status::Status;

/// Undoes gzip; never makes more than `max` bytes, whatever the data claims.
///
/// # Errors
/// The data is no gzip, or holds more than `max` bytes.
pub(crate) fn decompress(compressed: &[u8], max: usize) -> Result<Bytes, Status> {
    let mut message = Vec::new();
    let mut decoder = MultiGzDecoder::new(compressed).take(max as u64 + 1);
    decoder
        .read_to_end(&mut message)
        .map_err(|error| Status::new(Code::Internal, format!("grpc: failed to decompress the message: {error}")))?;
    if message.len() > max {
        let text = format!("grpc: received message after decompression larger than max {max}");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(message.into())
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

    #[test]
    fn what_is_no_gzip_is_an_error() {
        for wrong in [&b""[..], b"plain", &compress(b"cut short")[..15]] {
            let outcome = decompress(wrong, 1000);
            assert!(outcome.is_err_and(|status| status.code == Code::Internal), "{wrong:?}");
        }
    }
}
