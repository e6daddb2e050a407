//! Test provider: a small payment provider with its own ledger file, which misbehaves on request. For demonstrations and tests only.
//!
//! The buyer's token selects the behavior at the first call of a key. Later calls of the key are answered from the ledger, as with the
//! idempotency keys of real providers. Tokens:
//! `approve` (or none), `decline`, `timeout_before_charge`, `timeout_after_charge`, `error_after_charge`, `answer_twice`, `slow`,
//! `refund_fails_once`. Any other token is declined.

use super::{ChargeAnswer, ChargeRequest, Provider, ProviderError, ProviderFuture, RefundRequest};
use contracts::{Timestamp, Won};
use kit::{
    Db, DbError, Tx,
    db::{Synchronous, params},
    ports::{Clock, new_id},
};
use parking_lot::Mutex;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Delay of the token `slow`: noticeable, but below any sensible time-out.
const SLOW_ANSWER_DELAY: Duration = Duration::from_millis(300);
/// Charges are recorded before they are answered, so a call that arrived is recorded well within this time.
const RECORD_DEADLINE: Duration = Duration::from_secs(5);

/// Ledger file of the test provider. The audit compares its table `psp_charges` (psp_key, psp_ref, order_ref, amount, captured, refunded …)
/// with our payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestLedger {
    pub path: PathBuf,
}

impl TestLedger {
    /// The ledger file beside Onrush's database file.
    pub fn beside(database: &Path) -> Self {
        Self { path: database.with_file_name("test-provider.db") }
    }
}

const SCHEMA: &str = "
    create table if not exists psp_charges (
        psp_key TEXT not null primary key, psp_ref TEXT not null unique, order_ref TEXT not null, amount BIGINT not null,
        token TEXT not null, captured BOOLEAN not null, reason TEXT, refunded BIGINT not null default 0, at BIGINT not null,
        check (refunded between 0 and amount));
    create table if not exists psp_refunds (
        psp_key TEXT not null primary key, psp_ref TEXT not null unique, charge_key TEXT not null, amount BIGINT not null, at BIGINT not null);
    create table if not exists psp_calls (
        psp_key TEXT not null, n BIGINT not null, at BIGINT not null, primary key (psp_key, n));";

pub struct TestProvider {
    database: Db,
    /// Opened at the first call. SQLite blocks, so calls run on blocking threads, one at a time.
    connection: Arc<Mutex<Option<Tx>>>,
    clock: Arc<dyn Clock>,
}

/// Behavior of an answer, after the ledger is written.
enum AnswerBehavior {
    AtOnce,
    Twice,
    Slowly,
    /// The connection breaks, and the caller gets no answer.
    Never,
    WithAnError,
}

impl TestProvider {
    pub fn new(ledger: &TestLedger, clock: Arc<dyn Clock>) -> Self {
        Self { database: Db::sqlite(&ledger.path, Synchronous::Full), connection: Arc::default(), clock }
    }

    /// Runs `transaction` in one transaction of the ledger, on a blocking thread.
    async fn in_transaction<T: Send + 'static>(
        &self,
        transaction: impl AsyncFnOnce(&mut Tx, Timestamp) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let (database, connection, now) = (self.database.clone(), Arc::clone(&self.connection), self.clock.now());
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock();
            futures::executor::block_on(async {
                if connection.is_none() {
                    let mut opened = database.open_writer().await?;
                    opened.batch(SCHEMA).await?;
                    *connection = Some(opened);
                }
                let Some(tx) = connection.as_mut() else { return Err(DbError::Busy) };
                // Ends a transaction that a failed call left open.
                tx.rollback().await?;
                tx.begin().await?;
                let value = transaction(tx, now).await?;
                tx.commit().await?;
                Ok(value)
            })
        });
        match done.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(ProviderError(error.to_string())),
            Err(error) => Err(ProviderError(error.to_string())),
        }
    }
}

impl Provider for TestProvider {
    fn charge(&self, request: ChargeRequest) -> ProviderFuture<'_, Vec<ChargeAnswer>> {
        Box::pin(async move {
            let (answer, behavior) = self.in_transaction(async move |tx: &mut Tx, now| charge(tx, &request, now).await).await?;
            match (answer, behavior) {
                (Some(answer), AnswerBehavior::AtOnce) => Ok(vec![answer]),
                (Some(answer), AnswerBehavior::Twice) => Ok(vec![answer.clone(), answer]),
                (Some(answer), AnswerBehavior::Slowly) => {
                    tokio::time::sleep(SLOW_ANSWER_DELAY).await;
                    Ok(vec![answer])
                }
                (_, AnswerBehavior::WithAnError) => Err(ProviderError("HTTP 500".into())),
                (_, AnswerBehavior::Never) | (None, _) => futures::future::pending().await,
            }
        })
    }

    fn find_charge(&self, key: String) -> ProviderFuture<'_, Option<ChargeAnswer>> {
        Box::pin(self.in_transaction(async move |tx: &mut Tx, _| find_recorded(tx, &key).await))
    }

    fn refund(&self, request: RefundRequest) -> ProviderFuture<'_, String> {
        Box::pin(async move {
            let result = self.in_transaction(async move |tx: &mut Tx, now| refund(tx, &request, now).await).await?;
            result.map_err(|reason| ProviderError(reason.into()))
        })
    }

    fn record_deadline(&self) -> Duration {
        RECORD_DEADLINE
    }
}

/// Counts a call of this key, and returns its number, from 1.
async fn count_call(tx: &mut Tx, key: &str, now: Timestamp) -> Result<i64, DbError> {
    let (calls,): (i64,) = tx.query_one("select count(*) from psp_calls where psp_key=$1", &params![key]).await?;
    tx.execute("insert into psp_calls (psp_key, n, at) values ($1,$2,$3)", &params![key, calls + 1, now]).await?;
    Ok(calls + 1)
}

/// The recorded answer of a key. `None`: no record.
async fn find_recorded(tx: &mut Tx, key: &str) -> Result<Option<ChargeAnswer>, DbError> {
    let sql = "select psp_ref, captured, reason from psp_charges where psp_key=$1";
    let found: Option<(String, bool, Option<String>)> = tx.query_opt(sql, &params![key]).await?;
    Ok(found.map(|(reference, captured, reason)| {
        if captured { ChargeAnswer::Charged { reference } } else { ChargeAnswer::Declined { reason: reason.unwrap_or_default() } }
    }))
}

async fn charge(tx: &mut Tx, request: &ChargeRequest, now: Timestamp) -> Result<(Option<ChargeAnswer>, AnswerBehavior), DbError> {
    let call = count_call(tx, &request.key, now).await?;
    if let Some(answer) = find_recorded(tx, &request.key).await? {
        return Ok((Some(answer), AnswerBehavior::AtOnce));
    }
    let token = request.token.as_deref().unwrap_or("approve");
    let (reason, behavior) = match token {
        "approve" | "refund_fails_once" => (None, AnswerBehavior::AtOnce),
        "timeout_before_charge" if call == 1 => return Ok((None, AnswerBehavior::Never)),
        "timeout_before_charge" => (None, AnswerBehavior::AtOnce),
        "timeout_after_charge" => (None, AnswerBehavior::Never),
        "error_after_charge" => (None, AnswerBehavior::WithAnError),
        "answer_twice" => (None, AnswerBehavior::Twice),
        "slow" => (None, AnswerBehavior::Slowly),
        "decline" => (Some("The card was declined"), AnswerBehavior::AtOnce),
        _ => (Some("The test provider does not know this token"), AnswerBehavior::AtOnce),
    };
    let sql = "insert into psp_charges (psp_key, psp_ref, order_ref, amount, token, captured, reason, at) values ($1,$2,$3,$4,$5,$6,$7,$8)";
    let (reference, order) = (format!("psp-{}", new_id().simple()), request.order_id.to_string());
    tx.execute(sql, &params![&request.key, &reference, &order, request.amount, token, reason.is_none(), reason, now]).await?;
    let answer = match reason {
        None => ChargeAnswer::Charged { reference },
        Some(reason) => ChargeAnswer::Declined { reason: reason.into() },
    };
    Ok((Some(answer), behavior))
}

async fn refund(tx: &mut Tx, request: &RefundRequest, now: Timestamp) -> Result<Result<String, &'static str>, DbError> {
    let call = count_call(tx, &request.key, now).await?;
    let found: Option<(String,)> = tx.query_opt("select psp_ref from psp_refunds where psp_key=$1", &params![&request.key]).await?;
    if let Some((reference,)) = found {
        return Ok(Ok(reference));
    }
    let sql = "select amount, refunded, token from psp_charges where psp_key=$1 and captured";
    let charged: Option<(Won, Won, String)> = tx.query_opt(sql, &params![&request.charge_key]).await?;
    let Some((amount, refunded, token)) = charged else { return Ok(Err("there is no such charge")) };
    if token == "refund_fails_once" && call == 1 {
        return Ok(Err("refunds are unavailable"));
    }
    if request.amount.0 <= 0 || request.amount.0 > amount.0 - refunded.0 {
        return Ok(Err("more than was charged"));
    }
    let reference = format!("psp-refund-{}", new_id().simple());
    let sql = "insert into psp_refunds (psp_key, psp_ref, charge_key, amount, at) values ($1,$2,$3,$4,$5)";
    tx.execute(sql, &params![&request.key, &reference, &request.charge_key, request.amount, now]).await?;
    tx.execute("update psp_charges set refunded=refunded+$2 where psp_key=$1", &params![&request.charge_key, request.amount]).await?;
    Ok(Ok(reference))
}
