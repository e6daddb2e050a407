//! Forged access tokens. A token signed like the server's own shows that the forged part is the reason for the refusal.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::{MemberId, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// The secret of test malls.
const SECRET: [u8; 32] = [7; 32];

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(key).expect("any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

pub struct TokenForger {
    pub member_id: MemberId,
    pub now: Timestamp,
}

impl TokenForger {
    /// Signed with the server's key, so that only header and claims can be wrong.
    pub fn signed(&self, header: &Value, changes: &Value) -> String {
        self.signed_with(&mac(&SECRET, b"onrush access tokens"), header, changes)
    }

    pub fn signed_with(&self, key: &[u8], header: &Value, changes: &Value) -> String {
        let message = self.message(header, changes);
        let signature = URL_SAFE_NO_PAD.encode(mac(key, message.as_bytes()));
        format!("{message}.{signature}")
    }

    pub fn unsigned(&self, header: &Value) -> String {
        self.message(header, &json!({})) + "."
    }

    fn message(&self, header: &Value, changes: &Value) -> String {
        let second = self.now.seconds();
        let mut claims = json!({
            "iss": "onrush", "aud": "onrush", "sub": self.member_id, "sid": uuid::Uuid::from_u128(2), "role": "operator",
            "iat": second, "exp": second + 3_600, "iat_us": self.now.0,
        });
        for (name, value) in changes.as_object().expect("changes are an object") {
            claims[name] = value.clone();
        }
        [header, &claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".")
    }
}
