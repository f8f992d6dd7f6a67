//! Where sandboxes may connect to: the rules, and the dialling that keeps them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use oi_protocol::local_backend::{BootFrom, CreateSandboxRequest};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::Url;

const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// What sandboxes may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NetworkChoice {
    /// The open internet, what their configuration names and what `--reach` names; nothing else of this machine or of
    /// private networks.
    Open,
    /// What their configuration names (control plane, models, code host) and what `--reach` names.
    Restricted,
    /// What their configuration names.
    None,
    /// This machine's own network, without a namespace.
    Host,
}

impl NetworkChoice {
    /// As it is written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Restricted => "restricted",
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

/// A server that sandboxes may reach wherever it is, of the form `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// A name or an address, in lower case, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Server {
    fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        Self { host: host.to_ascii_lowercase(), port }
    }

    /// The server of an `http` or `https` URL.
    pub fn of_url(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        Some(Self::new(url.host_str()?, url.port_or_known_default()?))
    }

    /// Whether it is this machine's loopback.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }

    /// `HOST:PORT`, with brackets where they are needed.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl std::str::FromStr for Server {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "it is not of the form HOST:PORT";
        let (host, port) = text.rsplit_once(':').ok_or(wrong)?;
        let server = Self::new(host, port.parse().map_err(|_| wrong)?);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if server.host.is_empty() || server.port == 0 || !server.host.bytes().all(plain) {
            return Err(wrong);
        }
        Ok(server)
    }
}

/// The servers that a sandbox's configuration names: it cannot do its work without them.
pub fn configured(request: &CreateSandboxRequest) -> BTreeSet<Server> {
    let mut urls = vec![request.control_plane_url.as_str()];
    urls.extend(request.model_providers.iter().map(|provider| provider.base_url.as_str()));
    urls.extend(request.repositories.iter().map(|repository| repository.clone_url.as_str()));
    if let BootFrom::Build(build) = &request.boot {
        urls.extend([build.callback_url.as_str(), build.failure_callback_url.as_str()]);
    }
    urls.into_iter().filter_map(Server::of_url).collect()
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReached {
    /// The rules.
    #[error("this sandbox may not reach that address")]
    Forbidden,
    /// The name is unknown.
    #[error("the name cannot be resolved")]
    Unknown,
    /// Nothing answers.
    #[error("the server cannot be reached")]
    Unreachable,
}

/// What one sandbox may reach.
#[derive(Debug, Clone)]
pub struct Policy {
    choice: NetworkChoice,
    named: BTreeSet<Server>,
}

impl Policy {
    /// The rules of a sandbox: the host's choice, and what is named.
    pub fn new(choice: NetworkChoice, request: &CreateSandboxRequest, reach: &[Server]) -> Self {
        let mut named = configured(request);
        if choice != NetworkChoice::None {
            named.extend(reach.iter().cloned());
        }
        Self { choice, named }
    }

    /// Named servers on this machine's loopback, which the sandbox must find on its own.
    pub fn loopback(&self) -> impl Iterator<Item = &Server> {
        self.named.iter().filter(|server| server.is_loopback())
    }

    /// Connects, when the rules allow it. A name is resolved once, and what is checked is what is connected to.
    pub async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, NotReached> {
        let server = Server::new(host, port);
        let named = self.named.contains(&server);
        if !named && self.choice != NetworkChoice::Open {
            return Err(NotReached::Forbidden);
        }
        let found = timeout(RESOLVE_WITHIN, lookup_host((server.host.as_str(), port))).await;
        let found: Vec<SocketAddr> =
            found.map_err(|_| NotReached::Unknown)?.map_err(|_| NotReached::Unknown)?.collect();
        let allowed = found.iter().filter(|address| named || is_elsewhere(address.ip())).take(ADDRESSES_MAX);
        let mut outcome = if found.is_empty() { NotReached::Unknown } else { NotReached::Forbidden };
        for address in allowed {
            match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // What is sent in small pieces is waited for.
                    drop(stream.set_nodelay(true));
                    return Ok(stream);
                }
                Ok(Err(_)) | Err(_) => outcome = NotReached::Unreachable,
            }
        }
        Err(outcome)
    }
}

/// Whether an address is of the open internet and not this machine's own.
fn is_elsewhere(ip: IpAddr) -> bool {
    is_public(ip) && !is_own(ip)
}

/// An address that a socket can be bound to is one of this machine's.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// The special-purpose ranges of IANA, and multicast. Those for documentation are none of anybody's: where a network
/// uses them, it is for what its machines see as the internet.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && matches!(b, 18 | 19))
        || a >= 240;
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Of IPv4, in its old and its present form.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => high != 0 && embedded(high, low),
        // Translated to IPv4 by the network.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Tunnels, benchmarks, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // What is assigned of the open internet at all.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_open_internet_are_public() {
        for ip in [
            "1.1.1.1",
            "140.82.121.4",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "2002:101:101::",
        ] {
            assert!(is_public(ip.parse().expect("an address")), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "fec0::1",
        ] {
            assert!(!is_public(ip.parse().expect("an address")), "{ip}");
        }
    }

    #[test]
    fn this_machines_own_addresses_are_not_elsewhere() {
        assert!(is_own("127.0.0.1".parse().expect("an address")));
        assert!(!is_own("1.1.1.1".parse().expect("an address")));
    }

    fn policy(choice: NetworkChoice, control_plane_url: &str, reach: &[&str]) -> Policy {
        let request =
            CreateSandboxRequest { control_plane_url: control_plane_url.to_owned(), ..CreateSandboxRequest::default() };
        let reach: Vec<Server> = reach.iter().map(|text| text.parse().expect("a server")).collect();
        Policy::new(choice, &request, &reach)
    }

    #[tokio::test]
    async fn a_loopback_service_is_reached_only_when_it_is_named_however_it_is_written() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let other = policy(NetworkChoice::Open, "http://control.example", &[]);
        for host in
            ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "::ffff:127.0.0.1", "0.0.0.0", "[::1]"]
        {
            let reached = other.dial(host, port).await.map(drop);
            assert!(matches!(reached, Err(NotReached::Forbidden | NotReached::Unknown)), "{host}: {reached:?}");
        }
        let url = format!("http://127.0.0.1:{port}/x");
        for choice in [NetworkChoice::Open, NetworkChoice::Restricted, NetworkChoice::None] {
            assert!(policy(choice, &url, &[]).dial("127.0.0.1", port).await.is_ok());
            assert!(policy(choice, &url, &[]).dial("127.0.0.1", 1).await.is_err(), "another port is not named");
        }
        let reach = format!("127.0.0.1:{port}");
        assert!(policy(NetworkChoice::Restricted, "http://c.example", &[&reach]).dial("127.0.0.1", port).await.is_ok());
        let refused =
            policy(NetworkChoice::None, "http://c.example", &[&reach]).dial("127.0.0.1", port).await.map(drop);
        assert_eq!(refused, Err(NotReached::Forbidden));
    }

    #[tokio::test]
    async fn the_metadata_service_and_private_networks_are_refused_before_anything_is_sent() {
        let open = policy(NetworkChoice::Open, "http://control.example", &[]);
        for host in ["169.254.169.254", "fd00:ec2::254", "10.0.0.1", "192.168.0.1"] {
            assert_eq!(open.dial(host, 80).await.map(drop), Err(NotReached::Forbidden), "{host}");
        }
        let restricted = policy(NetworkChoice::Restricted, "http://control.example", &[]);
        assert_eq!(restricted.dial("1.1.1.1", 443).await.map(drop), Err(NotReached::Forbidden));
    }

    #[test]
    fn servers_are_host_and_port_and_nothing_else() {
        assert_eq!("[::1]:80".parse::<Server>().map(|server| server.authority()), Ok("[::1]:80".to_owned()));
        assert_eq!(Server::of_url("https://Code.Example/a.git"), "code.example:443".parse().ok());
        for bad in ["", "host", "host:0", "host:x", ":80", "http://host:80", "a/b:80"] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
    }
}
