//! A blocking HTTP client on one TCP connection, which sends exactly the bytes a test gives it.

use kit::ports::new_id;
use serde_json::Value;
use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Limit for an answer, and for a mall to come to rest.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// One connection to a server, with one request at a time. Reconnects after an error.
pub struct BlockingClient {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    /// Read and connect timeout.
    answer_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct BlockingResponse {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub bytes: Vec<u8>,
    /// `Null`: the body is not JSON.
    pub body: Value,
}

impl BlockingResponse {
    #[track_caller]
    pub fn expect(self, status: u16) -> BlockingResponse {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        self
    }
    pub fn bytes_contain(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.bytes).contains(text)
    }
    pub fn problem(&self) -> &str {
        problem(&self.body)
    }
}

/// Slug of the problem in this body. Empty: the body is not a problem.
pub fn problem(body: &Value) -> &str {
    body["type"].as_str().and_then(|uri| uri.strip_prefix("/problems/")).unwrap_or("")
}

/// A request that can be repeated.
#[derive(Clone, Debug)]
pub struct BlockingRequest {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl BlockingRequest {
    pub fn get(path: impl Into<String>) -> BlockingRequest {
        BlockingRequest { method: "GET", path: path.into(), headers: Vec::new(), body: String::new() }
    }
    pub fn post(path: impl Into<String>, body: &Value) -> BlockingRequest {
        let headers = vec![("content-type", "application/json".to_owned())];
        BlockingRequest { method: "POST", path: path.into(), headers, body: body.to_string() }
    }
    pub fn put(path: impl Into<String>, body: &Value) -> BlockingRequest {
        BlockingRequest { method: "PUT", ..BlockingRequest::post(path, body) }
    }
    pub fn delete(path: impl Into<String>) -> BlockingRequest {
        BlockingRequest { method: "DELETE", ..BlockingRequest::get(path) }
    }
    pub fn bearer(self, token: &str) -> BlockingRequest {
        self.header("authorization", format!("Bearer {token}"))
    }
    pub fn key(self, key: &str) -> BlockingRequest {
        self.header("idempotency-key", key.to_owned())
    }
    /// Sets a new idempotency key.
    pub fn with_new_key(self) -> BlockingRequest {
        let key = new_id().to_string();
        self.key(&key)
    }
    /// Asks for the answer when the order rests.
    pub fn wait(self) -> BlockingRequest {
        self.wait_for(20)
    }
    pub fn wait_for(self, seconds: u32) -> BlockingRequest {
        self.header("prefer", format!("wait={seconds}"))
    }
    /// Asks for 202 once the claim is durable, before it is settled.
    pub fn respond_async(self) -> BlockingRequest {
        self.header("prefer", "respond-async".to_owned())
    }
    /// Sets a header, in place of an earlier one of this name.
    pub fn header(mut self, name: &'static str, value: String) -> BlockingRequest {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }
}

impl BlockingClient {
    pub fn of(address: SocketAddr) -> BlockingClient {
        BlockingClient { address, connection: None, answer_timeout: TIME_LIMIT }
    }

    /// Sets the time limit for an answer.
    #[must_use]
    pub fn within(self, answer_timeout: Duration) -> BlockingClient {
        BlockingClient { answer_timeout, ..self }
    }

    /// `Err`: the connection failed. The server may have executed the request.
    pub fn send(&mut self, request: &BlockingRequest) -> io::Result<BlockingResponse> {
        let answer = self.exchange(request);
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    fn exchange(&mut self, request: &BlockingRequest) -> io::Result<BlockingResponse> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            empty => {
                let stream = TcpStream::connect_timeout(&self.address, self.answer_timeout)?;
                stream.set_read_timeout(Some(self.answer_timeout))?;
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

/// `InvalidData`: the answer began and broke off. Other errors: no answer began.
fn read_response(connection: &mut BufReader<TcpStream>) -> io::Result<BlockingResponse> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    match status {
        Some(status) => read_rest(connection, status).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("no status in “{line}”"))),
    }
}

fn read_rest(connection: &mut BufReader<TcpStream>, status: u16) -> io::Result<BlockingResponse> {
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
    Ok(BlockingResponse { status, headers, bytes, body })
}
