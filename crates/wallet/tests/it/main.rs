//! The wallet through its routes and messages.

mod charge;
mod choreography;
mod closing;
mod entries;
mod grant;
mod ledger;
mod messages;
mod migrations;
mod read;
mod replicas;

use contracts::{
    Code, MemberId, Message, OrderId, PaymentId, Timestamp, Won,
    calls::HasAccount,
    messages::{PointsHold, StepCommand, WalletTransfer},
};
use kit::{auth::Role, ports::new_id};
use serde_json::json;
use std::sync::Arc;
use testkit::{App, StubService, TestResponse};
use wallet::{Wallet, WalletSettings};

/// A deadline after the end of every test.
pub const LATER: Timestamp = Timestamp(1_900_000_000_000_000);

pub async fn app() -> App {
    app_with(WalletSettings::default(), true).await
}

pub async fn app_with(settings: WalletSettings, fold: bool) -> App {
    App::builder()
        .fold(fold)
        .start(|kit| {
            vec![
                Arc::new(Wallet::new(kit.clone(), settings)),
                Arc::new(StubService::new(kit, "orders")),
                Arc::new(StubService::new(kit, "payments")),
                Arc::new(accounts_stub(kit)),
            ]
        })
        .await
}

/// A member id without an account.
pub const STRANGER: MemberId = MemberId(uuid::Uuid::from_u128(404));

/// Every member has an account, except [`STRANGER`].
pub fn accounts_stub(kit: &kit::Kit) -> StubService {
    StubService::new(kit, "accounts").answers::<HasAccount>(|call| Ok(call.member_id != STRANGER))
}

/// A member with a wallet.
pub struct Member {
    pub id: MemberId,
    pub token: String,
}

impl Member {
    pub fn new(app: &App) -> Member {
        let id = MemberId(new_id());
        Member { id, token: app.token(id, Role::Customer) }
    }

    pub async fn with(app: &App, cash: i64, points: i64) -> Member {
        let member = Member::new(app);
        if cash > 0 {
            let _ = member.charge(app, "first", cash).await.expect(201);
        }
        if points > 0 {
            let operator = app.token(MemberId(new_id()), Role::Operator);
            let body = json!({"member_id": member.id, "amount": points, "reason": "welcome"});
            let _ = app.post("/v1/wallet/grants").bearer(&operator).key("first").json(&body).send().await.expect(201);
        }
        member
    }

    pub async fn charge(&self, app: &App, key: &str, amount: i64) -> TestResponse {
        app.post("/v1/wallet/charges").bearer(&self.token).key(key).json(&json!({"amount": amount})).send().await
    }

    /// (cash, available points, held points)
    pub async fn balances(&self, app: &App) -> (i64, i64, i64) {
        let body = app.get("/v1/wallet").bearer(&self.token).send().await.expect(200).body;
        let part = |name: &str| body[name].as_i64().expect("a number");
        (part("cash"), part("points"), part("points_held"))
    }

    pub fn hold(&self, order_id: OrderId, amount: i64) -> Message {
        Message::PointsHold(PointsHold { order_id, member_id: self.id, amount: Won(amount), expires_at: LATER })
    }

    pub fn transfer(&self, payment_id: PaymentId, order_id: OrderId, amount: i64) -> WalletTransfer {
        WalletTransfer { payment_id, order_id, member_id: self.id, amount: Won(amount) }
    }
}

pub fn new_order() -> OrderId {
    OrderId(new_id())
}

pub fn new_payment() -> PaymentId {
    PaymentId(new_id())
}

pub fn step(order_id: OrderId) -> StepCommand {
    StepCommand { order_id }
}

/// The answers of the wallet with this key: the kind, with the code of a refusal.
pub async fn answers(app: &App, key: OrderId) -> Vec<String> {
    let found = app.messages("wallet").await.into_iter().filter(|(of, _)| *of == key.0);
    found
        .map(|(_, message)| match &message {
            Message::PointsRefused(refused) => format!("points.refused {}", refused.code.slug()),
            Message::WalletRefused(refused) => format!("wallet.refused {}", Code::slug(refused.code)),
            other => other.kind().to_owned(),
        })
        .collect()
}

/// Checks I-L1 to I-L3, I-L5 and the holds by SQL, and I-L4 by recomputing every chain. Each query must find nothing.
pub async fn audit(app: &App) {
    let checks = [
        ("I-L1", "select count(*) from (select tx_id from wallet_entries group by tx_id having sum(amount)<>0 or count(*)<>2) uneven"),
        (
            "I-L1 without entries",
            "select count(*) from wallet_transactions t where (refused is null) <> exists(select 1 from wallet_entries e where e.tx_id=t.id)",
        ),
        (
            "I-L2",
            "select count(*) from (select a.owner_id from wallet_accounts a left join wallet_entries e \
             on e.owner_id=a.owner_id and e.kind=a.kind group by a.owner_id, a.kind, a.balance, a.entries \
             having coalesce(sum(e.amount),0)<>a.balance or count(e.n)<>a.entries or coalesce(max(e.n),0)<>a.entries) wrong",
        ),
        (
            "I-L3",
            "select count(*) from (select kind, sum(amount) over (partition by owner_id, kind order by n) b from wallet_entries) sums \
             where kind in ('CASH', 'REWARD') and b<0",
        ),
        ("I-L5", "select count(*) from (select 1 from wallet_transactions group by kind, ref having count(*)>1) twice"),
        (
            "held",
            "select count(*) from wallet_accounts a where a.held<>coalesce((select sum(h.amount) from wallet_holds h \
             where h.member_id=a.owner_id and a.kind='REWARD' and h.state='HELD'),0)",
        ),
    ];
    for (name, sql) in checks {
        assert_eq!(app.sql_i64(sql).await, 0, "{name}");
    }
    check_chains(app).await;
}

type ChainRow = (uuid::Uuid, String, uuid::Uuid, i64, Won, Timestamp, [u8; 32], Option<uuid::Uuid>);

/// Checks I-L4: the stored head of every account is the hash of its entries, and each entry names the previous one.
async fn check_chains(app: &App) {
    let rows: Vec<ChainRow> =
        app.rows("select owner_id, kind, tx_id, n, amount, at, hash, previous_tx from wallet_entries order by owner_id, kind, n").await;
    let heads: Vec<(uuid::Uuid, String, [u8; 32], Option<uuid::Uuid>)> =
        app.rows("select owner_id, kind, head, last_tx from wallet_accounts").await;
    for (owner, kind, head, last_tx) in heads {
        let (mut hash, mut previous) = (wallet::GENESIS, None);
        for (_, _, tx_id, n, amount, at, stored, previous_tx) in rows.iter().filter(|row| (row.0, &row.1) == (owner, &kind)) {
            hash = wallet::ledger_hash(&hash, *tx_id, *n, *amount, *at);
            assert_eq!((hash, previous), (*stored, *previous_tx), "I-L4 {kind} of {owner} at {n}");
            previous = Some(*tx_id);
        }
        assert_eq!((hash, previous), (head, last_tx), "I-L4 head of {kind} of {owner}");
    }
}
