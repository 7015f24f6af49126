//! What goes over the wire of one connection beside the answers of the router.
//!
//! hyper refuses by itself what is no HTTP, with a status and an empty body. Nothing lets one say more, so
//! its refusal is recognised on the way out, as all that is ever written while no request is under way, and
//! gets the documented shape.

use super::seats::Seat;
use crate::error::ApiError;
use crate::observe::{self, UNMATCHED};
use axum::body::Bytes;
use hyper::body::Buf;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How hyper begins a refusal; three digits follow.
const STATUS_LINE: &str = "HTTP/1.1 ";

/// Bytes still read of a refused client, and for how long: closing the connection under one that still sends
/// would destroy the answer on its way.
const DISCARDED_BYTES_MAX: usize = 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// A stream that refuses in our error shape, and notes when answers have been sent.
pub(crate) struct Wire<S> {
    stream: S,
    seat: Seat,
    refusal: Option<Refusal>,
}

struct Refusal {
    /// What is left to be sent.
    answer: Bytes,
    /// How much more is read of the client.
    bytes_left: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<S> Wire<S> {
    pub(crate) fn new(stream: S, seat: Seat) -> Self {
        Self { stream, seat, refusal: None }
    }

    /// Whether the bytes are a refusal of hyper's, which is taken over then.
    fn takes_over(&mut self, bytes: &[u8]) -> bool {
        if self.seat.is_idle() && self.refusal.is_none() {
            self.refusal = rendered(bytes).map(|answer| Refusal {
                answer,
                bytes_left: DISCARDED_BYTES_MAX,
                deadline: Box::pin(sleep(DISCARD_TIMEOUT)),
            });
        }
        self.refusal.is_some()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Sends what is left of a refusal.
    fn poll_refusal(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(Refusal { answer, .. }) = &mut self.refusal else { return Poll::Ready(Ok(())) };
        while !answer.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, answer))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            answer.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what a refused client still sends, within bounds.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(refusal) = &mut self.refusal else { return Poll::Ready(()) };
        let mut scratch = [0; 4_096];
        while refusal.bytes_left > 0 && refusal.deadline.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            let count = buffer.filled().len();
            if read.is_err() || count == 0 {
                break;
            }
            refusal.bytes_left = refusal.bytes_left.saturating_sub(count);
        }
        Poll::Ready(())
    }
}

/// What is said in place of a refusal of hyper's: its head, with a body.
fn rendered(refusal: &[u8]) -> Option<Bytes> {
    let head = std::str::from_utf8(refusal).ok()?.strip_suffix("\r\n\r\n")?;
    let error = match head.strip_prefix(STATUS_LINE)?.get(..3)? {
        "400" => ApiError::NotHttp,
        "431" => ApiError::HeadersTooLarge,
        _ => return None,
    };
    let body = error.body();
    let mut answer = String::new();
    for line in head.split("\r\n").filter(|line| !line.starts_with("content-length:")) {
        answer.push_str(line);
        answer.push_str("\r\n");
    }
    let length = body.len();
    answer.push_str(&format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n"));
    observe::answers(UNMATCHED, error.status()).increment(1);
    Some(Bytes::from([answer.into_bytes(), body].concat()))
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.takes_over(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = slices.iter().find(|slice| !slice.is_empty())
            && self.takes_over(first)
        {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(context))?;
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.seat.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(context))?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        self.poll_discard(context).map(Ok)
    }
}
