//! Reads partitions from positions that others keep.
//!
//! Each partition has a queue of its own in the client library, which stops fetching when it is full: memory is bounded per partition, a
//! partition nobody takes from holds up no other, and an error belongs to one partition.

use super::{
    ASK, Arrival, Cluster, KafkaError,
    bell::{Bell, Waker},
    error::{passes, unknown_topic},
    log::{Ends, Log},
    wire,
};
use crate::ports::Stopwatch;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, base_consumer::PartitionQueue},
    error::{KafkaError as ClientError, RDKafkaErrorCode as Code},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// What the client library fetches ahead, per partition. It goes on fetching below the first and stops at the second.
const AHEAD_MESSAGES: &str = "5000";
const AHEAD_KIB: &str = "8192";
/// What is taken out of there, per partition, to be looked at: so many messages, or fewer when they have so many bytes.
const LOOK: usize = 1_000;
const LOOK_BYTES: usize = 8 << 20;
/// Log lines and errors served in one go; the rest is served the next time.
const CHORES: u32 = 16;
/// After brokers were away a partition may stay silent for ever: the client library then waits for an answer about its leader that does not
/// come (librdkafka issue 4492). So partitions that have been silent since are started again, so often and so far apart.
const RESTARTS: u32 = 6;
const BETWEEN_RESTARTS: Duration = Duration::from_secs(10);

/// Reads the partitions assigned to it. For one thread, of any kind: it needs no runtime, and `poll` blocks.
///
/// Use: [`assign`](Self::assign), then again and again [`poll`](Self::poll), [`peek`](Self::peek) each partition, settle what was seen, and
/// [`advance_past`](Self::advance_past) it. What was not advanced past is seen again.
pub struct Consumer {
    cluster: Cluster,
    // Before the client: a queue of the client ends before the client does.
    lanes: HashMap<(&'static str, i64), Lane>,
    client: Arc<BaseConsumer<Log>>,
    bell: Arc<Bell>,
    ends: Ends,
    unrest: Option<Unrest>,
}

/// Brokers were away, or still are.
struct Unrest {
    /// The last time one was missed, or silent partitions were started again.
    since: Stopwatch,
    restarts_left: u32,
}

/// One assigned partition.
struct Lane {
    service: &'static str,
    partition: i64,
    topic: String,
    queue: PartitionQueue<Log>,
    /// Arrived and not advanced past.
    buffer: VecDeque<Arrival>,
    /// Of the data in the buffer.
    bytes: usize,
    /// The queue was left while it may hold more. It announces nothing until it has been emptied once.
    more: bool,
    /// The offset that comes next from the queue.
    next: i64,
    /// Where it was started.
    from: Offset,
    /// Something came since it was started, or since brokers were missed.
    is_heard: bool,
    /// Requests, which have no numbers of ours.
    is_log: bool,
    trouble: Option<KafkaError>,
}

impl Consumer {
    pub(super) fn new(cluster: &Cluster) -> Result<Consumer, KafkaError> {
        let mut config = cluster.reading();
        config
            // The client library assigns nothing without the name of a group. It is never joined and nothing is committed to it.
            .set("group.id", cluster.topic("unused"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "false")
            .set("check.crcs", "true")
            // A partition assigned in the middle of a fetch waits for its end.
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "200")
            // How soon a full queue is looked at again. The default of a second would make every reader wait for it.
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.min.messages", AHEAD_MESSAGES)
            .set("queued.max.messages.kbytes", AHEAD_KIB)
            // Tells where partitions end.
            .set("statistics.interval.ms", "5000");
        let ends = Ends::default();
        let mut client: BaseConsumer<Log> = config.create_with_context(Log { ends: ends.clone() })?;
        let bell = Arc::new(Bell::default());
        let chores = bell.clone();
        client.set_nonempty_callback(move || chores.chores());
        Ok(Consumer { cluster: cluster.clone(), lanes: HashMap::new(), client: Arc::new(client), bell, ends, unrest: None })
    }

    /// Starts reading a partition right behind `offset`, or with the first message it ever had. Also the way to go back or to try again:
    /// what was buffered is forgotten. Whether Kafka still holds that place is told by [`peek`](Self::peek). A partition that its topic never
    /// had may just stay silent: [`Cluster::ensure_topic`] makes sure of the number.
    ///
    /// # Errors
    /// When no partition can have this number, or the client library cannot go on. The brokers are not waited for.
    pub fn assign(&mut self, service: &'static str, partition: i64, offset: Option<i64>) -> Result<(), KafkaError> {
        // The very first and not the first that is left: messages that were dropped before anyone saw them are lost, too.
        let next = offset.map_or(0, |offset| offset + 1);
        self.start(service, partition, next, Offset::Offset(next), false)
    }

    /// Starts reading a partition with the oldest message that is left, whatever that is: for those who know by the messages' numbers where
    /// they are and what is missing.
    ///
    /// # Errors
    /// As for [`assign`](Self::assign).
    pub fn assign_oldest(&mut self, service: &'static str, partition: i64) -> Result<(), KafkaError> {
        self.start(service, partition, 0, Offset::Beginning, false)
    }

    /// The same for a log of requests ([`super::Requests`]): each has the number one above its offset, in epoch 1.
    ///
    /// # Errors
    /// As for [`assign`](Self::assign).
    pub fn assign_log(&mut self, log: &'static str, partition: i64, offset: Option<i64>) -> Result<(), KafkaError> {
        let next = offset.map_or(0, |offset| offset + 1);
        self.start(log, partition, next, Offset::Offset(next), true)
    }

    /// Starts reading a partition at its end: what is published after this call. For those who only need to hear of changes.
    ///
    /// # Errors
    /// [`KafkaError::NoTopic`] or [`KafkaError::Unreachable`]: where the end is, is asked here, for at most five seconds.
    pub fn assign_latest(&mut self, service: &'static str, partition: i64) -> Result<(), KafkaError> {
        let topic = self.cluster.topic(service);
        let number = wire::number(partition).ok_or_else(|| KafkaError::NoTopic { topic: topic.clone() })?;
        match self.client.fetch_watermarks(&topic, number, ASK) {
            Ok((_, end)) => self.start(service, partition, end, Offset::Offset(end), false),
            Err(error) if error.rdkafka_error_code().is_some_and(unknown_topic) => Err(KafkaError::NoTopic { topic }),
            Err(error) => Err(error.into()),
        }
    }

    fn start(&mut self, service: &'static str, partition: i64, next: i64, from: Offset, is_log: bool) -> Result<(), KafkaError> {
        self.unassign(service, partition);
        let topic = self.cluster.topic(service);
        let number = wire::number(partition).ok_or_else(|| KafkaError::NoTopic { topic: topic.clone() })?;
        let Some(mut queue) = self.client.split_partition_queue(&topic, number) else {
            return Err(KafkaError::NoTopic { topic });
        };
        let bell = self.bell.clone();
        queue.set_nonempty_callback(move || bell.arrived());
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, number, from)?;
        self.client.incremental_assign(&list)?;
        let lane = Lane {
            service,
            partition,
            topic,
            queue,
            buffer: VecDeque::new(),
            bytes: 0,
            more: false,
            next,
            from,
            is_heard: false,
            is_log,
            trouble: None,
        };
        self.lanes.insert((service, partition), lane);
        Ok(())
    }

    /// Stops reading a partition, if it was read.
    pub fn unassign(&mut self, service: &'static str, partition: i64) {
        let Some(lane) = self.lanes.remove(&(service, partition)) else { return };
        let mut list = TopicPartitionList::new();
        list.add_partition(&lane.topic, i32::try_from(partition).unwrap_or(-1));
        if let Err(error) = self.client.incremental_unassign(&list) {
            tracing::warn!(%error, topic = lane.topic, partition, "a partition was not given up");
        }
        // An error that waits here is about this assignment and not about the next.
        while lane.queue.poll(Duration::ZERO).is_some() {}
    }

    /// What has arrived of a partition and was not advanced past, in order, the first `limit` at most and no more than a thousand, without
    /// waiting. Advance and look again until nothing comes: only what is new is announced.
    ///
    /// # Errors
    /// [`KafkaError::OffsetLost`], after all that came before the loss was advanced past, and from then on each time;
    /// [`KafkaError::NoTopic`] when the topic of a reader that has seen nothing yet is missing: it goes on by itself once it is there;
    /// others, such as a missing permission, once each time they occur.
    pub fn peek(&mut self, service: &'static str, partition: i64, limit: usize) -> Result<&[Arrival], KafkaError> {
        let lane = self.lanes.get_mut(&(service, partition)).ok_or(KafkaError::NotAssigned { service, partition })?;
        lane.fill();
        if lane.buffer.is_empty() {
            lane.complain()?;
        }
        let arrived = lane.buffer.make_contiguous();
        Ok(&arrived[..limit.min(arrived.len())])
    }

    /// Forgets what is settled: everything up to and with `offset`.
    pub fn advance_past(&mut self, service: &'static str, partition: i64, offset: i64) {
        if let Some(lane) = self.lanes.get_mut(&(service, partition)) {
            let settled = lane.buffer.partition_point(|arrival| arrival.offset() <= offset);
            lane.bytes -= lane.buffer.drain(..settled).map(|arrival| size(&arrival)).sum::<usize>();
        }
    }

    /// How many messages a partition has that were not advanced past, as of some seconds ago; none before the brokers said so. Repeats count.
    pub fn behind(&self, service: &'static str, partition: i64) -> Option<i64> {
        let lane = self.lanes.get(&(service, partition))?;
        let end = self.ends.of(&lane.topic, wire::number(partition)?)?;
        let next = lane.buffer.front().map_or(lane.next, Arrival::offset);
        Some((end - next).max(0))
    }

    /// Waits until something new arrives for any partition or it runs into trouble (true: `peek`), someone calls [`Waker::wake`], or `timeout`
    /// is over (false).
    /// Call it regularly even if nothing is expected: it also serves the client library.
    ///
    /// # Errors
    /// When this consumer cannot go on, such as for want of permission. Brokers that do not answer are no error: nothing arrives.
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, KafkaError> {
        let waiting = Stopwatch::start();
        loop {
            self.serve()?;
            if self.fill(|lane| lane.more) {
                return Ok(true);
            }
            let rung = self.bell.wait(timeout.saturating_sub(waiting.elapsed()));
            // Rung for what is not for us, such as the marks of an assignment, a queue must be emptied, too, or it stays silent.
            let new = rung.arrived && self.fill(|_| true);
            if new || rung.woken || !(rung.arrived || rung.chores) {
                return Ok(new);
            }
        }
    }

    /// Wakes this consumer out of `poll`.
    pub fn waker(&self) -> Waker {
        Waker(self.bell.clone())
    }

    /// Calls `tell` whenever something may have arrived, for a thread that waits for other things, too, and so not in `poll`. It is called on
    /// a thread of the client library, with a lock of its own held: it must return at once and not use this consumer. Only the first call of this function counts; false for later ones.
    pub fn on_arrival(&self, tell: impl Fn() + Send + Sync + 'static) -> bool {
        self.bell.tell(Box::new(tell))
    }

    /// True when any of them had something.
    fn fill(&mut self, which: impl Fn(&Lane) -> bool) -> bool {
        let mut new = false;
        for lane in self.lanes.values_mut().filter(|lane| which(lane)) {
            new |= lane.fill();
        }
        new
    }

    fn serve(&mut self) -> Result<(), KafkaError> {
        for _ in 0..CHORES {
            match self.client.poll(Duration::ZERO) {
                // Nothing, or something that was served; the two look the same.
                None => {}
                // Logged already, and the client library tries again by itself.
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(|code| passes(code) || unknown_topic(code)) => self.is_missed(),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => {
                    // Every partition has a queue of its own, so nothing comes this way; if it did, the partition would lack it.
                    let lane = self
                        .lanes
                        .values_mut()
                        .find(|lane| lane.topic == message.topic() && lane.partition == i64::from(message.partition()));
                    if let Some(lane) = lane {
                        lane.lose(format!("offset {} went astray", message.offset()));
                    }
                }
            }
        }
        self.restart_silent()
    }

    /// A broker did not answer: partitions must be heard again.
    fn is_missed(&mut self) {
        self.unrest = Some(Unrest { since: Stopwatch::start(), restarts_left: RESTARTS });
        for lane in self.lanes.values_mut() {
            lane.is_heard = false;
        }
    }

    /// Starts partitions again that have been silent since brokers were missed, from where they are. Those that have nothing new are
    /// among them; nothing is lost by it.
    fn restart_silent(&mut self) -> Result<(), KafkaError> {
        let Some(unrest) = self.unrest.as_mut().filter(|unrest| unrest.since.elapsed() >= BETWEEN_RESTARTS) else { return Ok(()) };
        unrest.since = Stopwatch::start();
        unrest.restarts_left -= 1;
        if unrest.restarts_left == 0 {
            self.unrest = None;
        }
        let silent = self.lanes.values().filter(|lane| !lane.is_heard && lane.buffer.is_empty() && lane.trouble.is_none());
        let silent: Vec<_> = silent.map(|lane| (lane.service, lane.partition, lane.next, lane.where_next(), lane.is_log)).collect();
        for (service, partition, next, from, is_log) in silent {
            tracing::info!(service, partition, offset = next, "a partition is silent since brokers were missed; it is started again");
            self.start(service, partition, next, from, is_log)?;
        }
        Ok(())
    }
}

impl Lane {
    /// Where to start it again without missing or repeating anything.
    fn where_next(&self) -> Offset {
        match self.from {
            Offset::Beginning if self.next == 0 => Offset::Beginning,
            _ => Offset::Offset(self.next),
        }
    }

    /// Takes what has arrived, as long as there is room. True when there was anything.
    fn fill(&mut self) -> bool {
        let mut new = false;
        while self.trouble.is_none() {
            self.more = self.buffer.len() >= LOOK || self.bytes >= LOOK_BYTES;
            if self.more {
                break;
            }
            match self.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    self.next = message.offset() + 1;
                    self.is_heard = true;
                    let read = if self.is_log { wire::read_request } else { wire::read };
                    let arrival = read(self.service, &message);
                    self.bytes += size(&arrival);
                    self.buffer.push_back(arrival);
                }
                Some(Err(error)) => self.fail(error),
            }
            new = true;
        }
        new
    }

    fn fail(&mut self, error: ClientError) {
        let code = error.rdkafka_error_code();
        self.trouble = match code {
            // Brokers come back by themselves.
            Some(code) if passes(code) => None,
            Some(code) if unknown_topic(code) && self.next == 0 => Some(KafkaError::NoTopic { topic: self.topic.clone() }),
            Some(code) if unknown_topic(code) || lost(code) => return self.lose(error.to_string()),
            _ => Some(error.into()),
        };
    }

    fn lose(&mut self, reason: String) {
        self.trouble = Some(KafkaError::OffsetLost { service: self.service, partition: self.partition, offset: self.next, reason });
    }

    fn complain(&mut self) -> Result<(), KafkaError> {
        match &self.trouble {
            None => Ok(()),
            Some(error @ KafkaError::OffsetLost { .. }) => Err(error.clone()),
            Some(_) => self.trouble.take().map_or(Ok(()), Err),
        }
    }
}

fn size(arrival: &Arrival) -> usize {
    match arrival {
        Arrival::Record(_, record) => record.data.len(),
        Arrival::Foreign { data, .. } => data.len(),
    }
}

/// What should come next is not there, or cannot be read.
fn lost(code: Code) -> bool {
    matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation | Code::BadMessage | Code::InvalidMessage)
}
