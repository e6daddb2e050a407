//! M6: operators on the command line, on both databases, beside a running server and without one.

use crate::{
    binary::{CommandOutput, onrush, run, run_command},
    copy::solo_mall::{RunningMall, settings},
};
use onrush::settings::{RawSettings, Settings};
use serde_json::{Value, json};
use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};
use testkit::{Faults, TempFolder, TestDatabase};

const PASSWORD: &str = "seoul-rain-47-lantern";
const SECRET: &str = "5555555555555555555555555555555555555555555555555555555555555555";

/// Runs a command that reads its password from the environment.
fn with_password(command: &mut Command) -> CommandOutput {
    run_command(command.env("ONRUSH_NEW_OPERATOR_PASSWORD", PASSWORD))
}

fn piped(command: &mut Command, input: &str) -> CommandOutput {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary is there");
    // `Err`: the command ended before it read its input.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    CommandOutput { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// The role in the profile of a member who signs in, and its access token.
async fn sign_in(mall: &RunningMall, email: &str) -> (Value, String) {
    let session = mall.post("/v1/sessions", "", json!({"email": email, "password": PASSWORD})).await;
    let token = session["access_token"].as_str().expect("a token").to_owned();
    (mall.get("/v1/me", &token).await.1["role"].clone(), token)
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_of_a_file_change_while_no_server_runs() {
    let folder = TempFolder::new();
    let name = folder.path().display().to_string();
    let command = |args: &[&str]| onrush(&[&["operator"], args, &["--data-dir", &name]].concat());
    run_command(&mut command(&["list"])).expect_code(2).assert_shows("there is no mall");
    with_password(&mut command(&["add", "one@example.com"])).expect_code(0).assert_shows("is an operator now");
    with_password(&mut command(&["add", "One@example.com"])).expect_code(0).assert_shows("is an operator already");
    piped(&mut command(&["add", "two@example.com"]), &format!("{PASSWORD}\n")).expect_code(0);
    run_command(&mut command(&["list"])).expect_code(0).assert_shows("one@example.com").assert_shows("2 operators");

    let mall = RunningMall::open(&settings(folder.path()), Faults::planned()).await;
    assert_eq!(sign_in(&mall, "two@example.com").await.0, "operator");
    for args in [["add", "three@example.com"], ["remove", "two@example.com"]] {
        with_password(&mut command(&args)).expect_code(2).assert_shows("stop it, run this command");
    }
    let listed = run_command(&mut command(&["list", "--json"])).expect_code(0).out;
    assert_eq!(
        listed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["is_active"].clone()).collect::<Vec<_>>(),
        [true, true]
    );
    mall.stop().await;

    run_command(&mut command(&["remove", "one@example.com"])).expect_code(0).assert_shows("is no operator any more");
    run_command(&mut command(&["remove", "one@example.com"])).expect_code(2).assert_shows("no operator has this address");
    run_command(&mut command(&["remove", "two@example.com"])).expect_code(2).assert_shows("last operator");
    run_command(&mut command(&["list"])).expect_code(0).assert_shows("1 operators");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_on_postgresql_change_beside_a_server() {
    let (database, folder) = (TestDatabase::create().await, TempFolder::new());
    let raw = RawSettings {
        database_url: Some(database.url()),
        secret: Some(SECRET.into()),
        data_dir: Some(folder.path().to_owned()),
        ..RawSettings::default()
    };
    let mall = RunningMall::open(&Settings::load(&raw).expect("usable"), Faults::planned()).await;
    let command = |args: &[&str]| {
        let mut command = onrush(&[&["operator"], args].concat());
        command.env("ONRUSH_DATABASE_URL", database.url()).env("ONRUSH_SECRET", SECRET).env("ONRUSH_DATA_DIR", folder.path());
        command
    };
    for email in ["one@example.com", "two@example.com"] {
        with_password(&mut command(&["add", email])).expect_code(0);
    }
    let (role, token) = sign_in(&mall, "one@example.com").await;
    assert_eq!(role, "operator");
    run_command(&mut command(&["list"])).expect_code(0).assert_shows("2 operators");
    run_command(&mut command(&["remove", "one@example.com"])).expect_code(0);
    // The running server hears of it.
    let mut status = 0;
    for _ in 0..500 {
        status = mall.get("/v1/me", &token).await.0;
        if status == 401 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(status, 401);
    assert_eq!(sign_in(&mall, "one@example.com").await.0, "customer");
    run_command(&mut command(&["remove", "two@example.com"])).expect_code(2).assert_shows("last operator");
    mall.stop().await;
}

#[test]
fn a_password_comes_from_the_environment_or_the_input() {
    let folder = TempFolder::new();
    let name = folder.path().join("mall").display().to_string();
    let command = |args: &[&str]| onrush(&[&["operator", "add", "ops@example.com", "--data-dir", &name], args].concat());
    piped(&mut command(&[]), "").expect_code(2).assert_shows("no password");
    piped(&mut command(&[]), "password\n").expect_code(2).assert_shows("the password");
    run(&["operator", "add", "ops@example.com", PASSWORD]).expect_code(2);
    run_command(
        command(&["--only", "orders", "--database-url", "postgres://127.0.0.1:1/x", "--secret", SECRET])
            .env("ONRUSH_NEW_OPERATOR_PASSWORD", PASSWORD),
    )
    .expect_code(2);
}

/// M6, R2: a start whose address belongs to a member serves, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_the_address_of_a_member_serves() {
    let folder = TempFolder::new();
    let mall = RunningMall::open(&settings(folder.path()), Faults::planned()).await;
    mall.post("/v1/accounts", "", json!({"email": "ops@example.com", "password": PASSWORD, "name": "Stranger"})).await;
    mall.stop().await;
    let (tokens, name) = (folder.path().join("tokens.jsonl").display().to_string(), folder.path().display().to_string());
    let mut command = onrush(&["seed", "--data-dir", &name, "--members", "1", "--tokens", &tokens]);
    command.env("ONRUSH_OPERATOR_EMAIL", "ops@example.com").env("ONRUSH_OPERATOR_PASSWORD", "busan-tide-82-compass");
    run_command(&mut command).expect_code(0).assert_shows("no operator created").assert_shows("ERROR");
    run(&["operator", "list", "--data-dir", &name]).expect_code(0).assert_shows("0 operators");
}
