use super::*;
use contracts::{MemberId, Timestamp, Won};

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Order {
    name: String,
    #[serde(default)]
    lines: Vec<Line>,
    at: Option<Timestamp>,
    amount: Option<Won>,
    member: Option<MemberId>,
    kind: Option<Kind>,
    paid: Option<bool>,
    more: Option<std::collections::HashMap<String, i64>>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Line {
    qty: u32,
    note: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    FirstCome,
    Unlimited,
}

fn refused(body: impl AsRef<[u8]>) -> (Code, String, String) {
    let problem = parse::<Order>(body.as_ref()).expect_err("the body is wrong");
    let (pointer, message) = problem.errors.first().map_or_else(Default::default, |error| (error.pointer.clone(), error.message.clone()));
    (problem.code(), pointer, message)
}

fn refused_field(body: &str) -> (Code, String) {
    let (code, pointer, _) = refused(body);
    (code, pointer)
}

#[test]
fn good_bodies_are_read() {
    let order: Order = parse(r#"{"name":"\\u0000 \u00e9 👩","lines":[{"qty":2}],"kind":"first_come"}"#.as_bytes()).expect("it is fine");
    assert_eq!((order.name.as_str(), order.lines[0].qty, order.kind), ("\\u0000 é 👩", 2, Some(Kind::FirstCome)));
    // Brackets inside a string do not count as nesting.
    let many = format!(r#"{{"name":"{}"}}"#, "[{\\\"".repeat(500));
    assert!(parse::<Order>(many.as_bytes()).is_ok());
}

// row 1
#[test]
fn a_syntax_error_takes_precedence_over_wrong_fields() {
    for body in [
        "",
        " ",
        "{",
        "nul",
        r#"{"name":NaN}"#,
        r#"{"name":"a","amount":Infinity}"#,
        r#"{"name":"a"}x"#,
        r#"{"name":"a"}{"name":"b"}"#,
        r#"{"name":"a",}"#,
        r#"{'name':'a'}"#,
        r#"{"name":1, oops"#,
        r#"{"unknown":1,]"#,
        "{\"name\":\"a\nb\"}",
        r#"{"name":"\ud800"}"#,
        r#"{"name":"a"} // comment"#,
        "\u{feff}{\"name\":\"a\"}",
        r#"{"name":"a","amount":01}"#,
    ] {
        assert_eq!(refused(body).0, Code::MalformedJson, "{body}");
    }
}

// row 2
#[test]
fn a_duplicate_key_is_refused_at_any_depth() {
    let twice = |body: &str, pointer: &str| assert_eq!(refused_field(body), (Code::DuplicateField, pointer.to_owned()), "{body}");
    twice(r#"{"name":"a","name":"b"}"#, "/name");
    twice(r#"{"name":"a","lines":[{"qty":1},{"qty":1,"qty":2}]}"#, "/lines/1/qty");
    twice(r#"{"name":"a","\u006eame":"b"}"#, "/name");
    // Also when another field violates the schema.
    twice(r#"{"name":7,"x":{"y":1,"y":2}}"#, "/x/y");
}

// row 3
#[test]
fn deep_nesting_is_refused_before_it_is_parsed() {
    let deep = |open: &str, close: &str| format!(r#"{{"name":{}{}}}"#, open.repeat(10_000), close.repeat(10_000));
    assert_eq!(refused(deep("[", "]")).0, Code::TooDeep);
    assert_eq!(refused(deep(r#"{"a":"#, "}")).0, Code::TooDeep);
    assert_eq!(refused("[".repeat(100_000)).0, Code::TooDeep);
    let fine = format!(r#"{{"name":"a","lines":[{}]}}"#, vec![r#"{"qty":1}"#; 500].join(","));
    assert_eq!(parse::<Order>(fine.as_bytes()).expect("flat is not deep").lines.len(), 500);
}

// row 4
#[test]
fn invalid_utf8_is_refused() {
    assert_eq!(refused(b"{\"name\":\"\xff\"}").0, Code::BadEncoding);
    assert_eq!(refused(b"{\"name\":\"\xed\xa0\x80\"}").0, Code::BadEncoding);
}

// row 5
#[test]
fn nul_is_refused_with_its_pointer() {
    let nul = |body: &str, pointer: &str| assert_eq!(refused_field(body), (Code::InvalidField, pointer.to_owned()), "{body}");
    nul(r#"{"name":"a\u0000"}"#, "/name");
    nul(r#"{"name":"a","lines":[{"qty":1,"note":"\u0000"}]}"#, "/lines/0/note");
    assert_eq!(refused(r#"{"name":"a","k\u0000":1}"#).0, Code::InvalidField);
}

// row 6
#[test]
fn unknown_fields_are_refused_with_their_pointer() {
    for field in ["state", "price", "user_id", "role", "balance", "a/b~c", "a`b", ""] {
        let body = serde_json::json!({"name": "a", field: 1}).to_string();
        let pointer = format!("/{}", field.replace('~', "~0").replace('/', "~1"));
        assert_eq!(refused_field(&body), (Code::UnknownField, pointer), "{body}");
    }
    let inner = r#"{"name":"a","lines":[{"qty":1,"price":1}]}"#;
    assert_eq!(refused_field(inner), (Code::UnknownField, "/lines/0/price".into()));
}

// rows 7, 42
#[test]
fn wrong_types_are_refused_with_their_pointer() {
    for value in [r#""2""#, "1.5", "1.0", "1e3", "true", "null", "-1", "2147483648000", "9223372036854775808", "1e400", "-0.0", "[]", "{}"]
    {
        let body = format!(r#"{{"name":"a","lines":[{{"qty":1}},{{"qty":{value}}}]}}"#);
        assert_eq!(refused_field(&body), (Code::InvalidField, "/lines/1/qty".into()), "{body}");
    }
    assert_eq!(refused(r#"{"name":null}"#), (Code::InvalidField, "/name".into(), "must be a text".into()));
    assert_eq!(refused(r#"{"lines":[]}"#), (Code::InvalidField, "/name".into(), "is required".into()));
    assert_eq!(refused(r#"{"name":"a","lines":{}}"#).2, "must be a list");
    assert_eq!(refused(r#"{"name":"a","paid":"yes"}"#).2, "must be true or false");
    assert_eq!(refused(r#"{"name":"a","member":"7"}"#).2, "must be an id (UUID)");
    assert_eq!(refused(r#"{"name":"a","member":7}"#).2, "must be an id (UUID)");
    assert_eq!(refused(r#"{"name":"a","kind":"other"}"#).2, "must be first_come or unlimited");
    assert_eq!(refused(r#"{"name":"a","kind":7}"#).1, "/kind");
    assert_eq!(refused("[]").0, Code::InvalidField);
    assert_eq!(refused("7"), (Code::InvalidField, String::new(), "must be an object".into()));
}

// row 45
#[test]
fn fractions_of_won_are_refused_as_invalid_amounts() {
    for value in ["0.5", "1.0", "1e3", "1.005"] {
        assert_eq!(refused_field(&format!(r#"{{"name":"a","amount":{value}}}"#)), (Code::InvalidAmount, "/amount".into()));
    }
    assert_eq!(refused_field(r#"{"name":"a","amount":"5"}"#), (Code::InvalidField, "/amount".into()));
}

// row 66
#[test]
fn impossible_instants_are_refused_as_invalid_times() {
    for at in
        ["2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:00+25:00", "2026-01-01T00:00:00", ""]
    {
        assert_eq!(refused_field(&format!(r#"{{"name":"a","at":"{at}"}}"#)), (Code::InvalidTime, "/at".into()), "{at}");
    }
    assert_eq!(refused_field(r#"{"name":"a","at":7}"#).0, Code::InvalidField);
}

// I9
#[test]
fn no_error_names_a_rust_type() {
    for body in ["[]", "7", r#"{"name":"a","lines":[7]}"#, r#"{"name":"a","kind":{}}"#, r#"{"name":"a","more":[]}"#] {
        let problem = parse::<Order>(body.as_bytes()).expect_err("the body is wrong");
        let text = format!("{} {:?}", problem.refusal.detail, problem.errors);
        for word in ["Order", "Line", "Kind", "struct", "u32", "i64", "expected"] {
            assert!(!text.contains(word), "{text}");
        }
    }
}

// L13
#[test]
fn the_position_of_an_error_counts_from_the_start_of_the_body() {
    for body in [
        "{\"name\":\"\\ud800\"}",
        "{\n \"name\": \"a\",\n  \"lines\": [{\"note\":\"\\ud800\"}]}",
        "{\"\\ud800\":1}",
        "[\n\"\\udc00\"]",
        "{\"a\":\n1,}",
    ] {
        let expected = serde_json::from_str::<serde_json::Value>(body).expect_err("it is malformed");
        let problem = parse::<Order>(body.as_bytes()).expect_err("it is malformed");
        let place = format!(" at line {} column {}.", expected.line(), expected.column());
        assert!(problem.code() == Code::MalformedJson && problem.refusal.detail.ends_with(&place), "{body}: {place} {problem:?}");
    }
}
