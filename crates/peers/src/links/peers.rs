//! Addresses of the remote services: the setting, parsed and checked.

use http::{Uri, uri::Authority};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// Address of one process of the installation: `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    authority: Authority,
}

impl Address {
    /// `host:port`.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// URI of a path, with its query, at this address.
    pub fn at(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        Uri::builder().scheme("http").authority(self.authority.clone()).path_and_query(path_and_query).build()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Address, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "it is not a URL")?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("TLS is not spoken between processes: give the http:// address of what terminates it"),
            _ => return Err("it must begin with http://"),
        }
        let authority = uri.authority().cloned().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it must not hold a user or a password");
        }
        if authority.host().is_empty() {
            return Err("it names no host");
        }
        // The `http` crate accepts any number as a port.
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
            return Err("its port is not a number between 1 and 65535");
        }
        if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
            return Err("it must end after the host and port");
        }
        Ok(Address { authority })
    }
}

/// Error in the list of peers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeersError {
    #[error("{0:?} is not of the form service=http://host:port, with | between several addresses")]
    NotAPair(String),
    #[error("{0} is given twice; write its addresses as {0}=http://a:1|http://b:1")]
    Twice(String),
    #[error("the address {url:?} of {service} cannot be used: {reason}")]
    BadUrl { service: String, url: String, reason: &'static str },
    #[error("there is no service {name:?}; there are {known}")]
    UnknownService { name: String, known: String },
}

/// Remote services, each with one or several addresses. Parsed from `accounts=http://a:8080,orders=http://b:8080|http://c:8080`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(BTreeMap<String, Vec<Address>>);

impl Peers {
    /// `Err`: a service name is not among `known`.
    pub fn check(&self, known: &[&str]) -> Result<(), PeersError> {
        match self.services().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => Err(PeersError::UnknownService { name: name.to_owned(), known: known.join(", ") }),
        }
    }

    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Addresses of a service. Empty if it is not listed.
    pub fn addresses(&self, service: &str) -> &[Address] {
        self.0.get(service).map_or(&[], Vec::as_slice)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Peers {
    type Err = PeersError;

    fn from_str(text: &str) -> Result<Peers, PeersError> {
        let mut peers = BTreeMap::new();
        for pair in text.split(',').map(str::trim) {
            // Accepts an empty list and a trailing comma, which are common in settings.
            if pair.is_empty() {
                continue;
            }
            let (service, urls) = pair.split_once('=').ok_or_else(|| PeersError::NotAPair(pair.to_owned()))?;
            let service = service.trim();
            if service.is_empty() {
                return Err(PeersError::NotAPair(pair.to_owned()));
            }
            let mut addresses = Vec::new();
            for url in urls.split('|').map(str::trim) {
                let bad = |reason| PeersError::BadUrl { service: service.to_owned(), url: url.to_owned(), reason };
                let address: Address = url.parse().map_err(bad)?;
                if addresses.contains(&address) {
                    return Err(bad("it is given twice"));
                }
                addresses.push(address);
            }
            if peers.insert(service.to_owned(), addresses).is_some() {
                return Err(PeersError::Twice(service.to_owned()));
            }
        }
        Ok(Peers(peers))
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (service, addresses)) in self.0.iter().enumerate() {
            let urls: Vec<String> = addresses.iter().map(Address::to_string).collect();
            write!(f, "{}{service}={}", if number > 0 { "," } else { "" }, urls.join("|"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Peers>().expect_err("it is refused").to_string()
    }

    #[test]
    fn peers_are_parsed_and_displayed() {
        let peers: Peers = " accounts=http://a:1 , orders=http://b:2|http://[::1]:3/,".parse().expect("a good list");
        assert_eq!(peers.to_string(), "accounts=http://a:1,orders=http://b:2|http://[::1]:3");
        assert_eq!(peers.services().collect::<Vec<_>>(), ["accounts", "orders"]);
        assert_eq!(peers.addresses("orders").len(), 2);
        assert!(peers.addresses("stock").is_empty());
        assert_eq!(peers.addresses("orders")[1].at("/v1/x?y=1").expect("a URI"), "http://[::1]:3/v1/x?y=1");
        assert!("".parse::<Peers>().expect("an empty list").is_empty());
    }

    #[test]
    fn an_error_names_the_service_and_the_reason() {
        assert!(error("accounts").contains("\"accounts\" is not of the form"));
        assert!(error("=http://a:1").contains("is not of the form"));
        assert!(error("orders=http://a:1,orders=http://b:1").starts_with("orders is given twice"));
        for (url, reason) in [
            ("https://a:1", "TLS"),
            ("a:1", "begin with http://"),
            ("ftp://a", "begin with http://"),
            ("", "not a URL"),
            ("http://", "not a URL"),
            ("http://a b", "not a URL"),
            ("http://u:secret@a:1", "user"),
            ("http://a:0", "port"),
            ("http://a:70000", "port"),
            ("http://a:", "port"),
            ("http://a:1/v1", "end after"),
            ("http://a:1?x", "end after"),
            ("http://a:1|http://a:1", "twice"),
        ] {
            let text = error(&format!("orders={url}"));
            assert!(text.contains("orders") && text.contains(reason), "{url}: {text}");
        }
    }

    #[test]
    fn an_unknown_service_is_refused_by_name() {
        let peers: Peers = "orders=http://a:1,order=http://a:1".parse().expect("a good list");
        let text = peers.check(&["orders", "stock"]).expect_err("there is no such service").to_string();
        assert_eq!(text, "there is no service \"order\"; there are orders, stock");
        assert_eq!(peers.check(&["order", "orders"]), Ok(()));
    }
}
