//! Content that was compressed by kombu, undone within a bound.

use std::io::Read;

use bytes::Bytes;

/// The content; `name` is the header's, or one of its short forms. bz2 and lzma have no decoder in the tree, and hardly
/// a user: what is packed by them stays so, for the application to unpack. What kombu has not either is refused.
pub(super) fn undo(name: &str, content: Bytes, limit: usize) -> Result<Bytes, String> {
    let bytes: &[u8] = &content;
    match name.to_ascii_lowercase().as_str() {
        // In spite of the name it is zlib's own form; the real gzip is taken, too.
        "application/x-gzip" | "application/gzip" | "gzip" | "zlib" => {
            if bytes.starts_with(&[0x1f, 0x8b]) {
                bounded(flate2::read::MultiGzDecoder::new(bytes), name, limit)
            } else {
                bounded(flate2::read::ZlibDecoder::new(bytes), name, limit)
            }
        }
        "application/zstd" | "zstd" | "zstandard" => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|error| error.to_string())?;
            bounded(decoder, name, limit)
        }
        "application/x-brotli" | "brotli" => bounded(brotli::Decompressor::new(bytes, 4_096), name, limit),
        "application/x-bz2" | "bzip2" | "bzip" | "application/x-lzma" | "lzma" | "xz" | "identity" | "none" => {
            Ok(content)
        }
        _ => Err(format!("its content is compressed as {name}, which is not understood here")),
    }
}

fn bounded(reader: impl Read, name: &str, limit: usize) -> Result<Bytes, String> {
    let mut content = Vec::new();
    reader
        .take(limit as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| format!("its content is no {name}: {error}"))?;
    if content.len() > limit {
        return Err(format!("its content has more than {limit} bytes when it is no longer compressed"));
    }
    Ok(content.into())
}
