//! Frames: `length: u32 LE`, `kind: u8`, then that many bytes of body.
//!
//! Bulk data is the body of a data frame and passes through no serializer.
//! The length is checked against the limit of its kind before anything is
//! allocated for it.

use std::io::{self, ErrorKind, IoSlice, Read, Write};

use crate::error::FrameError;
use crate::limits::{MAX_DATA, MAX_REQUEST};
use crate::message::{Message, check_len, encode};

/// Bytes in front of each body.
pub const HEADER_LEN: usize = 5;

/// What the body of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// An encoded [`Message`]; which one follows from the connection's state.
    Message = 0,
    /// Bytes for the process's standard input.
    Stdin = 1,
    /// Bytes from the process's standard output, or from its terminal.
    Stdout = 2,
    /// Bytes from the process's standard error.
    Stderr = 3,
    /// Bytes of a file, either way.
    File = 4,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Message,
            1 => Self::Stdin,
            2 => Self::Stdout,
            3 => Self::Stderr,
            4 => Self::File,
            _ => return None,
        })
    }
}

/// A frame, borrowed from the reader it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the body is.
    pub kind: FrameKind,
    /// At most [`MAX_DATA`] bytes of data, or the reader's limit of a message.
    pub body: &'a [u8],
}

/// Reads frames, also from a stream that does not block: a call that ends
/// with `WouldBlock` keeps what it has and the next one goes on from there.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    max_message: usize,
    header: [u8; HEADER_LEN],
    /// Bytes of the current frame got so far, header included.
    filled: usize,
    /// Holds the body; kept over frames so that a stream of data allocates once.
    body: Vec<u8>,
    /// Length of the current body, known once the header is complete.
    current: Option<(FrameKind, usize)>,
}

impl<R: Read> FrameReader<R> {
    /// A reader that takes messages of at most `max_message` bytes:
    /// [`MAX_REPLY`](crate::MAX_REPLY) on the host,
    /// [`MAX_REQUEST`] in the guest.
    pub fn new(stream: R, max_message: usize) -> Self {
        Self {
            stream,
            max_message,
            header: [0; HEADER_LEN],
            filled: 0,
            body: Vec::new(),
            current: None,
        }
    }

    /// The stream below, for polling and time-outs.
    pub fn get_ref(&self) -> &R {
        &self.stream
    }

    /// The stream below, for writing.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.stream
    }

    /// The stream below, of which nothing was read beyond the last frame.
    pub fn into_inner(self) -> R {
        self.stream
    }

    /// Reads the next frame; `None` when the stream ended between frames.
    ///
    /// # Errors
    /// As in [`FrameError`]. All but a repeatable `Io` are final: the stream
    /// has no known frame boundary any more.
    pub fn read_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let (kind, len) = match self.current {
            Some(known) => known,
            None => match self.read_header()? {
                Some(known) => known,
                None => return Ok(None),
            },
        };
        while self.filled < HEADER_LEN + len {
            let at = self.filled - HEADER_LEN;
            match read_some(&mut self.stream, &mut self.body[at..len])? {
                0 => return Err(FrameError::Truncated),
                n => self.filled += n,
            }
        }
        self.filled = 0;
        self.current = None;
        Ok(Some(Frame {
            kind,
            body: &self.body[..len],
        }))
    }

    fn read_header(&mut self) -> Result<Option<(FrameKind, usize)>, FrameError> {
        while self.filled < HEADER_LEN {
            match read_some(&mut self.stream, &mut self.header[self.filled..])? {
                0 if self.filled == 0 => return Ok(None),
                0 => return Err(FrameError::Truncated),
                n => self.filled += n,
            }
        }
        let [len @ .., kind] = self.header;
        let kind = FrameKind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?;
        let limit = if kind == FrameKind::Message {
            self.max_message
        } else {
            MAX_DATA
        };
        let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        if len > limit {
            return Err(FrameError::TooLong { len, limit });
        }
        if len == 0 && kind != FrameKind::Message {
            return Err(FrameError::EmptyData);
        }
        if self.body.len() < len {
            self.body.resize(len, 0);
        }
        self.current = Some((kind, len));
        Ok(self.current)
    }
}

fn read_some(stream: &mut impl Read, into: &mut [u8]) -> Result<usize, FrameError> {
    loop {
        match stream.read(into) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other.map_err(FrameError::Io),
        }
    }
}

/// The header of a frame with a body of `len` bytes, for a writer that keeps
/// room for it in front of the data and so sends both in one call.
///
/// # Panics
/// When `len` exceeds [`MAX_DATA`] and [`MAX_REQUEST`],
/// which only a bug of the caller can do.
pub fn frame_header(kind: FrameKind, len: usize) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = u32::try_from(len)
        .expect("bodies are bounded far below 4 GiB")
        .to_le_bytes();
    [a, b, c, d, kind as u8]
}

/// Writes one message frame in one call to the stream, which must block.
///
/// # Errors
/// [`FrameError::Message`] when the message exceeds a limit: nothing was
/// written then; [`FrameError::Io`] when the stream fails.
pub fn write_message<M: Message>(stream: &mut impl Write, message: &M) -> Result<(), FrameError> {
    let body = encode(message).map_err(FrameError::Message)?;
    check_len("message", body.len(), MAX_REQUEST).map_err(FrameError::Message)?;
    write_body(stream, FrameKind::Message, &body)
}

/// Writes `data` as data frames of `kind`, as many as it takes; none when it is
/// empty. The stream must block.
///
/// # Errors
/// [`FrameError::Io`] when the stream fails.
pub fn write_data(stream: &mut impl Write, kind: FrameKind, data: &[u8]) -> Result<(), FrameError> {
    data.chunks(MAX_DATA)
        .try_for_each(|chunk| write_body(stream, kind, chunk))
}

/// Writes header and body together, so that a small frame is one packet.
pub(crate) fn write_body(
    stream: &mut impl Write,
    kind: FrameKind,
    body: &[u8],
) -> Result<(), FrameError> {
    let header = frame_header(kind, body.len());
    let mut parts = [IoSlice::new(&header), IoSlice::new(body)];
    let mut parts = &mut parts[..];
    while parts.iter().any(|part| !part.is_empty()) {
        match stream.write_vectored(parts) {
            Ok(0) => return Err(FrameError::Io(io::Error::from(ErrorKind::WriteZero))),
            Ok(n) => IoSlice::advance_slices(&mut parts, n),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(FrameError::Io(e)),
        }
    }
    Ok(())
}
