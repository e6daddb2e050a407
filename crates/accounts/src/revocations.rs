//! Access tokens live on their own; those of sessions that ended lately are refused by a list in memory, which is kept here.
//!
//! Where several processes run accounts, the one that ends a session tells the others at once. That word may get lost, so each looks into
//! the database as well, every moment. Processes that run without accounts ask one that has it, as often: there a token outlives its
//! session by about a second, and by as long as no process with accounts can be reached.

use crate::{Accounts, store};
use contracts::{Timestamp, calls::GetEndedSessions};
use futures::future::BoxFuture;
use kit::{DbError, Kit, auth::TOKEN_LIFETIME, links::LinkError, tasks};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// How often the sessions that others ended are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So much further back than the last look: for transactions that took long to commit, and for clocks that differ.
const MARGIN: Duration = Duration::from_secs(60);
/// Sessions named in one notice; it must stay below 7,500 bytes.
const IN_A_NOTICE: usize = 200;

/// What the others are told.
pub fn texts(ended: &[Uuid]) -> impl Iterator<Item = String> {
    ended.chunks(IN_A_NOTICE).map(|ids| ids.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>().join(","))
}

/// Another process has ended these sessions, or some that are not known.
pub fn noticed(kit: &Kit, text: Option<&str>) {
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
                if let Err(error) = reload(&kit, now.before(TOKEN_LIFETIME)).await {
                    tracing::warn!(%error, "cannot read which sessions have ended");
                }
            });
        }
    }
}

/// Before the first request, and from then on where others may end sessions.
pub async fn start(accounts: &Arc<Accounts>) -> Result<(), DbError> {
    let now = accounts.kit.clock.now();
    reload(&accounts.kit, now.before(TOKEN_LIFETIME)).await?;
    if accounts.kit.is_shared() {
        follow(accounts, now, |kit, since| Box::pin(async move { Ok(reload(&kit, since).await?) }));
    }
    Ok(())
}

/// Where accounts run in other processes only.
pub fn start_elsewhere(accounts: &Arc<Accounts>) {
    let nothing_known = accounts.kit.clock.now().before(TOKEN_LIFETIME);
    follow(accounts, nothing_known, |kit, since| Box::pin(async move { Ok(ask(&kit, since).await?) }));
}

/// What keeps the list from being brought up to date.
type Trouble = Box<dyn std::error::Error + Send + Sync>;
type Refresh = fn(Kit, Timestamp) -> BoxFuture<'static, Result<(), Trouble>>;

/// Learns every moment what others ended since it was last known, until the service is gone.
fn follow(accounts: &Arc<Accounts>, mut known: Timestamp, refresh: Refresh) {
    let accounts = Arc::downgrade(accounts);
    tasks::spawn("accounts.revocations", async move {
        let mut in_trouble = false;
        while let Some(accounts) = accounts.upgrade() {
            let now = accounts.kit.clock.now();
            let learnt = refresh(accounts.kit.clone(), known.before(MARGIN)).await;
            drop(accounts);
            match learnt {
                Ok(()) => (known, in_trouble) = (now, false),
                Err(_) if in_trouble => {}
                Err(error) => {
                    in_trouble = true;
                    tracing::warn!(%error, "cannot learn which sessions have ended; until then their access tokens are good here");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}

async fn reload(kit: &Kit, since: Timestamp) -> Result<(), DbError> {
    revoke(kit, store::sessions::revoked_since(&mut *kit.db.reader().await?, since).await?);
    Ok(())
}

async fn ask(kit: &Kit, since: Timestamp) -> Result<(), LinkError> {
    revoke(kit, kit.links.call(GetEndedSessions { since }).await?);
    Ok(())
}

fn revoke(kit: &Kit, ended: Vec<(Uuid, Timestamp)>) {
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
    async fn a_notice_fits_and_says_all() {
        let ids: Vec<Uuid> = (0..450).map(Uuid::from_u128).collect();
        let texts: Vec<String> = texts(&ids).collect();
        assert!(texts.len() == 3 && texts.iter().all(|text| text.len() <= 7_500));
        let kit = kit::process::detached_kit();
        let token = kit.auth.issue(MemberId(Uuid::from_u128(1)), Role::Customer, ids[449], kit.clock.now());
        assert!(kit.auth.verify(&token).is_some());
        for text in &texts {
            noticed(&kit, Some(text));
        }
        assert!(kit.auth.verify(&token).is_none());
    }
}
