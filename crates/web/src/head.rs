//! Strict check of every request head, before hyper parses it.
//!
//! Libraries are more lenient than intermediaries, and request smuggling exploits the difference. So this module refuses ambiguous heads:
//! two lengths, bare line feeds, folded lines, spaces around names. It counts the bytes of bodies only to find the next head.

use contracts::Code;
use std::net::Ipv6Addr;

/// Longest request target, in bytes.
const MAX_TARGET: usize = 8 * 1024;
/// Longest head in bytes: request line and headers.
pub(super) const MAX_HEAD: usize = 32 * 1024;
/// Most header fields; hyper accepts no more.
const MAX_FIELDS: usize = 100;
/// Longest line in the framing of a chunked body, in bytes: a chunk size with extensions, or a trailer.
const MAX_CHUNK_LINE: usize = 4 * 1024;

/// Tracks request boundaries in the bytes that arrive on one connection.
#[derive(Debug, Default)]
pub(super) struct Framer {
    state: FramerState,
    /// Heads accepted so far.
    head_count: u64,
}

#[derive(Debug, Default)]
enum FramerState {
    #[default]
    Head,
    /// Remaining bytes of a body with a known length.
    Body(u64),
    Chunked(Chunked),
}

#[derive(Debug)]
enum Chunked {
    /// In the line with the size of a chunk.
    Size {
        size: u64,
        digits: u8,
        in_extension: bool,
        length: usize,
        seen_cr: bool,
    },
    Data(u64),
    /// In the line end after the data of a chunk.
    DataEnd {
        seen_cr: bool,
    },
    /// In the trailers. `length` counts the bytes of the current line.
    Trailer {
        length: usize,
        seen_cr: bool,
    },
}

/// Instruction for the bytes given to [`Framer::feed`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FramingVerdict {
    /// hyper may read all of them.
    Pass,
    /// An incomplete head begins at `from`. Feed it again with more bytes.
    Wait { from: usize },
    /// The head that begins at `from` is refused.
    Refuse { from: usize, code: Code },
    /// The body is invalid at `from`. The connection must read no further.
    Broken { from: usize },
}

impl Framer {
    /// True when the next byte begins a request head.
    pub fn is_between_requests(&self) -> bool {
        matches!(self.state, FramerState::Head)
    }

    pub fn head_count(&self) -> u64 {
        self.head_count
    }

    /// Checks new bytes. After `Wait { from }` the caller feeds the bytes from `from` again, with more appended.
    pub fn feed(&mut self, bytes: &[u8]) -> FramingVerdict {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                FramerState::Head => match read_head(&bytes[at..]) {
                    Ok(Some((length, body))) => {
                        at += length;
                        self.head_count += 1;
                        self.state = body;
                    }
                    Ok(None) => return FramingVerdict::Wait { from: at },
                    Err(code) => return FramingVerdict::Refuse { from: at, code },
                },
                FramerState::Body(left) => {
                    let taken = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    at += taken;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = FramerState::Head;
                    }
                }
                FramerState::Chunked(Chunked::Data(left)) => {
                    let taken = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    at += taken;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = FramerState::Chunked(Chunked::DataEnd { seen_cr: false });
                    }
                }
                FramerState::Chunked(chunked) => {
                    match chunked.step(bytes[at]) {
                        Some(ChunkStep::Stay) => {}
                        Some(ChunkStep::To(next)) => self.state = FramerState::Chunked(next),
                        Some(ChunkStep::Done) => self.state = FramerState::Head,
                        None => return FramingVerdict::Broken { from: at },
                    }
                    at += 1;
                }
            }
        }
        FramingVerdict::Pass
    }
}

const NEW_CHUNK: Chunked = Chunked::Size { size: 0, digits: 0, in_extension: false, length: 0, seen_cr: false };

enum ChunkStep {
    Stay,
    To(Chunked),
    Done,
}

impl Chunked {
    /// Takes one framing byte of a chunked body. `None`: the byte violates the framing.
    fn step(&mut self, byte: u8) -> Option<ChunkStep> {
        match self {
            Chunked::Size { size, digits, in_extension, length, seen_cr } => {
                *length += 1;
                if *length > MAX_CHUNK_LINE {
                    return None;
                }
                match byte {
                    b'\n' if *seen_cr && *digits > 0 && *size == 0 => {
                        return Some(ChunkStep::To(Chunked::Trailer { length: 0, seen_cr: false }));
                    }
                    b'\n' if *seen_cr && *digits > 0 => return Some(ChunkStep::To(Chunked::Data(*size))),
                    _ if *seen_cr => return None,
                    b'\r' => *seen_cr = true,
                    b';' if *digits > 0 => *in_extension = true,
                    _ if *in_extension && (byte == b'\t' || (b' '..=b'~').contains(&byte)) => {}
                    _ => {
                        let digit = char::from(byte).to_digit(16)?;
                        *size = size.checked_mul(16)?.checked_add(digit.into())?;
                        *digits = digits.checked_add(1).filter(|digits| *digits <= 16)?;
                    }
                }
                Some(ChunkStep::Stay)
            }
            Chunked::DataEnd { seen_cr } => match (*seen_cr, byte) {
                (false, b'\r') => {
                    *seen_cr = true;
                    Some(ChunkStep::Stay)
                }
                (true, b'\n') => Some(ChunkStep::To(NEW_CHUNK)),
                _ => None,
            },
            Chunked::Trailer { length, seen_cr } => match (*seen_cr, byte) {
                (true, b'\n') if *length == 0 => Some(ChunkStep::Done),
                (true, b'\n') => Some(ChunkStep::To(Chunked::Trailer { length: 0, seen_cr: false })),
                (true, _) | (false, b'\n' | 0) => None,
                (false, b'\r') => {
                    *seen_cr = true;
                    Some(ChunkStep::Stay)
                }
                (false, _) => {
                    *length += 1;
                    (*length <= MAX_CHUNK_LINE).then_some(ChunkStep::Stay)
                }
            },
            Chunked::Data(_) => None,
        }
    }
}

/// Length of a complete head, and the state after it. `None`: the head is incomplete.
fn read_head(bytes: &[u8]) -> Result<Option<(usize, FramerState)>, Code> {
    let mut at = 0;
    // Old clients send empty lines before a request.
    while bytes[at..].starts_with(b"\r\n") && at < 8 {
        at += 2;
    }
    let Some((line, next)) = next_line(bytes, at)? else {
        let target_is_long = bytes.len() - at > MAX_TARGET + 16;
        return if target_is_long { Err(Code::UriTooLong) } else { Ok(None) };
    };
    let is_http_10 = read_request_line(line)?;
    let mut fields = HeadFields::default();
    at = next;
    loop {
        let Some((line, next)) = next_line(bytes, at)? else {
            return if bytes.len() > MAX_HEAD { Err(Code::HeadersTooLarge) } else { Ok(None) };
        };
        if next > MAX_HEAD {
            return Err(Code::HeadersTooLarge);
        }
        at = next;
        if line.is_empty() {
            return fields.body(is_http_10).map(|body| Some((at, body)));
        }
        fields.read(line)?;
    }
}

/// The line that begins at `at`, and the position of the next line. Only CR LF ends a line, never CR or LF alone.
fn next_line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Code> {
    let rest = &bytes[at..];
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        let whole = rest.strip_suffix(b"\r").unwrap_or(rest);
        return if whole.iter().any(|byte| is_control_byte(*byte)) { Err(Code::BadRequest) } else { Ok(None) };
    };
    let line = rest[..end].strip_suffix(b"\r").ok_or(Code::BadRequest)?;
    if line.iter().any(|byte| is_control_byte(*byte)) {
        return Err(Code::BadRequest);
    }
    if !line.is_ascii() && std::str::from_utf8(line).is_err() {
        return Err(Code::BadEncoding);
    }
    Ok(Some((line, at + end + 1)))
}

fn is_control_byte(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Checks `METHOD target HTTP/1.x`. Returns true for HTTP/1.0.
fn read_request_line(line: &[u8]) -> Result<bool, Code> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(if line.len() > MAX_TARGET + 16 { Code::UriTooLong } else { Code::BadRequest });
    };
    if target.len() > MAX_TARGET {
        return Err(Code::UriTooLong);
    }
    if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) || target.is_empty() || target.contains(&b'\t') {
        return Err(Code::BadRequest);
    }
    if !target.is_ascii() {
        return Err(Code::BadEncoding);
    }
    if !is_target(method, target) {
        return Err(Code::BadRequest);
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Code::BadRequest),
    }
}

/// True for a path, for `*` with OPTIONS, and for an HTTP URI with a host and without a user (RFC 9112, 3.2).
fn is_target(method: &[u8], target: &[u8]) -> bool {
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return true;
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    });
    let authority = rest.map(|rest| rest.split(|byte| matches!(byte, b'/' | b'?')).next().unwrap_or_default());
    authority.is_some_and(|authority| !authority.is_empty() && is_host(authority))
}

/// True for `uri-host [":" port]` (RFC 9110, 7.2). The host may be empty.
fn is_host(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (is_valid, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let Some((address, rest)) = inner.split_once(']') else { return false };
            (address.parse::<Ipv6Addr>().is_ok(), rest)
        }
        None => {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_registered_name(name.as_bytes()), rest)
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok());
    is_valid && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

/// True for letters, digits, the marks of names, and `%` with two hexadecimal digits (RFC 3986, 3.2.2).
fn is_registered_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
                _ => return false,
            },
            byte if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => after,
            _ => return false,
        };
    }
    true
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[derive(Default)]
struct HeadFields {
    count: usize,
    host_count: u8,
    length: Option<u64>,
    is_chunked: bool,
    /// True for an expectation other than `100-continue`.
    is_unknown_expected: bool,
}

impl HeadFields {
    fn read(&mut self, line: &[u8]) -> Result<(), Code> {
        self.count += 1;
        if self.count > MAX_FIELDS {
            return Err(Code::HeadersTooLarge);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Code::BadRequest)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // Also refuses folded lines, which begin with a space, and spaces before the colon.
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Code::BadRequest);
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.host_count = self.host_count.saturating_add(1);
                if !is_host(value.trim_ascii()) {
                    return Err(Code::BadRequest);
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") && !value.trim_ascii().eq_ignore_ascii_case(b"100-continue") => {
                self.is_unknown_expected = true;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let value = value.trim_ascii();
                let digits = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
                if !digits || self.length.is_some() {
                    return Err(Code::BadRequest);
                }
                self.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.is_chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Code::BadRequest);
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn body(&self, is_http_10: bool) -> Result<FramerState, Code> {
        let has_valid_hosts = self.host_count == 1 || (is_http_10 && self.host_count == 0);
        if !has_valid_hosts || (self.is_chunked && (is_http_10 || self.length.is_some())) {
            return Err(Code::BadRequest);
        }
        if self.is_unknown_expected {
            return Err(Code::ExpectationFailed);
        }
        Ok(match self.length {
            _ if self.is_chunked => FramerState::Chunked(NEW_CHUNK),
            None | Some(0) => FramerState::Head,
            Some(length) => FramerState::Body(length),
        })
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
