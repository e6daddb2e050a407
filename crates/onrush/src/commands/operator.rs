//! `onrush operator`: adds, lists and removes operators. On PostgreSQL beside running servers; a SQLite file must not be served meanwhile,
//! except for `list`.

use super::{CommandError, print_line};
use crate::{
    copy::mall_databases,
    mall::{Mall, MallError},
    settings::{RawSettings, Settings},
};
use accounts::{Accounts, AccountsSettings, OperatorAddition, OperatorError};
use std::{
    future::Future,
    io::{BufRead, IsTerminal},
    process::ExitCode,
    sync::Arc,
};

/// Environment variable with the password of a new operator. Arguments are visible to other users of the machine.
const PASSWORD_VARIABLE: &str = "ONRUSH_NEW_OPERATOR_PASSWORD";

#[derive(clap::Args)]
pub struct OperatorArgs {
    #[command(subcommand)]
    command: OperatorCommand,
}

#[derive(clap::Subcommand)]
enum OperatorCommand {
    /// Add an operator. The password is in ONRUSH_NEW_OPERATOR_PASSWORD, or the first line of standard input
    Add {
        #[command(flatten)]
        raw: Box<RawSettings>,
        /// E-mail address to sign in with
        email: String,
    },
    /// List the operators
    List {
        #[command(flatten)]
        raw: Box<RawSettings>,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Take the rights of an operator away; the account stays, and the last operator stays an operator
    Remove {
        #[command(flatten)]
        raw: Box<RawSettings>,
        /// E-mail address of the operator
        email: String,
    },
}

impl OperatorArgs {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        match self.command {
            OperatorCommand::Add { raw, email } => add(&Settings::load(&raw)?, &email).await,
            OperatorCommand::List { raw, json } => list(&Settings::load(&raw)?, json).await,
            OperatorCommand::Remove { raw, email } => remove(&Settings::load(&raw)?, &email).await,
        }
    }
}

async fn add(settings: &Settings, email: &str) -> Result<ExitCode, CommandError> {
    let password = read_password()?;
    let added = with_accounts(settings, |accounts| async move { accounts.add_operator(email, &password, true).await }).await?;
    print_line(match added {
        OperatorAddition::Made(id) => format!("{email} is an operator now, member {id}."),
        OperatorAddition::Known(id) => format!("{email} is an operator already, member {id}. Nothing was changed, not even the password."),
    });
    Ok(ExitCode::SUCCESS)
}

async fn remove(settings: &Settings, email: &str) -> Result<ExitCode, CommandError> {
    let id = with_accounts(settings, |accounts| async move { accounts.remove_operator(email).await }).await?;
    print_line(format!("{email} is no operator any more, member {id}. All sessions of the account have ended."));
    Ok(ExitCode::SUCCESS)
}

async fn list(settings: &Settings, json: bool) -> Result<ExitCode, CommandError> {
    if settings.postgres.is_none() && !settings.database().exists() {
        return Err(CommandError::Other(format!("there is no mall in {}; set --data-dir", settings.data_dir.display())));
    }
    let databases = mall_databases(settings)?;
    let own = databases.into_iter().find(|database| database.services.contains(&"accounts"));
    let own = own.ok_or_else(|| CommandError::Other("no database has the accounts".into()))?;
    let operators = accounts::list_operators(&mut *own.db.reader().await?).await?;
    for operator in &operators {
        if json {
            print_line(serde_json::to_string(operator).map_err(|error| CommandError::Other(error.to_string()))?);
        } else {
            let state = if operator.is_active { "active" } else { "disabled" };
            print_line(format!(
                "{:8} {}  member {}  since {}  {}",
                state, operator.email, operator.member_id, operator.created_at, operator.name
            ));
        }
    }
    if !json {
        print_line(format!("{} operators", operators.len()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a change with the accounts service of a process of its own.
async fn with_accounts<T, R>(settings: &Settings, change: impl FnOnce(Arc<Accounts>) -> R) -> Result<T, CommandError>
where
    R: Future<Output = Result<T, OperatorError>>,
{
    if settings.split.as_ref().is_some_and(|split| split.only.iter().all(|name| name != "accounts")) {
        return Err(CommandError::Other("only: an operator is changed by a process that runs accounts; add it to --only".into()));
    }
    // The operator of the settings is none of this command's business.
    let settings = Settings { operator: None, ..settings.clone() };
    let mall = match Mall::open(&settings).await {
        Err(MallError::InUse(folder)) => {
            let text = format!(
                "a server runs on {folder}, and a SQLite file has one writer: stop it, run this command, and start it again; \
                 `onrush operator list` works beside it"
            );
            return Err(CommandError::Other(text));
        }
        opened => opened?,
    };
    let kit = mall.process.kit.for_service("accounts");
    let changed = change(Arc::new(Accounts::new(kit, AccountsSettings::default()))).await;
    mall.process.stop().await;
    changed.map_err(|error| CommandError::Other(error.to_string()))
}

fn read_password() -> Result<String, CommandError> {
    if let Some(password) = std::env::var_os(PASSWORD_VARIABLE) {
        return password.into_string().map_err(|_| CommandError::Other(format!("{PASSWORD_VARIABLE} is not valid UTF-8")));
    }
    let input = std::io::stdin();
    if input.is_terminal() {
        // A terminal would show it.
        return Err(CommandError::Other(format!("no password: set {PASSWORD_VARIABLE}, or write it to standard input")));
    }
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    let password = line.trim_end_matches(['\n', '\r']).to_owned();
    if password.is_empty() {
        return Err(CommandError::Other(format!("no password: set {PASSWORD_VARIABLE}, or write it to standard input")));
    }
    Ok(password)
}
