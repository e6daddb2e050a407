//! Runs once before the first request: creates the operator of the settings, and reloads the revocations of the last hour.

use crate::{
    Accounts,
    cache::revocations,
    operators::{NO_ADDRESS, OperatorAddition, OperatorError},
};
use kit::{Fault, auth::password};
use std::sync::Arc;

pub async fn start(accounts: Arc<Accounts>) -> Result<(), Fault> {
    revocations::start(&accounts).await?;
    // Computes the hash that unknown addresses are checked against, so that no request pays for it.
    password::verify_dummy(&accounts.passwords, NO_ADDRESS.ip(), "").await.map_err(|problem| Fault::Bug(problem.refusal.detail))?;
    if let Some((email, password)) = &accounts.settings.operator {
        ensure_operator(&accounts, email, password).await?;
    }
    Ok(())
}

/// Creates the operator, unless the address already belongs to one: its owner may have changed the password since.
///
/// An address of another account makes no operator, because its member knows the password. The mall still serves: otherwise, any member
/// who signs up with the address could keep it from starting.
async fn ensure_operator(accounts: &Arc<Accounts>, email: &str, password: &str) -> Result<(), Fault> {
    match accounts.add_operator(email, password, false).await {
        Ok(OperatorAddition::Made(id)) => {
            tracing::info!(target: "audit", member = %id, "operator of the settings created");
            Ok(())
        }
        Ok(OperatorAddition::Known(_)) => Ok(()),
        Err(OperatorError::Taken) => {
            tracing::error!(
                target: "audit",
                remedy = "set another operator_email, or run `onrush operator add`",
                "no operator created: the address of the settings belongs to another account, or to an operator who closed the account"
            );
            Ok(())
        }
        Err(OperatorError::Fault(fault)) => Err(fault),
        Err(refused) => Err(Fault::Setting(format!("the operator of the settings: {refused}"))),
    }
}
