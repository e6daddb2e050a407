//! `onrush config check` shows the values of all settings, except secrets.

use crate::binary::{CommandOutput, run};

fn check(args: &[&str]) -> CommandOutput {
    run(&[&["config", "check"], args].concat()).expect_code(0).assert_shows("The settings can be used.")
}

fn assert_lines(run_command: &CommandOutput, lines: &[&str]) {
    for line in lines {
        assert!(run_command.out.lines().any(|shown| shown == *line), "no “{line}” in: {}", run_command.out);
    }
}

#[test]
fn set_values_are_shown_and_secrets_are_masked() {
    let peers =
        "accounts=http://a:1,stores=http://a:1,catalog=http://a:1,orders=http://a:1|http://b:1,payments=http://a:1,wallet=http://a:1";
    let secret = "5".repeat(64);
    let run_command = check(&[
        "--database-url",
        "postgres://mall:geheim@db:5433/mall",
        "--databases",
        "stock=postgres://mall:geheim@other/stock?password=geheim",
        "--secret",
        &secret,
        "--readers",
        "5",
        "--partitions",
        "6",
        "--kafka",
        "k1:9092,k2:9092",
        "--kafka-prefix",
        "autumn",
        "--redis",
        "redis://:geheim@cache:6379/2",
        "--redis-prefix",
        "autumn:",
        "--only",
        "stock,coupons",
        "--peers",
        peers,
        "--operator-email",
        "operator@example.com",
        "--operator-password",
        "geheim",
        "--claim-strategy",
        "redis",
        "--trusted-proxies",
        "10.1.2.3/8,2001:db8::1",
        "--forwarded-header",
        "Forwarded",
        "--proxy-protocol",
        "true",
        "--limits",
        "sign_up_per_address=off,write_per_member=2/second burst 9",
    ]);
    assert!(!run_command.out.contains("geheim") && !run_command.out.contains(&secret), "{}", run_command.out);
    assert_lines(
        &run_command,
        &[
            "database_url = postgres://mall:***@db:5433/mall",
            "databases = stock=postgres://mall:***@other:5432/stock",
            "readers = 5",
            "partitions = 6",
            "fold = none",
            "synchronous = none",
            "kafka = k1:9092,k2:9092",
            "kafka_prefix = autumn",
            "redis = redis://***@cache:6379/2",
            "redis_prefix = autumn:",
            "only = stock,coupons",
            "secret = ***",
            "claim_strategy = redis",
            // R1
            "trusted_proxies = 10.0.0.0/8,2001:db8::1/128",
            "forwarded_header = forwarded",
            "proxy_protocol = true",
            "operator_email = operator@example.com",
            "operator_password = ***",
            "limits.sign_up_per_address = off",
            "limits.write_per_member = 2/second burst 9",
            "limits.write_per_address = 500/second burst 20000",
        ],
    );
    let shown = run_command.out.lines().find_map(|line| line.strip_prefix("peers = ")).expect("peers are shown");
    assert!(shown.contains("orders=http://a:1|http://b:1"), "{shown}");
}

#[test]
fn absent_settings_show_their_default_or_none() {
    assert_lines(
        &check(&[]),
        &[
            "data_dir = data",
            "database_url = none",
            "databases = none",
            "readers = none",
            "partitions = none",
            "fold = true",
            "synchronous = full",
            "kafka = none",
            "kafka_prefix = none",
            "redis = none",
            "redis_prefix = none",
            "only = all services",
            "peers = none",
            "secret = made at the first start, in data_dir",
            "listen = 127.0.0.1:8080",
            "ops_listen = 127.0.0.1:9080",
            "trusted_proxies = none",
            "forwarded_header = none",
            "proxy_protocol = false",
            "operator_password = none",
            "limits.sign_up_per_address = 60/hour burst 30",
            "limits.write_per_member = 60/minute burst 60",
        ],
    );
    let secret = "5".repeat(64);
    let shared = check(&["--database-url", "postgres://db/mall", "--secret", &secret, "--kafka", "k:9092", "--redis", "redis://cache"]);
    assert_lines(&shared, &["readers = 8", "partitions = 4", "kafka_prefix = onrush", "redis_prefix = onrush:"]);
}
