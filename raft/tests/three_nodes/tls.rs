//! Nodes that speak to each other over TLS, and whom they speak to.

use crate::nodes::{Nodes, SECRET, create_job, runtime};
use raft::{Operator, OperatorError, Secret, Tls};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Whoever signs the certificates of a cluster.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `host` and its key, both in PEM form.
    fn signed(&self, host: &str) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    fn tls(&self, host: &str) -> Tls {
        let (cert, key) = self.signed(host);
        Tls::new(self.pem.clone().into_bytes(), cert, key).unwrap()
    }
}

async fn overview(addr: SocketAddr, tls: Option<&Tls>) -> Result<usize, OperatorError> {
    let operator = Operator::connect(&addr.to_string(), &Secret::new(SECRET), tls).await?;
    Ok(operator.overview().await?.members.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_agree_over_tls_and_speak_to_nobody_without_a_certificate_of_theirs() {
    let authority = Authority::new();
    let mut nodes = Nodes::new().await;
    for node in 0..3 {
        let settings = nodes.settings(node, SECRET);
        let settings = raft::Settings { tls: Some(authority.tls("127.0.0.1")), ..settings };
        nodes.start_with(node, settings, runtime()).await;
    }
    nodes.set_up().await;
    // Clients that begin a handshake and never end it hold up nobody.
    let addr = nodes.addr(0);
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"\x16\x03\x01").await.unwrap();
        silent.push(stream);
    }
    nodes.must(0, create_job(1, 10)).await;
    nodes.same_state(&[0, 1, 2]).await;

    // An operator's certificate may be for anybody.
    let ours = authority.tls("operator.example");
    assert_eq!(overview(addr, Some(&ours)).await, Ok(3));
    let stranger = Authority::new();
    let (cert, key) = stranger.signed("127.0.0.1");
    let forged = Tls::new(authority.pem.clone().into_bytes(), cert, key).unwrap();
    for (who, tls) in
        [("nobody", None), ("another cluster", Some(&stranger.tls("127.0.0.1"))), ("a forger", Some(&forged))]
    {
        let refused = overview(addr, tls).await;
        assert!(refused.is_err(), "{who}: {refused:?}");
    }
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shows_the_certificate_of_another_host_is_not_spoken_to() {
    let authority = Authority::new();
    let mut nodes = Nodes::new().await;
    let settings = nodes.settings(0, SECRET);
    let settings = raft::Settings { tls: Some(authority.tls("node9.example")), ..settings };
    nodes.start_with(0, settings, runtime()).await;
    let refused = overview(nodes.addr(0), Some(&authority.tls("127.0.0.1"))).await;
    assert!(matches!(refused, Err(OperatorError::Unreachable { .. })), "{refused:?}");
}

#[test]
fn certificates_that_make_no_sense_are_refused() {
    let authority = Authority::new();
    let (cert, key) = authority.signed("127.0.0.1");
    let (_, other_key) = authority.signed("127.0.0.1");
    let ca = authority.pem.into_bytes();
    for (ca, cert, key) in [
        (b"nonsense".to_vec(), cert.clone(), key.clone()),
        (Vec::new(), cert.clone(), key.clone()),
        (ca.clone(), Vec::new(), key.clone()),
        (ca.clone(), cert.clone(), Vec::new()),
        (ca.clone(), cert.clone(), other_key),
        (ca.clone(), key.clone(), cert.clone()),
    ] {
        assert!(Tls::new(ca, cert, key).is_err());
    }
    let tls = Tls::new(ca, cert, key).unwrap();
    assert_eq!(format!("{tls:?}"), "Tls(..)", "the key is not shown");
}
