//! Strict JSON. The happy path parses once; only a body that fails is looked at again, to say what is wrong and where.
//!
//! What cannot be parsed (400) wins over what breaks the schema (422), whichever comes first in the text.

use super::{FieldError, Problem, rules::read_message};
use contracts::Code;
use serde::{
    Deserialize,
    de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use serde_path_to_error::Segment;
use std::{collections::HashSet, fmt};

/// Deepest accepted nesting. No operation needs more than five; a parser's stack and time are bounded by it.
const MAX_DEPTH: usize = 64;

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::new(Code::BadEncoding, "The body is not valid UTF-8."))?;
    if too_deep(body) {
        return Err(Problem::new(Code::TooDeep, format!("The body is nested more than {MAX_DEPTH} levels deep.")));
    }
    // The escape may also be an escaped backslash before `u0000`; only the closer look tells.
    if body.contains(&b'\\') && text.contains("\\u0000") {
        inspect(text)?;
    }
    serde_json::from_str(text).map_err(|_| explain::<T>(text))
}

fn too_deep(body: &[u8]) -> bool {
    // Cheap upper bound first: most bodies do not even have that many brackets.
    if body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Why this text is not a `T`.
fn explain<T: DeserializeOwned>(text: &str) -> Problem {
    if let Err(problem) = inspect(text) {
        return problem;
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) => describe(&pointer_of(error.path()), error.inner()),
        // It failed a moment ago, and its syntax is fine.
        Ok(_) => Code::MalformedJson.into(),
    }
}

/// Checks what every JSON text must obey, whatever is expected of it: syntax, no key twice, no NUL.
fn inspect(text: &str) -> Result<(), Problem> {
    serde_json::from_str::<IgnoredAny>(text).map_err(malformed)?;
    walk(text, &mut String::new())
}

fn malformed(error: serde_json::Error) -> Problem {
    Problem::new(Code::MalformedJson, format!("The body is not valid JSON: {error}."))
}

fn walk(text: &str, pointer: &mut String) -> Result<(), Problem> {
    let length = pointer.len();
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {
            let mut seen = HashSet::new();
            for (name, value) in serde_json::from_str::<Members<'_>>(text).map_err(malformed)?.0 {
                push(pointer, &name);
                if name.contains('\0') {
                    return Err(nul(pointer));
                }
                walk(value.get(), pointer)?;
                if !seen.insert(name) {
                    let error = FieldError { pointer: pointer.clone(), message: "is given twice".into(), code: Code::DuplicateField };
                    return Err(Problem::fields(vec![error]));
                }
                pointer.truncate(length);
            }
        }
        Some(b'[') => {
            for (index, value) in serde_json::from_str::<Vec<&RawValue>>(text).map_err(malformed)?.into_iter().enumerate() {
                push(pointer, &index.to_string());
                walk(value.get(), pointer)?;
                pointer.truncate(length);
            }
        }
        Some(b'"') if serde_json::from_str::<String>(text).map_err(malformed)?.contains('\0') => return Err(nul(pointer)),
        _ => {}
    }
    Ok(())
}

fn nul(pointer: &str) -> Problem {
    Problem::field(pointer, Code::InvalidField, "must not have a NUL character")
}

/// The members of an object as they are written, with repeats.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Appends one step to a JSON pointer.
pub(super) fn push(pointer: &mut String, step: &str) {
    pointer.push('/');
    for c in step.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Map { key } => push(&mut pointer, key),
            Segment::Enum { variant } => push(&mut pointer, variant),
            Segment::Unknown => {}
        }
    }
    pointer
}

/// Puts serde's message into words for callers: no type of ours is named, nothing of the body is repeated except field names.
fn describe(pointer: &str, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    if let Some(name) = quoted(text, "unknown field ") {
        return Problem::field(child(pointer, name), Code::UnknownField, "is not known here");
    }
    if let Some(name) = quoted(text, "missing field ") {
        return Problem::field(child(pointer, name), Code::InvalidField, "is required");
    }
    if let Some(name) = quoted(text, "duplicate field ") {
        let error = FieldError { pointer: child(pointer, name), message: "is given twice".into(), code: Code::DuplicateField };
        return Problem::fields(vec![error]);
    }
    if text.starts_with("unknown variant ") {
        return Problem::field(pointer, Code::InvalidField, choices(text));
    }
    if text == "number out of range" {
        return Problem::field(pointer, Code::InvalidField, "is out of range");
    }
    if error.is_syntax() {
        // The text was found to be JSON: the parser only did not find what an enum needs.
        return Problem::field(pointer, Code::InvalidField, "must be one of the listed choices");
    }
    if let Some((found, expected)) = text.strip_prefix("invalid ").and_then(|rest| rest.split_once(", expected ")) {
        if found.starts_with("type: floating point") && is_amount(pointer) {
            return Problem::field(pointer, Code::InvalidAmount, "must be whole won");
        }
        return Problem::field(pointer, Code::InvalidField, expectation(found, expected));
    }
    match read_message(text) {
        (Code::InvalidField, _) if text.starts_with("UUID") => Problem::field(pointer, Code::InvalidField, "must be an id (UUID)"),
        // Written for programmers, and it may repeat what was sent.
        (Code::InvalidField, _) if !text.starts_with("invalid-field: ") => {
            Problem::field(pointer, Code::InvalidField, "has an unacceptable value")
        }
        (code, message) => Problem::field(pointer, code, message),
    }
}

/// The pointer of a member, unless the path names it already.
fn child(pointer: &str, name: &str) -> String {
    let mut whole = pointer.to_owned();
    let mut step = String::new();
    push(&mut step, name);
    if !whole.ends_with(&step) {
        whole.push_str(&step);
    }
    whole
}

/// The name between backticks after a prefix.
fn quoted<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(prefix)?.strip_prefix('`')?;
    // A name may hold a backtick itself; what serde writes behind it begins so.
    let end = rest.find("`, expected ").or_else(|| rest.find("`, there are no fields")).unwrap_or(rest.len().saturating_sub(1));
    rest.get(..end)
}

/// What an enum may be, from serde's message.
pub(super) fn choices(text: &str) -> String {
    match text.rsplit_once(", expected ") {
        Some((_, choices)) => format!("must be {}", choices.replace('`', "").replacen("one of", "one of:", 1)),
        None => "has an unacceptable value".into(),
    }
}

fn expectation(found: &str, expected: &str) -> String {
    let whole = matches!(expected, "i8" | "i16" | "i32" | "i64" | "isize" | "u8" | "u16" | "u32" | "u64" | "usize");
    let kind = match expected {
        _ if whole && found.starts_with("value: integer") => "a whole number in range",
        _ if whole => "a whole number",
        "f32" | "f64" => "a number",
        "a string" | "string" | "str" | "a borrowed string" | "a character" => "a text",
        "a boolean" | "a bool" => "true or false",
        "a map" => "an object",
        _ if expected.contains("UUID") => "an id (UUID)",
        _ if expected.starts_with("struct ") || expected.contains("tagged enum") => "an object",
        _ if ["a sequence", "a tuple", "tuple", "an array"].iter().any(|list| expected.starts_with(list)) => "a list",
        _ if expected.starts_with("enum ") || expected.starts_with("variant ") => "one of the listed choices",
        _ => return "has an unacceptable value".into(),
    };
    format!("must be {kind}")
}

/// Fields that hold money: a fraction there is a half won, not just a wrong number.
fn is_amount(pointer: &str) -> bool {
    let name = pointer.rsplit('/').next().unwrap_or_default();
    matches!(name, "amount" | "price" | "won" | "points" | "total" | "cash" | "fee" | "price_delta" | "min_order")
        || ["_won", "_amount", "_price", "_total", "_fee"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
