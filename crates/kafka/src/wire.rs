//! Encodes a message of a stream as a CloudEvent 1.0 in Kafka's binary mode, and decodes it. Outside systems rely on this format.

use contracts::Timestamp;
use rdkafka::message::{Header, Headers as _, Message, OwnedHeaders};
use uuid::Uuid;

const SPEC: &str = "1.0";
const JSON: &str = "application/json";
/// Length of the text kept from a message that is not ours, for inspection.
const MAX_FOREIGN_CHARS: usize = 4_096;

/// A message of a stream, as in the outbox row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub epoch: i64,
    /// Number of the partition, in the stream and in the topic.
    pub partition: i64,
    /// Dense for each epoch and partition.
    pub seq: i64,
    /// The id of the subject. Order holds for each key.
    pub key: Uuid,
    pub kind: String,
    /// JSON.
    pub data: String,
    /// Time of writing, which may be long before publishing.
    pub at: Timestamp,
    /// Trace of the causing request. The nil id means none.
    pub trace: Option<Uuid>,
}

/// A caller's request, logged before it is processed. Its position in Kafka is its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// A repeat of the request has the same id.
    pub id: Uuid,
    /// The id of the subject. Order holds for each key.
    pub key: Uuid,
    pub kind: String,
    /// JSON.
    pub data: String,
    pub at: Timestamp,
    pub trace: Option<Uuid>,
}

/// The content of a partition at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    Record(i64, Record),
    /// Not written by us, or damaged. `reason` names topic, partition and offset. `data` is the beginning of the text, for inspection.
    Foreign {
        offset: i64,
        reason: String,
        data: String,
    },
}

impl Arrival {
    pub fn offset(&self) -> i64 {
        match self {
            Arrival::Record(offset, _) | Arrival::Foreign { offset, .. } => *offset,
        }
    }
}

/// The attributes of the event. The key and the data are the key and the payload of Kafka's message.
pub(super) fn headers(service: &str, record: &Record) -> OwnedHeaders {
    let Record { epoch, partition, seq, key, kind, at, trace, .. } = record;
    let (epoch_text, seq_text) = (epoch.to_string(), seq.to_string());
    let numbers = [("ce_epoch", epoch_text.as_str()), ("ce_sequence", seq_text.as_str())];
    attributes(&event_id(service, *epoch, *partition, *seq), &event_source(service), kind, *key, *at, &numbers, *trace)
}

/// The attributes of a request, which has no number of ours.
pub(super) fn request_headers(log: &str, request: &LoggedRequest) -> OwnedHeaders {
    let LoggedRequest { id, key, kind, at, trace, .. } = request;
    attributes(&id.to_string(), &event_source(log), kind, *key, *at, &[], *trace)
}

fn attributes(id: &str, source: &str, kind: &str, key: Uuid, at: Timestamp, numbers: &[(&str, &str)], trace: Option<Uuid>) -> OwnedHeaders {
    let with = |headers: OwnedHeaders, key: &str, value: &str| headers.insert(Header { key, value: Some(value) });
    let mut headers = OwnedHeaders::new_with_capacity(10);
    headers = with(headers, "ce_specversion", SPEC);
    headers = with(headers, "ce_id", id);
    headers = with(headers, "ce_source", source);
    headers = with(headers, "ce_type", kind);
    headers = with(headers, "ce_subject", &key.to_string());
    headers = with(headers, "ce_time", &at.to_string());
    for (name, number) in numbers {
        headers = with(headers, name, number);
    }
    headers = with(headers, "content-type", JSON);
    match trace {
        Some(trace) if !trace.is_nil() => with(headers, "traceparent", &format_traceparent(trace)),
        _ => headers,
    }
}

/// Decodes a message. Strict: a message that a [`super::Producer`] would not have written is foreign. Unknown headers are allowed,
/// because tracing agents and brokers add their own.
pub(super) fn read(service: &str, message: &impl Message) -> Arrival {
    to_arrival(message, parse_record(service, message))
}

/// Decodes a request, as strictly. Its number is its offset plus one, and its key is its own id.
pub(super) fn read_request(log: &str, message: &impl Message) -> Arrival {
    to_arrival(message, parse_request(log, message))
}

fn to_arrival(message: &impl Message, read: Result<Record, String>) -> Arrival {
    let offset = message.offset();
    match read {
        Ok(record) => Arrival::Record(offset, record),
        Err(reason) => {
            let reason = format!("{}, partition {}, offset {offset}: {reason}", message.topic(), message.partition());
            let data = String::from_utf8_lossy(message.payload().unwrap_or_default()).chars().take(MAX_FOREIGN_CHARS).collect();
            Arrival::Foreign { offset, reason, data }
        }
    }
}

/// The partition number for Kafka. `None`: negative numbers have special meanings there.
pub(super) fn kafka_partition(partition: i64) -> Option<i32> {
    i32::try_from(partition).ok().filter(|number| *number >= 0)
}

fn parse_record(service: &str, message: &impl Message) -> Result<Record, String> {
    let attributes = Attributes::of(message)?;
    let record = parse_event(service, message, &attributes)?;
    let (epoch, seq) = (attributes.count("ce_epoch")?, attributes.count("ce_sequence")?);
    attributes.is("ce_id", &event_id(service, epoch, record.partition, seq))?;
    Ok(Record { epoch, seq, ..record })
}

fn parse_request(log: &str, message: &impl Message) -> Result<Record, String> {
    let attributes = Attributes::of(message)?;
    let id = attributes.get("ce_id")?;
    let id = Uuid::parse_str(id).map_err(|_| format!("ce_id is {id:?}"))?;
    // Each request is processed by itself. A failed one does not block a later one about the same subject.
    Ok(Record { key: id, ..parse_event(log, message, &attributes)? })
}

/// The part that all our messages share, with the numbers of a request.
fn parse_event(service: &str, message: &impl Message, attributes: &Attributes<'_>) -> Result<Record, String> {
    attributes.is("ce_specversion", SPEC)?;
    attributes.is("content-type", JSON)?;
    attributes.is("ce_source", &event_source(service))?;
    let key = utf8("the key", message.key())?;
    attributes.is("ce_subject", key)?;
    let partition = i64::from(message.partition());
    let kind = attributes.get("ce_type")?;
    if kind.is_empty() {
        return Err("ce_type is empty".to_owned());
    }
    let time = attributes.get("ce_time")?;
    Ok(Record {
        epoch: 1,
        partition,
        seq: message.offset() + 1,
        key: Uuid::parse_str(key).ok().filter(|id| id.to_string() == key).ok_or_else(|| format!("the key {key:?} is no id"))?,
        kind: kind.to_owned(),
        data: utf8("the payload", message.payload())?.to_owned(),
        at: Timestamp::parse(time).ok_or_else(|| format!("ce_time is {time:?}"))?,
        trace: attributes.find("traceparent").map(parse_traceparent).transpose()?,
    })
}

fn event_id(service: &str, epoch: i64, partition: i64, seq: i64) -> String {
    format!("{service}:{epoch}:{partition}:{seq}")
}

fn event_source(service: &str) -> String {
    format!("/onrush/{service}")
}

/// W3C trace context. The parent is not a span of ours, but it must not be zero.
fn format_traceparent(trace: Uuid) -> String {
    let trace = trace.simple().to_string();
    let parent = match &trace[..16] {
        "0000000000000000" => "0000000000000001",
        parent => parent,
    };
    format!("00-{trace}-{parent}-01")
}

fn parse_traceparent(header: &str) -> Result<Uuid, String> {
    let wrong = || format!("traceparent is {header:?}");
    let trace = header.get(3..35).and_then(|hex| Uuid::try_parse(hex).ok()).ok_or_else(wrong)?;
    if format_traceparent(trace) == header && !trace.is_nil() { Ok(trace) } else { Err(wrong()) }
}

fn utf8<'m>(name: &str, bytes: Option<&'m [u8]>) -> Result<&'m str, String> {
    let bytes = bytes.ok_or_else(|| format!("{name} is missing"))?;
    std::str::from_utf8(bytes).map_err(|_| format!("{name} is not UTF-8"))
}

/// The headers of a message that this module writes.
struct Attributes<'m>(Vec<(&'m str, &'m str)>);

const KNOWN_HEADERS: [&str; 10] =
    ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_epoch", "ce_sequence", "content-type", "traceparent"];

impl<'m> Attributes<'m> {
    fn of(message: &'m impl Message) -> Result<Self, String> {
        let mut found: Vec<(&str, &str)> = Vec::with_capacity(KNOWN_HEADERS.len());
        for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
            if !KNOWN_HEADERS.contains(&header.key) {
                continue;
            }
            if found.iter().any(|(key, _)| *key == header.key) {
                return Err(format!("{} is given twice", header.key));
            }
            found.push((header.key, utf8(header.key, header.value)?));
        }
        Ok(Self(found))
    }

    fn find(&self, name: &str) -> Option<&'m str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    fn get(&self, name: &str) -> Result<&'m str, String> {
        self.find(name).ok_or_else(|| format!("{name} is missing"))
    }

    fn is(&self, name: &str, wanted: &str) -> Result<(), String> {
        match self.get(name)? {
            found if found == wanted => Ok(()),
            found => Err(format!("{name} is {found:?}, not {wanted:?}")),
        }
    }

    /// A number from 1 up, in the form that we write.
    fn count(&self, name: &str) -> Result<i64, String> {
        let found = self.get(name)?;
        let number = found.parse::<i64>().ok().filter(|number| *number > 0 && number.to_string() == found);
        number.ok_or_else(|| format!("{name} is {found:?}"))
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
