//! Signatures with which processes of one installation authenticate each other, by a shared secret.
//!
//! A signature proves that a process with the secret made the request within the last minute. It encrypts nothing and does not prevent a
//! replay within that minute, so use it only for requests that are safe to repeat.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use runtime::{keys::derive_key, ports::Clock};
use sha2::Sha256;
use std::{fmt, sync::Arc};

/// Most clock difference between two processes, including the network delay, in seconds.
const MAX_AGE_SECONDS: i64 = 60;
/// Longest accepted signature header, in bytes. Ours have 62.
const MAX_LENGTH: usize = 128;
/// Bytes of HMAC-SHA256.
const MAC_BYTES: usize = 32;

/// Reason for a rejected signature. For the log only: the sender learns no reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    #[error("it is missing or not of the form t=<seconds>,v1=<signature>")]
    Malformed,
    #[error("it is older than {MAX_AGE_SECONDS} s, or from the future: are the clocks set?")]
    NotNow,
    #[error("it was made with another secret, or for something else")]
    Wrong,
}

/// Signs requests and verifies signatures. Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    key: Hmac<Sha256>,
    clock: Arc<dyn Clock>,
}

impl Signer {
    pub fn new(secret: &[u8; 32], clock: Arc<dyn Clock>) -> Signer {
        let key = derive_key(secret, b"onrush requests between processes");
        Signer { key: Hmac::new_from_slice(&key).expect("HMAC takes keys of any length"), clock }
    }

    /// Signs `parts`, in this order, with the current time. The first part names the purpose.
    pub fn sign(&self, parts: &[&[u8]]) -> HeaderValue {
        let seconds = self.clock.now().seconds();
        let tag = URL_SAFE_NO_PAD.encode(self.mac(seconds, parts).finalize().into_bytes());
        HeaderValue::try_from(format!("t={seconds},v1={tag}")).expect("digits and base64 are header values")
    }

    /// Verifies a signature in constant time.
    pub fn verify(&self, signature: Option<&HeaderValue>, parts: &[&[u8]]) -> Result<(), BadSignature> {
        let (seconds, tag) = self.parse_recent(signature)?;
        self.mac(seconds, parts).verify_slice(&tag).map_err(|_| BadSignature::Wrong)
    }

    /// Checks the form and age of a signature, before the signed parts are known.
    pub fn precheck(&self, signature: Option<&HeaderValue>) -> Result<(), BadSignature> {
        self.parse_recent(signature).map(drop)
    }

    fn parse_recent(&self, signature: Option<&HeaderValue>) -> Result<(i64, [u8; MAC_BYTES]), BadSignature> {
        let (seconds, tag) = signature.and_then(parse_signature).ok_or(BadSignature::Malformed)?;
        if self.clock.now().seconds().abs_diff(seconds) > MAX_AGE_SECONDS.unsigned_abs() {
            return Err(BadSignature::NotNow);
        }
        Ok((seconds, tag))
    }

    /// Includes the length of each part, so that bytes cannot be moved from one part to the next.
    fn mac(&self, seconds: i64, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(&seconds.to_be_bytes());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

fn parse_signature(signature: &HeaderValue) -> Option<(i64, [u8; MAC_BYTES])> {
    let text = signature.to_str().ok().filter(|text| text.len() <= MAX_LENGTH)?;
    let (seconds, tag) = text.strip_prefix("t=")?.split_once(",v1=")?;
    Some((seconds.parse().ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?.try_into().ok()?))
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::Timestamp;
    use runtime::ports::ManualClock;
    use std::time::Duration;

    const PARTS: &[&[u8]] = &[b"call", b"POST", b"/internal/v1/calls/a/b", b"digest"];

    fn signer(secret: u8) -> (Signer, ManualClock) {
        let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
        (Signer::new(&[secret; 32], Arc::new(clock.clone())), clock)
    }

    #[test]
    fn a_signature_is_valid_for_its_parts_and_for_a_minute() {
        let (signer, clock) = signer(1);
        let signature = signer.sign(PARTS);
        assert_eq!(signer.verify(Some(&signature), PARTS), Ok(()));
        clock.advance(Duration::from_secs(60));
        assert_eq!(signer.verify(Some(&signature), PARTS), Ok(()));
        clock.advance(Duration::from_secs(1));
        assert_eq!(signer.verify(Some(&signature), PARTS), Err(BadSignature::NotNow));
        let ahead = signer.sign(PARTS);
        let (behind, _) = super::tests::signer(1);
        assert_eq!(behind.verify(Some(&ahead), PARTS), Err(BadSignature::NotNow));
    }

    #[test]
    fn other_parts_secrets_and_forms_are_refused() {
        let (signer, _) = signer(1);
        let (other, _) = super::tests::signer(2);
        let signature = signer.sign(PARTS);
        assert_eq!(other.verify(Some(&signature), PARTS), Err(BadSignature::Wrong));
        let moved: &[&[u8]] = &[b"callP", b"OST", b"/internal/v1/calls/a/b", b"digest"];
        for parts in [&PARTS[..3], moved, &[b"call".as_slice(), b"GET", PARTS[2], PARTS[3]]] {
            assert_eq!(signer.verify(Some(&signature), parts), Err(BadSignature::Wrong));
        }
        assert_eq!(signer.verify(None, PARTS), Err(BadSignature::Malformed));
        let text = signature.to_str().expect("ASCII");
        for bad in ["", "t=1", &text[2..], &text.replace("t=", "t=x"), &format!("{text}="), &"t".repeat(10_000)] {
            let value = HeaderValue::from_str(bad).expect("a header value");
            assert_eq!(signer.verify(Some(&value), PARTS), Err(BadSignature::Malformed), "{bad}");
        }
        for short in [&text[..text.len() - 3], text.split_once("v1=").map(|(head, _)| &text[..head.len() + 3]).expect("it has one")] {
            let value = HeaderValue::from_str(short).expect("a header value");
            assert_eq!(signer.verify(Some(&value), PARTS), Err(BadSignature::Malformed), "{short}");
        }
    }
}
