//! Proxies in front of the server, and the address of the client behind them.

use super::proxy_protocol;
use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::net::TcpStream;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies whose word counts. Default: none, so the other end of each connection is the client.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    pub trusted: TrustedNetworks,
    pub header: ClientHeader,
    /// True when connections of trusted proxies begin with a PROXY protocol header, version 1 or 2.
    pub proxy_protocol: bool,
}

/// Header in which trusted proxies name the client.
///
/// Only one counts. A proxy sets one, and passes the other on as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientHeader {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// Networks of trusted proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedNetworks(Arc<[IpNet]>);

/// Reason why text is not a list of networks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("“{0}” is not an address or a network such as 10.0.0.0/8")]
    Unreadable(String),
    #[error("“{0}” trusts every sender, so that clients could choose their address; name the proxies' networks")]
    Everyone(String),
}

impl FromStr for TrustedNetworks {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let networks = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        networks.map(parse_network).collect::<Result<_, _>>().map(TrustedNetworks)
    }
}

fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| NetworkError::Unreadable(text.to_owned()))?;
    if network.prefix_len() == 0 { Err(NetworkError::Everyone(text.to_owned())) } else { Ok(network.trunc()) }
}

impl fmt::Display for TrustedNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(IpNet::to_string).collect::<Vec<_>>().join(","))
    }
}

impl TrustedNetworks {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for ClientHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Ok(ClientHeader::XForwardedFor),
            "forwarded" => Ok(ClientHeader::Forwarded),
            _ => Err(format!("“{text}” is neither x-forwarded-for nor forwarded")),
        }
    }
}

impl ClientHeader {
    pub fn name(self) -> HeaderName {
        match self {
            ClientHeader::XForwardedFor => X_FORWARDED_FOR,
            ClientHeader::Forwarded => header::FORWARDED,
        }
    }

    /// The senders that the header names, nearest first. `None`: an entry without a readable address.
    fn senders(self, headers: &HeaderMap) -> Vec<Option<SocketAddr>> {
        let values = headers.get_all(self.name()).iter().rev().map(|value| value.to_str().unwrap_or_default());
        match self {
            ClientHeader::XForwardedFor => values.flat_map(|value| value.rsplit(',').map(|entry| parse_sender(entry.trim()))).collect(),
            ClientHeader::Forwarded => values.flat_map(|value| forwarded_senders(value).unwrap_or_else(|| vec![None])).collect(),
        }
    }
}

impl Proxies {
    /// Address at the other end of a new connection. Reads the PROXY protocol header of a trusted proxy.
    pub(super) async fn connection_peer(&self, stream: &mut TcpStream, address: SocketAddr) -> io::Result<SocketAddr> {
        if !self.proxy_protocol || !self.trusted.contains(address.ip()) {
            return Ok(address);
        }
        Ok(proxy_protocol::read_header(stream).await?.unwrap_or(address))
    }

    /// Address of the client of a request on a connection with `peer`.
    ///
    /// Goes from the nearest sender to the farthest, and stops at the first that is not trusted. A sender that names no readable address
    /// counts as the client.
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.trusted.contains(peer.ip()) {
            warn_of_untrusted_header(peer, headers);
            return peer;
        }
        let mut client = peer;
        for sender in self.header.senders(headers) {
            match sender {
                Some(sender) if self.trusted.contains(client.ip()) => client = sender,
                _ => break,
            }
        }
        client
    }
}

/// Warns once that a header names a client and does not count. Most likely a proxy is missing in the settings.
fn warn_of_untrusted_header(peer: SocketAddr, headers: &HeaderMap) {
    static IS_WARNED: AtomicBool = AtomicBool::new(false);
    if !IS_WARNED.load(Ordering::Relaxed)
        && (headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(header::FORWARDED))
        && !IS_WARNED.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(sender = %peer.ip(), "forwarded header ignored: set trusted_proxies if this sender is your proxy");
    }
}

/// Address of a sender: IPv4 or IPv6, in brackets or not, with or without a port. `None`: a name, `unknown`, or anything else.
fn parse_sender(text: &str) -> Option<SocketAddr> {
    // The port may be hidden, too (RFC 7239, 6.2).
    let text = text.rsplit_once(":_").map_or(text, |(node, _)| node);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => text.parse::<IpAddr>(),
    };
    address.ok().map(|address| SocketAddr::new(address, 0))
}

/// The senders of one `Forwarded` value, nearest first. `None`: the value is malformed.
fn forwarded_senders(value: &str) -> Option<Vec<Option<SocketAddr>>> {
    let mut senders = Vec::new();
    for element in split_unquoted(value, ',')? {
        let mut sender = None;
        for pair in split_unquoted(element, ';')?.into_iter().map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, node) = pair.split_once('=')?;
            if name.eq_ignore_ascii_case("for") && sender.replace(unquote(node)?).is_some() {
                return None;
            }
        }
        senders.push(sender.and_then(|node| parse_sender(&node)));
    }
    senders.reverse();
    Some(senders)
}

/// Splits at a separator outside of quoted strings. `None`: a quoted string has no end.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut in_quotes, mut is_escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if in_quotes => is_escaped = true,
            '"' => in_quotes = !in_quotes,
            _ if character == separator && !in_quotes => {
                parts.push(&text[start..at]);
                start = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!in_quotes).then_some(parts)
}

/// Text of a token or of a quoted string. `None`: neither.
fn unquote(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else { return (!text.contains('"')).then(|| text.to_owned()) };
    let (mut plain, mut characters) = (String::new(), inner.chars());
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(plain),
            '\\' => plain.push(characters.next()?),
            character => plain.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn proxies(header: ClientHeader) -> Proxies {
        let trusted = "10.0.0.0/8, 192.0.2.7,2001:db8:ffff::/48".parse().expect("networks");
        Proxies { trusted, header, proxy_protocol: false }
    }

    fn client(header: ClientHeader, peer: &str, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header.name(), HeaderValue::from_bytes(value.as_bytes()).expect("a header value"));
        }
        proxies(header).client(peer.parse().expect("an address"), &headers).to_string()
    }

    // H2, R1, row 41
    #[test]
    fn the_last_untrusted_sender_is_the_client() {
        let x_forwarded = |peer: &str, values: &[&str]| client(ClientHeader::XForwardedFor, peer, values);
        assert_eq!(x_forwarded("10.0.0.1:5", &["203.0.113.9"]), "203.0.113.9:0");
        // The addresses before it are claims of the client.
        assert_eq!(x_forwarded("10.0.0.1:5", &["198.51.100.1, 203.0.113.9"]), "203.0.113.9:0");
        assert_eq!(x_forwarded("10.0.0.1:5", &["198.51.100.1,203.0.113.9 , 10.1.1.1,192.0.2.7"]), "203.0.113.9:0");
        assert_eq!(x_forwarded("10.0.0.1:5", &["198.51.100.1", "203.0.113.9", "10.1.1.1"]), "203.0.113.9:0");
        // Only trusted senders: the farthest is the client.
        assert_eq!(x_forwarded("10.0.0.1:5", &["10.9.9.9, 10.1.1.1"]), "10.9.9.9:0");
        assert_eq!(x_forwarded("10.0.0.1:5", &[]), "10.0.0.1:5");
        // An untrusted sender names no one.
        assert_eq!(x_forwarded("203.0.113.5:5", &["198.51.100.1"]), "203.0.113.5:5");
        assert_eq!(x_forwarded("[::ffff:10.0.0.1]:5", &["203.0.113.9:80"]), "203.0.113.9:80");
        for v6 in ["2001:db8::9", "[2001:db8::9]"] {
            assert_eq!(x_forwarded("[2001:db8:ffff::1]:5", &[v6]), "[2001:db8::9]:0");
        }
        assert_eq!(x_forwarded("10.0.0.1:5", &["[2001:db8::9]:443"]), "[2001:db8::9]:443");
    }

    // H2
    #[test]
    fn a_sender_that_names_no_address_is_the_client() {
        for entry in ["unknown", "_hidden", "", "evil.example", "203.0.113.9.1", "[203.0.113.9]"] {
            let value = format!("203.0.113.9, {entry}");
            assert_eq!(client(ClientHeader::XForwardedFor, "10.0.0.1:5", &[&value]), "10.0.0.1:5", "{entry}");
            let value = format!("203.0.113.9, {entry}, 10.2.2.2");
            assert_eq!(client(ClientHeader::XForwardedFor, "10.0.0.1:5", &[&value]), "10.2.2.2:0", "{entry}");
        }
    }

    // H2: RFC 7239
    #[test]
    fn forwarded_elements_are_read() {
        let forwarded = |values: &[&str]| client(ClientHeader::Forwarded, "10.0.0.1:5", values);
        for (value, expected) in [
            ("for=203.0.113.9", "203.0.113.9:0"),
            ("For=\"203.0.113.9:47011\";proto=https", "203.0.113.9:47011"),
            ("by=10.0.0.1; for=\"[2001:db8::9]:4711\" ;host=\"a,b;c\"", "[2001:db8::9]:4711"),
            ("for=\"[2001:db8::9]\"", "[2001:db8::9]:0"),
            ("for=\"203.0.113.9:_port\"", "203.0.113.9:0"),
            ("for=\"\\203.0.113.9\"", "203.0.113.9:0"),
            ("for=198.51.100.1, for=203.0.113.9;host=\"\\\"\", for=10.3.3.3", "203.0.113.9:0"),
            ("for=203.0.113.9, for=unknown", "10.0.0.1:5"),
            ("for=203.0.113.9, for=_secret, for=10.3.3.3", "10.3.3.3:0"),
            ("for=203.0.113.9, proto=https", "10.0.0.1:5"),
            ("for=203.0.113.9;for=198.51.100.1", "10.0.0.1:5"),
            // A quoted string of the client cannot swallow the element of the proxy.
            ("for=\"198.51.100.1, for=203.0.113.9", "10.0.0.1:5"),
            ("for=\"198.51.100.1, for=\"[2001:db8::9]\"", "10.0.0.1:5"),
            ("203.0.113.9", "10.0.0.1:5"),
        ] {
            assert_eq!(forwarded(&[value]), expected, "{value}");
        }
        assert_eq!(forwarded(&["for=\"198.51.100.1", "for=203.0.113.9"]), "203.0.113.9:0");
    }

    #[test]
    fn networks_are_read_and_shown() {
        let parsed = |text: &str| text.parse::<TrustedNetworks>();
        assert_eq!(parsed("10.1.2.3/8, 192.0.2.7,").expect("networks").to_string(), "10.0.0.0/8,192.0.2.7/32");
        assert!(parsed("").expect("none").is_empty());
        assert_eq!(parsed("10.0.0.0/33"), Err(NetworkError::Unreadable("10.0.0.0/33".into())));
        assert_eq!(parsed("::/0"), Err(NetworkError::Everyone("::/0".into())));
        assert!("X-Real-IP".parse::<ClientHeader>().is_err());
    }
}
