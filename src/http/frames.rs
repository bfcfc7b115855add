//! Watches the frames of an HTTP/2 connection as they come in, for what the protocol library puts no limit on:
//! header blocks that never end, and floods of frames that cost the server more than the client.
//!
//! RFC 9113 section 10.5 leaves such limits to the server. Only frame headers are read (section 4.1); everything else
//! passes unread.

/// The client's connection preface, which comes before the first frame (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Follows the frames of one connection.
#[derive(Default)]
pub struct Frames {
    preface: usize,
    header: [u8; 9],
    have: usize,
    payload: usize,
    /// Whether a header block has begun and not ended.
    open_block: bool,
    window_start: u64,
    control: u32,
}

/// The client sends more control frames than it may.
#[derive(Debug, PartialEq, Eq)]
pub struct Flood;

/// How long control frames are counted together, in milliseconds.
const WINDOW: u64 = 10_000;

impl Frames {
    /// Whether a header block has begun and not ended, or the preface is not complete.
    pub fn in_partial_head(&self) -> bool {
        self.open_block || (self.preface > 0 && self.preface < PREFACE.len())
    }

    /// Looks at the next bytes; `now` in milliseconds, `most` control frames in ten seconds.
    ///
    /// # Errors
    /// [`Flood`] when there are more: the connection should be closed.
    pub fn pass(&mut self, mut bytes: &[u8], now: u64, most: u32) -> Result<(), Flood> {
        // hyper checks the preface itself; here it is only stepped over.
        let preface = (PREFACE.len() - self.preface).min(bytes.len());
        self.preface += preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skip = self.payload.min(bytes.len());
                self.payload -= skip;
                bytes = &bytes[skip..];
                continue;
            }
            let take = (9 - self.have).min(bytes.len());
            self.header[self.have..self.have + take].copy_from_slice(&bytes[..take]);
            self.have += take;
            bytes = &bytes[take..];
            if self.have == 9 {
                self.have = 0;
                self.frame(now, most)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: u64, most: u32) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.header;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            HEADERS | CONTINUATION => self.open_block = flags & END_HEADERS == 0,
            DATA if self.payload > 0 || flags & END_STREAM != 0 => {}
            // A client that takes quickly sends many, and they cost little.
            WINDOW_UPDATE => {}
            // PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, data without data, and frames that nobody knows, which are to
            // be ignored (RFC 9113 section 5.5) but not for nothing.
            _ => {
                if now.saturating_sub(self.window_start) > WINDOW {
                    self.window_start = now;
                    self.control = 0;
                }
                self.control += 1;
                if self.control > most {
                    return Err(Flood);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn an_open_header_block_is_seen_until_it_ends() {
        let mut frames = Frames::default();
        frames.pass(&PREFACE[..10], 1, 10).unwrap();
        assert!(frames.in_partial_head());
        frames.pass(&PREFACE[10..], 1, 10).unwrap();
        assert!(!frames.in_partial_head());
        // Byte by byte, and with a payload that looks like frames.
        let mut bytes = frame(SETTINGS, 0, &[1; 12]);
        bytes.extend(frame(HEADERS, 0, &[9; 30]));
        for byte in bytes {
            frames.pass(&[byte], 1, 10).unwrap();
        }
        assert!(frames.in_partial_head());
        frames.pass(&frame(CONTINUATION, 0, b"x"), 1, 10).unwrap();
        assert!(frames.in_partial_head());
        frames.pass(&frame(CONTINUATION, END_HEADERS, b"x"), 1, 10).unwrap();
        assert!(!frames.in_partial_head());
    }

    #[test]
    fn a_flood_is_told_from_the_same_number_over_a_longer_time() {
        let mut frames = Frames::default();
        frames.pass(PREFACE, 1, 10).unwrap();
        for step in 0..30 {
            frames.pass(&frame(PING, 0, &[0; 8]), step * 2_000 + 1, 10).unwrap();
        }
        let flood = (0..20).find_map(|_| frames.pass(&frame(PING, 0, &[0; 8]), 70_000, 10).err());
        assert_eq!(flood, Some(Flood));
    }
}
