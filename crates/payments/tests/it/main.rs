//! Tests of payments through their routes and streams, with the test provider. The tests play the wallet.

mod choreography;
mod read;
mod replicas;
mod saga;
mod settle;
mod settle_refund;

use contracts::{
    MemberId, Message, OrderId, PaymentId, Won,
    messages::{PaymentMethod, PaymentRequest, StepCommand, WalletMoved, WalletRefused},
};
use kit::{
    Db, Kit, Module,
    db::{FromRow, Synchronous},
    ports::new_id,
};
use payments::{Payments, PaymentsSettings};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use testkit::{App, AppBuilder, StubService};

/// Time-out of provider calls: long enough on a busy machine, short enough for tests with a silent provider.
const CALL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Payments with stubs of its neighbours. `ledger`: file of the test provider. `None`: the provider is disabled.
pub fn services(kit: &Kit, ledger: Option<PathBuf>) -> Vec<Arc<dyn Module>> {
    let settings = PaymentsSettings { test_provider: ledger.is_some(), book: ledger, call_timeout: CALL_TIMEOUT };
    vec![Payments::new(kit.clone(), settings), Arc::new(StubService::new(kit, "orders")), Arc::new(StubService::new(kit, "wallet"))]
}

pub async fn app() -> App {
    start(App::builder()).await
}

pub async fn start(builder: AppBuilder) -> App {
    let ledger = ledger_path(&builder.folder());
    builder.start(|kit| services(kit, Some(ledger.clone()))).await
}

/// Restarts payments on the same database.
pub async fn restarted(app: App) -> App {
    let ledger = ledger_path(app.folder());
    app.restart(|kit| services(kit, Some(ledger.clone()))).await
}

/// Ledger file of the test provider. Not beside the database, which may not be a file.
pub fn ledger_path(folder: &Path) -> PathBuf {
    folder.join("provider.db")
}

/// An order to pay.
#[derive(Clone, Copy)]
pub struct Purchase {
    pub order_id: OrderId,
    pub payment_id: PaymentId,
    pub member_id: MemberId,
    pub amount: i64,
}

impl Purchase {
    pub fn of(amount: i64) -> Purchase {
        Purchase { order_id: OrderId(new_id()), payment_id: PaymentId(new_id()), member_id: MemberId(new_id()), amount }
    }

    /// Another attempt to pay the same order.
    pub fn again(self) -> Purchase {
        Purchase { payment_id: PaymentId(new_id()), ..self }
    }

    pub fn request(&self, method: PaymentMethod, token: Option<&str>) -> Message {
        Message::PaymentRequest(PaymentRequest {
            order_id: self.order_id,
            payment_id: self.payment_id,
            member_id: self.member_id,
            amount: Won(self.amount),
            method,
            token: token.map(str::to_owned),
        })
    }

    pub async fn pay(&self, app: &App, method: PaymentMethod, token: Option<&str>) {
        app.emit("orders", self.order_id, self.request(method, token)).await;
    }

    pub async fn cancel(&self, app: &App) {
        app.emit("orders", self.order_id, Message::PaymentCancel(StepCommand { order_id: self.order_id })).await;
    }

    pub async fn wallet_answers(&self, app: &App, message: fn(WalletMoved) -> Message) {
        app.emit("wallet", self.order_id, message(WalletMoved { payment_id: self.payment_id })).await;
    }

    pub async fn wallet_refuses(&self, app: &App) {
        let code = contracts::Code::InsufficientFunds;
        let refused = WalletRefused { payment_id: self.payment_id, code, detail: code.title().to_owned() };
        app.emit("wallet", self.order_id, Message::WalletRefused(refused)).await;
    }

    /// Messages that payments emitted for this order: the kind, with the slug of a failure.
    pub async fn emitted(&self, app: &App) -> Vec<String> {
        let found = app.messages("payments").await.into_iter().filter(|(key, _)| *key == self.order_id.0);
        found
            .map(|(_, message)| match &message {
                Message::PaymentFailed(refused) => format!("payment.failed {}", refused.code.slug()),
                other => other.kind().to_owned(),
            })
            .collect()
    }

    pub async fn state(&self, app: &App) -> String {
        let rows: Vec<(PaymentId, String)> = app.rows("select id, state from payments_payments").await;
        rows.into_iter().find(|(id, _)| *id == self.payment_id).map(|(_, state)| state).unwrap_or_default()
    }

    /// Advances time and runs the job until the payment is in this state.
    pub async fn wait_for_state(&self, app: &App, state: &str) {
        for _ in 0..600 {
            if self.state(app).await == state {
                return;
            }
            pass_time(app).await;
        }
        panic!("{:?} stayed {}, wanted {state}", self.payment_id, self.state(app).await);
    }
}

/// Advances the test clock by 250 ms and the real one by 10 ms, and runs the job `payments.reconcile`.
pub async fn pass_time(app: &App) {
    app.clock.advance(Duration::from_millis(250));
    app.job("payments.reconcile").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// Rows of the provider's ledger.
pub async fn provider_rows<T: FromRow>(app: &App, sql: &str) -> Vec<T> {
    let mut reader = Db::sqlite(ledger_path(app.folder()), Synchronous::Full).reader().await.expect("the ledger opens");
    reader.query(sql, &[]).await.expect("the query runs")
}

/// Checks I-P1 to I-P4: at most one capture of an order, no refund beyond its capture, ledger equal to payments, nothing open.
pub async fn audit(app: &App) {
    let twice: Vec<(String,)> =
        provider_rows(app, "select order_ref from psp_charges where captured group by order_ref having count(*)>1").await;
    assert_eq!(twice, [], "I-P1");
    let mut theirs: Vec<(String, i64, i64)> =
        provider_rows(app, "select psp_key, amount, refunded from psp_charges where captured order by psp_key").await;
    let mut ours: Vec<(String, i64, i64)> = app
        .rows(
            "select p.provider_key, p.amount, coalesce((select cast(sum(r.amount) as BIGINT) from payments_refunds r \
             where r.payment_id=p.id and r.state='DONE'),0) \
             from payments_payments p where p.method='test' and p.captured_at is not null and p.amount>0",
        )
        .await;
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs, "I-P3");
    let checks = [
        (
            "I-P2",
            "select count(*) from (select p.id from payments_payments p join payments_refunds r on r.payment_id=p.id \
             group by p.id, p.amount, p.captured_at having sum(r.amount)>p.amount or p.captured_at is null) wrong",
        ),
        ("I-P4", "select count(*) from payments_payments where state in ('INTENT', 'UNKNOWN')"),
        ("refunds", "select count(*) from payments_refunds where state<>'DONE'"),
        ("cancellations", "select count(*) from payments_cancellations where state<>'DONE'"),
        ("dead letters", "select count(*) from payments_dead_letters"),
    ];
    for (name, sql) in checks {
        assert_eq!(app.sql_i64(sql).await, 0, "{name}");
    }
}
