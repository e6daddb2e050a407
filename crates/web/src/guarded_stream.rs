//! TCP stream that checks request heads with the [`Framer`] and enforces the timeouts of a connection.
//!
//! hyper never sees a refused head. It reads a harmless placeholder request instead, so that responses keep their order.
//! [`RefusedHead`] tells the connection's service the number of that request and the reason.

use super::{
    connections::Activity,
    head::{Framer, FramingVerdict, MAX_HEAD},
};
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

/// Placeholder that hyper reads in place of a refused request head.
const PLACEHOLDER_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// Time for a client that is still sending to read the last response. Closing at once would reset the connection and destroy the response.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes discarded during that time.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;

/// The refused head of a connection, shared by the stream and the service that answers its requests.
#[derive(Debug, Default)]
pub(super) struct RefusedHead {
    /// Number of the placeholder request, and the reason of the refusal.
    refused: OnceLock<(u64, Code)>,
}

impl RefusedHead {
    /// Reason of the refusal when request `number` is the placeholder. `None`: a normal request.
    pub fn refusal_of(&self, number: u64) -> Option<Code> {
        self.refused.get().filter(|(at, _)| *at == number).map(|(_, code)| *code)
    }
}

/// Timeouts of a connection, counted in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamTimeouts {
    /// Length of a tick: half the timeout of a request head.
    pub tick: Duration,
    /// Idle timeout, in ticks.
    pub idle: u32,
    /// Timeout for a client that does not read its response, in ticks.
    pub stalled: u32,
}

/// Timeout of a request head, in ticks. The first tick may follow at once, so the head has one to two ticks.
const HEAD_TICKS: u32 = 2;

#[derive(Debug, PartialEq)]
enum StreamPhase {
    /// No byte received yet.
    New,
    Open,
    /// A head was refused. Further bytes are discarded.
    Refused {
        discarded: usize,
    },
    /// A body was invalid. Nothing more is read, because the rest could be mistaken for a request.
    Broken,
}

pub(super) struct GuardedStream {
    stream: TcpStream,
    framer: Framer,
    refused_head: Arc<RefusedHead>,
    activity: Arc<Activity>,
    /// True from the begin of the wait for a request until hyper reads a byte of it.
    is_waiting: bool,
    phase: StreamPhase,
    /// Beginning of an incomplete head.
    partial_head: Vec<u8>,
    /// Bytes that passed the check and that hyper has not read yet.
    approved: Vec<u8>,
    approved_read: usize,
    timeouts: StreamTimeouts,
    timer: Pin<Box<Sleep>>,
    /// Ticks since the start of the current wait (head, idle time).
    read_ticks: u32,
    write_ticks: u32,
    linger: Option<Pin<Box<Sleep>>>,
}

impl GuardedStream {
    pub fn new(stream: TcpStream, refused_head: Arc<RefusedHead>, activity: Arc<Activity>, timeouts: StreamTimeouts) -> GuardedStream {
        GuardedStream {
            stream,
            framer: Framer::default(),
            refused_head,
            activity,
            is_waiting: true,
            phase: StreamPhase::New,
            partial_head: Vec::new(),
            approved: Vec::new(),
            approved_read: 0,
            timeouts,
            timer: Box::pin(sleep(timeouts.tick)),
            read_ticks: 0,
            write_ticks: 0,
            linger: None,
        }
    }

    /// True once per tick. One slow timer for the life of a connection adds no cost per request.
    fn has_ticked(&mut self, cx: &mut Context<'_>) -> bool {
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer.as_mut().reset(Instant::now() + self.timeouts.tick);
        // Registers the waker for the next tick, which cannot be due yet.
        let _ = self.timer.as_mut().poll(cx);
        true
    }

    /// Applies the framer's verdict on `bytes` bytes. Returns how many of them hyper may read.
    fn apply_verdict(&mut self, verdict: &FramingVerdict, bytes: usize) -> usize {
        match *verdict {
            FramingVerdict::Pass => bytes,
            FramingVerdict::Wait { from } => from,
            FramingVerdict::Refuse { from, code } => {
                self.refuse(code);
                from
            }
            FramingVerdict::Broken { from } => {
                self.phase = StreamPhase::Broken;
                from
            }
        }
    }

    fn refuse(&mut self, code: Code) {
        let _ = self.refused_head.refused.set((self.framer.head_count() + 1, code));
        self.phase = StreamPhase::Refused { discarded: 0 };
        self.approved.extend_from_slice(PLACEHOLDER_REQUEST);
    }

    /// The usual case: a whole head arrives in one read and is checked in hyper's buffer.
    fn read_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Progress>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let new = &buf.filled()[before..];
        if new.is_empty() {
            return Poll::Ready(Ok(Progress::Done));
        }
        self.read_ticks = 0;
        if self.phase == StreamPhase::New {
            self.phase = StreamPhase::Open;
        }
        let verdict = self.framer.feed(new);
        let allowed = self.apply_verdict(&verdict, new.len());
        if matches!(verdict, FramingVerdict::Wait { .. }) {
            self.partial_head.extend_from_slice(&new[allowed..]);
        }
        if allowed < new.len() {
            buf.set_filled(before + allowed);
        }
        Poll::Ready(Ok(if allowed > 0 { Progress::Done } else { Progress::Again }))
    }

    /// Reads more of a head that arrives in pieces.
    fn read_partial_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let mut space = [0; 8 * 1024];
        let mut buf = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        let new = buf.filled();
        if new.is_empty() {
            return Poll::Ready(Ok(Progress::Done));
        }
        let before = self.partial_head.len();
        self.partial_head.extend_from_slice(new);
        // Checking after every byte would be quadratic in the length of the head, so check once per line or kilobyte.
        let should_check = new.contains(&b'\n') || before / 1024 != self.partial_head.len() / 1024 || self.partial_head.len() > MAX_HEAD;
        if should_check {
            let partial_head = std::mem::take(&mut self.partial_head);
            let verdict = self.framer.feed(&partial_head);
            let allowed = match verdict {
                // The refused head is dropped. hyper first reads the bytes before it.
                FramingVerdict::Refuse { from, .. } | FramingVerdict::Broken { from } => {
                    self.approved.extend_from_slice(&partial_head[..from]);
                    self.apply_verdict(&verdict, partial_head.len())
                }
                _ => {
                    let allowed = self.apply_verdict(&verdict, partial_head.len());
                    self.approved.extend_from_slice(&partial_head[..allowed]);
                    allowed
                }
            };
            if matches!(verdict, FramingVerdict::Wait { .. }) {
                self.partial_head.extend_from_slice(&partial_head[allowed..]);
            }
            if allowed > 0 {
                self.read_ticks = 0;
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
            if let StreamPhase::Refused { discarded } = &mut self.phase {
                *discarded += got;
                if *discarded > MAX_DISCARDED {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Counts a tick in which no byte arrived. True when a timeout is exceeded.
    fn has_timed_out(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.has_ticked(cx) {
            return false;
        }
        self.read_ticks += 1;
        let limit = if self.phase == StreamPhase::New || !self.partial_head.is_empty() {
            HEAD_TICKS
        } else if self.framer.is_between_requests() {
            // hyper does not read while it answers a request, so this is an idle connection.
            self.timeouts.idle
        } else {
            // The body has a timeout of its own, in its handler.
            self.read_ticks = 0;
            return false;
        };
        self.read_ticks >= limit
    }

    fn handle_timeout(&mut self) -> Poll<io::Result<()>> {
        if self.partial_head.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.partial_head.clear();
        self.refuse(Code::Timeout);
        Poll::Ready(Ok(()))
    }

    fn copy_approved(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.approved[self.approved_read..];
        let count = rest.len().min(buf.remaining());
        if count == 0 {
            return false;
        }
        buf.put_slice(&rest[..count]);
        self.approved_read += count;
        if self.approved_read == self.approved.len() {
            self.approved = Vec::new();
            self.approved_read = 0;
        }
        true
    }

    /// True when the client may still be sending bytes that no handler will read.
    fn needs_linger(&self) -> bool {
        matches!(self.phase, StreamPhase::Refused { .. } | StreamPhase::Broken) || !self.framer.is_between_requests()
    }
}

enum Progress {
    /// The caller's buffer has bytes, or the stream has ended.
    Done,
    Again,
}

impl GuardedStream {
    fn poll_checked(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.copy_approved(buf) {
                return Poll::Ready(Ok(()));
            }
            let progress = match self.phase {
                StreamPhase::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                StreamPhase::Refused { .. } => return self.discard(cx),
                _ if self.partial_head.is_empty() => self.read_direct(cx, buf),
                _ => self.read_partial_head(cx),
            };
            match progress? {
                Poll::Ready(Progress::Done) => return Poll::Ready(Ok(())),
                Poll::Ready(Progress::Again) => {}
                Poll::Pending if self.has_timed_out(cx) => {
                    ready!(self.handle_timeout())?;
                    if self.approved.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Tells the server if this connection waits for a request. hyper does not read while it answers one.
    fn track_activity(&mut self, is_pending: bool) {
        let is_waiting = if is_pending { self.is_waiting || self.framer.is_between_requests() } else { false };
        if is_waiting == self.is_waiting {
            return;
        }
        self.is_waiting = is_waiting;
        if is_waiting { self.activity.begin_wait() } else { self.activity.end_wait() }
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = this.poll_checked(cx, buf);
        this.track_activity(result.is_pending());
        result
    }
}

impl GuardedStream {
    /// Ends the connection when the client does not read its response.
    fn check_stall<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_ticks = 0;
        } else if self.has_ticked(cx) {
            self.write_ticks += 1;
            if self.write_ticks >= self.timeouts.stalled {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        result
    }
}

impl AsyncWrite for GuardedStream {
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
            if !this.needs_linger() {
                return Poll::Ready(Ok(()));
            }
            this.phase = StreamPhase::Refused { discarded: 0 };
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
