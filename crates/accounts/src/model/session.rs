//! Sessions, and their refresh tokens or browser cookie. The tokens that descend from one sign-in are its family.
//!
//! A refresh token works once. A second use means that two holders have it, and the server cannot tell the thief from the
//! owner, so the whole family ends. Simultaneous requests count, too: the first wins, the others end the family.

use contracts::{Code, MemberId, Timestamp};
use std::time::Duration;
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A refresh token unused for this long expires, and the member signs in again.
pub const REFRESH_LIFETIME: Duration = DAY.saturating_mul(14);
/// The same for a cookie.
const COOKIE_LIFETIME: Duration = REFRESH_LIFETIME;
/// Smallest extension of a cookie that is written: at most one write a day.
const MIN_EXTENSION: Duration = DAY;
/// A session ends this long after its sign-in, even if its tokens were renewed.
pub const SESSION_LIFETIME: Duration = DAY.saturating_mul(90);

/// SHA-256 of a refresh token, or of the secret in a cookie.
pub type SecretDigest = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    Live,
    Used,
    /// Presented again after its use.
    Reused,
    /// Ended with its session.
    Revoked,
}

impl TokenState {
    pub fn as_str(self) -> &'static str {
        match self {
            TokenState::Live => "LIVE",
            TokenState::Used => "USED",
            TokenState::Reused => "REUSED",
            TokenState::Revoked => "REVOKED",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "LIVE" => Some(TokenState::Live),
            "USED" => Some(TokenState::Used),
            "REUSED" => Some(TokenState::Reused),
            "REVOKED" => Some(TokenState::Revoked),
            _ => None,
        }
    }
}

/// Reason why a session ended before its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    SignedOut,
    TokenReused,
    PasswordChanged,
    AccountClosed,
    AccountDisabled,
}

impl EndReason {
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::SignedOut => "signed_out",
            EndReason::TokenReused => "token_reused",
            EndReason::PasswordChanged => "password_changed",
            EndReason::AccountClosed => "account_closed",
            EndReason::AccountDisabled => "account_disabled",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: Uuid,
    pub member_id: MemberId,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

impl Session {
    pub fn open(id: Uuid, member_id: MemberId, now: Timestamp) -> Session {
        Session { id, member_id, created_at: now, expires_at: now.after(SESSION_LIFETIME), revoked_at: None }
    }

    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    pub hash: SecretDigest,
    pub session_id: Uuid,
    pub state: TokenState,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

impl RefreshToken {
    /// Issues a token that expires with its session at the latest.
    pub fn issue(hash: SecretDigest, session: &Session, now: Timestamp) -> RefreshToken {
        let expires_at = now.after(REFRESH_LIFETIME).min(session.expires_at);
        RefreshToken { hash, session_id: session.id, state: TokenState::Live, issued_at: now, expires_at }
    }
}

/// The cookie of a session that a browser opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCookie {
    pub hash: SecretDigest,
    pub session_id: Uuid,
    pub expires_at: Timestamp,
}

impl SessionCookie {
    pub fn issue(hash: SecretDigest, session: &Session, now: Timestamp) -> SessionCookie {
        SessionCookie { hash, session_id: session.id, expires_at: cookie_expiry(session.expires_at, now) }
    }

    /// The new expiry of a cookie that is used now, at most `session_ends`.
    /// `None`: the extension would be too small to write, so that not every page view writes.
    pub fn extended_until(&self, session_ends: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let end = cookie_expiry(session_ends, now);
        (end.since(self.expires_at) >= MIN_EXTENSION).then_some(end)
    }
}

/// The expiry of a cookie that is used now.
fn cookie_expiry(session_ends: Timestamp, now: Timestamp) -> Timestamp {
    now.after(COOKIE_LIFETIME).min(session_ends)
}

/// An open session with the times of its token or cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSessionCard {
    pub id: Uuid,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// When its live refresh token was issued. `None`: it has none.
    pub token_issued_at: Option<Timestamp>,
    /// `None`: it has no cookie.
    pub cookie_expires_at: Option<Timestamp>,
}

impl OpenSessionCard {
    /// The last renewal that was written. A cookie close to the end of its session no longer moves, so the sign-in is the earliest answer.
    pub fn last_used_at(&self) -> Timestamp {
        let renewed = self.token_issued_at.or(self.cookie_expires_at.map(|end| end.before(COOKIE_LIFETIME)));
        renewed.unwrap_or(self.created_at).max(self.created_at)
    }
}

/// Outcome of presenting a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The token is used up; this one replaces it.
    Rotated(RefreshToken),
    /// The token was used before: the session ends.
    Reused,
    /// The token is expired or revoked, or its member is not active.
    Refused(Code),
}

/// Uses up a presented token and issues the next one, whose digest is `next`. A reuse ends the session.
pub fn rotate(token: &mut RefreshToken, session: &mut Session, member_is_active: bool, next: SecretDigest, now: Timestamp) -> Rotation {
    match token.state {
        TokenState::Used | TokenState::Reused => {
            token.state = TokenState::Reused;
            session.revoked_at.get_or_insert(now);
            Rotation::Reused
        }
        TokenState::Revoked => Rotation::Refused(Code::Unauthenticated),
        TokenState::Live if now >= token.expires_at || !session.is_live(now) || !member_is_active => {
            Rotation::Refused(Code::Unauthenticated)
        }
        TokenState::Live => {
            token.state = TokenState::Used;
            Rotation::Rotated(RefreshToken::issue(next, session, now))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp(1_000_000_000);

    /// A family as stored in the database.
    struct Family {
        session: Session,
        tokens: Vec<RefreshToken>,
        now: Timestamp,
    }

    #[derive(Clone, Debug)]
    enum FamilyStep {
        Present(usize),
        SignOut,
        Wait(u32),
    }

    impl Family {
        fn new() -> Family {
            let session = Session::open(Uuid::from_u128(1), MemberId(Uuid::from_u128(2)), START);
            let first = RefreshToken::issue([0; 32], &session, START);
            Family { session, tokens: vec![first], now: START }
        }

        fn revoke_live(&mut self) {
            for token in &mut self.tokens {
                if token.state == TokenState::Live {
                    token.state = TokenState::Revoked;
                }
            }
        }

        fn take(&mut self, step: &FamilyStep) -> Option<Rotation> {
            match step {
                FamilyStep::Wait(hours) => {
                    self.now = self.now.after(Duration::from_secs(u64::from(*hours) * 3600));
                    None
                }
                FamilyStep::SignOut => {
                    self.session.revoked_at.get_or_insert(self.now);
                    self.revoke_live();
                    None
                }
                FamilyStep::Present(index) => {
                    let next = [u8::try_from(self.tokens.len()).unwrap(); 32];
                    let index = index % self.tokens.len();
                    let outcome = rotate(&mut self.tokens[index], &mut self.session, true, next, self.now);
                    match &outcome {
                        Rotation::Rotated(token) => self.tokens.push(token.clone()),
                        Rotation::Reused => self.revoke_live(),
                        Rotation::Refused(_) => {}
                    }
                    Some(outcome)
                }
            }
        }
    }

    fn step() -> impl Strategy<Value = FamilyStep> {
        prop_oneof![
            6 => any::<prop::sample::Index>().prop_map(|index| FamilyStep::Present(index.index(64))),
            1 => Just(FamilyStep::SignOut),
            2 => (0u32..24 * 20).prop_map(FamilyStep::Wait),
        ]
    }

    proptest! {
        /// I-A2: one live token per family, none after a reuse. A token is accepted at most once.
        #[test]
        fn a_family_has_one_live_token_and_none_after_a_reuse(steps in prop::collection::vec(step(), 0..60)) {
            let mut family = Family::new();
            let mut reused = false;
            for step in &steps {
                let used = family.tokens.iter().filter(|token| token.state != TokenState::Live);
                let used: Vec<SecretDigest> = used.map(|token| token.hash).collect();
                let shown = match step {
                    FamilyStep::Present(index) => Some(family.tokens[index % family.tokens.len()].hash),
                    _ => None,
                };
                let outcome = family.take(step);
                if let (Some(Rotation::Rotated(token)), Some(shown)) = (&outcome, shown) {
                    prop_assert!(!used.contains(&shown), "a token was accepted twice");
                    prop_assert!(!reused, "a family survived a reuse");
                    prop_assert!(token.expires_at <= family.session.expires_at);
                }
                reused |= outcome == Some(Rotation::Reused);
                let live = family.tokens.iter().filter(|token| token.state == TokenState::Live).count();
                prop_assert!(live <= 1);
                if reused {
                    prop_assert_eq!(live, 0);
                    prop_assert!(family.session.revoked_at.is_some());
                }
            }
        }
    }

    // A13
    #[test]
    fn a_used_cookie_is_extended_up_to_its_sessions_end() {
        let session = Session::open(Uuid::from_u128(1), MemberId(Uuid::from_u128(2)), START);
        let mut web = SessionCookie::issue([1; 32], &session, START);
        assert_eq!(web.expires_at, START.after(14 * DAY));
        assert_eq!(web.extended_until(session.expires_at, START.after(DAY - Duration::from_micros(1))), None);
        let (mut now, mut writes) = (START, 0);
        while now < session.expires_at {
            assert!(now < web.expires_at && web.expires_at <= session.expires_at);
            if let Some(end) = web.extended_until(session.expires_at, now) {
                assert!(end > web.expires_at);
                (web.expires_at, writes) = (end, writes + 1);
            }
            now = now.after(Duration::from_secs(3600));
        }
        assert_eq!((web.expires_at, writes), (session.expires_at, 90 - 14));
    }

    #[test]
    fn a_token_ends_at_its_expiry_and_with_its_session() {
        let mut session = Session::open(Uuid::from_u128(1), MemberId(Uuid::from_u128(2)), START);
        let token = RefreshToken::issue([1; 32], &session, START);
        let show = |token: &RefreshToken, session: &mut Session, active, now| rotate(&mut token.clone(), session, active, [2; 32], now);
        let refused = Rotation::Refused(Code::Unauthenticated);
        let last = Timestamp(token.expires_at.0 - 1);
        assert!(matches!(show(&token, &mut session, true, last), Rotation::Rotated(_)));
        assert_eq!(show(&token, &mut session, true, token.expires_at), refused);
        assert_eq!(show(&token, &mut session, false, START), refused, "its member is not active");
        session.revoked_at = Some(START);
        assert_eq!(show(&token, &mut session, true, START), refused);
    }
}
