//! Before the first request: the operator named in the settings exists, and tokens revoked before a restart stay revoked.

use crate::{Accounts, api::SignUp, model::Email, revocations, store};
use contracts::MemberId;
use kit::{
    Fault, Reply,
    auth::{Role, password},
    ports,
};
use std::sync::Arc;

pub async fn start(accounts: Arc<Accounts>) -> Result<(), Fault> {
    revocations::start(&accounts).await?;
    // The first of these makes the hash that unknown addresses are checked against: nobody's request should take the time for that.
    password::verify_dummy(&accounts.passwords, "").await.map_err(|problem| Fault::Bug(problem.refusal.detail))?;
    if let Some((email, password)) = &accounts.settings.operator {
        ensure_operator(&accounts, email, password).await?;
    }
    Ok(())
}

/// Creates the operator unless the address is an operator's already; the password then stays as its owner set it.
async fn ensure_operator(accounts: &Arc<Accounts>, email: &str, password: &str) -> Result<(), Fault> {
    let email = Email::parse(email).ok_or_else(|| Fault::Setting("the operator's e-mail is not an e-mail address".into()))?;
    if is_there(accounts, &email).await? {
        return Ok(());
    }
    let name = "Operator".to_owned();
    password::check_strength(password, &[&email.shown])
        .map_err(|problem| Fault::Setting(format!("the operator's password: {}", problem.refusal.detail)))?;
    let password_hash =
        accounts.hash(password).await.map_err(|problem| Fault::Setting(format!("the operator's password: {}", problem.refusal.detail)))?;
    let id = MemberId(ports::new_id());
    let command = SignUp { id, email: email.clone(), name, phone: None, password_hash, role: Role::Operator, trace: ports::new_id() };
    match accounts.kit.submit(accounts, command, None, ports::new_id()).await {
        Ok(Reply::Answer(answer)) if answer.status == 201 => {
            tracing::info!(target: "audit", member = %id, "the operator of the settings was created");
            Ok(())
        }
        // Another process that started at the same time was faster.
        Ok(Reply::Answer(answer)) if answer.status == 409 && is_there(accounts, &email).await? => Ok(()),
        Ok(reply) => Err(Fault::Bug(format!("the operator was not created: {reply:?}"))),
        Err(error) => Err(Fault::Bug(format!("the operator was not created: {error}"))),
    }
}

/// Whether the address is an operator's.
async fn is_there(accounts: &Accounts, email: &Email) -> Result<bool, Fault> {
    let mut reader = accounts.kit.db.reader().await?;
    match store::members::by_email(&mut reader, &email.normalized).await? {
        Some(member) if member.role == Role::Operator => Ok(true),
        // Whoever signed up with it knows its password: it must not become an operator's by itself.
        Some(_) => Err(Fault::Setting("the operator's e-mail belongs to an account that is not an operator's".into())),
        None => Ok(false),
    }
}
