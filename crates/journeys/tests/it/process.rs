//! The real binary as a process of its own: started, talked to over TCP, killed, started again on the same data.

use kit::{
    ports::{Stopwatch, new_id},
    testing::TempFolder,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// Built with the crash points in it.
const BINARY: &str = env!("CARGO_BIN_EXE_onrush-under-test");
/// A process that does not do in this time what is expected of it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the processes of one test share: the data.
pub struct Place {
    folder: TempFolder,
}

/// One running process. It does not outlive this value.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

/// Someone who was seeded.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    pub token: String,
}

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Start {
    pub hop_by_hop: bool,
    /// How new checkouts are led.
    pub choreographed: bool,
    /// Where the process is to die; see `kit::testing::crash_point`.
    pub crash_point: Option<String>,
    /// How long an order may stay unpaid, where it matters.
    pub unpaid_seconds: Option<u32>,
}

pub const OPERATOR: (&str, &str) = ("operator@test.onrush.example", "autumn-leaves-2026");

impl Place {
    pub fn new() -> Place {
        Place { folder: TempFolder::new() }
    }

    /// Another place with the same data. Nobody may be writing to this one.
    pub fn copy(&self) -> Place {
        let copy = Place::new();
        for entry in std::fs::read_dir(self.path()).expect("the folder is there") {
            let entry = entry.expect("it can be listed");
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("the file is copied");
        }
        copy
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.arg(name).arg("--data-dir").arg(self.path()).env_clear().env("RUST_LOG", "error").stdin(Stdio::null());
        command
    }

    /// Starts, and returns when the process serves. `None` when it died before that.
    pub fn try_start(&self, start: &Start) -> Option<Server> {
        let mut command = self.command("serve");
        command.args(["--listen", "127.0.0.1:0", "--test-provider", "true", "--fold", if start.hop_by_hop { "false" } else { "true" }]);
        command.args(["--saga", if start.choreographed { "choreographed" } else { "orchestrated" }]);
        command.args(["--operator-email", OPERATOR.0, "--operator-password", OPERATOR.1]);
        if let Some(seconds) = start.unpaid_seconds {
            command.args(["--unpaid-timeout-seconds", &seconds.to_string()]);
        }
        if let Some(point) = &start.crash_point {
            command.env("ONRUSH_CRASH_POINT", point);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.path().join("stderr.log")).expect("a log file");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary is there");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("its output can be read");
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        match address {
            Some(address) => Some(Server { child, address }),
            None => {
                let status = child.wait().expect("it ends");
                assert!(!status.success(), "it ended without a word");
                None
            }
        }
    }

    pub fn start(&self, start: &Start) -> Server {
        self.try_start(start).unwrap_or_else(|| panic!("it does not start: {}", self.log()))
    }

    /// What processes wrote to standard error; for messages of failed tests.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("stderr.log")).unwrap_or_default()
    }

    /// Shoppers with charged wallets, made by `onrush seed`.
    pub fn seed(&self, members: u32) -> Vec<Member> {
        let tokens = self.tokens();
        let output = self.command("seed").args(["--members", &members.to_string(), "--tokens"]).arg(&tokens).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(&tokens).expect("it wrote the tokens");
        let member = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            let text = |name: &str| line[name].as_str().expect("a text").to_owned();
            Member { id: text("member_id"), token: text("access_token") }
        };
        text.lines().map(member).collect()
    }

    pub fn tokens(&self) -> PathBuf {
        self.path().join("tokens.jsonl")
    }

    /// `onrush audit`, which must find everything at rest and in order.
    #[track_caller]
    pub fn assert_clean(&self, story: &str) {
        let output = self.command("audit").output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{story}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

impl Server {
    /// An access token of the operator.
    pub fn operator(&self) -> String {
        let (email, password) = OPERATOR;
        let signed_in = Request::post("/v1/sessions", &serde_json::json!({"email": email, "password": password}));
        let signed_in = self.client().send(&signed_in).expect("it answers").expect(200);
        signed_in.body["access_token"].as_str().expect("a token").to_owned()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it ends");
    }

    pub fn terminate(&self) {
        let status = Command::new("/bin/kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill is there");
        assert!(status.success(), "the process was gone");
    }

    /// Waits for its end.
    pub fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let start = Stopwatch::start();
        while start.elapsed() < within {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    pub fn is_dead(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_some()
    }

    pub fn client(&self) -> Client {
        Client::of(self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection to a server, one request at a time. Made again after an error.
pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub bytes: Vec<u8>,
    /// Null where the body is not JSON.
    pub body: Value,
}

impl Response {
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        self
    }
    pub fn bytes_contain(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.bytes).contains(text)
    }
    pub fn problem(&self) -> &str {
        self.body["type"].as_str().and_then(|uri| uri.strip_prefix("/problems/")).unwrap_or("")
    }
}

/// A request that can be made again.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Request {
    pub fn get(path: impl Into<String>) -> Request {
        Request { method: "GET", path: path.into(), headers: Vec::new(), body: String::new() }
    }
    pub fn post(path: impl Into<String>, body: &Value) -> Request {
        let headers = vec![("content-type", "application/json".to_owned())];
        Request { method: "POST", path: path.into(), headers, body: body.to_string() }
    }
    pub fn put(path: impl Into<String>, body: &Value) -> Request {
        Request { method: "PUT", ..Request::post(path, body) }
    }
    pub fn delete(path: impl Into<String>) -> Request {
        Request { method: "DELETE", ..Request::get(path) }
    }
    pub fn bearer(self, token: &str) -> Request {
        self.header("authorization", format!("Bearer {token}"))
    }
    pub fn key(self, key: &str) -> Request {
        self.header("idempotency-key", key.to_owned())
    }
    /// With a key of its own.
    pub fn once(self) -> Request {
        let key = new_id().to_string();
        self.key(&key)
    }
    /// Answer when the order rests.
    pub fn wait(self) -> Request {
        self.wait_for(20)
    }
    pub fn wait_for(self, seconds: u32) -> Request {
        self.header("prefer", format!("wait={seconds}"))
    }
    fn header(mut self, name: &'static str, value: String) -> Request {
        self.headers.push((name, value));
        self
    }
}

impl Client {
    pub fn of(address: SocketAddr) -> Client {
        Client { address, connection: None }
    }

    /// An error says nothing about whether the request was acted on.
    pub fn send(&mut self, request: &Request) -> io::Result<Response> {
        let answer = self.exchange(request);
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            empty => {
                let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                empty.insert(BufReader::new(stream))
            }
        };
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.path, self.address);
        for (name, value) in &request.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n{}", request.body.len(), request.body));
        connection.get_mut().write_all(text.as_bytes())?;
        let response = read_response(connection)?;
        if response.headers.get("connection").is_some_and(|value| value == "close") {
            self.connection = None;
        }
        Ok(response)
    }
}

/// An answer that began and broke off is `InvalidData`; one that never began is any other error.
fn read_response(connection: &mut BufReader<TcpStream>) -> io::Result<Response> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    match status {
        Some(status) => read_rest(connection, status).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("no status in “{line}”"))),
    }
}

fn read_rest(connection: &mut BufReader<TcpStream>, status: u16) -> io::Result<Response> {
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut bytes = vec![0; length];
    connection.read_exact(&mut bytes)?;
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(Response { status, headers, bytes, body })
}
