//! Before the first request: the operator named in the settings exists, and tokens revoked before a restart stay revoked.

use crate::{Accounts, api::SignUp, model::Email, store};
use contracts::MemberId;
use kit::{
    Fault, Reply,
    auth::{Role, TOKEN_LIFETIME, password},
    ports,
};
use std::sync::Arc;

pub async fn start(accounts: Arc<Accounts>) -> Result<(), Fault> {
    reload_revocations(&accounts).await?;
    // The first of these makes the hash that unknown addresses are checked against: nobody's request should take the time for that.
    password::verify_dummy(&accounts.passwords, "").await.map_err(|problem| Fault::Bug(problem.refusal.detail))?;
    if let Some((email, password)) = &accounts.settings.operator {
        ensure_operator(&accounts, email, password).await?;
    }
    Ok(())
}

/// Access tokens live on their own; those of sessions that ended lately are refused by a list in memory.
async fn reload_revocations(accounts: &Accounts) -> Result<(), Fault> {
    let since = accounts.kit.clock.now().before(TOKEN_LIFETIME);
    let revoked = {
        let mut reader = accounts.kit.db.reader().await?;
        store::sessions::revoked_since(&mut reader, since).await?
    };
    for (session_id, at) in revoked {
        accounts.kit.auth.revoke_session(session_id, at);
    }
    Ok(())
}

/// Creates the operator unless the address is an operator's already; the password then stays as its owner set it.
async fn ensure_operator(accounts: &Arc<Accounts>, email: &str, password: &str) -> Result<(), Fault> {
    let email = Email::parse(email).ok_or_else(|| Fault::Setting("the operator's e-mail is not an e-mail address".into()))?;
    let known = {
        let mut reader = accounts.kit.db.reader().await?;
        store::members::by_email(&mut reader, &email.normalized).await?
    };
    match known {
        Some(member) if member.role == Role::Operator => return Ok(()),
        // Whoever signed up with it knows its password: it must not become an operator's by itself.
        Some(_) => return Err(Fault::Setting("the operator's e-mail belongs to an account that is not an operator's".into())),
        None => {}
    }
    let name = "Operator".to_owned();
    password::check_strength(password, &[&email.shown])
        .map_err(|problem| Fault::Setting(format!("the operator's password: {}", problem.refusal.detail)))?;
    let password_hash =
        accounts.hash(password).await.map_err(|problem| Fault::Setting(format!("the operator's password: {}", problem.refusal.detail)))?;
    let id = MemberId(ports::new_id());
    let command = SignUp { id, email, name, phone: None, password_hash, role: Role::Operator, trace: ports::new_id() };
    match accounts.kit.submit(accounts, command, None, ports::new_id()).await {
        Ok(Reply::Answer(answer)) if answer.status == 201 => {
            tracing::info!(target: "audit", member = %id, "the operator of the settings was created");
            Ok(())
        }
        Ok(reply) => Err(Fault::Bug(format!("the operator was not created: {reply:?}"))),
        Err(error) => Err(Fault::Bug(format!("the operator was not created: {error}"))),
    }
}
