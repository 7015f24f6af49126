//! The API over TLS, through real sockets.

use crate::service::Service;
use crate::serving::{PATIENCE, serving_with};
use api::{ServeSettings, Tls, TlsError};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const HOST: &str = "cron.example.com";
const SEATS: usize = 8;

/// A certificate that vouches for itself, and a client that believes it.
fn certificate() -> (Tls, TlsConnector) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    let tls = Tls::new(cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (tls, TlsConnector::from(Arc::new(config)))
}

async fn connect(address: SocketAddr, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    timeout(PATIENCE, connector.connect(HOST.try_into().unwrap(), stream)).await.unwrap().unwrap()
}

async fn ask(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut text = String::new();
    while !text.contains("{\"status\":\"ok\"}") {
        let mut buffer = [0; 4_096];
        let count = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn the_api_is_served_over_tls_and_handshakes_that_do_not_end_keep_nobody_out() {
    let service = Service::start().await;
    let (tls, connector) = certificate();
    let settings = ServeSettings { connections_max: SEATS, tls: Some(tls) };
    serving_with(&service, settings, |address| async move {
        let mut client = connect(address, &connector).await;
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut silent = Vec::new();
        for number in 0..5 * SEATS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                // The first bytes of a hello that never comes whole.
                stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
            }
            silent.push(stream);
            ask(&mut client).await;
        }
        ask(&mut connect(address, &connector).await).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_no_tls_gets_no_answer_of_the_api() {
    let service = Service::start().await;
    let (tls, connector) = certificate();
    let settings = ServeSettings { connections_max: SEATS, tls: Some(tls) };
    serving_with(&service, settings, |address| async move {
        for said in
            [&b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0", b"\x16\x03\x01\xff\xff"]
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            // It may be reset, since nobody reads what was said.
            let _ =
                timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
            assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        }
        ask(&mut connect(address, &connector).await).await;
    })
    .await;
}

#[test]
fn certificates_that_make_no_sense_are_refused() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    let (cert, key) = (cert.pem(), signing_key.serialize_pem());
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let refused = |cert: &str, key: &str| Tls::new(cert.as_bytes(), key.as_bytes()).unwrap_err();
    assert_eq!(refused("", &key), TlsError::Certificate);
    assert_eq!(refused(&key, &key), TlsError::Certificate);
    assert_eq!(
        refused("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", &key),
        TlsError::Certificate
    );
    assert_eq!(refused(&cert, ""), TlsError::Key);
    assert_eq!(refused(&cert, &cert), TlsError::Key);
    assert!(matches!(refused(&cert, &other_key), TlsError::Pair(_)));
    let tls = Tls::new(cert.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(format!("{tls:?}"), "Tls(..)", "the key is not shown");
}
