//! Limit of log lines that a client can cause, so that requests cannot fill the log.

use crate::ports::Stopwatch;
use parking_lot::Mutex;
use std::time::Duration;

/// Window of [`LineLimit`].
const MINUTE: Duration = Duration::from_secs(60);
/// Lines of one kind in a minute. Enough to notice and diagnose, far too few to fill a disk.
const LINES_PER_MINUTE: u32 = 10;

/// Limit of one kind of log line. Lines beyond it are counted, and the next line tells the number.
///
/// ```
/// # use runtime::line_limit::LineLimit;
/// static REFUSED: LineLimit = LineLimit::new("request refused");
/// if let Some(left_out) = REFUSED.take() {
///     tracing::warn!(left_out, "request refused");
/// }
/// ```
#[derive(Debug)]
pub struct LineLimit {
    line: &'static str,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    /// `None`: no line yet.
    begun: Option<Stopwatch>,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    /// `line` labels the metric of the lines left out.
    pub const fn new(line: &'static str) -> LineLimit {
        LineLimit { line, window: Mutex::new(Window { begun: None, lines: 0, left_out: 0 }) }
    }

    /// Takes the right to write a line. Returns the number of lines left out since the last one. `None`: the limit is reached.
    pub fn take(&self) -> Option<u64> {
        let mut window = self.window.lock();
        if window.begun.is_none_or(|begun| begun.elapsed() >= MINUTE) {
            window.begun = Some(Stopwatch::start());
            window.lines = 0;
        }
        if window.lines < LINES_PER_MINUTE {
            window.lines += 1;
            return Some(std::mem::take(&mut window.left_out));
        }
        window.left_out += 1;
        drop(window);
        metrics::counter!("onrush_log_lines_left_out_total", "line" => self.line).increment(1);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // M11
    #[test]
    fn lines_beyond_the_limit_are_counted_for_the_next_one() {
        let limit = LineLimit::new("test");
        let allowed = (0..1_000).filter(|_| limit.take().is_some()).count();
        assert_eq!(allowed, LINES_PER_MINUTE as usize);
        // A minute later.
        limit.window.lock().begun = None;
        assert_eq!((limit.take(), limit.take()), (Some(1_000 - u64::from(LINES_PER_MINUTE)), Some(0)));
    }
}
