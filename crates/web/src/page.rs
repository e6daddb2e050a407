//! Pages of a list. A cursor holds the start of the next page. It is signed, so that a caller cannot forge one to bypass a filter.

use super::Problem;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::Code;
use runtime::keys::{TAG_BYTES, TagKey};
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

pub const DEFAULT_LIMIT: u32 = 20;
/// Largest page size; it bounds the work of one request.
pub const MAX_LIMIT: u32 = 100;
/// Longest cursor, in characters. A cursor holds a sort key and an id; longer texts are forged.
const MAX_CURSOR: usize = 1024;

/// A page of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Listing<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Page size for `?limit=`. `Err`: out of bounds.
pub fn page_limit(limit: Option<i64>) -> Result<u32, Problem> {
    match limit {
        None => Ok(DEFAULT_LIMIT),
        Some(limit) => u32::try_from(limit)
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or_else(|| Problem::field("/limit", Code::InvalidParameter, format!("must be between 1 and {MAX_LIMIT}"))),
    }
}

/// Encodes and decodes page cursors, and signs data that is stored where other programs could write.
///
/// `kind` names the list, with its owner or sort order if needed. A cursor of another kind is refused.
#[derive(Clone)]
pub struct Cursors {
    key: TagKey,
}

impl Cursors {
    pub fn new(secret: &[u8; 32]) -> Cursors {
        Cursors { key: TagKey::derive(secret, b"onrush page cursors") }
    }

    pub fn encode(&self, kind: &str, position: &impl Serialize) -> String {
        let body = serde_json::to_vec(position).unwrap_or_else(|error| {
            tracing::error!(kind, %error, "page position not serialized");
            Vec::new()
        });
        let mut text = self.key.tag(kind, &body).to_vec();
        text.extend_from_slice(&body);
        URL_SAFE_NO_PAD.encode(text)
    }

    pub fn decode<T: DeserializeOwned>(&self, kind: &str, text: &str) -> Result<T, Problem> {
        let refused = || Problem::field("/cursor", Code::InvalidCursor, "is not a cursor of this list");
        if text.len() > MAX_CURSOR {
            return Err(refused());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
        let (tag, body) = bytes.split_at_checked(TAG_BYTES).ok_or_else(refused)?;
        if !self.key.verify_tag(kind, body, tag) {
            return Err(refused());
        }
        serde_json::from_slice(body).map_err(|_| refused())
    }

    /// Signature of `body`, see [`TagKey::tag`].
    pub fn tag(&self, kind: &str, body: &[u8]) -> [u8; TAG_BYTES] {
        self.key.tag(kind, body)
    }

    /// True when `tag` is the signature of `body`.
    pub fn verify_tag(&self, kind: &str, body: &[u8], tag: &[u8]) -> bool {
        self.key.verify_tag(kind, body, tag)
    }
}

impl std::fmt::Debug for Cursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cursors")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // row 19
    #[test]
    fn a_forged_or_foreign_cursor_is_refused() {
        let cursors = Cursors::new(&[1; 32]);
        let text = cursors.encode("orders.list", &(17_i64, "a"));
        assert_eq!(cursors.decode::<(i64, String)>("orders.list", &text).expect("it is ours"), (17, "a".to_owned()));
        let mut forged = URL_SAFE_NO_PAD.decode(&text).expect("it is base64");
        *forged.last_mut().expect("it is not empty") ^= 1;
        let long = "A".repeat(100_000);
        for (kind, text) in [
            ("stock.list", text.as_str()),
            ("orders.list", &URL_SAFE_NO_PAD.encode(forged)),
            ("orders.list", &text[..8]),
            ("orders.list", ""),
            ("orders.list", "' or 1=1--"),
            ("orders.list", &long),
        ] {
            let problem = cursors.decode::<(i64, String)>(kind, text).expect_err("it is not ours");
            assert_eq!((problem.code(), problem.code().status()), (Code::InvalidCursor, 400));
        }
        let other = Cursors::new(&[2; 32]);
        assert!(other.decode::<(i64, String)>("orders.list", &text).is_err());
    }

    // row 18
    #[test]
    fn page_sizes_have_bounds() {
        assert_eq!(page_limit(None).expect("the default is fine"), 20);
        assert_eq!(page_limit(Some(1)).expect("one is fine"), 1);
        assert_eq!(page_limit(Some(100)).expect("100 is fine"), 100);
        for wrong in [0, -1, 101, 1_000_000_000, i64::MAX, i64::MIN] {
            assert_eq!(page_limit(Some(wrong)).expect_err("out of bounds").code(), Code::InvalidParameter);
        }
    }
}
