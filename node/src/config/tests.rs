use super::*;
use api::services::{Price, Services};
use domain::account::{Plan, PlanLimits, Plans};
use domain::id::AccountId;
use domain::time::Timestamp;
use raft::MemberChange;
use std::path::Path;
use tempfile::TempDir;

const REQUIRED: &str = "server --node-id 1 --data-dir /data --cluster-secret s3cret";

/// Parses the words of `line` in an environment of `NAME=value` pairs.
fn run(line: &str, env: &[&str]) -> Result<Invocation, ConfigError> {
    let args = std::iter::once("justrun").chain(line.split_whitespace()).map(OsString::from);
    let env: BTreeMap<&str, &str> = env.iter().map(|pair| pair.split_once('=').unwrap()).collect();
    parse(args, |name| env.get(name).map(|value| (*value).to_owned()))
}

fn server(line: &str, env: &[&str]) -> ServerSettings {
    match run(line, env) {
        Ok(Invocation::Server(settings)) => *settings,
        other => panic!("{line}: {other:?}"),
    }
}

fn dev(line: &str, env: &[&str]) -> DevSettings {
    match run(line, env) {
        Ok(Invocation::Dev(settings)) => settings,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str, env: &[&str]) -> String {
    let message = run(line, env).expect_err(line).to_string();
    assert!(!message.contains('\n'), "more than one line: {message}");
    message
}

fn check_refused(line: &str, expected: &str) {
    assert_eq!(refused(line, &[]), expected, "{line}");
}

/// A file with `text`, and the flags that name it.
fn file(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("justrun.toml");
    fs::write(&path, text).unwrap();
    format!("--config {}", path.display())
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let expected = ServerSettings {
        node_id: NodeId(1),
        data_dir: "/data".into(),
        api_addr: "0.0.0.0:8080".parse().unwrap(),
        rpc_addr: "0.0.0.0:9080".parse().unwrap(),
        advertise_api_url: "http://127.0.0.1:8080".to_owned(),
        tls: None,
        advertise_rpc_addr: "127.0.0.1:9080".to_owned(),
        cluster: BTreeMap::new(),
        join: None,
        cluster_secret: Secret::from("s3cret".to_owned()),
        rpc_tls: None,
        environment: Environment::Production,
        egress: EgressPolicy::default(),
        bootstrap_api_key: None,
        plans: Plans::default(),
        rate_limits: api::RateLimits::default(),
        proxies: api::Proxies::default(),
        registration: SignUp::Closed,
        smtp: None,
        services: Services::new("http://127.0.0.1:8080/"),
        claim_ahead: Duration::from_secs(2),
        in_flight: Bounds { overall: 1_024, per_host: 256 },
        exit_with_stdin: false,
        faults_file: None,
        log_format: LogFormat::Text,
    };
    assert_eq!(server(REQUIRED, &[]), expected);
    let expected = DevSettings {
        nodes: 3,
        data_dir: ".justrun".into(),
        api_port: 8080,
        rpc_port: 9080,
        log_format: LogFormat::Text,
    };
    assert_eq!(dev("dev", &[]), expected);
}

#[test]
fn every_flag_is_read() {
    let key = "jrun_sk_0123456789abcdefghijklmnopqrstuv";
    let settings = server(
        &format!(
            "server --node-id=2 --data-dir d --api-addr 127.0.0.1:1 --rpc-addr [::1]:2 \
             --advertise-api-url https://cron.example.com/ --advertise-rpc-addr node2:9 \
             --cluster 1=node1:9080,2=[::1]:9080 --cluster-secret s --environment development \
             --allow-http-targets=false --bootstrap-api-key {key} --registration open --claim-ahead-ms 1500 --exit-with-stdin --log-format json \
             --in-flight-max 50 --in-flight-per-host-max 5"
        ),
        &[],
    );
    assert_eq!(settings.node_id, NodeId(2));
    assert_eq!(settings.api_addr, "127.0.0.1:1".parse().unwrap());
    assert_eq!(settings.rpc_addr, "[::1]:2".parse().unwrap());
    assert_eq!(settings.advertise_api_url, "https://cron.example.com");
    assert_eq!(settings.advertise_rpc_addr, "node2:9");
    let members = [(NodeId(1), "node1:9080".to_owned()), (NodeId(2), "[::1]:9080".to_owned())];
    assert_eq!(settings.cluster, members.into());
    assert_eq!(settings.environment, Environment::Development);
    assert!(!settings.egress.allow_http && settings.egress.allow_private);
    assert_eq!(settings.bootstrap_api_key.as_ref().map(Secret::expose), Some(key));
    assert_eq!((settings.registration, settings.claim_ahead), (SignUp::Open, Duration::from_millis(1_500)));
    assert_eq!((settings.log_format, settings.exit_with_stdin), (LogFormat::Json, true));
    assert_eq!(settings.in_flight, Bounds { overall: 50, per_host: 5 });
    let settings = dev("dev --nodes 5 --data-dir d --api-port 1000 --rpc-port 1005 --log-format json", &[]);
    assert_eq!((settings.nodes, settings.api_port, settings.rpc_port), (5, 1000, 1005));
    assert_eq!((settings.data_dir.as_path(), settings.log_format), (Path::new("d"), LogFormat::Json));
}

#[test]
fn a_flag_beats_the_environment_and_that_the_file() {
    let dir = TempDir::new().unwrap();
    let config =
        file(&dir, "claim-ahead-ms = 300\nallow_http_targets = true\nlog-format = 'json'\nnode-id = 7");
    let line = format!("{REQUIRED} {config}");
    let settings = server(&line, &[]);
    assert_eq!((settings.node_id, settings.claim_ahead), (NodeId(1), Duration::from_millis(300)));
    assert!(settings.egress.allow_http && settings.log_format == LogFormat::Json);
    let env = ["JUSTRUN_CLAIM_AHEAD_MS=400", "JUSTRUN_ALLOW_HTTP_TARGETS=false", "JUSTRUN_LOG_FORMAT="];
    let settings = server(&line, &env);
    assert_eq!(settings.claim_ahead, Duration::from_millis(400));
    assert!(!settings.egress.allow_http && settings.log_format == LogFormat::Json);
    let settings = server(&format!("{line} --claim-ahead-ms 500 --allow-http-targets"), &env);
    assert_eq!(settings.claim_ahead, Duration::from_millis(500));
    assert!(settings.egress.allow_http);
}

#[test]
fn everything_can_come_from_the_environment_or_the_file() {
    let env = ["JUSTRUN_NODE_ID=3", "JUSTRUN_DATA_DIR=/data", "JUSTRUN_CLUSTER_SECRET=a b"];
    assert_eq!(server("server", &env).cluster_secret.expose(), "a b");
    let dir = TempDir::new().unwrap();
    let config = file(&dir, "node_id = 3\ndata-dir = '/data'\ncluster-secret = '-x'\ncluster = '3=h:1'");
    assert_eq!(server(&format!("server {config}"), &[]).cluster_secret.expose(), "-x");
    let path = config.trim_start_matches("--config ");
    assert_eq!(server("server", &[&format!("JUSTRUN_CONFIG={path}")]).advertise_rpc_addr, "h:1");
    let config = file(&dir, "nodes = 5");
    assert_eq!(dev(&format!("dev {config}"), &["JUSTRUN_API_PORT=1"]).nodes, 5);
}

#[test]
fn the_table_of_plans_is_changed_entry_by_entry() {
    let dir = TempDir::new().unwrap();
    let config = file(
        &dir,
        "[plans.maker]\njobs = 100\ngeneral_per_minute = 400\nrun-per-minute = 20\n\
         diagnoses_per_day = 0\nhistory_days = 14\n[plans.free]\njobs = 'unlimited'",
    );
    let line = format!("{REQUIRED} {config}");
    let maker = PlanLimits {
        jobs_max: Some(100),
        general_per_minute: Some(400),
        run_per_minute: Some(20),
        diagnoses_per_day: Some(0),
        history_days: 14,
    };
    let mut expected = Plans { maker, ..Plans::default() };
    expected.free.jobs_max = None;
    assert_eq!(server(&line, &[]).plans, expected);

    // Each layer changes what it names, and leaves the rest.
    expected.maker.jobs_max = Some(150);
    expected.pro.run_per_minute = None;
    let env = ["JUSTRUN_PLANS=maker.jobs=150,pro.run_per_minute=unlimited"];
    assert_eq!(server(&line, &env).plans, expected);
    expected.maker.jobs_max = Some(200);
    expected.scale.history_days = u64::MAX;
    let flags = "--plans maker.jobs=200 --plans scale.history-days=unlimited";
    assert_eq!(server(&format!("{line} {flags}"), &env).plans, expected);

    let config = file(&dir, "plans = 'maker.jobs=100'");
    assert_eq!(server(&format!("{REQUIRED} {config}"), &[]).plans.maker.jobs_max, Some(100));
}

#[test]
fn what_is_no_entry_of_the_table_of_plans_is_refused() {
    for (value, reason) in [
        ("maker", "must be PLAN.LIMIT=N"),
        ("jobs=1", "must be PLAN.LIMIT=N"),
        ("gold.jobs=1", "there is no plan \"gold\": free, maker, pro, scale"),
        (
            "maker.jbos=1",
            "plans do not limit \"jbos\": jobs, general_per_minute, run_per_minute, diagnoses_per_day, history_days",
        ),
        ("maker.jobs=-1", "jobs must be a whole number from 0, or unlimited"),
        ("maker.jobs=many", "jobs must be a whole number from 0, or unlimited"),
        // Nothing could be asked at all, not even why.
        ("maker.general_per_minute=0", "general_per_minute must be a whole number from 1, or unlimited"),
        ("maker.history_days=0", "history_days must be a whole number from 1, or unlimited"),
        ("maker.jobs=18446744073709551616", "jobs must be a whole number from 0, or unlimited"),
    ] {
        let invalid = format!("invalid value '{value}' for '--plans <PLAN.LIMIT=N,…>': {reason}");
        check_refused(&format!("{REQUIRED} --plans {value}"), &invalid);
        assert_eq!(
            refused(REQUIRED, &[&format!("JUSTRUN_PLANS={value}")]),
            format!("JUSTRUN_PLANS: {invalid}")
        );
    }

    let dir = TempDir::new().unwrap();
    let path = dir.path().join("justrun.toml");
    for (text, key, reason) in [
        ("[plans.gold]\njobs = 1", "plans.gold.jobs", "there is no plan \"gold\""),
        ("[plans.pro]\njbos = 1", "plans.pro.jbos", "plans do not limit \"jbos\""),
        ("[plans.pro]\njobs = true", "plans.pro.jobs", "jobs must be a whole number from 0, or unlimited"),
        ("[plans.pro]\njobs = 1.5", "plans.pro.jobs", "must be a text, a whole number, true or false"),
        ("[plans.pro.jobs]\nmax = 1", "plans.pro.jobs.max", "plans do not limit \"jobs.max\""),
        ("[plans]\npro = 1", "plans.pro", "must be PLAN.LIMIT=N"),
        ("[cluster]\na = 1", "cluster", "must be a text, a whole number, true or false"),
    ] {
        let message = refused(&format!("{REQUIRED} {}", file(&dir, text)), &[]);
        assert!(message.starts_with(&format!("{}: \"{key}\"", path.display())), "{message}");
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn what_is_advertised_follows_from_the_addresses() {
    let advertised = |flags: &str| {
        let settings = server(&format!("{REQUIRED} {flags}"), &[]);
        (settings.advertise_rpc_addr, settings.advertise_api_url)
    };
    let pair = |rpc: &str, api: &str| (rpc.to_owned(), api.to_owned());
    assert_eq!(advertised("--cluster 1=node1:9000"), pair("node1:9000", "http://node1:8080"));
    assert_eq!(advertised("--rpc-addr 10.0.0.1:9000"), pair("10.0.0.1:9000", "http://10.0.0.1:8080"));
    assert_eq!(
        advertised("--api-addr 10.0.0.1:80 --advertise-rpc-addr h:1"),
        pair("h:1", "http://10.0.0.1:80")
    );
    assert_eq!(advertised("--cluster 1=[fd00::1]:9"), pair("[fd00::1]:9", "http://[fd00::1]:8080"));
}

#[test]
fn the_secret_may_come_from_a_file_and_is_never_shown() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("secret");
    fs::write(&path, "hush-hush\n").unwrap();
    let line = format!("server --node-id 1 --data-dir /data --cluster-secret-file {}", path.display());
    let settings = server(&line, &["JUSTRUN_BOOTSTRAP_API_KEY=jrun_sk_0123456789abcdefghijklmnopqrstuv"]);
    assert_eq!(settings.cluster_secret.expose(), "hush-hush");
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hush") && !shown.contains("0123456789"), "{shown}");
    assert_eq!(
        refused(&line, &["JUSTRUN_CLUSTER_SECRET=x"]),
        "give --cluster-secret or --cluster-secret-file, not both"
    );
    fs::write(&path, " \n").unwrap();
    assert_eq!(refused(&line, &[]), "--cluster-secret-file must not be empty");
    fs::remove_file(&path).unwrap();
    assert!(refused(&line, &[]).starts_with("--cluster-secret-file cannot read "));
    let message = refused(REQUIRED, &["JUSTRUN_BOOTSTRAP_API_KEY=jrun_sk_hush"]);
    assert_eq!(message, "--bootstrap-api-key must be jrun_sk_ and 32 letters or digits");
}

#[test]
fn services_outside_are_read_and_their_secrets_never_shown() {
    let env = [
        "JUSTRUN_STRIPE_SECRET_KEY=sk_hush",
        "JUSTRUN_STRIPE_WEBHOOK_SECRET=whsec_hush",
        "JUSTRUN_DIAGNOSIS_KEY=hush",
    ];
    let line = format!(
        "{REQUIRED} --stripe-prices price_maker_monthly=maker:price_1,price_pro_monthly=pro:price_2 \
         --stripe-base-url http://127.0.0.1:1 --stripe-success-url https://a.example/?s={{CHECKOUT_SESSION_ID}} \
         --stripe-cancel-url https://a.example/c --stripe-return-url https://a.example/r \
         --easycron-base-url http://127.0.0.1:2/x --cronjob-org-base-url http://127.0.0.1:3 \
         --diagnosis-url https://ai.example/v1 --diagnosis-model small"
    );
    let settings = server(&line, &env);
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hush"), "{shown}");
    let Services { stripe, diagnosis, easycron, cronjob_org } = settings.services;
    assert!(stripe.secret_key.is_some() && stripe.webhook_secret.is_some());
    let price =
        |alias: &str, plan, price: &str| Price { alias: alias.to_owned(), plan, price: price.to_owned() };
    let expected = [
        price("price_maker_monthly", Plan::Maker, "price_1"),
        price("price_pro_monthly", Plan::Pro, "price_2"),
    ];
    assert_eq!(stripe.prices, expected);
    assert_eq!(stripe.success_url, "https://a.example/?s={CHECKOUT_SESSION_ID}");
    assert_eq!(
        (stripe.cancel_url.as_str(), stripe.return_url.as_str()),
        ("https://a.example/c", "https://a.example/r")
    );
    let urls = [&stripe.base_url, &easycron, &cronjob_org].map(|url| url.as_str());
    assert_eq!(urls, ["http://127.0.0.1:1/", "http://127.0.0.1:2/x", "http://127.0.0.1:3/"]);
    let diagnosis = diagnosis.unwrap();
    assert_eq!((diagnosis.url.as_str(), diagnosis.model.as_str()), ("https://ai.example/v1", "small"));

    for (flags, expected) in [
        ("--stripe-secret-key=", "--stripe-secret-key must not be empty"),
        ("--stripe-secret-key=é", "--stripe-secret-key must be printable ASCII characters without spaces"),
        ("--stripe-prices a=maker", "--stripe-prices \"a=maker\" is not of the form ALIAS=PLAN:PRICE"),
        ("--stripe-prices a=free:b", "--stripe-prices \"a=free:b\" names no plan: maker, pro or scale"),
        ("--stripe-prices a=pro:b,a=pro:c", "--stripe-prices \"a=pro:c\" names something twice"),
        ("--stripe-base-url x", "--stripe-base-url \"x\" is not an http or https URL without a query"),
        ("--stripe-return-url ftp://x", "--stripe-return-url \"ftp://x\" is not an http or https URL"),
        ("--diagnosis-url http://x", "--diagnosis-model is required with --diagnosis-url"),
        ("--diagnosis-key x", "--diagnosis-url is required for diagnoses"),
    ] {
        check_refused(&format!("{REQUIRED} {flags}"), expected);
    }
}

#[test]
fn what_is_missing_is_named() {
    check_refused("", "no command given, try justrun --help");
    check_refused("server", "--node-id is required");
    check_refused("server --node-id 1", "--data-dir is required");
    check_refused("server --node-id 1 --data-dir d", "--cluster-secret or --cluster-secret-file is required");
}

#[test]
fn what_makes_no_sense_is_refused() {
    check_refused("serve", "unrecognized subcommand 'serve'; did you mean restore, server?");
    check_refused("server --data-dri d", "unexpected argument '--data-dri' found; did you mean --data-dir?");
    check_refused(
        "server --node-id one",
        "invalid value 'one' for '--node-id <N>': invalid digit found in string",
    );
    for (flags, expected) in [
        ("--node-id 0", "--node-id must be 1 or more"),
        ("--cluster-secret=", "--cluster-secret must not be empty"),
        ("--cluster-secret=é", "--cluster-secret must be one line of printable ASCII characters"),
        ("--cluster 1=a:1,1=b:1", "--cluster names node 1 twice"),
        ("--cluster 1=a:1,2=a:1", "--cluster names a:1 twice"),
        ("--cluster 2=a:1,3=b:1", "--cluster does not name node 1, which --node-id says this is"),
        ("--cluster 1=a", "--cluster \"a\" is not of the form HOST:PORT"),
        ("--cluster 1=a:0", "--cluster \"a:0\" is not of the form HOST:PORT"),
        ("--cluster 1=:1", "--cluster \":1\" is not of the form HOST:PORT"),
        ("--cluster 1=http://a:1", "--cluster \"http://a:1\" is not of the form HOST:PORT"),
        ("--cluster 0=a:1", "--cluster \"0=a:1\" is not of the form 1=HOST:PORT"),
        ("--cluster a:1", "--cluster \"a:1\" is not of the form 1=HOST:PORT"),
        ("--cluster 1=a:1,", "--cluster \"\" is not of the form 1=HOST:PORT"),
        ("--join node1", "--join \"node1\" is not of the form HOST:PORT"),
        ("--join a:1 --cluster 1=b:1", "give --cluster or --join, not both"),
        (
            "--join a:1",
            "--advertise-rpc-addr is required with --join, unless --rpc-addr names the address by which others reach this node",
        ),
        ("--claim-ahead-ms 2500", "--claim-ahead-ms must be below the node timeout of 2500 ms"),
        ("--claim-ahead-ms 250", "--claim-ahead-ms must be above the 250 ms between two signs of life"),
        ("--in-flight-max 0", "--in-flight-max must be 1 or more"),
        ("--in-flight-per-host-max 0", "--in-flight-per-host-max must be 1 or more"),
        ("--api-addr nowhere", "--api-addr \"nowhere\" is not an address of the form HOST:PORT"),
        ("--rpc-addr 0.0.0.0:8080", "--rpc-addr must not be the same as --api-addr"),
        ("--advertise-rpc-addr 9080", "--advertise-rpc-addr \"9080\" is not of the form HOST:PORT"),
        ("--advertise-api-url node1:80", "--advertise-api-url \"node1:80\" is not an http or https URL"),
    ] {
        check_refused(&format!("{REQUIRED} {flags}"), expected);
    }
    check_refused("dev --nodes 2", "--nodes must be 1, 3 or 5");
    for (line, flag, words) in [
        (&format!("{REQUIRED} --environment x")[..], "environment <NAME>", "production, development"),
        (&format!("{REQUIRED} --registration x"), "registration <NAME>", "open, closed"),
        ("dev --log-format x", "log-format <FORMAT>", "text, json"),
        ("cluster status --cluster-secret s --output x", "output <FORMAT>", "text, json"),
    ] {
        check_refused(line, &format!("invalid value 'x' for '--{flag}': must be one of {words}"));
    }
    check_refused("dev --api-port 65534", "--api-port must leave a port from 1 to 65535 for every node");
    check_refused("dev --rpc-port 0", "--rpc-port must leave a port from 1 to 65535 for every node");
    check_refused(
        "dev --api-port 9079 --rpc-port 9081",
        "--rpc-port must not give a node a port that --api-port gives as well",
    );
}

#[test]
fn what_is_wrong_in_the_environment_or_the_file_is_said_to_be_there() {
    let message = refused(REQUIRED, &["JUSTRUN_CLAIM_AHEAD_MS=soon"]);
    assert!(
        message.starts_with("JUSTRUN_CLAIM_AHEAD_MS: invalid value 'soon' for '--claim-ahead-ms <MS>'"),
        "{message}"
    );
    let message = refused(REQUIRED, &["JUSTRUN_ENVIRONMENT=prod"]);
    assert!(message.starts_with("JUSTRUN_ENVIRONMENT: invalid value 'prod'"), "{message}");
    assert!(message.ends_with("did you mean production?"), "{message}");

    let dir = TempDir::new().unwrap();
    for (text, expected) in [
        ("nodeid = 1", "unknown key \"nodeid\""),
        ("config = 'x'", "unknown key \"config\""),
        ("nodes = 3", "unknown key \"nodes\""),
        ("node-id = 1\nnode_id = 1", "\"node_id\" is set twice"),
        ("node-id = 1.5", "\"node-id\" must be a text, a whole number, true or false"),
        ("[server]\nnode-id = 1", "unknown key \"server\""),
    ] {
        let config = file(&dir, text);
        let path = config.trim_start_matches("--config ");
        assert_eq!(refused(&format!("{REQUIRED} {config}"), &[]), format!("{path}: {expected}"));
    }
    let config = file(&dir, "node-id = 1\nlog-format = 'loud'");
    let message = refused(&format!("{REQUIRED} {config}"), &[]);
    assert!(message.contains("justrun.toml: \"log-format\": invalid value 'loud'"), "{message}");
    let config = file(&dir, "node-id = 1\ndata-dir");
    assert!(refused(&format!("{REQUIRED} {config}"), &[]).contains("justrun.toml, line 2: "));
    assert!(
        refused(&format!("{REQUIRED} --config /nonexistent"), &[]).starts_with("cannot read /nonexistent: ")
    );
}

#[test]
fn the_help_names_every_flag_and_how_else_to_set_it() {
    let shown = |line| match run(line, &[]) {
        Ok(Invocation::Show(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    let help = shown("server --help");
    for text in [
        "--node-id <N>",
        "--cluster-secret-file",
        "--claim-ahead-ms",
        "--in-flight-per-host-max",
        "JUSTRUN_<FLAG>",
        "TOML",
        "info,openraft=error,raft_engine=warn",
    ] {
        assert!(help.contains(text), "{text} is not in:\n{help}");
    }
    let help = shown("account create --help");
    for text in ["justrun key create", "--password-stdin", "JUSTRUN_<FLAG>", "Exit codes"] {
        assert!(help.contains(text), "{text} is not in:\n{help}");
    }
    assert!(shown("cluster status -h").contains("--rpc-addr"));
    assert!(shown("account --help").contains("list"));
    assert!(shown("dev -h").contains("--api-port"));
    assert!(shown("--help").contains("server"));
    assert_eq!(shown("--version"), format!("justrun {}\n", env!("CARGO_PKG_VERSION")));
}

fn asked(line: &str, env: &[&str]) -> OperatorSettings {
    match run(line, env) {
        Ok(Invocation::Operate(settings)) => *settings,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn what_an_operator_asks_is_read() {
    let secret = ["JUSTRUN_CLUSTER_SECRET=s3cret"];
    let settings = asked("account create --email Ops@Example.com --plan scale", &secret);
    let expected = OperatorSettings {
        rpc_addr: "127.0.0.1:9080".to_owned(),
        cluster_secret: Secret::from("s3cret".to_owned()),
        rpc_tls: None,
        output: OutputFormat::Text,
        action: Action::CreateAccount {
            email: "ops@example.com".to_owned(),
            plan: Plan::Scale,
            with_password: false,
        },
    };
    assert_eq!(settings, expected);
    let line = "account create --email a@b --plan free --password-stdin --output json --rpc-addr node2:1";
    let settings = asked(line, &secret);
    assert!(matches!(settings.action, Action::CreateAccount { with_password: true, .. }));
    assert_eq!((settings.output, settings.rpc_addr.as_str()), (OutputFormat::Json, "node2:1"));
    assert_eq!(asked("account list --cluster-secret x", &[]).action, Action::ListAccounts);
    assert_eq!(asked("cluster status", &secret).action, Action::ClusterStatus);
    let path = || PathBuf::from("/var/a.backup");
    for (line, expected) in [
        ("backup /var/a.backup", Action::Backup { file: path(), force: false }),
        ("backup --force /var/a.backup", Action::Backup { file: path(), force: true }),
        ("restore /var/a.backup", Action::Restore { file: path(), restart: false }),
        ("restore /var/a.backup --restart", Action::Restore { file: path(), restart: true }),
    ] {
        assert_eq!(asked(line, &secret).action, expected, "{line}");
    }
    let add = |node, addr: &str| MemberChange::Add { node: NodeId(node), addr: addr.to_owned(), level: None };
    for (line, change, wait_secs) in [
        ("add 4=10.0.0.4:9080", add(4, "10.0.0.4:9080"), 60),
        ("add --wait-sec 0 4=node4:9080", add(4, "node4:9080"), 0),
        ("upgrade", MemberChange::Upgrade, 0),
        ("remove 3", MemberChange::Remove(NodeId(3)), 0),
        ("transfer-leader 2 --rpc-addr node1:9080", MemberChange::TransferLeader(NodeId(2)), 0),
    ] {
        let expected = Action::ChangeMembers { change, wait: Duration::from_secs(wait_secs) };
        assert_eq!(asked(&format!("cluster {line}"), &secret).action, expected, "{line}");
    }
    for (account, expected) in [
        ("acc_00000000001", AccountName::Id(AccountId(1))),
        ("Ops@example.com", AccountName::Email("ops@example.com".to_owned())),
    ] {
        let settings = asked(&format!("key create --account {account} --name ci"), &secret);
        assert_eq!(settings.action, Action::CreateKey { account: expected, name: "ci".to_owned() });
    }
}

#[test]
fn what_is_to_be_verified_is_read() {
    let verify = |line: &str, env: &[&str]| match run(line, env) {
        Ok(Invocation::Verify(settings)) => *settings,
        other => panic!("{line}: {other:?}"),
    };
    let settings =
        verify("verify --backup a.backup --from 1970-01-01T00:00:01Z --to 1970-01-01T01:00:02+01:00", &[]);
    assert_eq!(settings.source, VerifySource::File(PathBuf::from("a.backup")));
    assert_eq!((settings.from, settings.to), (Some(Timestamp::from_secs(1)), Some(Timestamp::from_secs(2))));
    let settings = verify("verify --rpc-addr node2:1", &["JUSTRUN_CLUSTER_SECRET=s3cret"]);
    let VerifySource::Cluster { rpc_addr, .. } = settings.source else { panic!("no cluster") };
    assert_eq!((rpc_addr.as_str(), settings.from), ("node2:1", None));
    let form = "is not an instant such as 2026-06-01T00:00:00Z";
    check_refused("verify --backup a --from now", &format!("--from \"now\" {form}"));
    let line = "verify --backup a --from 2026-06-01T00:00:00Z --to 2026-06-01T00:00:00Z";
    check_refused(line, "--to must be later than --from");
    check_refused("verify", "--cluster-secret or --cluster-secret-file is required");
}

#[test]
fn an_operator_may_use_the_file_of_the_server() {
    let dir = TempDir::new().unwrap();
    let config =
        file(&dir, "node-id = 1\ndata-dir = '/data'\nrpc-addr = '0.0.0.0:9000'\ncluster_secret = 's3cret'");
    let settings = asked(&format!("account create --email a@b --plan pro {config}"), &[]);
    assert_eq!((settings.rpc_addr.as_str(), settings.cluster_secret.expose()), ("127.0.0.1:9000", "s3cret"));
    assert!(matches!(settings.action, Action::CreateAccount { plan: Plan::Pro, .. }));
    let settings = asked(&format!("account list {config}"), &["JUSTRUN_RPC_ADDR=node3:1"]);
    assert_eq!(settings.rpc_addr, "node3:1");
    let config = file(&dir, "nodeid = 1");
    assert!(refused(&format!("account list {config}"), &[]).ends_with("unknown key \"nodeid\""));
    let config = file(&dir, "config = 'x'");
    assert!(refused(&format!("account list {config}"), &[]).ends_with("unknown key \"config\""));
}

#[test]
fn what_an_operator_gets_wrong_is_said() {
    for (line, expected) in [
        ("account create --plan free", "--email is required"),
        ("account create --email a@b", "--plan is required"),
        ("account create --email ab --plan free", "--email \"ab\" is not an email address"),
        ("account create --email a@b --plan gold", "--plan must be one of free, maker, pro, scale"),
        ("key create --name a", "--account is required"),
        ("key create --account a@b", "--name is required"),
        (
            "key create --account x --name a",
            "--account \"x\" is neither the id of an account (acc_…) nor an email address",
        ),
        ("backup", "FILE is required"),
        ("restore --restart", "FILE is required"),
        ("cluster status", "--cluster-secret or --cluster-secret-file is required"),
        ("cluster status --rpc-addr 9080", "--rpc-addr \"9080\" is not of the form HOST:PORT"),
        ("account create --emial a@b", "unexpected argument '--emial' found; did you mean --email?"),
        ("cluster add", "say which node: ID=HOST:PORT"),
        ("cluster add 4", "\"4\" is not of the form ID=HOST:PORT"),
        ("cluster add 0=a:1", "\"0=a:1\" is not of the form ID=HOST:PORT"),
        ("cluster add 4=a", "\"a\" is not of the form HOST:PORT"),
        ("cluster remove", "say which node by its id, 1 or more"),
        ("cluster transfer-leader 0", "say which node by its id, 1 or more"),
        ("account", "no command given, try justrun --help"),
        ("cluster stat", "unrecognized subcommand 'stat'; did you mean status?"),
    ] {
        check_refused(line, expected);
    }
    let name = "a".repeat(101);
    check_refused(
        &format!("key create --account a@b --name {name}"),
        "--name must be one line of 1 to 100 characters",
    );
}

#[test]
fn a_mail_server_is_checked_at_the_start() {
    let with = |flags: &str| format!("{REQUIRED} {flags}");
    let smtp = server(&with("--smtp-url smtp://user:hunter2@mail.example.com:587"), &[]).smtp.unwrap();
    assert_eq!((smtp.url.expose(), smtp.from), ("smtp://user:hunter2@mail.example.com:587", None));
    let env = ["JUSTRUN_SMTP_URL=smtp://127.0.0.1:25", "JUSTRUN_SMTP_FROM=ops@example.com"];
    assert_eq!(server(REQUIRED, &env).smtp.unwrap().from.as_deref(), Some("ops@example.com"));
    let message = refused(&with("--smtp-url http://user:hunter2@mail.example.com"), &[]);
    assert_eq!(message, "--smtp-url must be smtp://USER:PASSWORD@HOST:PORT or smtps://…");
    check_refused(
        &with("--smtp-url smtp://127.0.0.1 --smtp-from nobody"),
        "--smtp-from must be an address: alerts@example.com or JustRun <alerts@example.com>",
    );
    check_refused(&with("--smtp-from ops@example.com"), "--smtp-from needs --smtp-url");
}

#[test]
fn proxies_are_addresses_and_networks() {
    let with = |flags: &str| format!("{REQUIRED} {flags}");
    let proxies = server(&with("--trusted-proxies 10.0.0.0/8,192.0.2.7,fd00::/8"), &[]).proxies;
    let networks = ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"].map(|network| network.parse().unwrap());
    assert_eq!(proxies, api::Proxies::new(networks.to_vec()));
    check_refused(
        &with("--trusted-proxies 10.0.0.0/8,lb"),
        "--trusted-proxies \"lb\" is neither an address nor a network such as 10.0.0.0/8",
    );
}

/// A certificate and its key, and the flags that name files.
fn certificate(dir: &TempDir, name: &str) -> (String, String) {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |kind: &str, text: String| {
        let path = dir.path().join(format!("{name}.{kind}"));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    (write("crt", certified.cert.pem()), write("key", certified.signing_key.serialize_pem()))
}

#[test]
fn certificates_are_read_and_change_the_scheme_of_the_api() {
    let dir = TempDir::new().unwrap();
    let (cert, key) = certificate(&dir, "api");
    let settings = server(&format!("{REQUIRED} --tls-cert {cert} --tls-key {key}"), &[]);
    assert!(settings.tls.is_some() && settings.rpc_tls.is_none());
    assert_eq!(settings.advertise_api_url, "https://127.0.0.1:8080");
    let listens = format!("{REQUIRED} --api-addr 10.0.0.1:443 --tls-cert {cert} --tls-key {key}");
    assert_eq!(server(&listens, &[]).advertise_api_url, "https://10.0.0.1:443");

    let rpc = format!("--rpc-tls-ca {cert} --rpc-tls-cert {cert} --rpc-tls-key {key}");
    let settings = server(&format!("{REQUIRED} {rpc}"), &[]);
    assert!(settings.tls.is_none() && settings.rpc_tls.is_some());
    assert_eq!(settings.advertise_api_url, "http://127.0.0.1:8080");
    let operator = asked(&format!("cluster status --cluster-secret s {rpc}"), &[]);
    assert_eq!(operator.rpc_tls, settings.rpc_tls);
}

#[test]
fn each_mistake_with_certificates_is_one_line() {
    let dir = TempDir::new().unwrap();
    let (cert, key) = certificate(&dir, "a");
    let (_, other_key) = certificate(&dir, "b");
    let nowhere = dir.path().join("nowhere").display().to_string();
    let rpc = "--rpc-tls-ca, --rpc-tls-cert and --rpc-tls-key";
    for (flags, expected) in [
        (format!("--tls-cert {cert}"), "--tls-cert needs --tls-key".to_owned()),
        (format!("--tls-key {key}"), "--tls-key needs --tls-cert".to_owned()),
        (format!("--tls-cert {nowhere} --tls-key {key}"), format!("--tls-cert cannot read {nowhere}: ")),
        (
            format!("--tls-cert {key} --tls-key {key}"),
            format!("--tls-cert {key} holds no certificate in PEM form"),
        ),
        (
            format!("--tls-cert {cert} --tls-key {cert}"),
            format!("--tls-key {cert} holds no private key in PEM form"),
        ),
        (
            format!("--tls-cert {cert} --tls-key {other_key}"),
            format!("--tls-key {other_key} cannot be used with the certificate: "),
        ),
        (format!("--rpc-tls-cert {cert} --rpc-tls-key {key}"), format!("give {rpc}, or none of them")),
        (format!("--rpc-tls-ca {cert}"), format!("give {rpc}, or none of them")),
        (
            format!("--rpc-tls-ca {key} --rpc-tls-cert {cert} --rpc-tls-key {key}"),
            format!("--rpc-tls-ca {key} cannot be used: "),
        ),
        (
            format!("--rpc-tls-ca {cert} --rpc-tls-cert {cert} --rpc-tls-key {other_key}"),
            format!("--rpc-tls-key {other_key} cannot be used with the certificate: "),
        ),
    ] {
        let error = run(&format!("{REQUIRED} {flags}"), &[]).unwrap_err().to_string();
        assert!(error.starts_with(&expected) && error.lines().count() == 1, "{flags}: {error}");
    }
}
