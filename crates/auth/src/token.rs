//! Access tokens: JWTs with one algorithm and one key, verified without a lookup.

use super::{Caller, Role, hs256};
use contracts::{MemberId, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use runtime::keys::derive_key;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// Lifetime of an access token.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// Most clock difference between our processes: a token from another process may seem to be issued in the future.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(60);
/// Longest accepted token, in bytes. Ours have some 400.
const MAX_LENGTH: usize = 2048;
const ISSUER: &str = "onrush";
/// Token type of RFC 9068. Tokens signed for another purpose have another type.
const TYPE: &str = "at+jwt";

/// Contents of a token with a valid signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenClaims {
    pub caller: Caller,
    /// Orders tokens and revocations, even those of the same instant.
    pub stamp: i64,
    not_before: Timestamp,
    expires: Timestamp,
}

impl TokenClaims {
    pub fn is_current(&self, now: Timestamp) -> bool {
        now < self.expires && self.not_before <= now.after(NOT_BEFORE_LEEWAY)
    }
}

#[derive(Serialize, Deserialize)]
struct JwtPayload {
    iss: String,
    aud: String,
    sub: Uuid,
    role: Role,
    sid: Uuid,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    exp: i64,
    /// Stamp in microseconds, because seconds are too coarse to order tokens and revocations.
    iat_us: i64,
}

pub(super) struct AccessTokens {
    header: Header,
    validation: Validation,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl AccessTokens {
    pub fn new(secret: &[u8; 32]) -> AccessTokens {
        hs256::install();
        let key = derive_key(secret, b"onrush access tokens");
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(TYPE.to_owned());
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // The caller supplies the time: `TokenClaims::is_current` compares it.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        AccessTokens { header, validation, signing: EncodingKey::from_secret(&key), verifying: DecodingKey::from_secret(&key) }
    }

    pub fn issue(&self, caller: Caller, now: Timestamp, stamp: i64) -> String {
        let payload = JwtPayload {
            iss: ISSUER.into(),
            aud: ISSUER.into(),
            sub: caller.member_id.0,
            role: caller.role,
            sid: caller.session_id,
            iat: now.seconds(),
            nbf: None,
            exp: now.after(TOKEN_LIFETIME).seconds(),
            iat_us: stamp,
        };
        encode(&self.header, &payload, &self.signing).expect("a symmetric key signs plain claims of any content")
    }

    /// Claims of a token that we signed as an access token. Does not check its times. `None`: not our signature, or malformed.
    pub fn verify(&self, token: &str) -> Option<TokenClaims> {
        if token.len() > MAX_LENGTH || !is_plain(&decode_header(token).ok()?) {
            return None;
        }
        let payload = decode::<JwtPayload>(token, &self.verifying, &self.validation).ok()?.claims;
        let micros = |seconds: i64| seconds.checked_mul(1_000_000).map(Timestamp);
        let (issued, expires) = (micros(payload.iat)?, micros(payload.exp)?);
        if expires > issued.after(TOKEN_LIFETIME) {
            return None;
        }
        Some(TokenClaims {
            caller: Caller { member_id: MemberId(payload.sub), role: payload.role, session_id: payload.sid },
            stamp: payload.iat_us,
            not_before: micros(payload.nbf.unwrap_or(payload.iat))?.max(issued),
            expires,
        })
    }
}

/// True for a header that contains no key and refers to none.
fn is_plain(header: &Header) -> bool {
    header.alg == Algorithm::HS256
        && header.typ.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case(TYPE))
        && header.kid.is_none()
        && header.jku.is_none()
        && header.jwk.is_none()
        && header.x5u.is_none()
        && header.x5c.is_none()
        && header.x5t.is_none()
        && header.x5t_s256.is_none()
        && header.crit.is_none()
        && header.enc.is_none()
        && header.zip.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use hmac::{Hmac, KeyInit, Mac};
    use serde_json::{Value, json};
    use sha2::Sha256;

    const NOW: Timestamp = Timestamp(1_795_132_800_000_000);
    const SECRET: [u8; 32] = [7; 32];

    fn caller() -> Caller {
        Caller { member_id: MemberId(Uuid::from_u128(1)), role: Role::Operator, session_id: Uuid::from_u128(2) }
    }

    fn tokens() -> AccessTokens {
        AccessTokens::new(&SECRET)
    }

    /// A token with any header and claims, signed with our key.
    fn sign(header: &Value, claims: &Value) -> String {
        sign_with(&derive_key(&SECRET, b"onrush access tokens"), header, claims)
    }

    fn sign_with(key: &[u8], header: &Value, claims: &Value) -> String {
        let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let mut mac: Hmac<Sha256> = Hmac::new_from_slice(key).expect("any length");
        mac.update(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn claims(changes: Value) -> Value {
        let second = NOW.seconds();
        let mut claims = json!({
            "iss": "onrush", "aud": "onrush", "sub": Uuid::from_u128(1), "sid": Uuid::from_u128(2), "role": "operator",
            "iat": second, "exp": second + 3600, "iat_us": NOW.0,
        });
        for (name, value) in changes.as_object().expect("changes are an object") {
            claims[name] = value.clone();
        }
        claims
    }

    fn plain() -> Value {
        json!({"typ": "at+jwt", "alg": "HS256"})
    }

    fn current(token: &str) -> bool {
        tokens().verify(token).is_some_and(|claims| claims.is_current(NOW))
    }

    /// Also shows that exactly one crypto backend is compiled in: with none or two the library panics here.
    #[test]
    fn an_issued_token_verifies_and_a_changed_one_does_not() {
        let token = tokens().issue(caller(), NOW, 5);
        let claims = tokens().verify(&token).expect("it is ours");
        assert_eq!((claims.caller, claims.stamp, claims.is_current(NOW)), (caller(), 5, true));
        assert!(token.len() < MAX_LENGTH / 4);
        assert_eq!(AccessTokens::new(&[8; 32]).verify(&token), None);
        for at in (0..token.len()).step_by(7) {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(tokens().verify(&String::from_utf8(forged).expect("ASCII")), None, "byte {at}");
        }
        assert!(current(&sign(&plain(), &claims_of_today())), "the helper signs as we do");
    }

    fn claims_of_today() -> Value {
        claims(json!({}))
    }

    // row 24
    #[test]
    fn other_algorithms_are_refused() {
        let none = |alg: &str| {
            let parts = [json!({"typ": "at+jwt", "alg": alg}), claims_of_today()];
            format!("{}.", parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join("."))
        };
        for alg in ["none", "None", "NONE", "nOnE", "HS256"] {
            assert!(!current(&none(alg)), "{alg}");
        }
        for alg in ["HS384", "HS512", "RS256", "ES256", "PS256", "EdDSA", "hs256", ""] {
            assert!(!current(&sign(&json!({"typ": "at+jwt", "alg": alg}), &claims_of_today())), "{alg}");
        }
        let public_key = b"-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n";
        assert!(!current(&sign_with(public_key, &plain(), &claims_of_today())));
        assert!(!current(&sign_with(b"", &plain(), &claims_of_today())));
        assert!(!current(&sign_with(&SECRET, &plain(), &claims_of_today())), "the key is not the secret itself");
    }

    // row 25
    #[test]
    fn headers_that_contain_or_name_a_key_are_refused() {
        for (name, value) in [
            ("kid", json!("../../../../dev/null")),
            ("kid", json!("' union select 'secret'--")),
            ("kid", json!("")),
            ("jku", json!("http://127.0.0.1:1/keys")),
            ("x5u", json!("http://127.0.0.1:1/cert")),
            ("jwk", json!({"kty": "oct", "k": "AAAA"})),
            ("x5c", json!(["AAAA"])),
            ("x5t", json!("AAAA")),
            ("x5t#S256", json!("AAAA")),
            ("crit", json!(["exp"])),
            ("zip", json!("DEF")),
        ] {
            let mut header = plain();
            header[name] = value;
            assert!(!current(&sign(&header, &claims_of_today())), "{header}");
        }
    }

    // row 26
    #[test]
    fn other_types_issuers_audiences_and_times_are_refused() {
        for kind in [json!("JWT"), json!("rt+jwt"), json!("refresh"), Value::Null] {
            assert!(!current(&sign(&json!({"typ": kind, "alg": "HS256"}), &claims_of_today())), "{kind}");
        }
        assert!(!current(&sign(&json!({"alg": "HS256"}), &claims_of_today())));
        let second = NOW.seconds();
        for changes in [
            json!({"iss": "other"}),
            json!({"iss": null}),
            json!({"aud": "other"}),
            json!({"aud": null}),
            json!({"sub": "root"}),
            json!({"role": "admin"}),
            json!({"sid": null}),
            json!({"exp": second}),
            json!({"exp": second - 1}),
            json!({"exp": null}),
            json!({"exp": "never"}),
            json!({"exp": second + 3601}),
            json!({"exp": i64::MAX, "iat": i64::MAX - 1}),
            json!({"nbf": second + 61}),
            json!({"iat": second + 61, "exp": second + 100}),
        ] {
            assert!(!current(&sign(&plain(), &claims(changes.clone()))), "{changes}");
        }
        assert!(current(&sign(&plain(), &claims(json!({"nbf": second + 60})))));
        assert!(current(&sign(&plain(), &claims(json!({"exp": second + 1})))));
    }

    // row 23
    #[test]
    fn garbage_is_refused() {
        for text in ["", ".", "..", "...", "a.b.c", "é.é.é", "null", "{}", &".".repeat(3000), &"A".repeat(3000)] {
            assert_eq!(tokens().verify(text), None, "{text}");
        }
    }
}
