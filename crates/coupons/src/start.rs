//! Runs once before the first request: checks the settings.

use crate::{Coupons, Strategy};
use kit::Fault;
use std::sync::Arc;

pub async fn start(coupons: Arc<Coupons>) -> Result<(), Fault> {
    if coupons.settings.strategy == Strategy::Redis && coupons.gate.is_none() {
        return Err(Fault::Setting("claim_strategy: redis needs a Redis; set redis to its URL".into()));
    }
    Ok(())
}
