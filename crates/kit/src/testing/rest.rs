//! On PostgreSQL what follows a request happens in transactions of its own. Tests written for one transaction wait here until it has.

use super::Faults;
use crate::{
    db::DbError,
    engine::streams::sources,
    service::{Kit, Service},
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Looks without progress after which messages are taken to be held, while a test holds some.
const HELD: u32 = 60;
/// The same while none does: longer than a busy machine takes for the next step. What stands still then waits for something else, such as a
/// process that is gone.
const STUCK: u32 = 1_000;
const LOOK: Duration = Duration::from_millis(5);
/// Looks after which a test fails that never comes to rest.
const MOST: u32 = 6_000;

pub(super) struct Rest {
    kit: Kit,
    sql: String,
    faults: OnceLock<Faults>,
}

impl Rest {
    pub fn of(kit: &Kit, services: &[Arc<dyn Service>]) -> Rest {
        let mut lags: Vec<String> = Vec::new();
        for service in services {
            let reader = service.name();
            lags.push(format!("(select count(*) from {reader}_pending)"));
            for (source, _) in sources(service.as_ref()) {
                if services.iter().any(|service| service.name() == source) {
                    lags.push(format!(
                        "(select coalesce(sum(h.seq - coalesce(p.seq, 0)), 0) from {source}_heads h left join {reader}_positions p \
                         on p.source='{source}' and p.epoch=h.epoch and p.partition=h.partition)"
                    ));
                }
            }
        }
        Rest { kit: kit.clone(), sql: format!("select cast({} as BIGINT)", lags.join("+")), faults: OnceLock::new() }
    }

    /// Where it is planned what is held.
    pub fn mind(&self, faults: &Faults) {
        let _ = self.faults.set(faults.clone());
    }

    pub async fn wait(&self) {
        let (mut before, mut same) = (0, 0);
        for _ in 0..MOST {
            // Under load there may be no connection for seconds; that is no rest either.
            let Ok(lag) = self.lag().await else { continue };
            same = if lag == before { same + 1 } else { 0 };
            before = lag;
            let is_held = self.faults.get().is_some_and(Faults::hold_anything);
            if lag == 0 || same >= if is_held { HELD } else { STUCK } {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("messages keep moving and never come to rest");
    }
}

impl Rest {
    async fn lag(&self) -> Result<i64, DbError> {
        let mut reader = self.kit.db.reader().await?;
        let (lag,): (i64,) = reader.query_one(&self.sql, &[]).await?;
        Ok(lag)
    }
}

/// Tests write ids as SQLite's blobs; on PostgreSQL they are UUIDs.
pub(super) fn for_postgres(sql: &str) -> String {
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
