//! `onrush seed`: creates shoppers with charged wallets for load scenarios, without a running server. Their tokens are valid for an hour.

use super::{CommandError, print_line};
use crate::{
    in_process::{InProcessClient, PostRequest},
    mall::Mall,
    private,
    settings::{RawSettings, Settings},
};
use accounts::{Accounts, AccountsSettings, ImportedMember, NewMember};
use contracts::MemberId;
use kit::{auth::Role, http::layers, limits::LimitSettings, ports::new_id};
use serde_json::json;
use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

#[derive(clap::Args)]
pub struct SeedArgs {
    #[command(flatten)]
    raw: RawSettings,
    /// Number of shoppers
    #[arg(long)]
    members: u32,
    /// Output file with one JSON line per shopper: member_id, email, access_token
    #[arg(long)]
    tokens: PathBuf,
    /// Cash of each shopper, in won
    #[arg(long, default_value_t = 10_000_000)]
    cash: i64,
    /// Points of each shopper
    #[arg(long, default_value_t = 100_000)]
    points: i64,
}

impl SeedArgs {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        // One operator writes for thousands of members.
        let settings = Settings { limits: LimitSettings::off(), ..Settings::load(&self.raw)? };
        let mall = Mall::open(&settings).await?;
        let members = import_members(&mall, self.members).await.map_err(CommandError::Other)?;
        self.charge(&mall, &members).await.map_err(CommandError::Other)?;
        write_tokens(&self.tokens, &members)?;
        mall.process.stop().await;
        print_line(format!(
            "{} shoppers, {} won and {} points each; tokens in {}",
            members.len(),
            self.cash,
            self.points,
            self.tokens.display()
        ));
        Ok(ExitCode::SUCCESS)
    }

    async fn charge(&self, mall: &Mall, members: &[ImportedMember]) -> Result<(), String> {
        let in_process = InProcessClient::new(layers(mall.process.router.clone()));
        if self.cash > 0 {
            let charge =
                |member: &ImportedMember| PostRequest::new("/v1/wallet/charges", Some(&member.access_token), json!({"amount": self.cash}));
            in_process.post_all(members.iter().map(charge)).await?;
        }
        if self.points > 0 {
            let kit = &mall.process.kit;
            let operator = kit.auth.issue(MemberId(new_id()), Role::Operator, new_id(), kit.clock.now());
            let grant = |member: &ImportedMember| {
                let body = json!({"member_id": member.member_id, "amount": self.points, "reason": "seed"});
                PostRequest::new("/v1/wallet/grants", Some(&operator), body)
            };
            in_process.post_all(members.iter().map(grant)).await?;
        }
        Ok(())
    }
}

/// Imports members numbered from 1. Members of an earlier import are reused.
pub async fn import_members(mall: &Mall, count: u32) -> Result<Vec<ImportedMember>, String> {
    let accounts = Arc::new(Accounts::new(mall.process.kit.clone(), AccountsSettings::default()));
    let member = |n: u32| NewMember {
        member_id: MemberId(new_id()),
        email: format!("shopper{n}@seed.onrush.example"),
        name: format!("Shopper {n}"),
    };
    accounts.import((1..=count).map(member).collect()).await.map_err(|error| error.to_string())
}

fn write_tokens(path: &Path, members: &[ImportedMember]) -> Result<(), CommandError> {
    let file = private::create_file(path).map_err(|error| CommandError::Other(format!("cannot write {}: {error}", path.display())))?;
    let mut out = BufWriter::new(file);
    for member in members {
        let line = json!({"member_id": member.member_id, "email": member.email, "access_token": member.access_token});
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(())
}
