//! Sessions, with their refresh tokens or the cookie of a browser. A session is the family of what one sign-in led to.
//!
//! A token is good once. Whoever shows a used one again holds a copy, and nobody can tell which of the two holders is the thief:
//! the whole family ends. This also holds for requests that run at the same time: the first one wins, the others end the family.

use contracts::{Code, MemberId, Timestamp};
use std::time::Duration;
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A member who does not come back for this long signs in again.
pub const REFRESH_LIFETIME: Duration = DAY.saturating_mul(14);
/// The same for one who comes by cookie.
const COOKIE_IDLE: Duration = REFRESH_LIFETIME;
/// A cookie's time is made longer by so much at least.
const WORTH_A_WRITE: Duration = DAY;
/// And so does everyone after this long, however often the token was renewed.
pub const SESSION_LIFETIME: Duration = DAY.saturating_mul(90);

/// SHA-256 of a refresh token, or of the secret in a cookie.
pub type Digest = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    Live,
    Used,
    /// Shown again after it was used.
    Reused,
    /// Ended together with its session.
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

/// Why a session ended before its time.
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
pub struct Token {
    pub hash: Digest,
    pub session_id: Uuid,
    pub state: TokenState,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Token {
    /// A token never outlives its session.
    pub fn issue(hash: Digest, session: &Session, now: Timestamp) -> Token {
        let expires_at = now.after(REFRESH_LIFETIME).min(session.expires_at);
        Token { hash, session_id: session.id, state: TokenState::Live, issued_at: now, expires_at }
    }
}

/// The cookie of a session that a browser opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSession {
    pub hash: Digest,
    pub session_id: Uuid,
    pub expires_at: Timestamp,
}

impl WebSession {
    pub fn open(hash: Digest, session: &Session, now: Timestamp) -> WebSession {
        WebSession { hash, session_id: session.id, expires_at: cookie_end(session.expires_at, now) }
    }

    /// Where its end moves to when it is used; `None` where that would gain little, so that not every page writes. `session_ends` is the end
    /// of its session, which it never outlives.
    pub fn extension(&self, session_ends: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let end = cookie_end(session_ends, now);
        (end.since(self.expires_at) >= WORTH_A_WRITE).then_some(end)
    }
}

/// The end of a cookie that is used now.
fn cookie_end(session_ends: Timestamp, now: Timestamp) -> Timestamp {
    now.after(COOKIE_IDLE).min(session_ends)
}

/// What becomes of a refresh token that someone shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// It is used up; this one takes its place.
    Renewed(Token),
    /// It had been used before: the session ends.
    Reused,
    /// Expired, revoked, or of a member that may not come in.
    Refused(Code),
}

/// Decides, and changes the token shown and its session accordingly. `next` is the digest of the token that would take its place.
pub fn present(token: &mut Token, session: &mut Session, member_is_active: bool, next: Digest, now: Timestamp) -> Presented {
    match token.state {
        TokenState::Used | TokenState::Reused => {
            token.state = TokenState::Reused;
            session.revoked_at.get_or_insert(now);
            Presented::Reused
        }
        TokenState::Revoked => Presented::Refused(Code::Unauthenticated),
        TokenState::Live if now >= token.expires_at || !session.is_live(now) || !member_is_active => {
            Presented::Refused(Code::Unauthenticated)
        }
        TokenState::Live => {
            token.state = TokenState::Used;
            Presented::Renewed(Token::issue(next, session, now))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp(1_000_000_000);

    /// A family as the database holds it.
    struct Family {
        session: Session,
        tokens: Vec<Token>,
        now: Timestamp,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Show(usize),
        SignOut,
        Wait(u32),
    }

    impl Family {
        fn new() -> Family {
            let session = Session::open(Uuid::from_u128(1), MemberId(Uuid::from_u128(2)), START);
            let first = Token::issue([0; 32], &session, START);
            Family { session, tokens: vec![first], now: START }
        }

        fn revoke_live(&mut self) {
            for token in &mut self.tokens {
                if token.state == TokenState::Live {
                    token.state = TokenState::Revoked;
                }
            }
        }

        fn take(&mut self, step: &Step) -> Option<Presented> {
            match step {
                Step::Wait(hours) => {
                    self.now = self.now.after(Duration::from_secs(u64::from(*hours) * 3600));
                    None
                }
                Step::SignOut => {
                    self.session.revoked_at.get_or_insert(self.now);
                    self.revoke_live();
                    None
                }
                Step::Show(index) => {
                    let next = [u8::try_from(self.tokens.len()).unwrap(); 32];
                    let index = index % self.tokens.len();
                    let outcome = present(&mut self.tokens[index], &mut self.session, true, next, self.now);
                    match &outcome {
                        Presented::Renewed(token) => self.tokens.push(token.clone()),
                        Presented::Reused => self.revoke_live(),
                        Presented::Refused(_) => {}
                    }
                    Some(outcome)
                }
            }
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => any::<prop::sample::Index>().prop_map(|index| Step::Show(index.index(64))),
            1 => Just(Step::SignOut),
            2 => (0u32..24 * 20).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// I-A2: one live token per family; none after a reuse. And a token is good at most once.
        #[test]
        fn a_family_never_has_two_live_tokens_and_none_after_a_reuse(steps in prop::collection::vec(step(), 0..60)) {
            let mut family = Family::new();
            let mut reused = false;
            for step in &steps {
                let used: Vec<Digest> = family.tokens.iter().filter(|token| token.state != TokenState::Live).map(|token| token.hash).collect();
                let shown = if let Step::Show(index) = step { Some(family.tokens[index % family.tokens.len()].hash) } else { None };
                let outcome = family.take(step);
                if let (Some(Presented::Renewed(token)), Some(shown)) = (&outcome, shown) {
                    prop_assert!(!used.contains(&shown), "a token was good twice");
                    prop_assert!(!reused, "a family lived on after a reuse");
                    prop_assert!(token.expires_at <= family.session.expires_at);
                }
                reused |= outcome == Some(Presented::Reused);
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
    fn a_cookie_lives_as_long_as_it_is_used_and_no_longer_than_its_session() {
        let session = Session::open(Uuid::from_u128(1), MemberId(Uuid::from_u128(2)), START);
        let mut web = WebSession::open([1; 32], &session, START);
        assert_eq!(web.expires_at, START.after(14 * DAY));
        assert_eq!(web.extension(session.expires_at, START.after(DAY - Duration::from_micros(1))), None);
        let (mut now, mut writes) = (START, 0);
        while now < session.expires_at {
            assert!(now < web.expires_at && web.expires_at <= session.expires_at);
            if let Some(end) = web.extension(session.expires_at, now) {
                assert!(end > web.expires_at);
                (web.expires_at, writes) = (end, writes + 1);
            }
            now = now.after(Duration::from_secs(3600));
        }
        assert_eq!((web.expires_at, writes), (session.expires_at, 90 - 14));
    }

    #[test]
    fn a_token_ends_with_its_time_and_with_its_session() {
        let mut session = Session::open(Uuid::from_u128(1), MemberId(Uuid::from_u128(2)), START);
        let token = Token::issue([1; 32], &session, START);
        let show = |token: &Token, session: &mut Session, active, now| present(&mut token.clone(), session, active, [2; 32], now);
        let refused = Presented::Refused(Code::Unauthenticated);
        let last = Timestamp(token.expires_at.0 - 1);
        assert!(matches!(show(&token, &mut session, true, last), Presented::Renewed(_)));
        assert_eq!(show(&token, &mut session, true, token.expires_at), refused);
        assert_eq!(show(&token, &mut session, false, START), refused, "of a member that may not come in");
        session.revoked_at = Some(START);
        assert_eq!(show(&token, &mut session, true, START), refused);
    }
}
