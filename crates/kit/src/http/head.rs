//! Looks at every request's head before the HTTP library does, and at nothing else.
//!
//! Libraries are lenient where intermediaries are not, and requests are smuggled through the difference. So what is ambiguous is refused:
//! two lengths, bare line feeds, folded lines, spaces around names. The bytes of bodies are only counted, to find the next head.

use contracts::Code;

/// Longest request target.
const MAX_TARGET: usize = 8 * 1024;
/// Longest head: request line and headers.
pub(super) const MAX_HEAD: usize = 32 * 1024;
/// Most header fields; the HTTP library takes no more.
const MAX_FIELDS: usize = 100;
/// Longest line of a chunked body that is not data: 16 digits, or a trailer.
const MAX_CHUNK_LINE: usize = 4 * 1024;

/// Follows one connection's incoming bytes.
#[derive(Debug, Default)]
pub(super) struct Framer {
    state: State,
    /// Heads that were passed on.
    heads: u64,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// Bytes of a body of known length still to come.
    Body(u64),
    Chunked(Chunked),
}

#[derive(Debug)]
enum Chunked {
    /// In the line with a chunk's size.
    Size {
        size: u64,
        digits: u8,
        extension: bool,
        length: usize,
        cr: bool,
    },
    Data(u64),
    /// The line end behind a chunk's data.
    DataEnd {
        cr: bool,
    },
    /// In the trailers; `length` is that of the current line.
    Trailer {
        length: usize,
        cr: bool,
    },
}

/// What to do with the bytes seen so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of them may be passed on.
    Pass,
    /// The bytes from here on are the beginning of a head: wait for the rest of it.
    Wait { from: usize },
    /// The head that begins here is refused.
    Refuse { from: usize, code: Code },
    /// The body is broken here. What follows must not be read at all.
    Broken { from: usize },
}

impl Framer {
    /// True between requests.
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Head)
    }

    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Looks at new bytes. After `Wait` they must be given again, from there on, with more behind them.
    pub fn feed(&mut self, bytes: &[u8]) -> Verdict {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                State::Head => match read_head(&bytes[at..]) {
                    Ok(Some((length, body))) => {
                        at += length;
                        self.heads += 1;
                        self.state = body;
                    }
                    Ok(None) => return Verdict::Wait { from: at },
                    Err(code) => return Verdict::Refuse { from: at, code },
                },
                State::Body(left) => {
                    let taken = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    at += taken;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                }
                State::Chunked(Chunked::Data(left)) => {
                    let taken = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    at += taken;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Chunked(Chunked::DataEnd { cr: false });
                    }
                }
                State::Chunked(chunked) => {
                    match chunked.step(bytes[at]) {
                        Some(Next::Stay) => {}
                        Some(Next::To(next)) => self.state = State::Chunked(next),
                        Some(Next::Done) => self.state = State::Head,
                        None => return Verdict::Broken { from: at },
                    }
                    at += 1;
                }
            }
        }
        Verdict::Pass
    }
}

const FIRST_SIZE: Chunked = Chunked::Size { size: 0, digits: 0, extension: false, length: 0, cr: false };

enum Next {
    Stay,
    To(Chunked),
    Done,
}

impl Chunked {
    /// One byte of a chunked body outside its data. `None`: not what the framing demands.
    fn step(&mut self, byte: u8) -> Option<Next> {
        match self {
            Chunked::Size { size, digits, extension, length, cr } => {
                *length += 1;
                if *length > MAX_CHUNK_LINE {
                    return None;
                }
                match byte {
                    b'\n' if *cr && *digits > 0 && *size == 0 => return Some(Next::To(Chunked::Trailer { length: 0, cr: false })),
                    b'\n' if *cr && *digits > 0 => return Some(Next::To(Chunked::Data(*size))),
                    _ if *cr => return None,
                    b'\r' => *cr = true,
                    b';' if *digits > 0 => *extension = true,
                    _ if *extension && (byte == b'\t' || (b' '..=b'~').contains(&byte)) => {}
                    _ => {
                        let digit = char::from(byte).to_digit(16)?;
                        *size = size.checked_mul(16)?.checked_add(digit.into())?;
                        *digits = digits.checked_add(1).filter(|digits| *digits <= 16)?;
                    }
                }
                Some(Next::Stay)
            }
            Chunked::DataEnd { cr } => match (*cr, byte) {
                (false, b'\r') => {
                    *cr = true;
                    Some(Next::Stay)
                }
                (true, b'\n') => Some(Next::To(FIRST_SIZE)),
                _ => None,
            },
            Chunked::Trailer { length, cr } => match (*cr, byte) {
                (true, b'\n') if *length == 0 => Some(Next::Done),
                (true, b'\n') => Some(Next::To(Chunked::Trailer { length: 0, cr: false })),
                (true, _) | (false, b'\n' | 0) => None,
                (false, b'\r') => {
                    *cr = true;
                    Some(Next::Stay)
                }
                (false, _) => {
                    *length += 1;
                    (*length <= MAX_CHUNK_LINE).then_some(Next::Stay)
                }
            },
            Chunked::Data(_) => None,
        }
    }
}

/// The length of a complete head and what follows it. `None` when it is not complete yet.
fn read_head(bytes: &[u8]) -> Result<Option<(usize, State)>, Code> {
    let mut at = 0;
    // An empty line before the request is a courtesy to old clients.
    while bytes[at..].starts_with(b"\r\n") && at < 8 {
        at += 2;
    }
    let Some((line, next)) = next_line(bytes, at)? else {
        let target_is_long = bytes.len() - at > MAX_TARGET + 16;
        return if target_is_long { Err(Code::UriTooLong) } else { Ok(None) };
    };
    let old = read_request_line(line)?;
    let mut fields = Fields::default();
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
            return fields.body(old).map(|body| Some((at, body)));
        }
        fields.read(line)?;
    }
}

/// The line that begins at `at`, and where the next begins. A line feed alone, or a carriage return alone, ends nothing.
fn next_line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Code> {
    let rest = &bytes[at..];
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        let whole = rest.strip_suffix(b"\r").unwrap_or(rest);
        return if whole.iter().any(|byte| is_control(*byte)) { Err(Code::BadRequest) } else { Ok(None) };
    };
    let line = rest[..end].strip_suffix(b"\r").ok_or(Code::BadRequest)?;
    if line.iter().any(|byte| is_control(*byte)) {
        return Err(Code::BadRequest);
    }
    if !line.is_ascii() && std::str::from_utf8(line).is_err() {
        return Err(Code::BadEncoding);
    }
    Ok(Some((line, at + end + 1)))
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Checks `METHOD target HTTP/1.x`; true for HTTP/1.0.
fn read_request_line(line: &[u8]) -> Result<bool, Code> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(if line.len() > MAX_TARGET + 16 { Code::UriTooLong } else { Code::BadRequest });
    };
    if target.len() > MAX_TARGET {
        return Err(Code::UriTooLong);
    }
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) || target.is_empty() || target.contains(&b'\t') {
        return Err(Code::BadRequest);
    }
    if !target.is_ascii() {
        return Err(Code::BadEncoding);
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Code::BadRequest),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[derive(Default)]
struct Fields {
    count: usize,
    hosts: u8,
    length: Option<u64>,
    chunked: bool,
}

impl Fields {
    fn read(&mut self, line: &[u8]) -> Result<(), Code> {
        self.count += 1;
        if self.count > MAX_FIELDS {
            return Err(Code::HeadersTooLarge);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Code::BadRequest)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // Also refuses folded lines, which begin with a space, and spaces before the colon.
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Code::BadRequest);
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts = self.hosts.saturating_add(1),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let value = value.trim_ascii();
                let digits = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
                if !digits || self.length.is_some() {
                    return Err(Code::BadRequest);
                }
                self.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Code::BadRequest);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn body(&self, old: bool) -> Result<State, Code> {
        let hosts_fit = self.hosts == 1 || (old && self.hosts == 0);
        if !hosts_fit || (self.chunked && (old || self.length.is_some())) {
            return Err(Code::BadRequest);
        }
        Ok(match self.length {
            _ if self.chunked => State::Chunked(FIRST_SIZE),
            None | Some(0) => State::Head,
            Some(length) => State::Body(length),
        })
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
