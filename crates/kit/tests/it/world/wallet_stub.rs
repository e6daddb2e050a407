use contracts::Kind;
use kit::{
    Fault, Kit, Work,
    db::{Migration, params},
    engine::Envelope,
};

/// The stub of service `wallet`: records the messages of two streams in order of delivery.
pub struct WalletStub {
    kit: Kit,
}

impl WalletStub {
    pub fn new(kit: Kit) -> Self {
        Self { kit }
    }
}

const MIGRATIONS: &[Migration] = &[Migration::new(
    1,
    "init",
    "create table wallet_seen (n INTEGER primary key, call BIGINT not null, source TEXT not null, seq BIGINT not null,
         key UUID not null);",
)
.on_postgres(
    "create table wallet_seen (n BIGINT generated always as identity primary key, call BIGINT not null, source TEXT not null,
         seq BIGINT not null, key UUID not null);",
)];

kit::module! {
    impl Module for WalletStub {
        name: "wallet",
        migrations: MIGRATIONS,
        reads: &[Kind::StockReserved, Kind::CouponHeld],
        consume: WalletStub::record,
    }
}

impl WalletStub {
    async fn record(&self, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
        let (call,): (i64,) = work.tx.query_one("select coalesce(max(call), 0) + 1 from wallet_seen", &[]).await?;
        let rows = messages.iter().map(|envelope| params![call, envelope.source, envelope.seq, envelope.key]);
        work.tx.execute_many("insert into wallet_seen (call, source, seq, key) values ($1,$2,$3,$4)", rows).await?;
        Ok(())
    }
}
