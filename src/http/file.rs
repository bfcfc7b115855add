//! A file on its way to a client, chunk by chunk.
//!
//! What the kernel has in memory is read at once, without waiting (preadv2 with RWF_NOWAIT): handing each chunk to
//! another thread halved the rate of a download. What must come from disk is read by a blocking thread, in chunks that
//! grow for a client that takes them quickly and shrink for one that does not; the kernel reads ahead meanwhile. A file
//! that turns out shorter than it was ends the body with an error: the length was promised, so the connection is cut.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::PollSemaphore;

use crate::clock;
use crate::error::BoxError;

const SMALLEST: usize = 32 << 10;
const FIRST: usize = 64 << 10;
const LARGEST: usize = 512 << 10;
/// How much is read at once from what the kernel has in memory: about what fits the processor's nearer cache.
const AT_ONCE: usize = 64 << 10;

/// A piece of a body.
pub enum Piece {
    /// Bytes from memory: the heads between the parts of a multipart body.
    Memory(Bytes),
    /// Bytes of the file.
    File(Range<u64>),
}

/// The body: pieces of one file and of memory.
pub struct FileStream {
    file: Arc<File>,
    plan: VecDeque<Piece>,
    remaining: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    gate: PollSemaphore,
    chunk: usize,
    handed_over: u64,
}

impl FileStream {
    /// A body of `pieces`, in this order. `gate` bounds how many chunks are being read at a time.
    pub fn new(file: Arc<File>, pieces: impl IntoIterator<Item = Piece>, gate: &Arc<Semaphore>) -> Self {
        let plan: VecDeque<_> = pieces.into_iter().filter(|piece| piece.len() > 0).collect();
        Self {
            file,
            remaining: plan.iter().map(Piece::len).sum(),
            plan,
            reading: None,
            gate: PollSemaphore::new(Arc::clone(gate)),
            chunk: FIRST,
            handed_over: 0,
        }
    }

    /// The next chunk, if a piece of the file comes next and the kernel has it in memory.
    fn read_now(&mut self) -> Option<Bytes> {
        let Some(Piece::File(range)) = self.plan.front_mut() else { return None };
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(AT_ONCE);
        let mut bytes = vec![0; length];
        let mut room = [IoSliceMut::new(&mut bytes)];
        // An error, or the file's end, is found again and told by the blocking read.
        let got = preadv2(&*self.file, &mut room, range.start, ReadWriteFlags::NOWAIT).ok().filter(|got| *got > 0)?;
        bytes.truncate(got);
        range.start += got as u64;
        if range.start == range.end {
            self.plan.pop_front();
        }
        Some(bytes.into())
    }

    /// Begins to read the next chunk, if a piece of the file comes next.
    fn read_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reading.is_some() {
            return Poll::Ready(());
        }
        let Some(Piece::File(range)) = self.plan.front_mut() else { return Poll::Ready(()) };
        let permit = ready!(self.gate.poll_acquire(cx));
        let start = range.start;
        let length = usize::try_from(range.end - start).unwrap_or(usize::MAX).min(self.chunk);
        range.start += length as u64;
        if range.start == range.end {
            self.plan.pop_front();
        }
        let file = Arc::clone(&self.file);
        self.reading = Some(spawn_blocking(move || {
            let _permit = permit;
            read_exactly(&file, start, length)
        }));
        Poll::Ready(())
    }

    /// Fits the chunk to how long the client took over the last one.
    fn adapt(&mut self) {
        let now = clock::millis();
        if self.handed_over > 0 {
            match now - self.handed_over {
                0..=8 => self.chunk = (self.chunk * 2).min(LARGEST),
                9..=100 => {}
                _ => self.chunk = (self.chunk / 2).max(SMALLEST),
            }
        }
        self.handed_over = now;
    }

    fn hand_over(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.remaining -= bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn fail(&mut self, error: io::Error) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.plan.clear();
        Poll::Ready(Some(Err(error.into())))
    }
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(range) => range.end.saturating_sub(range.start),
        }
    }
}

impl Body for FileStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.reading.is_none() {
            match this.plan.front_mut() {
                None => return Poll::Ready(None),
                Some(Piece::Memory(bytes)) => {
                    let bytes = std::mem::take(bytes);
                    this.plan.pop_front();
                    return this.hand_over(bytes);
                }
                Some(Piece::File(_)) => {
                    if let Some(bytes) = this.read_now() {
                        return this.hand_over(bytes);
                    }
                    this.adapt();
                    ready!(this.read_on(cx));
                }
            }
        }
        let Some(reading) = &mut this.reading else { return Poll::Ready(None) };
        let chunk = ready!(Pin::new(reading).poll(cx));
        this.reading = None;
        match chunk {
            Ok(Ok(bytes)) => {
                this.adapt();
                this.hand_over(bytes)
            }
            Ok(Err(error)) => this.fail(error),
            Err(error) => this.fail(io::Error::other(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.plan.is_empty() && self.reading.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// Reads exactly `length` bytes at `start`. Blocks.
///
/// # Errors
/// The disk's, or `UnexpectedEof` when the file ends before.
pub fn read_exactly(file: &File, start: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = start + bytes.len() as u64;
        let wanted = length - bytes.len();
        // The allocator may have given more room than asked for, so the bound is kept here.
        let got = if bytes.capacity() - bytes.len() == wanted {
            rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at)
        } else {
            let before = bytes.len();
            bytes.resize(length, 0);
            let got = rustix::io::pread(file, &mut bytes[before..], at);
            bytes.truncate(before + got.unwrap_or(0));
            got
        };
        match got {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file became shorter while it was being read",
                ));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use http_body_util::BodyExt;

    use super::*;

    fn file(size: usize) -> (Arc<File>, Vec<u8>) {
        let content: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        (Arc::new(file), content)
    }

    #[tokio::test]
    async fn pieces_arrive_whole_and_in_order() {
        let (file, content) = file(3_000_000);
        let gate = Arc::new(Semaphore::new(1));
        let pieces = [
            Piece::Memory(Bytes::from_static(b"head")),
            Piece::File(0..2_500_001),
            Piece::Memory(Bytes::new()),
            Piece::Memory(Bytes::from_static(b"between")),
            Piece::File(10..10),
            Piece::File(2_999_999..3_000_000),
        ];
        let stream = FileStream::new(file, pieces, &gate);
        assert_eq!(stream.size_hint().exact(), Some(4 + 2_500_001 + 7 + 1));
        let got = stream.collect().await.unwrap().to_bytes();
        let expected = [b"head", &content[..2_500_001], b"between", &content[2_999_999..]].concat();
        assert!(got == expected);
        assert_eq!(gate.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_file_that_shrinks_ends_the_body_with_an_error() {
        let (file, _) = file(2_000_000);
        let gate = Arc::new(Semaphore::new(4));
        let mut stream = FileStream::new(Arc::clone(&file), [Piece::File(0..2_000_000)], &gate);
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(!first.is_empty());
        file.set_len(500_000).unwrap();
        let mut got = first.len();
        let error = loop {
            match stream.frame().await.unwrap() {
                Ok(frame) => got += frame.into_data().unwrap().len(),
                Err(error) => break error,
            }
        };
        assert!(got <= 500_000 + LARGEST, "{got}");
        assert!(error.to_string().contains("shorter"), "{error}");
        assert!(stream.frame().await.is_none());
    }

    #[tokio::test]
    async fn many_streams_share_one_permit() {
        let (file, content) = file(700_000);
        let gate = Arc::new(Semaphore::new(1));
        let streams = (0..16).map(|_| {
            let stream = FileStream::new(Arc::clone(&file), [Piece::File(0..700_000)], &gate);
            tokio::spawn(async move { stream.collect().await.unwrap().to_bytes() })
        });
        for stream in streams.collect::<Vec<_>>() {
            assert!(stream.await.unwrap() == content);
        }
    }
}
