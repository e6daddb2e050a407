//! The test provider: a small payment provider with a book of its own, in a file of its own, that misbehaves when asked to.
//!
//! Only for demonstrations and tests. The buyer's token selects what it does, at the first call of a key; later calls of the key are answered
//! from the book, as a real provider's idempotency keys are:
//! `approve` (or none), `decline`, `timeout_before_charge`, `timeout_after_charge`, `error_after_charge`, `answer_twice`, `slow`,
//! `refund_fails_once`. Any other token is declined.

use super::{Answered, Charge, ChargeAnswer, GiveBack, Provider, ProviderError};
use contracts::{Timestamp, Won};
use kit::{
    Db, DbError, Tx,
    db::{Synchronous, params},
    ports::{Clock, new_id},
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long `slow` takes: noticeable, and within any sensible time-out.
const SLOW: Duration = Duration::from_millis(300);
/// Charges are written before they are answered; a call that arrived has long been written by then.
const GUARANTEE: Duration = Duration::from_secs(5);

/// Where the test provider keeps its book: table `psp_charges` (psp_key, psp_ref, order_ref, amount, captured, refunded …), for comparing it
/// with ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderBook {
    pub path: PathBuf,
}

impl ProviderBook {
    /// Beside Onrush's database.
    pub fn beside(database: &Path) -> Self {
        Self { path: database.with_file_name("test-provider.db") }
    }
}

const TABLES: &str = "
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
    /// Opened at the first call; SQLite blocks, so calls run on blocking threads, one at a time.
    connection: Arc<Mutex<Option<Tx>>>,
    clock: Arc<dyn Clock>,
}

/// How the provider answers, once its book is written.
enum Manner {
    AtOnce,
    Twice,
    Slowly,
    /// The connection breaks: the caller hears nothing.
    Never,
    WithAnError,
}

impl TestProvider {
    pub fn new(book: &ProviderBook, clock: Arc<dyn Clock>) -> Self {
        Self { database: Db::sqlite(&book.path, Synchronous::Full), connection: Arc::default(), clock }
    }

    /// Runs `book` in one transaction of the provider's database, on a thread that may block.
    async fn write<T: Send + 'static>(
        &self,
        book: impl AsyncFnOnce(&mut Tx, Timestamp) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let (database, connection, now) = (self.database.clone(), Arc::clone(&self.connection), self.clock.now());
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            futures::executor::block_on(async {
                if connection.is_none() {
                    let mut opened = database.open_writer().await?;
                    opened.batch(TABLES).await?;
                    *connection = Some(opened);
                }
                let Some(tx) = connection.as_mut() else { return Err(DbError::Busy) };
                // Left over from a call that failed halfway.
                tx.rollback().await?;
                tx.begin().await?;
                let value = book(tx, now).await?;
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
    fn charge(&self, ask: Charge) -> Answered<'_, Vec<ChargeAnswer>> {
        Box::pin(async move {
            let (answer, manner) = self.write(async move |tx: &mut Tx, now| charge(tx, &ask, now).await).await?;
            match (answer, manner) {
                (Some(answer), Manner::AtOnce) => Ok(vec![answer]),
                (Some(answer), Manner::Twice) => Ok(vec![answer.clone(), answer]),
                (Some(answer), Manner::Slowly) => {
                    tokio::time::sleep(SLOW).await;
                    Ok(vec![answer])
                }
                (_, Manner::WithAnError) => Err(ProviderError("HTTP 500".into())),
                (_, Manner::Never) | (None, _) => futures::future::pending().await,
            }
        })
    }

    fn find(&self, key: String) -> Answered<'_, Option<ChargeAnswer>> {
        Box::pin(self.write(async move |tx: &mut Tx, _| booked(tx, &key).await))
    }

    fn give_back(&self, ask: GiveBack) -> Answered<'_, String> {
        Box::pin(async move {
            let given = self.write(async move |tx: &mut Tx, now| give_back(tx, &ask, now).await).await?;
            given.map_err(|reason| ProviderError(reason.into()))
        })
    }

    fn guarantee(&self) -> Duration {
        GUARANTEE
    }
}

/// The number of a call of this key: 1 for the first.
async fn count_call(tx: &mut Tx, key: &str, now: Timestamp) -> Result<i64, DbError> {
    let (calls,): (i64,) = tx.query_one("select count(*) from psp_calls where psp_key=$1", &params![key]).await?;
    tx.execute("insert into psp_calls (psp_key, n, at) values ($1,$2,$3)", &params![key, calls + 1, now]).await?;
    Ok(calls + 1)
}

async fn booked(tx: &mut Tx, key: &str) -> Result<Option<ChargeAnswer>, DbError> {
    let sql = "select psp_ref, captured, reason from psp_charges where psp_key=$1";
    let found: Option<(String, bool, Option<String>)> = tx.query_opt(sql, &params![key]).await?;
    Ok(found.map(|(reference, captured, reason)| {
        if captured { ChargeAnswer::Charged { reference } } else { ChargeAnswer::Declined { reason: reason.unwrap_or_default() } }
    }))
}

async fn charge(tx: &mut Tx, ask: &Charge, now: Timestamp) -> Result<(Option<ChargeAnswer>, Manner), DbError> {
    let call = count_call(tx, &ask.key, now).await?;
    if let Some(answer) = booked(tx, &ask.key).await? {
        return Ok((Some(answer), Manner::AtOnce));
    }
    let token = ask.token.as_deref().unwrap_or("approve");
    let (reason, manner) = match token {
        "approve" | "refund_fails_once" => (None, Manner::AtOnce),
        "timeout_before_charge" if call == 1 => return Ok((None, Manner::Never)),
        "timeout_before_charge" => (None, Manner::AtOnce),
        "timeout_after_charge" => (None, Manner::Never),
        "error_after_charge" => (None, Manner::WithAnError),
        "answer_twice" => (None, Manner::Twice),
        "slow" => (None, Manner::Slowly),
        "decline" => (Some("The card was declined"), Manner::AtOnce),
        _ => (Some("The test provider does not know this token"), Manner::AtOnce),
    };
    let sql = "insert into psp_charges (psp_key, psp_ref, order_ref, amount, token, captured, reason, at) values ($1,$2,$3,$4,$5,$6,$7,$8)";
    let (reference, order) = (format!("psp-{}", new_id().simple()), ask.order_id.to_string());
    tx.execute(sql, &params![&ask.key, &reference, &order, ask.amount, token, reason.is_none(), reason, now]).await?;
    let answer = match reason {
        None => ChargeAnswer::Charged { reference },
        Some(reason) => ChargeAnswer::Declined { reason: reason.into() },
    };
    Ok((Some(answer), manner))
}

async fn give_back(tx: &mut Tx, ask: &GiveBack, now: Timestamp) -> Result<Result<String, &'static str>, DbError> {
    let call = count_call(tx, &ask.key, now).await?;
    let found: Option<(String,)> = tx.query_opt("select psp_ref from psp_refunds where psp_key=$1", &params![&ask.key]).await?;
    if let Some((reference,)) = found {
        return Ok(Ok(reference));
    }
    let sql = "select amount, refunded, token from psp_charges where psp_key=$1 and captured";
    let charged: Option<(Won, Won, String)> = tx.query_opt(sql, &params![&ask.charge_key]).await?;
    let Some((amount, refunded, token)) = charged else { return Ok(Err("there is no such charge")) };
    if token == "refund_fails_once" && call == 1 {
        return Ok(Err("no refunds just now"));
    }
    if ask.amount.0 <= 0 || ask.amount.0 > amount.0 - refunded.0 {
        return Ok(Err("more than was charged"));
    }
    let reference = format!("psp-refund-{}", new_id().simple());
    let sql = "insert into psp_refunds (psp_key, psp_ref, charge_key, amount, at) values ($1,$2,$3,$4,$5)";
    tx.execute(sql, &params![&ask.key, &reference, &ask.charge_key, ask.amount, now]).await?;
    tx.execute("update psp_charges set refunded=refunded+$2 where psp_key=$1", &params![&ask.charge_key, ask.amount]).await?;
    Ok(Ok(reference))
}
