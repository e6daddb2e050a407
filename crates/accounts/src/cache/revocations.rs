//! Ended sessions in memory: keeps the list that refuses their access tokens up to date.
//!
//! Access tokens are verified without the database, so each process needs the list of recently ended sessions.
//! With several accounts processes, the one that ends a session notifies the others at once. A notification may get lost,
//! so each process also polls the database every second. Processes without accounts poll one that runs it, as often.
//! There a token outlives its session by about a second, or for as long as no accounts process is reachable.

use crate::{Accounts, store};
use contracts::{Timestamp, calls::GetEndedSessions};
use futures::future::BoxFuture;
use kit::{DbError, Kit, auth::TOKEN_LIFETIME, links::LinkError, tasks};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Time between two polls for sessions that other processes ended.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Overlap of two polls: covers transactions that were slow to commit, and clocks that differ.
const MARGIN: Duration = Duration::from_secs(60);
/// Most sessions in one notification, which must stay below 7,500 bytes.
const SESSIONS_PER_NOTIFICATION: usize = 200;

/// The notifications that announce ended sessions to the other processes.
pub fn notification_texts(ended: &[Uuid]) -> impl Iterator<Item = String> {
    ended.chunks(SESSIONS_PER_NOTIFICATION).map(|ids| ids.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>().join(","))
}

/// Revokes the sessions that another process announced. `None`: a notification may have been lost, so reload the list.
pub fn on_notification(accounts: &Accounts, text: Option<&str>) {
    apply_notification(&accounts.kit, text);
}

fn apply_notification(kit: &Kit, text: Option<&str>) {
    let now = kit.clock.now();
    match text {
        Some(text) => {
            for id in text.split(',').filter_map(|id| Uuid::try_parse(id).ok()) {
                kit.auth.revoke_session(id, now);
            }
        }
        None => {
            let kit = kit.clone();
            tasks::spawn("accounts.revocations", async move {
                if let Err(error) = load_ended(&kit, now.before(TOKEN_LIFETIME)).await {
                    tracing::warn!(%error, "ended sessions not read");
                }
            });
        }
    }
}

/// Loads the list before the first request. Then polls the database, if other processes may end sessions.
pub async fn start(accounts: &Arc<Accounts>) -> Result<(), DbError> {
    let now = accounts.kit.clock.now();
    load_ended(&accounts.kit, now.before(TOKEN_LIFETIME)).await?;
    if accounts.kit.is_shared() {
        poll_ended_sessions(accounts, now, |kit, since| Box::pin(async move { Ok(load_ended(&kit, since).await?) }));
    }
    Ok(())
}

/// Polls the other processes, because this one does not run accounts.
pub fn start_remote(accounts: &Arc<Accounts>) {
    let since = accounts.kit.clock.now().before(TOKEN_LIFETIME);
    poll_ended_sessions(accounts, since, |kit, since| Box::pin(async move { Ok(fetch_ended(&kit, since).await?) }));
}

/// Reason why the list was not updated.
type FetchError = Box<dyn std::error::Error + Send + Sync>;
type FetchEnded = fn(Kit, Timestamp) -> BoxFuture<'static, Result<(), FetchError>>;

/// Fetches the sessions that ended since the last successful poll, every second until the service is dropped.
fn poll_ended_sessions(accounts: &Arc<Accounts>, mut known_until: Timestamp, fetch: FetchEnded) {
    let accounts = Arc::downgrade(accounts);
    tasks::spawn_vital("accounts.revocations", async move {
        let mut is_failing = false;
        while let Some(accounts) = accounts.upgrade() {
            let now = accounts.kit.clock.now();
            let fetched = fetch(accounts.kit.clone(), known_until.before(MARGIN)).await;
            drop(accounts);
            match fetched {
                Ok(()) => (known_until, is_failing) = (now, false),
                Err(_) if is_failing => {}
                Err(error) => {
                    is_failing = true;
                    tracing::warn!(%error, "ended sessions not fetched: their access tokens stay valid here until a poll succeeds");
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    });
}

async fn load_ended(kit: &Kit, since: Timestamp) -> Result<(), DbError> {
    revoke_all(kit, store::sessions::revoked_since(&mut *kit.db.reader().await?, since).await?);
    Ok(())
}

async fn fetch_ended(kit: &Kit, since: Timestamp) -> Result<(), LinkError> {
    revoke_all(kit, kit.links.call(GetEndedSessions { since }).await?);
    Ok(())
}

fn revoke_all(kit: &Kit, ended: Vec<(Uuid, Timestamp)>) {
    for (session_id, at) in ended {
        kit.auth.revoke_session(session_id, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::MemberId;
    use kit::auth::Role;

    #[tokio::test]
    async fn notifications_fit_and_name_every_session() {
        let ids: Vec<Uuid> = (0..450).map(Uuid::from_u128).collect();
        let texts: Vec<String> = notification_texts(&ids).collect();
        assert!(texts.len() == 3 && texts.iter().all(|text| text.len() <= 7_500));
        let kit = kit::process::detached_kit();
        let token = kit.auth.issue(MemberId(Uuid::from_u128(1)), Role::Customer, ids[449], kit.clock.now());
        assert!(kit.auth.verify(&token).is_some());
        for text in &texts {
            apply_notification(&kit, Some(text));
        }
        assert!(kit.auth.verify(&token).is_none());
    }
}
