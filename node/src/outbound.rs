//! Calls to services outside, for handlers of the REST API.
//!
//! Redirects are not followed, proxies of the environment are not used, and answers are not decompressed, so that
//! the bound on their size is one on what is kept in memory.

use crate::executor::http::USER_AGENT_VALUE;
use api::outbound::{Outbound, OutboundAnswer, OutboundError, OutboundRequest};
use bytes::BytesMut;
use futures::future::BoxFuture;
use reqwest::{Client, redirect};
use std::time::Duration;

/// How long a connection may take to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls over pooled connections.
#[derive(Clone, Debug)]
pub struct OutboundClient {
    client: Client,
}

impl OutboundClient {
    /// Sets up a client. Opens no connection.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(USER_AGENT_VALUE)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()?;
        Ok(Self { client })
    }

    async fn exchange(&self, request: OutboundRequest) -> Result<OutboundAnswer, OutboundError> {
        let OutboundRequest { method, url, headers, body, timeout, answer_bytes_max } = request;
        let host = url.host_str().unwrap_or_default().to_owned();
        let failed = |error: reqwest::Error| {
            // The text of the error names the URL, which may be somebody's.
            let error = error.without_url();
            tracing::warn!(
                host,
                error = &error as &(dyn std::error::Error + 'static),
                "service outside not reached"
            );
            if error.is_timeout() { OutboundError::Timeout } else { OutboundError::Unreachable }
        };
        let mut request = self.client.request(method, url).headers(headers).timeout(timeout);
        if !body.is_empty() {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(failed)?;
        let mut kept = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if kept.len() + chunk.len() > answer_bytes_max {
                return Err(OutboundError::TooLarge);
            }
            kept.extend_from_slice(&chunk);
        }
        Ok(OutboundAnswer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: kept.freeze(),
        })
    }
}

impl Outbound for OutboundClient {
    fn send(&self, request: OutboundRequest) -> BoxFuture<'_, Result<OutboundAnswer, OutboundError>> {
        Box::pin(self.exchange(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderMap, Method};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers one request with `answer`, and returns what was asked. Without an answer it keeps silent.
    async fn serve(listener: TcpListener, answer: Option<&'static [u8]>) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"hello") {
            let mut buffer = [0; 1_024];
            let read = stream.read(&mut buffer).await.unwrap();
            asked.extend_from_slice(&buffer[..read]);
        }
        match answer {
            Some(answer) => stream.write_all(answer).await.unwrap(),
            None => std::future::pending().await,
        }
        String::from_utf8(asked).unwrap()
    }

    fn request(url: &str) -> OutboundRequest {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", "key".parse().unwrap());
        OutboundRequest {
            method: Method::POST,
            url: url.parse().unwrap(),
            headers,
            body: Bytes::from_static(b"hello"),
            timeout: Duration::from_millis(500),
            answer_bytes_max: 10,
        }
    }

    /// What comes of a request that is answered with `answer`, or not at all, and what was asked.
    async fn exchange(answer: Option<&'static [u8]>) -> (Result<OutboundAnswer, OutboundError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/x?y=z", listener.local_addr().unwrap());
        let client = OutboundClient::new().unwrap();
        let asking = client.send(request(&url));
        match answer {
            Some(answer) => tokio::join!(asking, serve(listener, Some(answer))),
            None => tokio::select! {
                answered = asking => (answered, String::new()),
                asked = serve(listener, None) => panic!("{asked}"),
            },
        }
    }

    #[tokio::test]
    async fn requests_go_out_as_they_are_and_answers_come_back_so() {
        let answer = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\ncontent-length: 4\r\n\r\nbusy";
        let (answered, asked) = exchange(Some(answer)).await;
        let answered = answered.unwrap();
        assert_eq!((answered.status.as_u16(), &answered.body[..]), (429, &b"busy"[..]));
        assert_eq!(answered.headers["retry-after"], "3");
        let asked = asked.to_lowercase();
        assert!(asked.starts_with("post /v1/x?y=z http/1.1\r\n"), "{asked}");
        assert!(
            asked.contains("\r\nx-api-key: key\r\n") && asked.contains("user-agent: justrun/"),
            "{asked}"
        );
    }

    #[tokio::test]
    async fn redirects_are_answers() {
        let (answered, _) = exchange(Some(
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        ))
        .await;
        assert_eq!(answered.unwrap().status.as_u16(), 302);
    }

    #[tokio::test]
    async fn too_much_is_not_read() {
        let (answered, _) = exchange(Some(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n12345678901")).await;
        assert_eq!(answered.unwrap_err(), OutboundError::TooLarge);
    }

    #[tokio::test]
    async fn silence_ends() {
        let (answered, _) = exchange(None).await;
        assert_eq!(answered.unwrap_err(), OutboundError::Timeout);
    }

    #[tokio::test]
    async fn nobody_there() {
        let client = OutboundClient::new().unwrap();
        assert_eq!(
            client.send(request("http://127.0.0.1:1/")).await.unwrap_err(),
            OutboundError::Unreachable
        );
    }
}
