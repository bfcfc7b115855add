//! The lines that a child writes, as they come, in bounded memory.

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// The longest line that is taken whole, in bytes; the rest of a longer one is dropped.
const LONGEST: usize = 8 << 10;

/// Gives each line to `take`, without its end, until the reader ends. What is no UTF-8 is replaced.
pub async fn each(reader: impl AsyncRead + Unpin, take: impl Fn(&str)) {
    let mut reader = BufReader::new(reader);
    let mut line: Vec<u8> = Vec::new();
    let tell = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if !text.is_empty() {
            take(text);
        }
        line.clear();
    };
    loop {
        let (used, ended) = match reader.fill_buf().await {
            Ok([]) | Err(_) => {
                tell(&mut line);
                return;
            }
            Ok(bytes) => {
                let end = memchr::memchr(b'\n', bytes);
                let part = &bytes[..end.unwrap_or(bytes.len())];
                line.extend_from_slice(&part[..part.len().min(LONGEST - line.len())]);
                (part.len() + usize::from(end.is_some()), end.is_some())
            }
        };
        reader.consume(used);
        if ended {
            tell(&mut line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_long_ones_are_cut() {
        let long = "x".repeat(LONGEST * 3);
        let text = format!("one\n\ntwo\r\n{long}\nthree");
        let taken = Mutex::new(Vec::new());
        each(text.as_bytes(), |line| taken.lock().unwrap().push(line.to_owned())).await;
        let taken = taken.into_inner().unwrap();
        assert_eq!(taken.iter().map(String::len).collect::<Vec<_>>(), [3, 3, LONGEST, 5]);
        assert_eq!((&*taken[1], &*taken[3]), ("two", "three"));
    }
}
