//! Unusable settings are refused by name: by `config check`, and by `serve` before it opens a file or a connection.

use crate::binary::{CommandOutput, onrush, run_command};
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use testkit::{TempFolder, TestDatabase};

/// An address without a server. No command may connect to it.
const DATABASE: &str = "postgres://nobody:geheim@127.0.0.1:1/mall";
const KAFKA: &str = "127.0.0.1:1";
const REDIS: &str = "redis://127.0.0.1:1";
const SECRET: &str = "5555555555555555555555555555555555555555555555555555555555555555";
/// Time after which a process is stopped, because its settings were not refused.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments for PostgreSQL, plus further ones.
fn on_postgres<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--database-url", DATABASE, "--secret", SECRET], more].concat()
}

/// Runs a command and stops it after [`PATIENCE`], because it may serve forever.
fn run_with_timeout(command: &mut Command) -> CommandOutput {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary is there");
    let polls = PATIENCE.as_millis() / 20;
    for poll in 0..polls {
        if child.try_wait().expect("it is ours").is_some() {
            break;
        }
        if poll + 1 == polls {
            child.kill().expect("it is ours");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("it has ended");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    CommandOutput { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Asserts that both commands refuse the setting by name and create no file.
#[track_caller]
fn assert_refused(setting: &str, args: &[&str], change: impl Fn(&mut Command)) {
    let folder = TempFolder::new();
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["config", "check"]] {
        let mut command = onrush(&[command, args].concat());
        command.env("ONRUSH_DATA_DIR", folder.path().join("mall"));
        change(&mut command);
        let run_command = run_with_timeout(&mut command);
        assert_eq!((run_command.code, run_command.out.as_str()), (2, ""), "{setting} {args:?}: {}", run_command.err);
        assert!(run_command.err.starts_with(&format!("onrush: {setting}: ")), "{setting} {args:?}: {}", run_command.err);
        assert!(!run_command.err.contains("geheim"), "{args:?}: {}", run_command.err);
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0, "{setting} {args:?}: a file was created");
}

#[test]
fn a_setting_that_needs_another_is_refused_without_it() {
    let others = "accounts=http://a:1,stores=http://a:1,catalog=http://a:1,stock=http://a:1,coupons=http://a:1,wallet=http://a:1";
    for (setting, args) in [
        ("only", vec!["--only", "orders"]),
        ("only", vec!["--only", "orders", "--kafka", KAFKA, "--peers", others]),
        ("kafka", vec!["--kafka", KAFKA]),
        ("kafka", on_postgres(&["--only", "orders,payments", "--peers", others])),
        ("peers", on_postgres(&["--only", "orders,payments", "--kafka", KAFKA])),
        // No process runs payments.
        ("peers", on_postgres(&["--only", "orders", "--kafka", KAFKA, "--peers", others])),
        ("secret", vec!["--database-url", DATABASE]),
        ("claim_strategy", vec!["--claim-strategy", "redis"]),
        ("operator_email", vec!["--operator-email", "operator@example.com"]),
    ] {
        assert_refused(setting, &args, |_| ());
    }
}

#[test]
fn services_that_do_not_exist_are_refused() {
    for (setting, args) in [
        ("only", on_postgres(&["--only", "orders,odrers", "--kafka", KAFKA])),
        ("only", on_postgres(&["--only", ",", "--kafka", KAFKA])),
        ("peers", on_postgres(&["--only", "orders", "--kafka", KAFKA, "--peers", "stoc=http://a:1"])),
        ("databases", on_postgres(&["--databases", "odrers=postgres://127.0.0.1:1/x"])),
    ] {
        assert_refused(setting, &args, |_| ());
    }
}

#[test]
fn invalid_addresses_and_numbers_are_refused() {
    for (setting, args) in [
        ("database_url", vec!["--secret", SECRET, "--database-url", "mysql://nobody:geheim@h/x"]),
        ("database_url", vec!["--secret", SECRET, "--database-url", "postgres://nobody:geheim@h:port/x"]),
        ("database_url", vec!["--secret", SECRET, "--database-url", "postgres://nobody:geheim@h/x?sslmode=require"]),
        ("databases", on_postgres(&["--databases", "orders"])),
        ("databases", on_postgres(&["--databases", "orders=postgres://nobody:geheim@h:port/x"])),
        ("databases", on_postgres(&["--databases", "orders=mysql://nobody:geheim@h/x"])),
        ("secret", vec!["--database-url", DATABASE, "--secret", "5555"]),
        ("partitions", on_postgres(&["--partitions", "257"])),
        ("readers", on_postgres(&["--readers", "0"])),
        ("kafka", on_postgres(&["--kafka", "kafka"])),
        ("kafka", on_postgres(&["--kafka", "one:9092,,two:9092"])),
        ("kafka_prefix", on_postgres(&["--kafka", KAFKA, "--kafka-prefix", "on rush"])),
        // R1
        ("trusted_proxies", vec!["--trusted-proxies", "proxy.example"]),
        ("trusted_proxies", vec!["--trusted-proxies", "10.0.0.0/8,0.0.0.0/0"]),
        ("trusted_proxies", vec!["--trusted-proxies", ","]),
        ("forwarded_header", vec!["--trusted-proxies", "10.0.0.0/8", "--forwarded-header", "x-real-ip"]),
        ("redis", vec!["--redis", "localhost"]),
        ("redis", vec!["--redis", "http://localhost:6379"]),
        ("redis_prefix", vec!["--redis", REDIS, "--redis-prefix", "mall{1}:"]),
        ("redis_prefix", vec!["--redis", REDIS, "--redis-prefix", ""]),
        ("limits", vec!["--limits", "sign_up=9/hour"]),
        ("limits", vec!["--limits", "sign_up_in_all=0/hour"]),
    ] {
        assert_refused(setting, &args, |_| ());
    }
}

/// Most likely another setting such as `--only` was forgotten. Without it, the process would run all services.
#[test]
fn settings_without_effect_are_refused() {
    for (setting, args) in [
        ("peers", vec!["--peers", "orders=http://a:1"]),
        ("peers", on_postgres(&["--kafka", KAFKA, "--peers", "orders=http://a:1"])),
        ("kafka_prefix", on_postgres(&["--kafka-prefix", "other"])),
        ("forwarded_header", vec!["--forwarded-header", "forwarded"]),
        ("proxy_protocol", vec!["--proxy-protocol", "true"]),
        ("redis_prefix", vec!["--redis-prefix", "other:"]),
        ("databases", vec!["--databases", "orders=postgres://127.0.0.1:1/x"]),
        ("readers", vec!["--readers", "4"]),
        ("partitions", vec!["--partitions", "4"]),
        ("fold", on_postgres(&["--fold", "true"])),
        ("synchronous", on_postgres(&["--synchronous", "full"])),
    ] {
        assert_refused(setting, &args, |_| ());
    }
}

/// Sets a setting in the environment.
fn from(name: &'static str, value: &'static str) -> impl Fn(&mut Command) {
    move |command| {
        command.env(name, value);
    }
}

#[test]
fn settings_are_refused_from_every_source() {
    let folder = TempFolder::new();
    let file = folder.path().join("mall.toml");
    std::fs::write(&file, "fold = true\n").expect("it is written");
    let name = file.display().to_string();
    assert_refused("fold", &on_postgres(&["--config", &name]), |_| ());
    assert_refused("peers", &[], from("ONRUSH_PEERS", "orders=http://a:1"));
    assert_refused("kafka", &["--config", &name], from("ONRUSH_KAFKA", KAFKA));
    assert_refused("limits", &[], from("ONRUSH_LIMITS", "sign_up_in_all=some"));
    std::fs::write(&file, "[limits]\nsign_up_in_all = \"some\"\n").expect("it is written");
    assert_refused("limits", &["--config", &name], |_| ());
}

/// All streams of a mall on Kafka have the same number of partitions, which only the database knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_count_that_differs_from_the_streams_is_refused() {
    let (database, folder) = (TestDatabase::create().await, TempFolder::new());
    let with = |args: &[&str]| {
        let mut command = onrush(args);
        command.env("ONRUSH_DATABASE_URL", database.url()).env("ONRUSH_SECRET", SECRET).env("ONRUSH_DATA_DIR", folder.path().join("mall"));
        command
    };
    run_command(&mut with(&["migrate", "--partitions", "4"])).expect_code(0);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--kafka", KAFKA, "--partitions", "3"];
    run_with_timeout(&mut with(&serve)).expect_code(2).assert_shows("partitions: the stream of accounts has 4 partitions, not 3");
}
