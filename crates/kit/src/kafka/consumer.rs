//! Reads partitions from positions that others keep.
//!
//! Each partition has a queue of its own in the client library, which stops fetching when it is full: memory is bounded per partition, a
//! partition nobody takes from holds up no other, and an error belongs to one partition.

use super::{
    Arrival, Cluster, KafkaError, REQUEST_TIMEOUT,
    error::{is_transient, is_unknown_topic},
    log::{ClientLog, EndOffsets},
    wakeup::{ConsumerWakeup, Waker},
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
const PREFETCH_MESSAGES: &str = "5000";
const PREFETCH_KIB: &str = "8192";
/// What is taken out of there, per partition, to be looked at: so many messages, or fewer when they have so many bytes.
const BUFFER_MESSAGES: usize = 1_000;
const BUFFER_BYTES: usize = 8 << 20;
/// Log lines and errors served in one go; the rest is served the next time.
const MAX_CLIENT_EVENTS: u32 = 16;
/// After brokers were away a partition may stay silent for ever: the client library then waits for an answer about its leader that does not
/// come (librdkafka issue 4492). So partitions that have been silent since are started again, so often and so far apart.
const MAX_RESTARTS: u32 = 6;
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// Reads the partitions assigned to it. For one thread, of any kind: it needs no runtime, and `poll` blocks.
///
/// Use: [`assign`](Self::assign), then again and again [`poll`](Self::poll), [`peek`](Self::peek) each partition, settle what was seen, and
/// [`advance_past`](Self::advance_past) it. What was not advanced past is seen again.
pub struct Consumer {
    cluster: Cluster,
    // Before the client: a queue of the client ends before the client does.
    assignments: HashMap<(&'static str, i64), AssignedPartition>,
    client: Arc<BaseConsumer<ClientLog>>,
    wakeup: Arc<ConsumerWakeup>,
    end_offsets: EndOffsets,
    outage: Option<Outage>,
}

/// Brokers were away, or still are.
struct Outage {
    /// The last time one was missed, or silent partitions were started again.
    since: Stopwatch,
    restarts_left: u32,
}

/// One assigned partition.
struct AssignedPartition {
    service: &'static str,
    partition: i64,
    topic: String,
    queue: PartitionQueue<ClientLog>,
    /// Arrived and not advanced past.
    buffer: VecDeque<Arrival>,
    /// Of the data in the buffer.
    bytes: usize,
    /// The queue was left while it may hold more. It announces nothing until it has been emptied once.
    has_more: bool,
    /// The offset that comes next from the queue.
    next: i64,
    /// Where it was started.
    from: Offset,
    /// Something came since it was started, or since brokers were missed.
    has_received: bool,
    /// Requests, which have no numbers of ours.
    is_request_log: bool,
    error: Option<KafkaError>,
}

impl Consumer {
    pub(super) fn new(cluster: &Cluster) -> Result<Consumer, KafkaError> {
        let mut config = cluster.reader_config();
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
            .set("queued.min.messages", PREFETCH_MESSAGES)
            .set("queued.max.messages.kbytes", PREFETCH_KIB)
            // Tells where partitions end.
            .set("statistics.interval.ms", "5000");
        let end_offsets = EndOffsets::default();
        let mut client: BaseConsumer<ClientLog> = config.create_with_context(ClientLog { end_offsets: end_offsets.clone() })?;
        let wakeup = Arc::new(ConsumerWakeup::default());
        let events = wakeup.clone();
        client.set_nonempty_callback(move || events.notify_client_event());
        Ok(Consumer { cluster: cluster.clone(), assignments: HashMap::new(), client: Arc::new(client), wakeup, end_offsets, outage: None })
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
        let number = wire::kafka_partition(partition).ok_or_else(|| KafkaError::NoTopic { topic: topic.clone() })?;
        match self.client.fetch_watermarks(&topic, number, REQUEST_TIMEOUT) {
            Ok((_, end)) => self.start(service, partition, end, Offset::Offset(end), false),
            Err(error) if error.rdkafka_error_code().is_some_and(is_unknown_topic) => Err(KafkaError::NoTopic { topic }),
            Err(error) => Err(error.into()),
        }
    }

    fn start(&mut self, service: &'static str, partition: i64, next: i64, from: Offset, is_request_log: bool) -> Result<(), KafkaError> {
        self.unassign(service, partition);
        let topic = self.cluster.topic(service);
        let number = wire::kafka_partition(partition).ok_or_else(|| KafkaError::NoTopic { topic: topic.clone() })?;
        let Some(mut queue) = self.client.split_partition_queue(&topic, number) else {
            return Err(KafkaError::NoTopic { topic });
        };
        let wakeup = self.wakeup.clone();
        queue.set_nonempty_callback(move || wakeup.notify_arrival());
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, number, from)?;
        self.client.incremental_assign(&list)?;
        let assigned = AssignedPartition {
            service,
            partition,
            topic,
            queue,
            buffer: VecDeque::new(),
            bytes: 0,
            has_more: false,
            next,
            from,
            has_received: false,
            is_request_log,
            error: None,
        };
        self.assignments.insert((service, partition), assigned);
        Ok(())
    }

    /// Stops reading a partition, if it was read.
    pub fn unassign(&mut self, service: &'static str, partition: i64) {
        let Some(assigned) = self.assignments.remove(&(service, partition)) else { return };
        let mut list = TopicPartitionList::new();
        list.add_partition(&assigned.topic, i32::try_from(partition).unwrap_or(-1));
        if let Err(error) = self.client.incremental_unassign(&list) {
            tracing::warn!(%error, topic = assigned.topic, partition, "a partition was not given up");
        }
        // An error that waits here is about this assignment and not about the next.
        while assigned.queue.poll(Duration::ZERO).is_some() {}
    }

    /// What has arrived of a partition and was not advanced past, in order, the first `limit` at most and no more than a thousand, without
    /// waiting. Advance and look again until nothing comes: only what is new is announced.
    ///
    /// # Errors
    /// [`KafkaError::OffsetLost`], after all that came before the loss was advanced past, and from then on each time;
    /// [`KafkaError::NoTopic`] when the topic of a reader that has seen nothing yet is missing: it goes on by itself once it is there;
    /// others, such as a missing permission, once each time they occur.
    pub fn peek(&mut self, service: &'static str, partition: i64, limit: usize) -> Result<&[Arrival], KafkaError> {
        let assigned = self.assignments.get_mut(&(service, partition)).ok_or(KafkaError::NotAssigned { service, partition })?;
        assigned.fill();
        if assigned.buffer.is_empty() {
            assigned.take_error()?;
        }
        let arrived = assigned.buffer.make_contiguous();
        Ok(&arrived[..limit.min(arrived.len())])
    }

    /// Forgets what is settled: everything up to and with `offset`.
    pub fn advance_past(&mut self, service: &'static str, partition: i64, offset: i64) {
        if let Some(assigned) = self.assignments.get_mut(&(service, partition)) {
            let settled = assigned.buffer.partition_point(|arrival| arrival.offset() <= offset);
            assigned.bytes -= assigned.buffer.drain(..settled).map(|arrival| data_len(&arrival)).sum::<usize>();
        }
    }

    /// How many messages a partition has that were not advanced past, as of some seconds ago; none before the brokers said so. Repeats count.
    pub fn behind(&self, service: &'static str, partition: i64) -> Option<i64> {
        let assigned = self.assignments.get(&(service, partition))?;
        let end = self.end_offsets.of(&assigned.topic, wire::kafka_partition(partition)?)?;
        let next = assigned.buffer.front().map_or(assigned.next, Arrival::offset);
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
            self.serve_client()?;
            if self.fill(|assigned| assigned.has_more) {
                return Ok(true);
            }
            let reasons = self.wakeup.wait(timeout.saturating_sub(waiting.elapsed()));
            // Rung for what is not for us, such as the marks of an assignment, a queue must be emptied, too, or it stays silent.
            let new = reasons.has_arrivals && self.fill(|_| true);
            if new || reasons.is_woken || !(reasons.has_arrivals || reasons.has_client_events) {
                return Ok(new);
            }
        }
    }

    /// Wakes this consumer out of `poll`.
    pub fn waker(&self) -> Waker {
        Waker(self.wakeup.clone())
    }

    /// Calls `tell` whenever something may have arrived, for a thread that waits for other things, too, and so not in `poll`. It is called on
    /// a thread of the client library, with a lock of its own held: it must return at once and not use this consumer. Only the first call of this function counts; false for later ones.
    pub fn on_arrival(&self, callback: impl Fn() + Send + Sync + 'static) -> bool {
        self.wakeup.set_arrival_callback(Box::new(callback))
    }

    /// True when any of them had something.
    fn fill(&mut self, is_wanted: impl Fn(&AssignedPartition) -> bool) -> bool {
        let mut new = false;
        for assigned in self.assignments.values_mut().filter(|assigned| is_wanted(assigned)) {
            new |= assigned.fill();
        }
        new
    }

    fn serve_client(&mut self) -> Result<(), KafkaError> {
        for _ in 0..MAX_CLIENT_EVENTS {
            match self.client.poll(Duration::ZERO) {
                // Nothing, or something that was served; the two look the same.
                None => {}
                // Logged already, and the client library tries again by itself.
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(|code| is_transient(code) || is_unknown_topic(code)) => {
                    self.note_outage()
                }
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => {
                    // Every partition has a queue of its own, so nothing comes this way; if it did, the partition would lack it.
                    let assigned = self
                        .assignments
                        .values_mut()
                        .find(|assigned| assigned.topic == message.topic() && assigned.partition == i64::from(message.partition()));
                    if let Some(assigned) = assigned {
                        assigned.set_lost(format!("offset {} went astray", message.offset()));
                    }
                }
            }
        }
        self.restart_silent_partitions()
    }

    /// A broker did not answer: partitions must be heard again.
    fn note_outage(&mut self) {
        self.outage = Some(Outage { since: Stopwatch::start(), restarts_left: MAX_RESTARTS });
        for assigned in self.assignments.values_mut() {
            assigned.has_received = false;
        }
    }

    /// Starts partitions again that have been silent since brokers were missed, from where they are. Those that have nothing new are
    /// among them; nothing is lost by it.
    fn restart_silent_partitions(&mut self) -> Result<(), KafkaError> {
        let Some(outage) = self.outage.as_mut().filter(|outage| outage.since.elapsed() >= RESTART_PAUSE) else { return Ok(()) };
        outage.since = Stopwatch::start();
        outage.restarts_left -= 1;
        if outage.restarts_left == 0 {
            self.outage = None;
        }
        let silent =
            self.assignments.values().filter(|assigned| !assigned.has_received && assigned.buffer.is_empty() && assigned.error.is_none());
        let silent: Vec<_> = silent
            .map(|assigned| (assigned.service, assigned.partition, assigned.next, assigned.resume_offset(), assigned.is_request_log))
            .collect();
        for (service, partition, next, from, is_request_log) in silent {
            tracing::info!(service, partition, offset = next, "a partition is silent since brokers were missed; it is started again");
            self.start(service, partition, next, from, is_request_log)?;
        }
        Ok(())
    }
}

impl AssignedPartition {
    /// Where to start it again without missing or repeating anything.
    fn resume_offset(&self) -> Offset {
        match self.from {
            Offset::Beginning if self.next == 0 => Offset::Beginning,
            _ => Offset::Offset(self.next),
        }
    }

    /// Takes what has arrived, as long as there is room. True when there was anything.
    fn fill(&mut self) -> bool {
        let mut new = false;
        while self.error.is_none() {
            self.has_more = self.buffer.len() >= BUFFER_MESSAGES || self.bytes >= BUFFER_BYTES;
            if self.has_more {
                break;
            }
            match self.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    self.next = message.offset() + 1;
                    self.has_received = true;
                    let read = if self.is_request_log { wire::read_request } else { wire::read };
                    let arrival = read(self.service, &message);
                    self.bytes += data_len(&arrival);
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
        self.error = match code {
            // Brokers come back by themselves.
            Some(code) if is_transient(code) => None,
            Some(code) if is_unknown_topic(code) && self.next == 0 => Some(KafkaError::NoTopic { topic: self.topic.clone() }),
            Some(code) if is_unknown_topic(code) || is_lost(code) => return self.set_lost(error.to_string()),
            _ => Some(error.into()),
        };
    }

    fn set_lost(&mut self, reason: String) {
        self.error = Some(KafkaError::OffsetLost { service: self.service, partition: self.partition, offset: self.next, reason });
    }

    fn take_error(&mut self) -> Result<(), KafkaError> {
        match &self.error {
            None => Ok(()),
            Some(error @ KafkaError::OffsetLost { .. }) => Err(error.clone()),
            Some(_) => self.error.take().map_or(Ok(()), Err),
        }
    }
}

fn data_len(arrival: &Arrival) -> usize {
    match arrival {
        Arrival::Record(_, record) => record.data.len(),
        Arrival::Foreign { data, .. } => data.len(),
    }
}

/// What should come next is not there, or cannot be read.
fn is_lost(code: Code) -> bool {
    matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation | Code::BadMessage | Code::InvalidMessage)
}
