//! Bodies that nobody reads. A client that is refused early still sends, and most look for the answer only when
//! they are done: closing the connection under them would hide it behind a broken pipe.

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use http_body_util::BodyExt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Bytes read for nothing. Whoever sends more is not likely to read an answer.
const DISCARDED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long reading for nothing may hold up the answer.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// What a handler leaves of a request's body.
pub(crate) struct Leftover(Option<oneshot::Receiver<Lent>>);

/// The request as a handler gets it, and what will be left of it.
pub(crate) fn lend(request: Request) -> (Request, Leftover) {
    if request.body().is_end_stream() {
        return (request, Leftover(None));
    }
    // Such a client sends its body only once somebody has begun to read it.
    let waits = request.headers().contains_key(EXPECT);
    let (back, left) = oneshot::channel();
    let request = request
        .map(|body| Body::new(Borrowed { lent: Some(Lent { body, is_sent: !waits }), back: Some(back) }));
    (request, Leftover(Some(left)))
}

impl Leftover {
    /// Reads it, once the handler is done and before the answer goes out.
    pub(crate) async fn discard(self) {
        let left = self.0.and_then(|mut left| left.try_recv().ok());
        if let Some(Lent { body, is_sent: true }) = left {
            discard(body).await;
        }
    }
}

async fn discard(mut body: Body) {
    let read = async {
        let mut bytes = 0;
        while bytes < DISCARDED_BYTES_MAX
            && !body.is_end_stream()
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    if timeout(DISCARD_TIMEOUT, read).await.is_err() {
        tracing::debug!("a refused body is still being sent; the connection ends");
    }
}

struct Lent {
    body: Body,
    /// Whether the client sends what is left of it.
    is_sent: bool,
}

/// A body that goes back to its owner when the handler is done with it.
struct Borrowed {
    /// Until it is dropped.
    lent: Option<Lent>,
    back: Option<oneshot::Sender<Lent>>,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let (Some(lent), Some(back)) = (self.lent.take(), self.back.take()) {
            // The owner is gone when the connection is.
            let _ = back.send(lent);
        }
    }
}

impl HttpBody for Borrowed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        let Some(lent) = &mut self.lent else { return Poll::Ready(None) };
        let frame = Pin::new(&mut lent.body).poll_frame(context);
        lent.is_sent = !matches!(frame, Poll::Ready(None | Some(Err(_))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.lent.as_ref().is_none_or(|lent| lent.body.is_end_stream())
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.lent.as_ref().map_or_else(hyper::body::SizeHint::default, |lent| lent.body.size_hint())
    }
}
