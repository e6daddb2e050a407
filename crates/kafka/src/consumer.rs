//! Reads partitions from positions that the caller keeps.
//!
//! Each partition has its own queue in the client library, which stops fetching when the queue is full. So memory is bounded for each
//! partition, an unread partition does not block others, and an error belongs to one partition.

use super::{
    Arrival, Cluster, KafkaError, REQUEST_TIMEOUT,
    error::{is_transient, is_unknown_topic},
    log::{ClientLog, EndOffsets},
    wakeup::{ConsumerWakeup, Waker},
    wire,
};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, base_consumer::PartitionQueue},
    error::{KafkaError as ClientError, RDKafkaErrorCode as Code},
};
use runtime::ports::Stopwatch;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Prefetch of the client library for each partition: it fetches below the first limit and stops at the second.
const PREFETCH_MESSAGES: &str = "5000";
const PREFETCH_KIB: &str = "8192";
/// Buffer of this consumer for each partition: so many messages, or fewer if they have so many bytes.
const BUFFER_MESSAGES: usize = 1_000;
const BUFFER_BYTES: usize = 8 << 20;
/// Maximum number of client events (log lines, errors) served in one call. The next call serves the rest.
const MAX_CLIENT_EVENTS: u32 = 16;
/// Limits of restarts, and their interval. After a broker outage a partition may stay silent for ever: the client library waits for an
/// answer about its leader that never comes (librdkafka issue 4492). So the consumer restarts partitions that stayed silent.
const MAX_RESTARTS: u32 = 6;
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// Reads its assigned partitions. For one thread, of any kind: it needs no runtime, and `poll` blocks.
///
/// The caller [assigns](Self::assign) partitions. Then in a loop it [polls](Self::poll), [peeks](Self::peek) each partition, processes
/// the messages, and [advances past](Self::advance_past) them. A message that it did not advance past is returned again.
pub struct Consumer {
    cluster: Cluster,
    // Before the client: the queues must be dropped before the client.
    assignments: HashMap<(&'static str, i64), AssignedPartition>,
    client: Arc<BaseConsumer<ClientLog>>,
    wakeup: Arc<ConsumerWakeup>,
    end_offsets: EndOffsets,
    outage: Option<BrokerOutage>,
}

/// An outage of brokers, present or recent.
struct BrokerOutage {
    /// Time of the last broker error, or of the last restart of silent partitions.
    since: Stopwatch,
    restarts_left: u32,
}

/// One assigned partition.
struct AssignedPartition {
    service: &'static str,
    partition: i64,
    topic: String,
    queue: PartitionQueue<ClientLog>,
    /// Messages that have arrived and that the caller has not advanced past.
    buffer: VecDeque<Arrival>,
    /// Size of the data in the buffer.
    bytes: usize,
    /// The queue may hold more messages than the buffer took. It notifies again only after it was emptied once.
    has_more: bool,
    /// The next offset from the queue.
    next: i64,
    /// The offset at which reading started.
    from: Offset,
    /// A message came since the start, or since the last broker error.
    has_received: bool,
    /// The topic is a request log, whose messages carry no numbers of ours.
    is_request_log: bool,
    error: Option<KafkaError>,
}

impl Consumer {
    pub(super) fn new(cluster: &Cluster) -> Result<Consumer, KafkaError> {
        let mut config = cluster.reader_config();
        config
            // The client library assigns nothing without a group name. The consumer never joins this group and commits nothing to it.
            .set("group.id", cluster.topic("unused"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "false")
            .set("check.crcs", "true")
            // A partition that is assigned during a fetch waits for the end of the fetch.
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "200")
            // Interval at which a full queue is checked again. With the default of a second every reader would wait for it.
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.min.messages", PREFETCH_MESSAGES)
            .set("queued.max.messages.kbytes", PREFETCH_KIB)
            // Reports the end offsets of partitions.
            .set("statistics.interval.ms", "5000");
        let end_offsets = EndOffsets::default();
        let mut client: BaseConsumer<ClientLog> = config.create_with_context(ClientLog { end_offsets: end_offsets.clone() })?;
        let wakeup = Arc::new(ConsumerWakeup::default());
        let events = wakeup.clone();
        client.set_nonempty_callback(move || events.notify_client_event());
        Ok(Consumer { cluster: cluster.clone(), assignments: HashMap::new(), client: Arc::new(client), wakeup, end_offsets, outage: None })
    }

    /// Starts reading a partition right after `offset`, or with the first message it ever had. Also goes back or retries: it discards the
    /// buffer. [`peek`](Self::peek) reports whether Kafka still holds that offset. A partition that the topic never had may stay silent,
    /// so [`Cluster::ensure_topic`] checks the number of partitions.
    ///
    /// # Errors
    /// The partition number is invalid, or the client library fails. This call does not wait for the brokers.
    pub fn assign(&mut self, service: &'static str, partition: i64, offset: Option<i64>) -> Result<(), KafkaError> {
        // The first message of all, not the first that remains: messages dropped unread are lost, too.
        let next = offset.map_or(0, |offset| offset + 1);
        self.start(service, partition, next, Offset::Offset(next), false)
    }

    /// Starts reading a partition with the oldest message that remains. For callers that know their position, and gaps, by the messages'
    /// numbers.
    ///
    /// # Errors
    /// As for [`assign`](Self::assign).
    pub fn assign_oldest(&mut self, service: &'static str, partition: i64) -> Result<(), KafkaError> {
        self.start(service, partition, 0, Offset::Beginning, false)
    }

    /// Starts reading a request log ([`super::RequestLogs`]). The number of a request is its offset plus one, in epoch 1.
    ///
    /// # Errors
    /// As for [`assign`](Self::assign).
    pub fn assign_log(&mut self, log: &'static str, partition: i64, offset: Option<i64>) -> Result<(), KafkaError> {
        let next = offset.map_or(0, |offset| offset + 1);
        self.start(log, partition, next, Offset::Offset(next), true)
    }

    /// Starts reading a partition at its end, with messages published after this call. For callers that only need to hear of changes.
    ///
    /// # Errors
    /// [`KafkaError::NoTopic`] or [`KafkaError::Unreachable`]: this call asks the brokers for the end, and waits five seconds at most.
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

    /// Stops reading a partition, if it is assigned.
    pub fn unassign(&mut self, service: &'static str, partition: i64) {
        let Some(assigned) = self.assignments.remove(&(service, partition)) else { return };
        let mut list = TopicPartitionList::new();
        list.add_partition(&assigned.topic, i32::try_from(partition).unwrap_or(-1));
        if let Err(error) = self.client.incremental_unassign(&list) {
            tracing::warn!(%error, topic = assigned.topic, partition, "partition not unassigned");
        }
        // A queued error concerns this assignment and not the next one.
        while assigned.queue.poll(Duration::ZERO).is_some() {}
    }

    /// Returns messages that the caller has not advanced past, in order: at most `limit`, and at most a thousand. Does not wait. The
    /// caller advances and peeks until nothing comes, because only new messages cause a wake-up.
    ///
    /// # Errors
    /// [`KafkaError::OffsetLost`]: returned once the caller has advanced past all messages before the loss, and from then on each time.
    /// [`KafkaError::NoTopic`]: the topic is missing and the reader has seen nothing yet. Reading resumes by itself when the topic
    /// exists. Others, such as a missing permission: returned once for each occurrence.
    pub fn peek(&mut self, service: &'static str, partition: i64, limit: usize) -> Result<&[Arrival], KafkaError> {
        let assigned = self.assignments.get_mut(&(service, partition)).ok_or(KafkaError::NotAssigned { service, partition })?;
        assigned.fill();
        if assigned.buffer.is_empty() {
            assigned.take_error()?;
        }
        let arrived = assigned.buffer.make_contiguous();
        Ok(&arrived[..limit.min(arrived.len())])
    }

    /// Discards processed messages up to and including `offset`.
    pub fn advance_past(&mut self, service: &'static str, partition: i64, offset: i64) {
        if let Some(assigned) = self.assignments.get_mut(&(service, partition)) {
            let settled = assigned.buffer.partition_point(|arrival| arrival.offset() <= offset);
            assigned.bytes -= assigned.buffer.drain(..settled).map(|arrival| data_len(&arrival)).sum::<usize>();
        }
    }

    /// Number of messages that the caller has not advanced past, as of some seconds ago. Repeats count. `None`: the brokers have not
    /// reported the end yet.
    pub fn lag(&self, service: &'static str, partition: i64) -> Option<i64> {
        let assigned = self.assignments.get(&(service, partition))?;
        let end = self.end_offsets.of(&assigned.topic, wire::kafka_partition(partition)?)?;
        let next = assigned.buffer.front().map_or(assigned.next, Arrival::offset);
        Some((end - next).max(0))
    }

    /// Waits for a new message or an error on any partition (`true`: the caller should peek). Also returns if [`Waker::wake`] is called
    /// or after `timeout` (`false`). Call it regularly, even if no message is expected, because it also serves the client library.
    ///
    /// # Errors
    /// This consumer cannot continue, for example without permission. Unreachable brokers are no error: no message arrives.
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, KafkaError> {
        let waiting = Stopwatch::start();
        loop {
            self.serve_client()?;
            if self.fill(|assigned| assigned.has_more) {
                return Ok(true);
            }
            let reasons = self.wakeup.wait(timeout.saturating_sub(waiting.elapsed()));
            // A queue must be emptied even if it holds nothing for us, such as the marks of an assignment. Otherwise it never notifies
            // again.
            let new = reasons.has_arrivals && self.fill(|_| true);
            if new || reasons.is_woken || !(reasons.has_arrivals || reasons.has_client_events) {
                return Ok(new);
            }
        }
    }

    /// Wakes this consumer from `poll`.
    pub fn waker(&self) -> Waker {
        Waker(self.wakeup.clone())
    }

    /// Calls `callback` when messages may have arrived, for a thread that waits elsewhere than in `poll`. The call happens on a thread of
    /// the client library, which holds a lock. So the callback must return at once and must not use this consumer. `false`: a callback is
    /// set already, and the first one stays.
    pub fn on_arrival(&self, callback: impl Fn() + Send + Sync + 'static) -> bool {
        self.wakeup.set_arrival_callback(Box::new(callback))
    }

    /// True if any of them received something.
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
                // Either nothing, or an event that was served; the two look the same.
                None => {}
                // Logged already. The client library retries by itself.
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(|code| is_transient(code) || is_unknown_topic(code)) => {
                    self.note_outage()
                }
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => {
                    // Every partition has its own queue, so no message comes this way. If one did, its partition would lack it.
                    let assigned = self
                        .assignments
                        .values_mut()
                        .find(|assigned| assigned.topic == message.topic() && assigned.partition == i64::from(message.partition()));
                    if let Some(assigned) = assigned {
                        assigned.set_lost(format!("offset {} arrived outside of its queue", message.offset()));
                    }
                }
            }
        }
        self.restart_silent_partitions()
    }

    /// A broker failed to answer: expects a new message from every partition.
    fn note_outage(&mut self) {
        self.outage = Some(BrokerOutage { since: Stopwatch::start(), restarts_left: MAX_RESTARTS });
        for assigned in self.assignments.values_mut() {
            assigned.has_received = false;
        }
    }

    /// Restarts partitions that have been silent since a broker error, at their next offset. Some of them just have no new messages. The
    /// restart loses nothing.
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
            tracing::info!(service, partition, offset = next, "partition restarted: silent since a broker error");
            self.start(service, partition, next, from, is_request_log)?;
        }
        Ok(())
    }
}

impl AssignedPartition {
    /// The offset at which a restart neither misses nor repeats a message.
    fn resume_offset(&self) -> Offset {
        match self.from {
            Offset::Beginning if self.next == 0 => Offset::Beginning,
            _ => Offset::Offset(self.next),
        }
    }

    /// Takes arrived messages from the queue while the buffer has room. True if there were any.
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
            // The client library reconnects by itself.
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

/// The next message is missing or unreadable.
fn is_lost(code: Code) -> bool {
    matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation | Code::BadMessage | Code::InvalidMessage)
}
