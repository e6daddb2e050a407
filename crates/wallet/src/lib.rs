//! Members' cash and points: a double-entry ledger.
//!
//! Owns every account, entry and hold of points. It never decides on orders or payments. A member's balance never falls below 0
//! or below the amount that orders hold. A written entry never changes.
//!
//! Points are held in `wallet_holds` and a counter on the account, not by ledger transactions. So a failed order leaves no entries,
//! and a paid one leaves two transactions with four entries.

mod api;
mod checks;
mod links;
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
use kit::Kit;
use serde::Deserialize;

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

kit::module! {
    impl Module for Wallet {
        name: "wallet",
        migrations: kit::migrations!("init", separate "append_only", postgres "room", separate "closing"),
        checks: checks::checks,
        reads: &messages::READS,
        consume: messages::consume,
        flush: messages::flush,
        router: api::router,
        calls: links::register,
    }
}
