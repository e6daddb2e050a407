use super::*;
use rdkafka::{Timestamp as Stamp, message::OwnedMessage};

fn a_record() -> Record {
    Record {
        epoch: 2,
        partition: 3,
        seq: 41,
        key: Uuid::from_u128(7),
        kind: "order.placed".to_owned(),
        data: r#"{"amount":"1000원"}"#.to_owned(),
        at: Timestamp(1_700_000_000_123_456),
        trace: Some(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)),
    }
}

/// The message in topic `onrush.orders` at offset 9 after a record was published.
fn published(record: &Record) -> OwnedMessage {
    let partition = record.partition.try_into().unwrap();
    let (key, data) = (record.key.to_string().into_bytes(), record.data.clone().into_bytes());
    let headers = headers("orders", record);
    OwnedMessage::new(Some(data), Some(key), "onrush.orders".to_owned(), Stamp::NotAvailable, partition, 9, Some(headers))
}

/// That message with one header replaced or removed.
fn with_header(record: &Record, name: &str, value: Option<&[u8]>) -> OwnedMessage {
    let written = headers("orders", record);
    assert!(written.iter().any(|header| header.key == name), "{name} is written");
    let mut changed = OwnedHeaders::new();
    for Header { key, value: old } in written.iter() {
        if key != name {
            changed = changed.insert(Header { key, value: old });
        } else if value.is_some() {
            changed = changed.insert(Header { key, value });
        }
    }
    published(record).replace_headers(Some(changed))
}

fn reason(message: &OwnedMessage) -> String {
    match read("orders", message) {
        Arrival::Foreign { offset: 9, reason, .. } => {
            assert!(reason.starts_with("onrush.orders, partition "), "{reason}");
            assert!(reason.contains("offset 9: "), "{reason}");
            reason
        }
        other => panic!("taken as ours: {other:?}"),
    }
}

#[test]
fn a_record_reads_back_as_written() {
    let record = a_record();
    assert_eq!(read("orders", &published(&record)), Arrival::Record(9, record.clone()));
    let record = Record { trace: None, ..record };
    assert_eq!(read("orders", &published(&record)), Arrival::Record(9, record));
}

#[test]
fn the_attributes_are_those_of_a_cloud_event() {
    let written = headers("orders", &a_record());
    let written: Vec<(&str, &str)> = written.iter().map(|h| (h.key, std::str::from_utf8(h.value.unwrap()).unwrap())).collect();
    let key = "00000000-0000-0000-0000-000000000007";
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "orders:2:3:41"),
        ("ce_source", "/onrush/orders"),
        ("ce_type", "order.placed"),
        ("ce_subject", key),
        ("ce_time", "2023-11-14T22:13:20.123456Z"),
        ("ce_epoch", "2"),
        ("ce_sequence", "41"),
        ("content-type", "application/json"),
        ("traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"),
    ];
    assert_eq!(written, expected);
}

#[test]
fn a_parent_is_never_zero_and_no_trace_has_no_header() {
    assert_eq!(format_traceparent(Uuid::from_u128(5)), "00-00000000000000000000000000000005-0000000000000001-01");
    let nil = Record { trace: Some(Uuid::nil()), ..a_record() };
    assert!(headers("orders", &nil).iter().all(|header| header.key != "traceparent"));
}

#[test]
fn a_message_that_lacks_an_attribute_is_foreign() {
    for name in KNOWN_HEADERS.into_iter().filter(|name| *name != "traceparent") {
        let reason = reason(&with_header(&a_record(), name, None));
        assert!(reason.contains(&format!("{name} is missing")), "{reason}");
    }
}

#[test]
fn a_message_with_a_wrong_attribute_is_foreign() {
    let wrong: [(&str, &[&str]); 10] = [
        ("ce_specversion", &["0.3", ""]),
        ("ce_id", &["orders:2:3:42", "orders:2:2:41", "orders:1:3:41", "coupons:2:3:41", ""]),
        ("ce_source", &["/onrush/coupons", "orders", ""]),
        ("ce_type", &[""]),
        ("ce_subject", &["00000000-0000-0000-0000-000000000008", ""]),
        ("ce_time", &["yesterday", "2023-11-14T22:13:20", "1969-12-31T23:59:59Z", ""]),
        ("ce_epoch", &["1", "0", "-2", "02", "+2", "two", ""]),
        ("ce_sequence", &["42", "0", "-41", "041", "+41", "9223372036854775808", ""]),
        ("content-type", &["text/plain", "application/cloudevents+json", ""]),
        (
            "traceparent",
            &[
                "",
                "00",
                "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00",
                "01-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
                "00-00000000000000000000000000000000-0000000000000001-01",
                "00-0123456789abcdef0123456789abcdeg-0123456789abcdef-01",
                "원원원원원원원원원원원원원원원원원원",
            ],
        ),
    ];
    for (name, values) in wrong {
        for value in values {
            let reason = reason(&with_header(&a_record(), name, Some(value.as_bytes())));
            // The id exposes an epoch or number that is well-formed but wrong.
            assert!(reason.contains(name) || reason.contains("ce_id"), "{reason}");
        }
        assert!(reason(&with_header(&a_record(), name, Some(b"\xff"))).contains("not UTF-8"));
    }
}

#[test]
fn an_attribute_given_twice_makes_a_message_foreign() {
    let twice = headers("orders", &a_record()).insert(Header { key: "ce_type", value: Some("order.paid") });
    let message = published(&a_record()).replace_headers(Some(twice));
    assert!(reason(&message).contains("ce_type is given twice"));
}

#[test]
fn unknown_headers_are_ignored() {
    let more = headers("orders", &a_record()).insert(Header { key: "tracestate", value: Some("vendor=1") });
    let message = published(&a_record()).replace_headers(Some(more));
    assert_eq!(read("orders", &message), Arrival::Record(9, a_record()));
}

#[test]
fn key_and_payload_are_checked() {
    let message = published(&a_record());
    assert!(reason(&message.clone().set_key(None)).contains("the key is missing"));
    assert!(reason(&message.clone().set_key(Some(b"\xff".to_vec()))).contains("the key is not UTF-8"));
    assert!(reason(&message.clone().set_payload(None)).contains("the payload is missing"));
    assert!(reason(&message.clone().set_payload(Some(b"\xff".to_vec()))).contains("the payload is not UTF-8"));
    assert!(reason(&message.clone().set_partition(4)).contains("ce_id"));
    assert!(reason(&message.replace_headers(None)).contains("ce_specversion is missing"));
    // The same id in another notation than ours.
    let braced = b"{00000000-0000-0000-0000-000000000007}".to_vec();
    let message = with_header(&a_record(), "ce_subject", Some(&braced)).set_key(Some(braced));
    assert!(reason(&message).contains("is no id"));
}

#[test]
fn only_the_beginning_of_a_foreign_message_is_kept() {
    let message = published(&a_record()).set_key(None).set_payload(Some("원".repeat(10_000).into_bytes()));
    let Arrival::Foreign { data, .. } = read("orders", &message) else { panic!("it has no key") };
    assert_eq!(data, "원".repeat(MAX_FOREIGN_CHARS));
}

#[test]
fn records_with_extreme_values_read_back() {
    let numbers = [1, 2, i64::from(i32::MAX), i64::MAX];
    let texts = ["", "{}", "null", "\u{0}", "\u{feff}원😀\r\n", &"x".repeat(100_000)];
    for (seq, epoch) in numbers.into_iter().flat_map(|seq| numbers.map(|epoch| (seq, epoch))) {
        for (partition, at) in [(0, 0), (i64::from(i32::MAX), Timestamp::MAX.0), (1, 951_782_400_000_001)] {
            for (id, data) in [0, 1, u128::MAX / 3, u128::MAX].into_iter().flat_map(|id| texts.map(|data| (id, data))) {
                let trace = Some(Uuid::from_u128(id)).filter(|trace| !trace.is_nil());
                let (key, kind, data, at) = (Uuid::from_u128(id), "a.b-c_d".to_owned(), data.to_owned(), Timestamp(at));
                let record = Record { epoch, partition, seq, key, kind, data, at, trace };
                assert_eq!(read("orders", &published(&record)), Arrival::Record(9, record));
            }
        }
    }
}

// C25
#[test]
fn a_request_reads_back_with_its_offset_as_number() {
    let request = LoggedRequest {
        id: Uuid::from_u128(11),
        key: Uuid::from_u128(7),
        kind: "coupon.claim".to_owned(),
        data: "{}".to_owned(),
        at: Timestamp(1_700_000_000_123_456),
        trace: Some(Uuid::from_u128(5)),
    };
    let (key, data) = (request.key.to_string().into_bytes(), request.data.clone().into_bytes());
    let written = request_headers("coupons.claims", &request);
    let message = OwnedMessage::new(Some(data), Some(key), "onrush.coupons.claims".to_owned(), Stamp::NotAvailable, 3, 9, Some(written));
    let LoggedRequest { id, kind, data, at, trace, .. } = request;
    // The key is the request's own id, because requests are dead-lettered one by one.
    let record = Record { epoch: 1, partition: 3, seq: 10, key: id, kind, data, at, trace };
    assert_eq!(read_request("coupons.claims", &message), Arrival::Record(9, record));
    // Records and requests are not mistaken for each other.
    assert!(matches!(read("coupons.claims", &message), Arrival::Foreign { offset: 9, .. }));
    assert!(matches!(read_request("coupons.claims", &published(&a_record())), Arrival::Foreign { offset: 9, .. }));
    assert!(matches!(read_request("coupons.claims", &message.replace_headers(None)), Arrival::Foreign { offset: 9, .. }));
}
