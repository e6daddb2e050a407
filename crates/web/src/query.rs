//! Strict query strings: each parameter at most once, with a known name and a valid type.

use super::{FieldError, Problem, json, rules::parse_message};
use axum::extract::FromRequestParts;
use contracts::Code;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor,
    value::{MapAccessDeserializer, StringDeserializer},
};
use std::{borrow::Cow, collections::HashSet, fmt};

/// Parameters of the query string. Unknown parameters are refused even if `T` would ignore them.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parse(parts.uri.query().unwrap_or_default()).map(Query)
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.push((decode(name)?, decode(value)?));
    }
    let mut seen = HashSet::new();
    for (name, value) in &parameters {
        if !seen.insert(name.as_str()) {
            let error = FieldError { pointer: pointer(name), message: "is given twice".into(), code: Code::DuplicateParameter };
            return Err(Problem::fields(vec![error]));
        }
        if value.contains('\0') || name.contains('\0') {
            return Err(Problem::field(pointer(name), Code::InvalidParameter, "must not have a NUL character"));
        }
    }
    let parameters = Parameters { rest: parameters.into_iter(), current: None };
    T::deserialize(MapAccessDeserializer::new(parameters)).map_err(|refused: ParameterError| {
        let (code, message) = match parse_message(&refused.message) {
            (Code::InvalidField, message) => (Code::InvalidParameter, message),
            other => other,
        };
        Problem::field(pointer(&refused.name), code, message)
    })
}

fn pointer(name: &str) -> String {
    let mut pointer = String::new();
    if !name.is_empty() {
        json::push_pointer_step(&mut pointer, name);
    }
    pointer
}

/// Decodes percent escapes and plus signs. A percent sign without two hex digits stays as it is. `Err`: the result is not UTF-8.
fn decode(text: &str) -> Result<String, Problem> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| Problem::new(Code::BadEncoding, "The query is not valid UTF-8."))
}

#[derive(Debug)]
struct ParameterError {
    name: String,
    message: String,
}

impl ParameterError {
    fn new(message: impl Into<String>) -> ParameterError {
        ParameterError { name: String::new(), message: message.into() }
    }
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl std::error::Error for ParameterError {}

impl de::Error for ParameterError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        let message = match parse_message(&text) {
            // Callers see only messages that were written for them.
            (Code::InvalidField, _) if text.starts_with("UUID") => "must be an id (UUID)".into(),
            (Code::InvalidField, _) => "has an unacceptable value".into(),
            _ => text,
        };
        ParameterError::new(message)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let _ = variant;
        ParameterError::new(format!("must be one of: {}", expected.join(", ")))
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> Self {
        ParameterError { name: field.to_owned(), message: "is not known here".into() }
    }

    fn missing_field(field: &'static str) -> Self {
        ParameterError { name: field.to_owned(), message: "is required".into() }
    }
}

struct Parameters {
    rest: std::vec::IntoIter<(String, String)>,
    current: Option<(String, String)>,
}

impl<'de> MapAccess<'de> for Parameters {
    type Error = ParameterError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ParameterError> {
        self.current = self.rest.next();
        let Some((name, _)) = &self.current else { return Ok(None) };
        let name: StringDeserializer<ParameterError> = name.clone().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ParameterError> {
        let (name, text) = self.current.take().unwrap_or_default();
        seed.deserialize(ParameterValue(text)).map_err(|refused| ParameterError { name, ..refused })
    }
}

/// Deserializer for the value of one parameter.
struct ParameterValue(String);

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $message:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParameterError> {
            visitor.$visit(self.0.parse::<$type>().map_err(|_| ParameterError::new($message))?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for ParameterValue {
    type Error = ParameterError;

    numbers! {
        deserialize_i8 visit_i8 i8, "must be a whole number in range";
        deserialize_i16 visit_i16 i16, "must be a whole number in range";
        deserialize_i32 visit_i32 i32, "must be a whole number in range";
        deserialize_i64 visit_i64 i64, "must be a whole number in range";
        deserialize_u8 visit_u8 u8, "must be a whole number in range";
        deserialize_u16 visit_u16 u16, "must be a whole number in range";
        deserialize_u32 visit_u32 u32, "must be a whole number in range";
        deserialize_u64 visit_u64 u64, "must be a whole number in range";
        deserialize_bool visit_bool bool, "must be true or false";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParameterError> {
        visitor.visit_string(self.0)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParameterError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParameterError> {
        let number = self.0.parse::<f64>().ok().filter(|number| number.is_finite());
        visitor.visit_f64(number.ok_or_else(|| ParameterError::new("must be a number"))?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParameterError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, ParameterError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParameterError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    /// Refuses a parameter that the struct does not know and would skip.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, ParameterError> {
        Err(ParameterError::new("is not known here"))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{MemberId, Timestamp};
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct List {
        q: Option<String>,
        limit: Option<i64>,
        in_stock: Option<bool>,
        sort: Option<Sort>,
        member: Option<MemberId>,
        from: Option<Timestamp>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Sort {
        Newest,
        PriceUp,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[expect(dead_code, reason = "only its presence matters")]
        days: u32,
    }

    fn refused(query: &str) -> (Code, String) {
        let problem = parse::<List>(query).expect_err("the query is wrong");
        (problem.code(), problem.errors.first().map_or_else(String::new, |error| error.pointer.clone()))
    }

    #[test]
    fn parameters_are_read_as_their_types() {
        let list: List =
            parse("q=a%20b+c%26&limit=7&in_stock=true&sort=price_up&member=0190f2a8-0000-7000-8000-000000000001").expect("fine");
        assert_eq!((list.q.as_deref(), list.limit, list.in_stock, list.sort), (Some("a b c&"), Some(7), Some(true), Some(Sort::PriceUp)));
        assert!(list.member.is_some());
        assert!(parse::<List>("").expect("all are optional").q.is_none());
        assert!(parse::<List>("&&").is_ok());
        assert!(parse::<List>("from=2026-11-20T00:00:00Z").expect("fine").from.is_some());
    }

    // row 20
    #[test]
    fn special_characters_in_a_search_are_plain_text() {
        for (query, text) in [
            ("q=%27+or+1%3D1--", "' or 1=1--"),
            ("q=%", "%"),
            ("q=%zz_", "%zz_"),
            ("q=%5C", "\\"),
            ("q=%25", "%"),
            ("q=%+1", "% 1"),
            ("q=%2", "%2"),
            ("q=%2B%2b", "++"),
            ("q=%2520", "%20"),
        ] {
            assert_eq!(parse::<List>(query).expect("fine").q.as_deref(), Some(text));
        }
    }

    // row 17
    #[test]
    fn a_duplicate_parameter_is_refused() {
        assert_eq!(refused("limit=1&limit=9"), (Code::DuplicateParameter, "/limit".into()));
        assert_eq!(refused("limit=1&lim%69t=9"), (Code::DuplicateParameter, "/limit".into()));
        assert_eq!(refused("x=1&x=2").0, Code::DuplicateParameter);
    }

    // row 18
    #[test]
    fn unknown_and_wrong_parameters_are_refused_by_name() {
        for (query, pointer) in [
            ("limit=", "/limit"),
            ("limit=x", "/limit"),
            ("limit=1.5", "/limit"),
            ("limit=1000000000000000000000", "/limit"),
            ("sort=id%3Bdrop+table", "/sort"),
            ("in_stock=yes", "/in_stock"),
            ("member=7", "/member"),
            ("page=2", "/page"),
            ("q=%00", "/q"),
        ] {
            assert_eq!(refused(query), (Code::InvalidParameter, pointer.into()), "{query}");
        }
        assert_eq!(refused("from=2026-02-30T00:00:00Z"), (Code::InvalidTime, "/from".into()));
        let strict = |query: &str| parse::<Strict>(query).expect_err("wrong").errors[0].pointer.clone();
        assert_eq!((strict(""), strict("days=1&x=1"), strict("days=-1")), ("/days".into(), "/x".into(), "/days".into()));
    }

    // row 4
    #[test]
    fn invalid_utf8_is_refused() {
        assert_eq!(refused("q=%ff").0, Code::BadEncoding);
        assert_eq!(refused("q=%ed%a0%80").0, Code::BadEncoding);
    }
}
