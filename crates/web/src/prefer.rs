//! The header `Prefer` (RFC 7240).

use http::HeaderMap;
use std::time::Duration;

/// Preferences of a request. Others are ignored, and so are parameters of a preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// `wait=<seconds>`. Zero when absent or unreadable. The caller limits it.
    pub wait: Duration,
    /// `respond-async`: the client wants an answer before the work is done.
    pub respond_async: bool,
}

impl Preferences {
    pub fn of(headers: &HeaderMap) -> Preferences {
        let texts = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        let each = texts.flat_map(|text| text.split(',')).filter_map(|part| part.split(';').next());
        let (mut wait, mut respond_async) = (None, false);
        for preference in each {
            match preference.split_once('=') {
                Some((name, value)) if name.trim().eq_ignore_ascii_case("wait") => wait = wait.or_else(|| value.trim().parse().ok()),
                None if preference.trim().eq_ignore_ascii_case("respond-async") => respond_async = true,
                _ => {}
            }
        }
        Preferences { wait: Duration::from_secs(wait.unwrap_or(0)), respond_async }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(texts: &[&'static str]) -> (u64, bool) {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append("prefer", HeaderValue::from_static(text));
        }
        let found = Preferences::of(&headers);
        (found.wait.as_secs(), found.respond_async)
    }

    // RFC 7240
    #[test]
    fn respond_async_is_found_among_other_preferences() {
        assert_eq!([of(&["respond-async"]), of(&["wait=10, Respond-Async"])], [(0, true), (10, true)]);
        assert_eq!(of(&["wait=3", "respond-async; x=1"]), (3, true));
        assert_eq!([of(&[]), of(&["wait=10"]), of(&["respond-asynchronously"])], [(0, false), (10, false), (0, false)]);
    }

    #[test]
    fn the_first_readable_wait_counts() {
        for wait in [&["respond-async, Wait = 7"][..], &["handling=strict", "wait=7"], &["wait=soon, wait=7, wait=8"], &["wait=7; x=1"]] {
            assert_eq!(of(wait).0, 7, "{wait:?}");
        }
        for none in ["wait=soon", "wait", "wait=-1", "wait=99999999999999999999", "x; wait=7"] {
            assert_eq!(of(&[none]).0, 0, "{none}");
        }
    }
}
