//! Readers that cannot go on: said once when it begins and once when it is over, and shown by a gauge meanwhile. Nothing is skipped; every
//! few seconds a reader in trouble looks up its place again, so that what was repaired takes effect by itself.

use super::{Engine, Place, streams::Reader};
use crate::ports::Stopwatch;
use std::{collections::HashMap, time::Duration};

/// How often a reader in trouble looks up its place.
const EVERY: Duration = Duration::from_secs(5);
/// Trouble that has not shown for so long is over, even if nothing came to read.
const OVER: Duration = Duration::from_secs(10);

/// Why a reader stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The next message is missing, and later ones are there.
    Gap,
    /// Where messages come from gives none.
    Feed,
    /// The next message wants what somebody else has locked.
    Lock,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Why::Gap | Why::Feed => "cannot read the stream",
            Why::Lock => "cannot act on the next message",
        }
    }
}

struct Trouble {
    why: Why,
    shown: Stopwatch,
    looked: Stopwatch,
}

/// Who stands where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub reader: &'static str,
    pub place: Place,
    pub position: i64,
}

/// Reader, source and partition.
type Line = (&'static str, &'static str, i64);

#[derive(Default)]
pub(super) struct Troubles(HashMap<Line, Trouble>);

impl Spot {
    fn line(&self) -> Line {
        (self.reader, self.place.source, self.place.partition)
    }
}

impl Reader {
    pub(super) fn spot(&self) -> Spot {
        Spot { reader: self.service.name(), place: self.place, position: self.position.seq }
    }
}

fn show((reader, source, partition): Line, is_stopped: bool) {
    let gauge = metrics::gauge!("onrush_reader_stopped", "reader" => reader, "source" => source, "partition" => partition.to_string());
    gauge.set(if is_stopped { 1.0 } else { 0.0 });
}

impl Troubles {
    pub fn shows(&mut self, spot: Spot, why: Why, reason: &str) {
        let line = spot.line();
        match self.0.get_mut(&line) {
            Some(trouble) if trouble.why == why => trouble.shown = Stopwatch::start(),
            _ => {
                let Spot { reader, place, position } = spot;
                tracing::error!(reader, ?place, position, reason, "{}: the reader stops here", why.text());
                metrics::counter!("onrush_reader_stops_total", "reader" => line.0, "source" => line.1).increment(1);
                show(line, true);
                self.0.insert(line, Trouble { why, shown: Stopwatch::start(), looked: Stopwatch::start() });
            }
        }
    }

    /// Something was read, or at least nothing went wrong. Whether what was read can be acted on shows later.
    pub fn is_well(&mut self, spot: Spot, has_read: bool) {
        let is_over = |trouble: &Trouble| has_read && trouble.why != Why::Lock || trouble.shown.elapsed() >= OVER;
        if self.0.get(&spot.line()).is_some_and(is_over) {
            self.ends(spot);
        }
    }

    /// Something was acted on.
    pub fn moved(&mut self, spot: Spot) {
        if self.0.get(&spot.line()).is_some_and(|trouble| trouble.why == Why::Lock) {
            self.ends(spot);
        }
    }

    fn ends(&mut self, spot: Spot) {
        let line = spot.line();
        self.0.remove(&line);
        show(line, false);
        tracing::warn!(reader = spot.reader, place = ?spot.place, position = spot.position, "the reader goes on");
    }

    /// What is read elsewhere now is somebody else's trouble.
    pub fn keep(&mut self, is_here: impl Fn(i64) -> bool) {
        self.0.retain(|line, _| {
            let is_kept = is_here(line.2);
            if !is_kept {
                show(*line, false);
            }
            is_kept
        });
    }

    /// True, now and then, for a reader in trouble.
    fn wants_place(&mut self, spot: Spot) -> bool {
        match self.0.get_mut(&spot.line()) {
            // One that waits for a lock knows where it is.
            Some(trouble) if trouble.why != Why::Lock && trouble.looked.elapsed() >= EVERY => {
                trouble.looked = Stopwatch::start();
                true
            }
            _ => false,
        }
    }
}

impl Engine {
    /// Has readers in trouble look up where they are: somebody may have repaired it.
    pub(super) fn look_again(&mut self) {
        let mut readers = std::mem::take(&mut self.readers);
        for reader in &mut readers {
            if self.troubles.wants_place(reader.spot())
                && let Err(fault) = futures::executor::block_on(self.find_place(reader))
            {
                tracing::debug!(reader = reader.service.name(), error = %fault, "cannot look up its place");
            }
        }
        self.readers = readers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn count(&self, text: &str) -> usize {
            String::from_utf8_lossy(&self.0.lock().unwrap()).matches(text).count()
        }
    }

    // F22: the alarm. However often a reader looks and finds nothing, it is said once; and shown as long as it lasts.
    #[test]
    fn trouble_is_said_once_when_it_begins_and_once_when_it_is_over() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let shown = recorder.handle();
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let spot = |position| Spot { reader: "stock", place: Place { source: "orders", epoch: 1, partition: 3 }, position };
        let gauge = r#"onrush_reader_stopped{reader="stock",source="orders",partition="3"}"#;
        let mut troubles = Troubles::default();
        tracing::subscriber::with_default(subscriber, || {
            metrics::with_local_recorder(&recorder, || {
                for _ in 0..20 {
                    troubles.shows(spot(7), Why::Feed, "no answer");
                    // Nothing went wrong this time, and nothing was read: that proves nothing yet.
                    troubles.is_well(spot(7), false);
                }
                assert_eq!((lines.count("stops here"), lines.count("goes on")), (1, 0));
                assert!(shown.render().contains(&format!("{gauge} 1")), "{}", shown.render());
                troubles.shows(spot(7), Why::Gap, "number 8 is missing");
                assert_eq!(lines.count("stops here"), 2, "something else is wrong now");
                troubles.is_well(spot(9), true);
                troubles.is_well(spot(9), true);
                assert_eq!((lines.count("stops here"), lines.count("goes on")), (2, 1));
                assert!(shown.render().contains(&format!("{gauge} 0")), "{}", shown.render());
                troubles.shows(spot(9), Why::Gap, "number 10 is missing");
                troubles.keep(|lane| lane != 3);
                assert!(shown.render().contains(&format!("{gauge} 0")), "somebody else shows it now");
                assert!(troubles.0.is_empty());
                for _ in 0..20 {
                    troubles.shows(spot(9), Why::Lock, "somebody holds the row");
                    // It is read at every try, and not acted on.
                    troubles.is_well(spot(9), true);
                }
                assert_eq!((lines.count("stops here"), lines.count("goes on")), (4, 1));
                assert!(shown.render().contains(&format!("{gauge} 1")), "{}", shown.render());
                troubles.moved(spot(10));
                troubles.moved(spot(11));
                assert_eq!((lines.count("stops here"), lines.count("goes on")), (4, 2));
                assert!(shown.render().contains(&format!("{gauge} 0")), "{}", shown.render());
            });
        });
    }
}
