//! A small HTTP/1.1 client that keeps its connections and says whether a request that failed may have
//! had an effect.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header, request::Builder};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use std::{error::Error as _, time::Duration};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing reached the server: safe to repeat.
    #[error("{request} was not sent: {reason}")]
    NotSent {
        /// Method and address.
        request: String,
        /// What the connection said.
        reason: String,
    },
    /// The request may have taken effect.
    #[error("{request} has an unknown outcome: {reason}")]
    Unknown {
        /// Method and address.
        request: String,
        /// What the connection said, or that the time was up.
        reason: String,
    },
}

/// What the server said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Response headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The first 300 characters of the body, for people.
    pub fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().chars().take(300).collect()
    }
}

/// Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
    timeout: Duration,
}

impl Client {
    /// A client that gives every exchange, body included, `timeout`.
    pub fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let inner = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Self { inner, timeout }
    }

    /// Sends one request; `bearer` goes into `Authorization`, a body is announced as JSON.
    ///
    /// # Errors
    /// See [`CallError`]. A request that cannot be built counts as not sent.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        body: Option<Bytes>,
    ) -> Result<Answer, CallError> {
        self.dispatch(Request::builder().method(&method).uri(url), format!("{method} {url}"), bearer, body)
            .await
    }

    /// Sends a POST that names itself, so that it may be repeated.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn post_once(
        &self,
        key: &str,
        url: &str,
        bearer: Option<&str>,
        body: Option<Bytes>,
    ) -> Result<Answer, CallError> {
        let builder = Request::builder().method(Method::POST).uri(url).header("idempotency-key", key);
        self.dispatch(builder, format!("POST {url}"), bearer, body).await
    }

    async fn dispatch(
        &self,
        mut builder: Builder,
        name: String,
        bearer: Option<&str>,
        body: Option<Bytes>,
    ) -> Result<Answer, CallError> {
        if let Some(bearer) = bearer {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        if body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        let request = builder
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| CallError::NotSent { request: name.clone(), reason: error.to_string() })?;

        match tokio::time::timeout(self.timeout, self.exchange(&name, request)).await {
            Ok(answered) => answered,
            Err(_) => {
                Err(CallError::Unknown { request: name, reason: format!("no answer in {:?}", self.timeout) })
            }
        }
    }

    async fn exchange(&self, name: &str, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
        let response = self.inner.request(request).await.map_err(|error| {
            let reason =
                error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
            let request = name.to_owned();
            if error.is_connect() {
                CallError::NotSent { request, reason }
            } else {
                CallError::Unknown { request, reason }
            }
        })?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| CallError::Unknown {
            request: name.to_owned(),
            reason: format!("the answer broke off: {error}"),
        })?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        task::JoinSet,
    };

    /// Reads one request's head.
    async fn read_head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    #[tokio::test]
    async fn answers_arrive_over_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/jobs", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move {
            // One accept for two requests: the second must come over the same connection.
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heads = Vec::new();
            for body in [r#"{"data":1}"#, "not json"] {
                heads.push(read_head(&mut stream).await);
                let length = body.len();
                let answer = format!("HTTP/1.1 201 Created\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            heads
        });
        let client = Client::new(Duration::from_secs(5));
        let first = client.send(Method::GET, &url, Some("key"), None).await.unwrap();
        assert_eq!((first.status, first.is_success(), &first.json()["data"]), (201, true, &Value::from(1)));
        let second = client.send(Method::GET, &url, None, None).await.unwrap();
        assert_eq!((second.json(), second.excerpt()), (Value::Null, "not json".to_owned()));

        let heads = server.join_next().await.unwrap().unwrap();
        assert!(heads[0].contains("authorization: Bearer key"), "{}", heads[0]);
        assert!(!heads[1].contains("authorization"), "{}", heads[1]);
    }

    #[tokio::test]
    async fn a_closed_port_is_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let error =
            Client::new(Duration::from_secs(5)).send(Method::GET, &url, None, None).await.unwrap_err();
        assert!(matches!(error, CallError::NotSent { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_connection_that_breaks_after_the_request_is_unknown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
        });
        let body = Some(Bytes::new());
        let error =
            Client::new(Duration::from_secs(5)).send(Method::POST, &url, None, body).await.unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    }

    #[tokio::test]
    async fn silence_is_unknown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = Client::new(Duration::from_millis(50));
        let error = client.send(Method::GET, &url, None, None).await.unwrap_err();
        assert!(matches!(&error, CallError::Unknown { reason, .. } if reason.contains("50ms")), "{error}");
    }
}
