//! Which site a browser's request comes from (row 35).
//!
//! A cookie comes along whoever made the browser send the request. What a page cannot forge is what the browser says of the page itself:
//! `Sec-Fetch-Site`, and `Origin` in browsers that do not have that.

use http::{HeaderMap, HeaderName, Method, Uri, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where a request comes from, as far as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// One of our pages, or the person at the browser.
    Ours,
    Foreign,
    /// It says nothing: it was sent by a program, or by a very old browser.
    Unsaid,
}

impl Site {
    pub fn of(headers: &HeaderMap, uri: &Uri) -> Site {
        let by_fetch = said(headers, &SEC_FETCH_SITE).map(|site| matches!(site, Some("same-origin" | "none")));
        let by_origin =
            said(headers, &header::ORIGIN).map(|origin| origin.zip(host(headers, uri)).is_some_and(|(origin, host)| is_at(origin, host)));
        match (by_fetch, by_origin) {
            (None, None) => Site::Unsaid,
            (Some(false), _) | (_, Some(false)) => Site::Foreign,
            _ => Site::Ours,
        }
    }
}

/// Requests that only read, and may be caused by links from anywhere.
pub(super) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// A header's one value: `None` where it is not given, `Some(None)` where it is given and is not one text.
#[expect(clippy::option_option, reason = "absent and unreadable are told apart")]
fn said<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Option<&'h str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.to_str().ok().filter(|_| values.next().is_none()))
}

/// The host that the request was sent to.
fn host<'h>(headers: &'h HeaderMap, uri: &'h Uri) -> Option<&'h str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => said(headers, &header::HOST).flatten(),
    }
}

/// Whether the pages of this origin are at this host. The scheme may differ: TLS may end before us. Ports that go without saying do.
fn is_at(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let usual = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return false,
    };
    let bare = |text: &'_ str| text.strip_suffix(usual).unwrap_or(text).to_ascii_lowercase();
    !host.is_empty() && bare(authority) == bare(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn site(fetch: &[&str], origin: &[&str], host: &str) -> Site {
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
        Site::of(&headers, &Uri::from_static("/v1/x"))
    }

    // row 35
    #[test]
    fn a_request_is_ours_when_everything_it_says_is() {
        use Site::{Foreign, Ours, Unsaid};
        let shop = "shop.example";
        let table: &[(&[&str], &[&str], &str, Site)] = &[
            (&[], &[], shop, Unsaid),
            (&["same-origin"], &[], shop, Ours),
            (&["none"], &[], shop, Ours),
            (&["same-site"], &[], shop, Foreign),
            (&["cross-site"], &[], shop, Foreign),
            (&["something-new"], &[], shop, Foreign),
            (&["same-origin", "same-origin"], &[], shop, Foreign),
            (&["same-origin"], &["https://shop.example"], shop, Ours),
            (&["cross-site"], &["https://shop.example"], shop, Foreign),
            (&["same-origin"], &["https://evil.example"], shop, Foreign),
            (&[], &["https://shop.example"], shop, Ours),
            (&[], &["http://shop.example"], shop, Ours),
            (&[], &["https://SHOP.example"], shop, Ours),
            (&[], &["https://shop.example"], "shop.example:443", Ours),
            (&[], &["http://127.0.0.1:8080"], "127.0.0.1:8080", Ours),
            (&[], &["http://[::1]:8080"], "[::1]:8080", Ours),
            (&[], &["http://127.0.0.1:8081"], "127.0.0.1:8080", Foreign),
            (&[], &["https://shop.example:8443"], shop, Foreign),
            (&[], &["https://shop.example.evil.example"], shop, Foreign),
            (&[], &["https://evil.example/shop.example"], shop, Foreign),
            (&[], &["https://shop.example@evil.example"], shop, Foreign),
            (&[], &["null"], shop, Foreign),
            (&[], &[""], shop, Foreign),
            (&[], &["shop.example"], shop, Foreign),
            (&[], &["file://shop.example"], shop, Foreign),
            (&[], &["https://"], "", Foreign),
            (&[], &["https://shop.example"], "", Foreign),
            (&[], &["https://shop.example", "https://shop.example"], shop, Foreign),
        ];
        for (fetch, origin, host, expected) in table {
            assert_eq!(site(fetch, origin, host), *expected, "{fetch:?} {origin:?} {host}");
        }
    }
}
