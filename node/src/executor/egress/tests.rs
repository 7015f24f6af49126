use super::*;

fn policy(allow_private: bool, allow_http: bool) -> EgressPolicy {
    EgressPolicy { allow_private, allow_http, ..EgressPolicy::default() }
}

fn check(policy: &EgressPolicy, urls: &[&str], expected: Result<(), EgressError>) {
    for url in urls {
        assert_eq!(policy.check_url(&Url::parse(url).unwrap()), expected, "{url}");
    }
}

#[test]
fn public_targets_are_allowed() {
    check(
        &EgressPolicy::default(),
        &[
            "https://example.com/x",
            "https://1.1.1.1",
            "https://8.8.8.8:8443/x?y",
            "https://[2606:4700:4700::1111]/",
            "https://172.15.255.255",
            "https://172.32.0.1",
            "https://100.128.0.1",
            "https://localhost.example.com",
            "https://[::ffff:1.1.1.1]",
        ],
        Ok(()),
    );
}

#[test]
fn private_targets_are_refused_in_every_notation() {
    check(
        &EgressPolicy::default(),
        &[
            "https://127.0.0.1",
            "https://127.1",
            "https://2130706433",
            "https://0x7f.1",
            "https://0x7f000001",
            "https://017700000001",
            "https://0.0.0.0",
            "https://0",
            "https://[::1]",
            "https://[::]",
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:7f00:1]",
            "https://[::ffff:10.0.0.1]",
            "https://localhost",
            "https://LOCALHOST.",
            "https://a.localhost:8443",
            "https://%31%32%37.0.0.1",
            "https://①②⑦.0.0.1",
        ],
        Err(EgressError::Private),
    );
}

#[test]
fn every_listed_range_is_refused() {
    check(
        &EgressPolicy::default(),
        &[
            "https://0.1.2.3",
            "https://10.255.255.255",
            "https://100.64.0.1",
            "https://100.100.100.200",
            "https://169.254.169.254",
            "https://169.254.170.2",
            "https://172.16.0.1",
            "https://172.31.255.255",
            "https://192.0.0.192",
            "https://192.0.2.1",
            "https://192.88.99.1",
            "https://192.168.1.1",
            "https://198.19.255.255",
            "https://198.51.100.1",
            "https://203.0.113.1",
            "https://[100::1]",
            "https://[2001:db8::1]",
            "https://[3fff::1]",
            "https://[5f00::1]",
            "https://[fc00::1]",
            "https://[fd00:ec2::254]",
            "https://[fe80::1]",
            "https://[fec0::1]",
        ],
        Err(EgressError::Private),
    );
    check(&EgressPolicy::default(), &["https://168.63.129.16"], Err(EgressError::Metadata));
    check(
        &EgressPolicy::default(),
        &[
            "https://224.0.0.1",
            "https://239.255.255.255",
            "https://240.0.0.1",
            "https://255.255.255.255",
            "https://[64:ff9b::7f00:1]",
            "https://[64:ff9b:1::1]",
            "https://[2001::1]",
            "https://[2002:7f00:1::1]",
            "https://[::127.0.0.1]",
            "https://[ff02::1]",
        ],
        Err(EgressError::Reserved),
    );
}

#[test]
fn the_scheme_is_checked_first() {
    check(&EgressPolicy::default(), &["http://example.com", "http://127.0.0.1"], Err(EgressError::NotHttps));
    check(
        &policy(true, true),
        &["ftp://example.com", "file:///etc/passwd", "data:,x"],
        Err(EgressError::NotHttp),
    );
    check(&policy(false, true), &["http://example.com"], Ok(()));
    check(&policy(false, true), &["http://127.0.0.1"], Err(EgressError::Private));
}

#[test]
fn private_targets_can_be_allowed_but_metadata_services_never() {
    let policy = policy(true, true);
    check(
        &policy,
        &[
            "http://127.0.0.1:1",
            "http://[::1]",
            "http://10.0.0.1",
            "http://localhost",
            "https://[fd00::1]",
            "http://192.168.0.1",
        ],
        Ok(()),
    );
    check(
        &policy,
        &[
            "http://169.254.169.254",
            "http://[::ffff:169.254.169.254]",
            "http://100.100.100.200",
            "http://168.63.129.16",
            "http://[fd00:ec2::254]",
        ],
        Err(EgressError::Metadata),
    );
    check(
        &policy,
        &["http://[64:ff9b::a9fe:a9fe]", "http://[::169.254.169.254]", "http://255.255.255.255"],
        Err(EgressError::Reserved),
    );
}

#[test]
fn a_refusal_says_what_is_wrong_with_the_address() {
    assert_eq!(EgressError::Own.rule(), "must not point to an endpoint of this cluster itself");
    assert_eq!(EgressError::Metadata.rule(), "must not point to the metadata service of a cloud");
    assert_eq!(EgressError::Private.rule(), "must not point to a private or local address");
}

#[test]
fn the_clusters_own_endpoints_can_be_refused() {
    let policy = EgressPolicy {
        refused_endpoints: ["127.0.0.1:9080".parse().unwrap(), "10.0.0.1:443".parse().unwrap()].into(),
        ..policy(true, true)
    };
    check(
        &policy,
        &[
            "http://127.0.0.1:9080",
            "http://127.1:9080",
            "http://[::ffff:127.0.0.1]:9080",
            "http://0.0.0.0:9080",
            "https://10.0.0.1",
        ],
        Err(EgressError::Own),
    );
    check(&policy, &["http://127.0.0.1:9081", "http://10.0.0.1"], Ok(()));
    let by_name = EgressPolicy { refused_names: [("node1.internal".to_owned(), 9080)].into(), ..policy };
    check(&by_name, &["http://node1.internal:9080", "http://NODE1.internal.:9080/x"], Err(EgressError::Own));
    check(&by_name, &["http://node1.internal", "http://x.node1.internal:9080"], Ok(()));
}

fn lookup(name: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
    let addresses: &[&str] = match name.as_str() {
        "mixed.test" => &["10.0.0.1:0", "[::1]:0", "1.1.1.1:0"],
        "private.test" => &["127.0.0.1:0", "[fe80::1]:0"],
        "metadata.test" => &["169.254.169.254:0"],
        "node1.internal" | "alias.test" => &["10.0.0.7:0"],
        "empty.test" => &[],
        _ => return Box::pin(async { Err(io::Error::other("no such host")) }),
    };
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Box::pin(async move { Ok(addresses) })
}

/// What the resolver of a client leaves of the addresses `name` has.
async fn resolved(
    policy: EgressPolicy,
    refuse_own: bool,
    name: &str,
) -> Result<Vec<String>, Option<EgressError>> {
    let own = refuse_own.then(|| Arc::new(OwnAddresses::new(lookup)));
    let resolver = GuardedResolver { policy: Arc::new(policy), own, lookup };
    match resolver.resolve(name.parse().unwrap()).await {
        Ok(addresses) => Ok(addresses.map(|address| address.ip().to_string()).collect()),
        Err(error) => Err(error.downcast_ref::<EgressError>().copied()),
    }
}

#[tokio::test]
async fn a_resolver_leaves_only_what_is_allowed() {
    let strict = EgressPolicy::default;
    assert_eq!(resolved(strict(), false, "mixed.test").await, Ok(vec!["1.1.1.1".to_owned()]));
    assert_eq!(resolved(strict(), false, "private.test").await, Err(Some(EgressError::Private)));
    assert_eq!(resolved(strict(), false, "empty.test").await, Err(None));
    assert_eq!(resolved(strict(), false, "unknown.test").await, Err(None));
    assert_eq!(resolved(policy(true, true), false, "metadata.test").await, Err(Some(EgressError::Metadata)));
    let own =
        EgressPolicy { refused_endpoints: ["10.0.0.1:9080".parse().unwrap()].into(), ..policy(true, true) };
    assert_eq!(resolved(own.clone(), true, "mixed.test").await.unwrap(), ["::1", "1.1.1.1"]);
    assert_eq!(resolved(own, false, "mixed.test").await.unwrap(), ["10.0.0.1", "::1", "1.1.1.1"]);
}

#[tokio::test]
async fn the_clusters_own_names_are_compared_by_what_they_resolve_to() {
    let own = EgressPolicy {
        refused_names: [("node1.internal".to_owned(), 9080), ("gone.test".to_owned(), 9080)].into(),
        ..policy(true, true)
    };
    assert_eq!(resolved(own.clone(), true, "alias.test").await, Err(Some(EgressError::Own)));
    assert_eq!(resolved(own.clone(), false, "alias.test").await.unwrap(), ["10.0.0.7"]);
    let addresses = OwnAddresses::new(lookup);
    let refused = async |url: &str| addresses.check_address(&own, &url.parse().unwrap()).await;
    assert_eq!(refused("http://10.0.0.7:9080/").await, Err(EgressError::Own));
    assert_eq!(refused("http://10.0.0.7:9081/").await, Ok(()));
    assert_eq!(refused("http://10.0.0.8:9080/").await, Ok(()));
}
