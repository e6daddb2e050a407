//! The site from which a browser sends a request (row 35).
//!
//! A browser attaches the cookie to requests from any page. A page cannot forge the headers in which the browser names the page's site:
//! `Sec-Fetch-Site`, and `Origin` in browsers without it.

use http::{HeaderMap, HeaderName, Method, Uri, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Site of the page that caused a request, by its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SiteRelation {
    /// One of our pages, or the user directly (address bar, bookmark).
    SameOrigin,
    CrossSite,
    /// No header: sent by a program or a very old browser.
    Unknown,
}

impl SiteRelation {
    pub fn of(headers: &HeaderMap, uri: &Uri) -> SiteRelation {
        let by_fetch = single_value(headers, &SEC_FETCH_SITE).map(|site| matches!(site, Some("same-origin" | "none")));
        let by_origin = single_value(headers, &header::ORIGIN)
            .map(|origin| origin.zip(host(headers, uri)).is_some_and(|(origin, host)| is_origin_of(origin, host)));
        match (by_fetch, by_origin) {
            (None, None) => SiteRelation::Unknown,
            (Some(false), _) | (_, Some(false)) => SiteRelation::CrossSite,
            _ => SiteRelation::SameOrigin,
        }
    }
}

/// True for methods that only read. Links on any site may cause such requests.
pub(super) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The single value of a header. `None`: absent. `Some(None)`: given more than once, or not a text.
#[expect(clippy::option_option, reason = "absent and unreadable are told apart")]
fn single_value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Option<&'h str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.to_str().ok().filter(|_| values.next().is_none()))
}

/// Host to which the request was sent.
fn host<'h>(headers: &'h HeaderMap, uri: &'h Uri) -> Option<&'h str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => single_value(headers, &header::HOST).flatten(),
    }
}

/// True when pages of this origin are served by this host. The scheme may differ, because a proxy may terminate TLS. A default port may
/// be omitted.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return false,
    };
    let without_port = |text: &'_ str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
    !host.is_empty() && without_port(authority) == without_port(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn relation(fetch: &[&str], origin: &[&str], host: &str) -> SiteRelation {
        let mut headers = HeaderMap::new();
        let values = |values: &[&str]| values.iter().map(|value| HeaderValue::from_str(value).unwrap()).collect::<Vec<_>>();
        for value in values(fetch) {
            headers.append(SEC_FETCH_SITE, value);
        }
        for value in values(origin) {
            headers.append(header::ORIGIN, value);
        }
        if !host.is_empty() {
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        SiteRelation::of(&headers, &Uri::from_static("/v1/x"))
    }

    // row 35
    #[test]
    fn a_request_is_same_origin_when_all_its_headers_are() {
        use SiteRelation::{CrossSite, SameOrigin, Unknown};
        let shop = "shop.example";
        let table: &[(&[&str], &[&str], &str, SiteRelation)] = &[
            (&[], &[], shop, Unknown),
            (&["same-origin"], &[], shop, SameOrigin),
            (&["none"], &[], shop, SameOrigin),
            (&["same-site"], &[], shop, CrossSite),
            (&["cross-site"], &[], shop, CrossSite),
            (&["something-new"], &[], shop, CrossSite),
            (&["same-origin", "same-origin"], &[], shop, CrossSite),
            (&["same-origin"], &["https://shop.example"], shop, SameOrigin),
            (&["cross-site"], &["https://shop.example"], shop, CrossSite),
            (&["same-origin"], &["https://evil.example"], shop, CrossSite),
            (&[], &["https://shop.example"], shop, SameOrigin),
            (&[], &["http://shop.example"], shop, SameOrigin),
            (&[], &["https://SHOP.example"], shop, SameOrigin),
            (&[], &["https://shop.example"], "shop.example:443", SameOrigin),
            (&[], &["http://127.0.0.1:8080"], "127.0.0.1:8080", SameOrigin),
            (&[], &["http://[::1]:8080"], "[::1]:8080", SameOrigin),
            (&[], &["http://127.0.0.1:8081"], "127.0.0.1:8080", CrossSite),
            (&[], &["https://shop.example:8443"], shop, CrossSite),
            (&[], &["https://shop.example.evil.example"], shop, CrossSite),
            (&[], &["https://evil.example/shop.example"], shop, CrossSite),
            (&[], &["https://shop.example@evil.example"], shop, CrossSite),
            (&[], &["null"], shop, CrossSite),
            (&[], &[""], shop, CrossSite),
            (&[], &["shop.example"], shop, CrossSite),
            (&[], &["file://shop.example"], shop, CrossSite),
            (&[], &["https://"], "", CrossSite),
            (&[], &["https://shop.example"], "", CrossSite),
            (&[], &["https://shop.example", "https://shop.example"], shop, CrossSite),
        ];
        for (fetch, origin, host, expected) in table {
            assert_eq!(relation(fetch, origin, host), *expected, "{fetch:?} {origin:?} {host}");
        }
    }
}
