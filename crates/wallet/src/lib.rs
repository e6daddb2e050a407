//! Members' cash and points: a double-entry ledger.
//!
//! Owns every account, entry and hold of points. It never decides on orders or payments. A member's balance never falls below 0
//! or below the amount that orders hold. A written entry never changes.
//!
//! Points are held in `wallet_holds` and a counter on the account, not by ledger transactions. So a failed order leaves no entries,
//! and a paid one leaves two transactions with four entries.

mod api;
mod messages;
mod model;
mod store;

pub use api::{
    charge::{ChargeCash, Charged},
    grant::{GrantPoints, Granted},
};
pub use model::account::{GENESIS, MALL, ledger_hash};
pub use model::charge::{MAX_CHARGE, MIN_CHARGE};

use contracts::Won;
use futures::future::BoxFuture;
use kit::{Fault, Kit, Service, Work, db::Migration, engine::Envelope};
use model::Ledger;
use serde::Deserialize;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WalletSettings {
    /// Charges are whole multiples of this many won.
    pub charge_unit: Won,
    /// Points that a confirmed purchase earns, as a share of the cash paid in 1/100 of a percent.
    pub earn_basis_points: u32,
}

impl Default for WalletSettings {
    fn default() -> Self {
        Self { charge_unit: Won(1), earn_basis_points: 100 }
    }
}

pub struct Wallet {
    kit: Kit,
    settings: WalletSettings,
}

impl Wallet {
    pub fn new(kit: Kit, settings: WalletSettings) -> Self {
        Self { kit, settings }
    }
}

impl Service for Wallet {
    fn name(&self) -> &'static str {
        "wallet"
    }

    fn migrations(&self) -> &'static [Migration] {
        const MIGRATIONS: &[Migration] = &[
            Migration::new(1, "init", include_str!("../migrations/V1__init.sql")),
            Migration::new(2, "append_only", include_str!("../migrations/V2__append_only.sql"))
                .on_postgres(include_str!("../migrations/V2__append_only.postgres.sql")),
            Migration::only_postgres(3, "room", include_str!("../migrations/V3__room.postgres.sql")),
        ];
        MIGRATIONS
    }

    fn kit(&self) -> &Kit {
        &self.kit
    }

    fn router(self: Arc<Self>) -> OpenApiRouter {
        api::router(self)
    }

    fn reads(&self) -> &'static [contracts::Kind] {
        messages::READS
    }

    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::consume(self, work, messages))
    }

    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let ledger = work.take_stash::<Ledger>();
            store::save(&mut work.tx, *ledger).await
        })
    }
}
