//! Runs once before the first request: creates the operator of the settings, and reloads the revocations of the last hour.

use crate::{Accounts, api::SignUp, cache::revocations, model::Email, store};
use contracts::MemberId;
use kit::{
    Fault, Reply,
    auth::{Role, password},
    http::Peer,
    ports,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// Address of the process itself, for its shares and counts.
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

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
async fn ensure_operator(accounts: &Arc<Accounts>, email: &str, password: &str) -> Result<(), Fault> {
    let email = Email::parse(email).ok_or_else(|| Fault::Setting("the operator's e-mail is not an e-mail address".into()))?;
    if is_operator(accounts, &email).await? {
        return Ok(());
    }
    let name = "Operator".to_owned();
    password::check_strength(password, &[&email.shown])
        .map_err(|problem| Fault::Setting(format!("the operator's password: {}", problem.refusal.detail)))?;
    let password_hash = accounts
        .hash_new(password, Peer(NO_ADDRESS))
        .await
        .map_err(|problem| Fault::Setting(format!("the operator's password: {}", problem.refusal.detail)))?;
    let id = MemberId(ports::new_id());
    let command = SignUp { id, email: email.clone(), name, phone: None, password_hash, role: Role::Operator, trace: ports::new_id() };
    match accounts.kit.batch.submit(accounts, command, None, ports::new_id()).await {
        Ok(Reply::Answer(answer)) if answer.status == 201 => {
            tracing::info!(target: "audit", member = %id, "operator of the settings created");
            Ok(())
        }
        // Another process created the operator at the same time.
        Ok(Reply::Answer(answer)) if answer.status == 409 && is_operator(accounts, &email).await? => Ok(()),
        Ok(reply) => Err(Fault::Bug(format!("the operator was not created: {reply:?}"))),
        Err(error) => Err(Fault::Bug(format!("the operator was not created: {error}"))),
    }
}

/// True if the address belongs to an operator. `Err`: it belongs to another account.
async fn is_operator(accounts: &Accounts, email: &Email) -> Result<bool, Fault> {
    let mut reader = accounts.kit.db.reader().await?;
    match store::members::by_email(&mut reader, &email.normalized).await? {
        Some(member) if member.role == Role::Operator => Ok(true),
        // The member who signed up with this address knows its password, and must not become an operator by that.
        Some(_) => Err(Fault::Setting("the operator's e-mail belongs to an account that is not an operator's".into())),
        None => Ok(false),
    }
}
