//! M3, L10: files of a mall are private under any umask, and a lost or exposed key is not passed over.

use crate::binary::{CommandOutput, onrush, run, run_command};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};
use testkit::TempFolder;

/// Runs a command with a umask that takes nothing away.
fn run_open(args: &[&str]) -> CommandOutput {
    let binary = onrush(&[]).get_program().to_owned();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 000; exec \"$0\" \"$@\""]).arg(binary).args(args).env_clear().env("ONRUSH_LOG", "warn");
    command.env("TMPDIR", std::env::temp_dir());
    run_command(&mut command)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

/// Asserts that the folder and all its files are private. Returns the names of the files.
#[track_caller]
fn assert_private(folder: &Path) -> Vec<String> {
    assert_eq!(mode(folder), 0o700, "{}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().expect("a name").to_string_lossy().into_owned());
    }
    names.sort();
    names
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

// M3
#[test]
fn all_files_that_commands_make_are_private() {
    let folder = TempFolder::new();
    let (mall, tokens, copy) = (folder.path().join("mall"), folder.path().join("tokens.jsonl"), folder.path().join("mall.db"));
    // An existing file keeps no wider mode.
    fs::write(&tokens, "old").expect("it is written");
    set_mode(&tokens, 0o644);
    run_open(&["seed", "--data-dir", &shown(&mall), "--members", "2", "--tokens", &shown(&tokens), "--test-provider", "true"])
        .expect_code(0);
    let names = assert_private(&mall);
    assert!(["onrush.db", "onrush.lock", "secret.key"].iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");
    assert_eq!(mode(&tokens), 0o600);
    assert_eq!(fs::read_to_string(&tokens).expect("it is there").lines().count(), 2);
    run_open(&["export", "--data-dir", &shown(&mall), "--to", &shown(&copy)]).expect_code(0);
    assert_eq!(mode(&copy), 0o600);

    let migrated = folder.path().join("deep/migrated");
    run_open(&["migrate", "--data-dir", &shown(&migrated)]).expect_code(0);
    assert_private(&migrated);
    // A migrated folder has no members yet, so its key is made at the first start.
    run_open(&["seed", "--data-dir", &shown(&migrated), "--members", "1", "--tokens", &shown(&tokens)]).expect_code(0);
    assert_private(&migrated);
}

// M3: a mall of an earlier version, in a folder that others may read.
#[test]
fn an_open_mall_is_closed_or_reported() {
    let folder = TempFolder::new();
    let (mall, tokens) = (folder.path().join("mall"), folder.path().join("tokens.jsonl"));
    let seed = || run_open(&["seed", "--data-dir", &shown(&mall), "--members", "1", "--tokens", &shown(&tokens)]);
    seed().expect_code(0);
    set_mode(&mall, 0o755);
    for name in ["onrush.db", "onrush.lock"] {
        set_mode(&mall.join(name), 0o644);
    }
    seed().expect_code(0).assert_shows("other users may read the data folder").assert_shows("its mode is 600 now");
    set_mode(&mall, 0o700);
    assert_private(&mall);
}

// L10
#[test]
fn a_lost_key_is_not_replaced() {
    let folder = TempFolder::new();
    let (mall, tokens) = (folder.path().join("mall"), folder.path().join("tokens.jsonl"));
    let args = ["seed", "--data-dir", &shown(&mall), "--members", "1", "--tokens", &shown(&tokens)];
    run(&args).expect_code(0);
    let (key, kept) = (mall.join("secret.key"), folder.path().join("kept.key"));
    fs::rename(&key, &kept).expect("it is moved");
    let refused = run(&args).expect_code(2).assert_shows("secret.key is missing").assert_shows("--secret");
    assert!(refused.err.contains("head -c 32 /dev/urandom"), "the way to begin anew: {}", refused.err);
    assert!(!key.exists(), "no key was made");
    // With the key as a setting it starts.
    let hex: String = fs::read(&kept).expect("32 bytes").iter().map(|byte| format!("{byte:02x}")).collect();
    run_command(onrush(&args).env("ONRUSH_SECRET", hex)).expect_code(0);
    fs::rename(&kept, &key).expect("it is moved back");
    run(&args).expect_code(0);
}

// L10
#[test]
fn a_key_that_others_may_read_is_refused() {
    let folder = TempFolder::new();
    let (mall, tokens) = (folder.path().join("mall"), folder.path().join("tokens.jsonl"));
    let args = ["seed", "--data-dir", &shown(&mall), "--members", "1", "--tokens", &shown(&tokens)];
    run(&args).expect_code(0);
    let key = mall.join("secret.key");
    for exposed in [0o644, 0o602] {
        set_mode(&key, exposed);
        run(&args).expect_code(2).assert_shows("chmod 600");
    }
    set_mode(&key, 0o640);
    run(&args).expect_code(0);
}
