//! Detects that a mall is quiescent: no message waits for its number, and readers wait only for messages that a test holds.
//!
//! If hops are separate transactions, the effects of a request continue after its answer. Tests written for one transaction wait here.

use super::Faults;
use kit::{
    db::DbError,
    engine::subscriptions::sources,
    module::{Kit, Module},
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Polls without progress after which the remaining messages count as stuck, for example because a process is gone. Longer than a busy
/// machine takes for the next step.
const MAX_UNCHANGED_POLLS: u32 = 1_000;
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Polls after which a test fails because the mall never becomes quiescent.
const MAX_POLLS: u32 = 6_000;

pub(super) struct Quiescence {
    kit: Kit,
    /// Counts waiting messages.
    count_sql: String,
    /// For each reader with a lag, finds the kind of its next message. Empty where messages wait for their numbers.
    next_sql: String,
    faults: OnceLock<Faults>,
}

impl Quiescence {
    pub fn of(kit: &Kit, services: &[Arc<dyn Module>]) -> Quiescence {
        let (mut counts, mut next) = (Vec::new(), Vec::new());
        for service in services {
            let reader = service.name();
            // SQLite's only writer numbers messages as it writes them.
            if kit.db.is_postgres() {
                counts.push(format!("(select count(*) from {reader}_pending)"));
                next.push(format!("select '{reader}', '' where exists (select 1 from {reader}_pending)"));
            }
            for (source, _) in sources(service.as_ref()) {
                if services.iter().any(|service| service.name() == source) {
                    let behind = join_positions(kit, reader, source);
                    counts.push(format!("(select coalesce(sum(h.seq - coalesce(p.seq, 0)), 0) from {behind})"));
                    next.push(format!(
                        "select '{reader}', o.kind from {behind} join {source}_outbox o \
                         on o.epoch=h.epoch and o.partition=h.partition and o.seq=coalesce(p.seq, 0)+1 where h.seq>coalesce(p.seq, 0)"
                    ));
                }
            }
        }
        let (count_sql, next_sql) = (format!("select cast({}+0 as BIGINT)", counts.join("+")), next.join(" union all "));
        Quiescence { kit: kit.clone(), count_sql, next_sql, faults: OnceLock::new() }
    }

    /// Sets the faults that say which messages are held.
    pub fn watch_faults(&self, faults: &Faults) {
        let _ = self.faults.set(faults.clone());
    }

    /// Returns when the mall is quiescent.
    pub async fn wait(&self) {
        let (mut before, mut unchanged) = (0, 0);
        for _ in 0..MAX_POLLS {
            // Under load no connection may be free for seconds. That does not count as quiescent.
            let Ok(lag) = self.lag().await else { continue };
            unchanged = if lag == before { unchanged + 1 } else { 0 };
            before = lag;
            if lag == 0 || unchanged >= MAX_UNCHANGED_POLLS || self.is_held().await {
                return;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        panic!("messages keep moving: the mall never becomes quiescent");
    }

    /// The number of messages that wait for a number or a reader.
    pub async fn lag(&self) -> Result<i64, DbError> {
        let mut reader = self.kit.db.reader().await?;
        let (lag,): (i64,) = reader.query_one(&self.count_sql, &[]).await?;
        Ok(lag)
    }

    /// True if the test holds all waiting messages.
    async fn is_held(&self) -> bool {
        let Some(faults) = self.faults.get().filter(|faults| faults.has_held_messages()) else { return false };
        let next = async {
            let mut reader = self.kit.db.reader().await?;
            reader.query::<(String, String)>(&self.next_sql, &[]).await
        };
        next.await.is_ok_and(|next| next.iter().all(|(reader, kind)| faults.is_held(reader, kind)))
    }
}

/// Joins the ends of a stream's partitions, as `h`, with a reader's positions, as `p`.
fn join_positions(kit: &Kit, reader: &str, source: &str) -> String {
    let heads = if kit.db.is_postgres() {
        format!("{source}_heads")
    } else {
        format!("(select epoch, partition, max(seq) as seq from {source}_outbox group by epoch, partition)")
    };
    format!("{heads} h left join {reader}_positions p on p.source='{source}' and p.epoch=h.epoch and p.partition=h.partition")
}

/// Rewrites ids from SQLite's blobs, as in the tests, to PostgreSQL's UUIDs.
pub(super) fn to_postgres(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find("x'") {
        let id = rest.get(at + 2..at + 34).filter(|id| id.bytes().all(|b| b.is_ascii_hexdigit()) && rest[at + 34..].starts_with('\''));
        match id {
            Some(id) => {
                out.push_str(&rest[..at]);
                out.push_str(&format!("'{id}'::uuid"));
                rest = &rest[at + 35..];
            }
            None => {
                out.push_str(&rest[..at + 2]);
                rest = &rest[at + 2..];
            }
        }
    }
    out.push_str(rest);
    out
}
