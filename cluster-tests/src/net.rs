//! A network for the nodes alone: each is a host of its own, and a router between them loses on request what one sends to
//! another. Linux network namespaces, made with `ip` of iproute2, which needs root.
//!
//! ```text
//! harness, target  10.S.0.1 ── 10.S.0.2  router  10.S.N.1 ── 10.S.N.2  node N
//! ```
//!
//! What is cut is dropped by the router without a word, as a broken cable or a firewall does: `ip rule … blackhole`, for
//! one direction of one pair. Connections stay open and hear nothing.
//!
//! What is impaired takes a detour: `ip rule … lookup` sends it into a TUN device, where [`crate::relay`] holds it up, drops
//! or doubles it.

use crate::{
    Error,
    relay::{self, Impairment},
};
use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Second bytes of the subnets that are tried.
const SUBNETS: std::ops::Range<u8> = 100..200;
/// What the names of our namespaces begin with; the harness's process id follows, and then whose it is.
const PREFIX: &str = "jr";
/// Where the router sends what is impaired.
const BAD_LINE: &str = "bad0";
const BAD_TABLE: u32 = 100;
/// A burst of every node at once.
const BAD_LINE_PACKETS: u32 = 10_000;
/// Of the rules that cut, and of those before them that impair.
const CUT_RULE: u32 = 100;
const DETOUR_RULE: u32 = 90;

/// The network of one cluster. Dropping it removes it.
#[derive(Debug)]
pub struct Net {
    /// `jr1234-`.
    prefix: String,
    subnet: u8,
    nodes: Vec<u64>,
    /// While something is impaired.
    relay: Mutex<Option<Relay>>,
}

/// Ends when it is dropped: its standard input closes.
#[derive(Debug)]
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Net {
    /// A network for these nodes, who are numbered from 1.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Input`] where the machine does not allow it.
    pub fn build(nodes: &[u64]) -> Result<Self, Error> {
        sweep();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let routes = ip("route show")?;
        let is_free = |subnet: &u8| !routes.contains(&format!("10.{subnet}."));
        let start = SUBNETS.start + (std::process::id() % u32::from(SUBNETS.end - SUBNETS.start)) as u8;
        let subnet = (start..SUBNETS.end).chain(SUBNETS.start..start).find(is_free);
        let subnet = subnet.ok_or_else(|| Error::Input("every subnet is taken".to_owned()))?;
        // From here on it is removed again, however far it gets.
        let net = Self { prefix, subnet, nodes: nodes.to_vec(), relay: Mutex::new(None) };
        net.connect()?;
        Ok(net)
    }

    fn connect(&self) -> Result<(), Error> {
        let Self { prefix, subnet, .. } = self;
        let router = self.router();
        ip(&format!("netns add {router}"))?;
        ip(&format!("link add {prefix}h type veth peer name up0 netns {router}"))?;
        ip(&format!("addr add 10.{subnet}.0.1/30 dev {prefix}h"))?;
        ip(&format!("link set {prefix}h up"))?;
        ip(&format!("-n {router} addr add 10.{subnet}.0.2/30 dev up0"))?;
        ip(&format!("-n {router} link set up0 up"))?;
        ip(&format!("netns exec {router} sysctl -qw net.ipv4.ip_forward=1"))?;
        ip(&format!("route add 10.{subnet}.0.0/16 via 10.{subnet}.0.2"))?;
        for node in &self.nodes {
            let host = self.host(*node);
            ip(&format!("netns add {host}"))?;
            ip(&format!("-n {router} link add n{node} type veth peer name eth0 netns {host}"))?;
            ip(&format!("-n {router} addr add 10.{subnet}.{node}.1/30 dev n{node}"))?;
            ip(&format!("-n {router} link set n{node} up"))?;
            ip(&format!("-n {host} addr add 10.{subnet}.{node}.2/30 dev eth0"))?;
            ip(&format!("-n {host} link set eth0 up"))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {host} route add default via 10.{subnet}.{node}.1"))?;
        }
        Ok(())
    }

    /// Where the harness is, as the nodes see it.
    pub fn harness(&self) -> IpAddr {
        Ipv4Addr::new(10, self.subnet, 0, 1).into()
    }

    /// Where a node is.
    pub fn address(&self, node: u64) -> IpAddr {
        let node = u8::try_from(node).expect("a cluster has few nodes");
        Ipv4Addr::new(10, self.subnet, node, 2).into()
    }

    /// Starts a program on a node's host, in place of the process that is started.
    pub fn command(&self, node: u64, program: &Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(["netns", "exec", &self.host(node)]).arg(program);
        command
    }

    /// Loses from now on what one node sends to another.
    ///
    /// # Errors
    /// [`Error::Input`] with what `ip` says.
    pub fn cut(&self, from: u64, to: u64) -> Result<(), Error> {
        let (router, from, to) = (self.router(), self.address(from), self.address(to));
        ip(&format!("-n {router} rule add pref {CUT_RULE} from {from} to {to} blackhole")).map(drop)
    }

    /// Makes the detour that [`Net::impair`] needs; once.
    ///
    /// # Errors
    /// [`Error::Input`] with what `ip` says, where the machine does not allow it.
    pub fn allow_impairment(&self) -> Result<(), Error> {
        let router = self.router();
        ip(&format!("-n {router} tuntap add mode tun name {BAD_LINE}"))?;
        ip(&format!("-n {router} link set {BAD_LINE} txqueuelen {BAD_LINE_PACKETS} up"))?;
        // What comes out of the device is not from where its source lies.
        for device in ["all", BAD_LINE] {
            ip(&format!("netns exec {router} sysctl -qw net.ipv4.conf.{device}.rp_filter=0"))?;
        }
        ip(&format!("-n {router} route add default dev {BAD_LINE} table {BAD_TABLE}")).map(drop)
    }

    /// Impairs from now on what the first node of each pair sends to the second, by chances that follow from the seed.
    /// `program` is this harness's own `chaos`, which has the relay in it. One impairment at a time.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::Io`] if it cannot be done, or [`Net::allow_impairment`] was not.
    pub fn impair(
        &self,
        pairs: &[(u64, u64)],
        impairment: Impairment,
        seed: u64,
        program: &Path,
    ) -> Result<(), Error> {
        let router = self.router();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &router]).arg(program).args(["relay", "--device", BAD_LINE]);
        command.args(["--seed", &seed.to_string()]);
        for (name, value) in [
            ("--delay-ms", impairment.delay_ms),
            ("--jitter-ms", impairment.jitter_ms),
            ("--loss-permille", impairment.loss_permille),
            ("--duplicate-permille", impairment.duplicate_permille),
        ] {
            command.args([name, &value.to_string()]);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut relay = Relay(child.map_err(Error::io("start a relay"))?);
        // What would come before the relay is there would be lost.
        let mut word = String::new();
        if let Some(output) = relay.0.stdout.take() {
            BufReader::new(output).read_line(&mut word).map_err(Error::io("listen to a relay"))?;
        }
        if word.trim() != relay::READY {
            return Err(Error::Input("the relay ended at once".to_owned()));
        }
        // The one before ends.
        *self.relay() = Some(relay);
        for (from, to) in pairs {
            let to = self.address(*to);
            ip(&format!("-n {router} rule add pref {DETOUR_RULE} iif n{from} to {to} lookup {BAD_TABLE}"))?;
        }
        Ok(())
    }

    /// Loses and impairs nothing any more.
    ///
    /// # Errors
    /// As [`Net::cut`].
    pub fn heal(&self) -> Result<(), Error> {
        let router = self.router();
        let rules = ip(&format!("-n {router} rule show"))?;
        for preference in [CUT_RULE, DETOUR_RULE] {
            for _ in rules.lines().filter(|rule| rule.starts_with(&format!("{preference}:"))) {
                ip(&format!("-n {router} rule del pref {preference}"))?;
            }
        }
        *self.relay() = None;
        Ok(())
    }

    fn relay(&self) -> MutexGuard<'_, Option<Relay>> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespace of a node's host.
    pub fn namespace(&self, node: u64) -> PathBuf {
        Path::new("/run/netns").join(self.host(node))
    }

    fn router(&self) -> String {
        format!("{}r", self.prefix)
    }

    fn host(&self, node: u64) -> String {
        format!("{}{node}", self.prefix)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // The links go with the namespaces. What cannot be removed is left to the next run's sweep.
        for node in &self.nodes {
            let _ = ip(&format!("netns del {}", self.host(*node)));
        }
        let _ = ip(&format!("netns del {}", self.router()));
        let _ = ip(&format!("link del {}h", self.prefix));
    }
}

/// Removes the networks of harnesses that were killed.
fn sweep() {
    let Ok(names) = ip("netns list") else { return };
    for name in names.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')?.0.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

/// What `ip` says to these words.
fn ip(words: &str) -> Result<String, Error> {
    let mut command = Command::new("ip");
    command.args(words.split_whitespace()).stdin(Stdio::null());
    let output = command.output().map_err(Error::io(format!("run ip {words}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    // The rest is about how to use it.
    Err(Error::Input(format!("ip {words}: {}", complaint.lines().next().unwrap_or("failed"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io, net::TcpListener, time::Duration};
    use tokio::{net::TcpStream, time::timeout};

    /// Says so where the machine does not allow it.
    fn net(nodes: &[u64]) -> Option<Net> {
        match Net::build(nodes) {
            Ok(net) => Some(net),
            Err(error) => {
                let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("SKIPPED: {error}\n"));
                None
            }
        }
    }

    /// Whether a program on one node's host reaches the harness, which is what nodes do with the target.
    async fn reaches(net: &Net, node: u64, port: u16) -> bool {
        let script = format!("exec 3<>/dev/tcp/{}/{port}", net.harness());
        let mut command = net.command(node, Path::new("timeout"));
        let status = command.args(["2", "bash", "-c", &script]).stderr(Stdio::null()).status().await;
        status.is_ok_and(|status| status.success())
    }

    #[tokio::test]
    async fn what_one_node_sends_is_lost_and_nothing_else() {
        let Some(net) = net(&[1, 2]) else { return };
        let listener = TcpListener::bind((net.harness(), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(reaches(&net, 1, port).await && reaches(&net, 2, port).await);

        let greets = async |to: u64| {
            // Nothing listens there: a refusal is an answer.
            let greeting =
                timeout(Duration::from_millis(500), TcpStream::connect((net.address(to), 9))).await;
            matches!(greeting, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
        };
        assert!(greets(1).await && greets(2).await);
        let between = async |from: u64, to: u64| {
            let script = format!("exec 3<>/dev/tcp/{}/9", net.address(to));
            let mut command = net.command(from, Path::new("timeout"));
            // 1 is bash's word for a refusal, 124 that of `timeout`.
            command.args(["1", "bash", "-c", &script]).stderr(Stdio::null()).status().await.unwrap().code()
        };
        assert_eq!((between(1, 2).await, between(2, 1).await), (Some(1), Some(1)));
        net.cut(1, 2).unwrap();
        // Both wait in vain: what 2 sends arrives, and the answer does not come back.
        assert_eq!((between(1, 2).await, between(2, 1).await), (Some(124), Some(124)));
        assert!(greets(1).await && greets(2).await && reaches(&net, 1, port).await);
        net.heal().unwrap();
        assert_eq!((between(1, 2).await, between(2, 1).await), (Some(1), Some(1)));

        let namespace = net.namespace(1);
        assert!(fs::exists(&namespace).unwrap());
        drop(net);
        assert!(!fs::exists(&namespace).unwrap());
    }
}
