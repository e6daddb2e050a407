//! A connection's bytes under the eyes of the [`Framer`], with the time limits that only bytes can tell.
//!
//! A refused head is never shown to the HTTP library. It gets a harmless request in its place, so that answers keep their order, and
//! [`Shared::refused`] tells the service which request that is and why.

use super::head::{Framer, MAX_HEAD, Verdict};
use contracts::Code;
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

/// Stands for a head that was refused.
const IN_ITS_PLACE: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// A client that still sends when we close gets this long to read our last answer: closing at once would destroy it.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes thrown away meanwhile.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;

/// What the bytes' side and the requests' side of one connection tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The number of the request that stands for a refused head, and why.
    refused: OnceLock<(u64, Code)>,
}

impl Shared {
    /// Why the request of this number is refused, if it is.
    pub fn refusal_of(&self, number: u64) -> Option<Code> {
        self.refused.get().filter(|(at, _)| *at == number).map(|(_, code)| *code)
    }
}

/// How long a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Half the time that a head may take: time is counted in these.
    pub tick: Duration,
    /// Ticks that a connection may be idle.
    pub idle: u32,
    /// Ticks that a client may not read what we send.
    pub stalled: u32,
}

/// Ticks that a head may take. The first may come at once, so this is between one and two.
const HEAD_TICKS: u32 = 2;

#[derive(Debug, PartialEq)]
enum Phase {
    /// Nothing came yet.
    New,
    Open,
    /// What comes is thrown away.
    Refused {
        discarded: usize,
    },
    /// Nothing more is read: what follows cannot be told from a request.
    Broken,
}

pub(super) struct Watched {
    stream: TcpStream,
    framer: Framer,
    shared: Arc<Shared>,
    phase: Phase,
    /// The beginning of a head.
    held: Vec<u8>,
    /// Looked at, and not read by the library yet.
    passed: Vec<u8>,
    passed_at: usize,
    times: Times,
    timer: Pin<Box<Sleep>>,
    /// Since something began that has a limit.
    ticks: u32,
    write_ticks: u32,
    linger: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub fn new(stream: TcpStream, shared: Arc<Shared>, times: Times) -> Watched {
        Watched {
            stream,
            framer: Framer::default(),
            shared,
            phase: Phase::New,
            held: Vec::new(),
            passed: Vec::new(),
            passed_at: 0,
            times,
            timer: Box::pin(sleep(times.tick)),
            ticks: 0,
            write_ticks: 0,
            linger: None,
        }
    }

    /// True once a tick. One slow timer for a connection's life costs nothing per request.
    fn ticked(&mut self, cx: &mut Context<'_>) -> bool {
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer.as_mut().reset(Instant::now() + self.times.tick);
        // Registers for the next one; a tick is never that short.
        let _ = self.timer.as_mut().poll(cx);
        true
    }

    /// Looks at `new` bytes, which follow what is held. What may be read is `Ok` and how many of `new`; the rest is held, or refused.
    fn judge(&mut self, verdict: &Verdict, bytes: usize) -> usize {
        match *verdict {
            Verdict::Pass => bytes,
            Verdict::Wait { from } => from,
            Verdict::Refuse { from, code } => {
                self.refuse(code);
                from
            }
            Verdict::Broken { from } => {
                self.phase = Phase::Broken;
                from
            }
        }
    }

    fn refuse(&mut self, code: Code) {
        let _ = self.shared.refused.set((self.framer.heads() + 1, code));
        self.phase = Phase::Refused { discarded: 0 };
        self.passed.extend_from_slice(IN_ITS_PLACE);
    }

    /// The usual way: a whole head in one read, looked at where it lies.
    fn read_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Progress>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let new = &buf.filled()[before..];
        if new.is_empty() {
            return Poll::Ready(Ok(Progress::Done));
        }
        self.ticks = 0;
        if self.phase == Phase::New {
            self.phase = Phase::Open;
        }
        let verdict = self.framer.feed(new);
        let may = self.judge(&verdict, new.len());
        if matches!(verdict, Verdict::Wait { .. }) {
            self.held.extend_from_slice(&new[may..]);
        }
        if may < new.len() {
            buf.set_filled(before + may);
        }
        Poll::Ready(Ok(if may > 0 { Progress::Done } else { Progress::Again }))
    }

    /// The rest of a head that came in pieces.
    fn read_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let mut space = [0; 8 * 1024];
        let mut buf = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        let new = buf.filled();
        if new.is_empty() {
            return Poll::Ready(Ok(Progress::Done));
        }
        let before = self.held.len();
        self.held.extend_from_slice(new);
        // Looking at every byte's arrival would cost the square of a head's length: once a line, or a kilobyte, is enough.
        let look = new.contains(&b'\n') || before / 1024 != self.held.len() / 1024 || self.held.len() > MAX_HEAD;
        if look {
            let held = std::mem::take(&mut self.held);
            let verdict = self.framer.feed(&held);
            let may = match verdict {
                // The refused head goes away; what came before it is read first.
                Verdict::Refuse { from, .. } | Verdict::Broken { from } => {
                    self.passed.extend_from_slice(&held[..from]);
                    self.judge(&verdict, held.len())
                }
                _ => {
                    let may = self.judge(&verdict, held.len());
                    self.passed.extend_from_slice(&held[..may]);
                    may
                }
            };
            if matches!(verdict, Verdict::Wait { .. }) {
                self.held.extend_from_slice(&held[may..]);
            }
            if may > 0 {
                self.ticks = 0;
            }
        }
        Poll::Ready(Ok(Progress::Again))
    }

    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 8 * 1024];
        loop {
            let mut buf = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            let got = buf.filled().len();
            if got == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Phase::Refused { discarded } = &mut self.phase {
                *discarded += got;
                if *discarded > MAX_DISCARDED {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Nothing came. True when it was waited for long enough.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.ticked(cx) {
            return false;
        }
        self.ticks += 1;
        let limit = if self.phase == Phase::New || !self.held.is_empty() {
            HEAD_TICKS
        } else if self.framer.is_between() {
            // While a request is answered the library does not read, so that this is not asked.
            self.times.idle
        } else {
            // A body is under way: its handler has a limit of its own.
            self.ticks = 0;
            return false;
        };
        self.ticks >= limit
    }

    fn overdue(&mut self) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.held.clear();
        self.refuse(Code::Timeout);
        Poll::Ready(Ok(()))
    }

    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.passed[self.passed_at..];
        let count = rest.len().min(buf.remaining());
        if count == 0 {
            return false;
        }
        buf.put_slice(&rest[..count]);
        self.passed_at += count;
        if self.passed_at == self.passed.len() {
            self.passed = Vec::new();
            self.passed_at = 0;
        }
        true
    }

    /// True when the client may still be sending what nobody will read.
    fn must_linger(&self) -> bool {
        matches!(self.phase, Phase::Refused { .. } | Phase::Broken) || !self.framer.is_between()
    }
}

enum Progress {
    /// The caller has bytes, or the end.
    Done,
    Again,
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_out(buf) {
                return Poll::Ready(Ok(()));
            }
            let progress = match this.phase {
                Phase::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Phase::Refused { .. } => return this.discard(cx),
                _ if this.held.is_empty() => this.read_through(cx, buf),
                _ => this.read_held(cx),
            };
            match progress? {
                Poll::Ready(Progress::Done) => return Poll::Ready(Ok(())),
                Poll::Ready(Progress::Again) => {}
                Poll::Pending if this.is_overdue(cx) => {
                    ready!(this.overdue())?;
                    if this.passed.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Watched {
    /// Ends a connection whose client does not read.
    fn check_stall<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_ticks = 0;
        } else if self.ticked(cx) {
            self.write_ticks += 1;
            if self.write_ticks >= self.times.stalled {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.check_stall(cx, result)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.check_stall(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.must_linger() {
                return Poll::Ready(Ok(()));
            }
            this.phase = Phase::Refused { discarded: 0 };
            this.linger = Some(Box::pin(sleep(LINGER)));
        }
        match this.discard(cx) {
            Poll::Ready(_) => Poll::Ready(Ok(())),
            Poll::Pending => match &mut this.linger {
                Some(linger) => linger.as_mut().poll(cx).map(Ok),
                None => Poll::Ready(Ok(())),
            },
        }
    }
}
