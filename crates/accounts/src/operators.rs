//! Operators, as the owner of the machine manages them: by the settings at the start, or by `onrush operator`.

use crate::{
    Accounts,
    api::SignUp,
    model::{Email, EndReason, Member, MemberState},
    store,
};
use contracts::{Code, MemberId, Timestamp, calls::GetStoresOfSeller, problem::code_of};
use kit::{
    Answer, Command, DbError, Fault, Outcome, Reply, Tx, Work,
    auth::{Role, password},
    batch::SubmitError,
    http::Peer,
    links::LinkError,
    ports,
};
use serde::Serialize;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// Address of the process itself, for its share of the places for hashing.
pub(crate) const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Name of an operator until it changes its profile.
const DEFAULT_NAME: &str = "Operator";

/// An operator in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorCard {
    pub member_id: MemberId,
    pub email: String,
    pub name: String,
    /// False: another operator disabled the account.
    pub is_active: bool,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorAddition {
    Made(MemberId),
    /// The address belongs to an operator. Nothing changed, not even the password.
    Known(MemberId),
}

/// Reasons why an operator is not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("the e-mail is not an e-mail address")]
    BadEmail,
    #[error("the password {0}")]
    BadPassword(String),
    #[error("the address belongs to an account that is not an operator's, or did before an operator closed it: choose another one")]
    Taken,
    #[error("no operator has this address")]
    Unknown,
    #[error("this is the last operator: add another one first")]
    Last,
    #[error("cannot ask for the stores of the operator: {0}")]
    Link(#[from] LinkError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Fault(Fault),
}

impl From<DbError> for OperatorError {
    fn from(error: DbError) -> Self {
        OperatorError::Fault(error.into())
    }
}

/// All operators that are not closed, oldest first.
pub async fn list_operators(tx: &mut Tx) -> Result<Vec<OperatorCard>, DbError> {
    let members = store::members::operators(tx).await?;
    let card = |member: Member| OperatorCard {
        member_id: member.id,
        is_active: member.state == MemberState::Active,
        email: member.email,
        name: member.name,
        created_at: member.created_at,
    };
    Ok(members.into_iter().map(card).collect())
}

impl Accounts {
    /// Creates an operator with this address and password. `takes_reserved`: also with the address of an operator who closed the account.
    pub async fn add_operator(
        self: &Arc<Self>,
        email: &str,
        password: &str,
        takes_reserved: bool,
    ) -> Result<OperatorAddition, OperatorError> {
        let email = Email::parse(email).ok_or(OperatorError::BadEmail)?;
        if let Some(known) = self.operator_of(&email).await? {
            return Ok(OperatorAddition::Known(known.id));
        }
        let unfit = |problem: kit::http::Problem| {
            let reason = problem.errors.into_iter().next().map_or(problem.refusal.detail, |error| error.message);
            OperatorError::BadPassword(reason)
        };
        password::check_strength(password, &[&email.shown]).map_err(unfit)?;
        let password_hash = self.hash_new(password, Peer(NO_ADDRESS)).await.map_err(unfit)?;
        let (id, trace) = (MemberId(ports::new_id()), ports::new_id());
        let (name, role) = (DEFAULT_NAME.to_owned(), Role::Operator);
        let command = SignUp { id, email: email.clone(), name, phone: None, password_hash, role, takes_reserved, trace };
        match self.kit.batch.submit(self, command, None, trace).await? {
            Reply::Answer(answer) if answer.status == 201 => Ok(OperatorAddition::Made(id)),
            // Another process may have created the operator at the same time.
            Reply::Answer(answer) if code_of(&answer.body) == Some(Code::EmailTaken) => {
                let known = self.operator_of(&email).await?.ok_or(OperatorError::Taken)?;
                Ok(OperatorAddition::Known(known.id))
            }
            reply => Err(unexpected(&reply)),
        }
    }

    /// Takes the rights of the operator with this address away, and ends its sessions. The account stays.
    pub async fn remove_operator(self: &Arc<Self>, email: &str) -> Result<MemberId, OperatorError> {
        let email = Email::parse(email).ok_or(OperatorError::BadEmail)?;
        let operator = match self.operator_of(&email).await {
            Ok(Some(operator)) => operator,
            Ok(None) | Err(OperatorError::Taken) => return Err(OperatorError::Unknown),
            Err(error) => return Err(error),
        };
        let stores = self.kit.links.call(GetStoresOfSeller { seller_id: operator.id }).await?;
        let to = if stores.is_empty() { Role::Customer } else { Role::Seller };
        let command = DemoteOperator { member_id: operator.id, to };
        match self.kit.batch.submit(self, command, None, ports::new_id()).await? {
            Reply::Answer(answer) if answer.status == 204 => Ok(operator.id),
            Reply::Answer(answer) if code_of(&answer.body) == Some(Code::LastOperator) => Err(OperatorError::Last),
            Reply::Answer(answer) if code_of(&answer.body) == Some(Code::NotFound) => Err(OperatorError::Unknown),
            reply => Err(unexpected(&reply)),
        }
    }

    /// The operator with this address. `None`: no account has it. `Err`: it belongs to another account.
    async fn operator_of(&self, email: &Email) -> Result<Option<Member>, OperatorError> {
        let mut reader = self.kit.db.reader().await?;
        match store::members::by_email(&mut reader, &email.normalized).await? {
            Some(member) if member.role == Role::Operator => Ok(Some(member)),
            Some(_) => Err(OperatorError::Taken),
            None => Ok(None),
        }
    }
}

fn unexpected(reply: &Reply) -> OperatorError {
    OperatorError::Fault(Fault::Bug(format!("unexpected answer about an operator: {reply:?}")))
}

struct DemoteOperator {
    member_id: MemberId,
    to: Role,
}

impl Command for DemoteOperator {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.demote_operator";

    async fn handle<'a>(accounts: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let members = store::members::lock_with_operators(&mut work.tx, commands.iter().map(|command| command.member_id)).await?;
        let mut members: HashMap<MemberId, Member> = members.into_iter().map(|member| (member.id, member)).collect();
        let mut demoted: Vec<MemberId> = Vec::new();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
        for command in commands {
            let operators = members.values().filter(|member| member.is_active_operator()).count();
            let Some(member) = members.get_mut(&command.member_id) else {
                outcomes.push(Code::NotFound.into());
                continue;
            };
            outcomes.push(match member.demote(command.to, operators) {
                Ok(true) => {
                    demoted.push(member.id);
                    Answer::empty(204).into()
                }
                Ok(false) => Code::NotFound.into(),
                Err(refusal) => refusal.into(),
            });
        }
        store::members::save(&mut work.tx, members.values()).await?;
        // Access tokens name the role, so those of an operator end with its rights.
        accounts.end_sessions_of(work, demoted.into_iter().map(|member_id| (member_id, None)), EndReason::SignedOut).await?;
        Ok(outcomes)
    }
}
