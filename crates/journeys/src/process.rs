//! The real binary as a separate process, restartable on the same data.

use crate::{
    backends::Backends,
    client::{BlockingClient, BlockingRequest, TIME_LIMIT},
};
use kit::ports::Stopwatch;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};
use testkit::TempFolder;

pub const OPERATOR: (&str, &str) = ("operator@test.onrush.example", "autumn-leaves-2026");

/// Data folder of a test's processes.
pub struct DataDir {
    folder: TempFolder,
    /// `None`: the data are in the folder, on SQLite.
    backends: Option<Backends>,
}

/// One running process. Dropping the value kills it.
pub struct TestProcess {
    child: Child,
    pub address: SocketAddr,
}

/// A member made by `onrush seed`.
#[derive(Clone, Debug)]
pub struct SeededMember {
    pub id: String,
    pub token: String,
}

/// Settings of one start.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Runs every hop of a checkout in its own transaction. Always so on servers.
    pub hop_by_hop: bool,
    /// Saga mode of new checkouts.
    pub choreographed: bool,
    /// Point at which the process crashes; see `kit::testing::crash_point`.
    pub crash_point: Option<String>,
    /// Time limit for payment, in seconds. `None`: the default.
    pub unpaid_seconds: Option<u32>,
    /// Strategy for claims. `None`: the default.
    pub claim_strategy: Option<&'static str>,
    /// `None`: a free port.
    pub listen: Option<SocketAddr>,
    /// Services of this process, and the addresses of the others. `None`: all services run here.
    pub split: Option<(String, String)>,
    /// Further arguments of `onrush serve`.
    pub more: Vec<String>,
    /// `ONRUSH_LOG`. `None`: the default.
    pub log: Option<&'static str>,
}

/// The binary with crash points. Cargo puts it one folder above its tests.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.parent().and_then(Path::parent).expect("tests are two folders deep");
    folder.join("onrush-under-test")
}

impl DataDir {
    /// On SQLite.
    #[expect(clippy::new_without_default, reason = "it makes a folder; that should be written out")]
    pub fn new() -> DataDir {
        DataDir { folder: TempFolder::new(), backends: None }
    }

    /// On PostgreSQL, with the optional Kafka and Redis.
    pub fn on_backends(backends: Backends) -> DataDir {
        DataDir { folder: TempFolder::new(), backends: Some(backends) }
    }

    /// A copy of the data. No process may use the original.
    pub fn copy(&self) -> DataDir {
        let copy = DataDir { folder: TempFolder::new(), backends: self.backends.as_ref().map(Backends::copy) };
        for entry in std::fs::read_dir(self.path()).expect("the folder is there") {
            let entry = entry.expect("the entry is readable");
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("the file is copied");
        }
        copy
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The backends of this mall.
    pub fn backends(&self) -> &Backends {
        self.backends.as_ref().expect("this mall runs on servers")
    }

    /// Number of rows in a service's table.
    pub fn count(&self, service: &str, table: &str) -> i64 {
        if let Some(backends) = &self.backends {
            return backends.number(service, &format!("select count(*) from {service}.{table}"));
        }
        let connection = rusqlite::Connection::open(self.path().join("onrush.db")).expect("the database opens");
        connection.query_one(&format!("select count(*) from {table}"), [], |row| row.get(0)).expect("the query runs")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary());
        command.arg(name).arg("--data-dir").arg(self.path()).env_clear().env("RUST_LOG", "error").stdin(Stdio::null());
        if let Some(backends) = &self.backends {
            command.args(backends.arguments());
        }
        command
    }

    /// Starts a process and returns when it serves. `None`: it crashed before that.
    pub fn try_start(&self, start: &StartOptions) -> Option<TestProcess> {
        let mut command = self.command("serve");
        let listen = start.listen.map_or_else(|| "127.0.0.1:0".to_owned(), |address| address.to_string());
        command.args(["--listen", &listen, "--test-provider", "true"]);
        // The setting is rejected on servers, because several processes have nothing to fold.
        if self.backends.is_none() {
            command.args(["--fold", if start.hop_by_hop { "false" } else { "true" }]);
        }
        // The tests' clients all come from one address, and a few members send the requests of many.
        command.env("ONRUSH_LIMITS", "off");
        command.args(["--saga", if start.choreographed { "choreographed" } else { "orchestrated" }]);
        command.args(["--operator-email", OPERATOR.0, "--operator-password", OPERATOR.1]);
        if let Some((only, peers)) = &start.split {
            command.args(["--only", only, "--peers", peers]);
        }
        if let Some(strategy) = start.claim_strategy {
            command.args(["--claim-strategy", strategy]);
        }
        if let Some(seconds) = start.unpaid_seconds {
            command.args(["--unpaid-timeout-seconds", &seconds.to_string()]);
        }
        command.args(&start.more);
        if let Some(log) = start.log {
            command.env("ONRUSH_LOG", log);
        }
        if let Some(point) = &start.crash_point {
            command.env("ONRUSH_CRASH_POINT", point);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.path().join("stderr.log")).expect("a log file");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary is there");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("its output can be read");
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        match address {
            Some(address) => Some(TestProcess { child, address }),
            None => {
                let status = child.wait().expect("it exits");
                assert!(!status.success(), "exit code 0 without an address");
                None
            }
        }
    }

    pub fn start(&self, start: &StartOptions) -> TestProcess {
        self.try_start(start).unwrap_or_else(|| panic!("the process does not start: {}", self.log()))
    }

    /// Standard error of all processes, for failure messages.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("stderr.log")).unwrap_or_default()
    }

    /// The generated secret, as the setting expects it.
    pub fn secret(&self) -> String {
        let bytes = std::fs::read(self.path().join("secret.key")).expect("the mall was started before");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Runs `onrush import` from another data folder, which no process may use.
    pub fn import(&self, from: &DataDir) {
        let output = self.command("import").arg("--from").arg(from.path()).output().expect("the command runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(output.status.code(), Some(0), "{}\n{}", text(&output.stdout), text(&output.stderr));
    }

    /// Output of `onrush services` with the settings of a process.
    pub fn services(&self, split: Option<&(String, String)>) -> String {
        let mut command = self.command("services");
        if let Some((only, peers)) = split {
            command.args(["--only", only, "--peers", peers]);
        }
        let output = command.output().expect("the command runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `onrush seed`. Returns shoppers with charged wallets.
    pub fn seed(&self, members: u32) -> Vec<SeededMember> {
        let tokens = self.tokens_file();
        let output =
            self.command("seed").args(["--members", &members.to_string(), "--tokens"]).arg(&tokens).output().expect("the command runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(&tokens).expect("seed wrote the tokens");
        let member = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            let text = |name: &str| line[name].as_str().expect("a text").to_owned();
            SeededMember { id: text("member_id"), token: text("access_token") }
        };
        text.lines().map(member).collect()
    }

    pub fn tokens_file(&self) -> PathBuf {
        self.path().join("tokens.jsonl")
    }

    /// Runs `onrush audit` during work in progress. Fails on any violated invariant.
    #[track_caller]
    pub fn assert_no_violations(&self, context: &str) {
        let output = self.command("audit").args(["--json", "--patience", "0"]).output().expect("the command runs");
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let report: Value = serde_json::from_str(&output).unwrap_or_else(|_| panic!("{context}: no report: {output}\n{}", self.log()));
        assert_eq!(report["violations"], Value::Array(Vec::new()), "{context}: {}", self.log());
    }

    /// Runs `onrush audit`. Fails unless the mall comes to rest within the time limit and every invariant holds.
    #[track_caller]
    pub fn assert_clean(&self, context: &str) {
        let output = self.command("audit").args(["--patience", &TIME_LIMIT.as_secs().to_string()]).output().expect("the command runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(output.status.code(), Some(0), "{context}: {}\n{}\n{}", text(&output.stdout), text(&output.stderr), self.log());
    }
}

impl TestProcess {
    /// The operator's access token.
    pub fn operator_token(&self) -> String {
        let (email, password) = OPERATOR;
        let signed_in = BlockingRequest::post("/v1/sessions", &serde_json::json!({"email": email, "password": password}));
        let signed_in = self.client().send(&signed_in).expect("the server answers").expect(200);
        signed_in.body["access_token"].as_str().expect("a token").to_owned()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("it exits");
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends SIGSTOP. [`TestProcess::resume`] continues the process.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("/bin/kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success(), "the process has exited");
    }

    /// Waits for the process to exit. `None`: it still runs.
    pub fn wait_for_exit(&mut self, within: Duration) -> Option<ExitStatus> {
        let start = Stopwatch::start();
        while start.elapsed() < within {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    pub fn is_dead(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_some()
    }

    pub fn client(&self) -> BlockingClient {
        BlockingClient::of(self.address)
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
