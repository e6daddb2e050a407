//! The invariants of accounts: sessions, their refresh tokens and cookies.

use kit::Invariant;

pub fn checks() -> Vec<Invariant> {
    vec![
        Invariant::always(
            "I-A2",
            "one live refresh token for each family, none after a reuse",
            "select session_id from accounts_refresh_tokens group by session_id
             having count(case when state='LIVE' then 1 end)>1
                 or (count(case when state='REUSED' then 1 end)>0 and count(case when state='LIVE' then 1 end)>0)",
        ),
        Invariant::always(
            "I-A4",
            "a browser's cookie belongs to a session that was not ended, and does not outlive it",
            "select w.session_id from accounts_web_sessions w left join accounts_sessions s on s.id=w.session_id
             where s.id is null or s.revoked_at is not null or w.expires_at>s.expires_at",
        ),
    ]
}
