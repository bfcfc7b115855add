//! What the private Redis holds at one moment, as a stream.
//!
//! Asked for as a replica asks for it (SYNC): Redis forks, writes a snapshot and sends it, with its length first, while it
//! goes on serving. The files in its folder would not do: they change while they are read.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long Redis may say nothing: while it writes the snapshot, it sends an empty line each second or so.
const PATIENCE: Duration = Duration::from_mins(1);

/// A snapshot (RDB) that is being sent: what is read from it.
#[derive(Debug)]
pub struct Snapshot {
    stream: io::Take<BufReader<UnixStream>>,
    /// All of it, in bytes.
    pub length: u64,
}

impl Snapshot {
    /// Asks for one, and waits until it is made.
    ///
    /// # Errors
    /// Redis does not answer, or refuses.
    pub fn ask(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"SYNC\r\n")?;
        let mut stream = BufReader::new(stream);
        let length = loop {
            let mut line = String::new();
            if stream.by_ref().take(256).read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim() {
                "" => {}
                said => break length(said)?,
            }
        };
        Ok(Self { stream: stream.take(length), length })
    }
}

/// From "$1234": how many bytes follow.
fn length(said: &str) -> io::Result<u64> {
    let number = said.strip_prefix('$').and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("Redis gives no snapshot: {}", said.trim_start_matches('-'))))
}

impl Read for Snapshot {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(bytes)? {
            0 if self.stream.limit() > 0 && !bytes.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn answers(bytes: &'static [u8]) -> io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 6];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(bytes).unwrap();
        });
        let mut all = Vec::new();
        let result = Snapshot::ask(&socket).and_then(|mut snapshot| snapshot.read_to_end(&mut all));
        server.join().unwrap();
        result.map(|_| all)
    }

    #[test]
    fn a_snapshot_has_its_length_and_a_cut_one_is_an_error() {
        assert_eq!(answers(b"\n\n$5\r\nREDIS*1\r\n").unwrap(), b"REDIS");
        assert_eq!(answers(b"$9\r\nREDIS").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(answers(b"-NOPERM no\r\n").unwrap_err().to_string().contains("NOPERM no"));
        assert!(answers(b"").is_err());
    }
}
