//! Keys derived from the installation's secret, and short signatures made with them.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Bytes of a signature. 128 bits cannot be guessed.
pub const TAG_BYTES: usize = 16;

/// Derives a key for one purpose, so that a signature for one purpose is invalid for another.
pub fn derive_key(secret: &[u8; 32], purpose: &[u8]) -> [u8; 32] {
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(purpose);
    mac.finalize().into_bytes().into()
}

/// Signs data that other programs could replace: page cursors, ids, copies in a cache. Cheap to clone.
#[derive(Clone)]
pub struct TagKey(Hmac<Sha256>);

impl TagKey {
    /// The key for one purpose.
    pub fn derive(secret: &[u8; 32], purpose: &[u8]) -> TagKey {
        TagKey(Hmac::new_from_slice(&derive_key(secret, purpose)).expect("HMAC takes keys of any length"))
    }

    /// Signature of `body`, to recognize ids that were never stored. `kind` names the purpose.
    pub fn tag(&self, kind: &str, body: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&self.sign(kind, body).finalize().into_bytes()[..TAG_BYTES]);
        tag
    }

    /// True when `tag` is the signature of `body`. Takes constant time.
    pub fn verify_tag(&self, kind: &str, body: &[u8], tag: &[u8]) -> bool {
        tag.len() == TAG_BYTES && self.sign(kind, body).verify_truncated_left(tag).is_ok()
    }

    fn sign(&self, kind: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(body);
        mac
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_valid_for_its_key_kind_and_body() {
        let key = TagKey::derive(&[1; 32], b"tests");
        let tag = key.tag("kind", b"body");
        assert!(key.verify_tag("kind", b"body", &tag));
        assert!(!key.verify_tag("kindb", b"ody", &tag) && !key.verify_tag("kind", b"body", &tag[..8]));
        for other in [TagKey::derive(&[2; 32], b"tests"), TagKey::derive(&[1; 32], b"others")] {
            assert!(!other.verify_tag("kind", b"body", &tag));
        }
    }
}
