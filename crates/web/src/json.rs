//! Strict JSON. A valid body is parsed once; an invalid one is parsed again to find the error and its position.
//!
//! A syntax error (400) takes precedence over a schema error (422), even when the schema error comes first in the text.

use super::{FieldError, Problem, rules::parse_message};
use contracts::Code;
use serde::{
    Deserialize,
    de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use serde_path_to_error::Segment;
use std::{collections::HashSet, fmt};

/// Deepest accepted nesting, in levels. It bounds the parser's stack and time; no operation needs more than five.
const MAX_DEPTH: usize = 64;

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = check(body)?;
    serde_json::from_str(text).map_err(|_| explain(text, locate_error::<T>))
}

/// Returns the text of a body whose encoding and nesting are acceptable.
fn check(body: &[u8]) -> Result<&str, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::new(Code::BadEncoding, "The body is not valid UTF-8."))?;
    if is_too_deep(body) {
        return Err(Problem::new(Code::TooDeep, format!("The body is nested more than {MAX_DEPTH} levels deep.")));
    }
    // The match may also be an escaped backslash before `u0000`; only the full check can tell.
    if body.contains(&b'\\') && text.contains("\\u0000") {
        check_any_json(text)?;
    }
    Ok(text)
}

fn is_too_deep(body: &[u8]) -> bool {
    // Cheap upper bound first: most bodies have fewer brackets than that.
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

/// An error of the parser, with its path in the text.
type LocatedError = serde_path_to_error::Error<serde_json::Error>;

/// Finds the first error of a text that is not a `T`.
fn locate_error<T: DeserializeOwned>(text: &str) -> Option<LocatedError> {
    serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(text)).err()
}

/// Explains why this text does not fit its type. Compiled once for all types.
fn explain(text: &str, locate_error: fn(&str) -> Option<LocatedError>) -> Problem {
    if let Err(problem) = check_any_json(text) {
        return problem;
    }
    match locate_error(text) {
        Some(error) => describe_error(&pointer_of(error.path()), error.inner()),
        // Not reachable in practice: the same text failed before, and its syntax is valid.
        None => Code::MalformedJson.into(),
    }
}

/// Checks the rules for every JSON text, independent of its type: syntax, no duplicate key, no NUL.
fn check_any_json(text: &str) -> Result<(), Problem> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| malformed_problem(text, text, &error))?;
    check_value(text, text, &mut String::new())
}

/// Problem of a syntax error in `part` of the `whole` body. Its position is told for the whole body.
fn malformed_problem(whole: &str, part: &str, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    let begin = position_of(whole.as_bytes(), (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize));
    let (line, column) = match error.line() {
        0 | 1 => (begin.0, begin.1 + error.column()),
        line => (begin.0 + line - 1, error.column()),
    };
    Problem::new(Code::MalformedJson, format!("The body is not valid JSON: {reason} at line {line} column {column}."))
}

/// Line of an offset, and the number of bytes before it in that line.
fn position_of(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    (before.iter().filter(|byte| **byte == b'\n').count() + 1, before.len() - line_begin)
}

fn check_value(whole: &str, text: &str, pointer: &mut String) -> Result<(), Problem> {
    let malformed = |error: serde_json::Error| malformed_problem(whole, text, &error);
    let length = pointer.len();
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {
            let mut seen = HashSet::new();
            for (name, value) in serde_json::from_str::<Members<'_>>(text).map_err(malformed)?.0 {
                push_pointer_step(pointer, &name);
                if name.contains('\0') {
                    return Err(nul_problem(pointer));
                }
                check_value(whole, value.get(), pointer)?;
                if !seen.insert(name) {
                    let error = FieldError { pointer: pointer.clone(), message: "is given twice".into(), code: Code::DuplicateField };
                    return Err(Problem::fields(vec![error]));
                }
                pointer.truncate(length);
            }
        }
        Some(b'[') => {
            for (index, value) in serde_json::from_str::<Vec<&RawValue>>(text).map_err(malformed)?.into_iter().enumerate() {
                push_pointer_step(pointer, &index.to_string());
                check_value(whole, value.get(), pointer)?;
                pointer.truncate(length);
            }
        }
        Some(b'"') if serde_json::from_str::<String>(text).map_err(malformed)?.contains('\0') => return Err(nul_problem(pointer)),
        _ => {}
    }
    Ok(())
}

fn nul_problem(pointer: &str) -> Problem {
    Problem::field(pointer, Code::InvalidField, "must not have a NUL character")
}

/// Members of an object as written, including duplicates.
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
pub(super) fn push_pointer_step(pointer: &mut String, step: &str) {
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
            Segment::Seq { index } => push_pointer_step(&mut pointer, &index.to_string()),
            Segment::Map { key } => push_pointer_step(&mut pointer, key),
            Segment::Enum { variant } => push_pointer_step(&mut pointer, variant),
            Segment::Unknown => {}
        }
    }
    pointer
}

/// Translates serde's error for callers. The text names no Rust type and repeats nothing of the body except field names.
fn describe_error(pointer: &str, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    if let Some(name) = quoted_name(text, "unknown field ") {
        return Problem::field(child_pointer(pointer, name), Code::UnknownField, "is not known here");
    }
    if let Some(name) = quoted_name(text, "missing field ") {
        return Problem::field(child_pointer(pointer, name), Code::InvalidField, "is required");
    }
    if let Some(name) = quoted_name(text, "duplicate field ") {
        let error = FieldError { pointer: child_pointer(pointer, name), message: "is given twice".into(), code: Code::DuplicateField };
        return Problem::fields(vec![error]);
    }
    if text.starts_with("unknown variant ") {
        return Problem::field(pointer, Code::InvalidField, describe_choices(text));
    }
    if text == "number out of range" {
        return Problem::field(pointer, Code::InvalidField, "is out of range");
    }
    if error.is_syntax() {
        // The text is valid JSON; the parser only found no variant of an enum.
        return Problem::field(pointer, Code::InvalidField, "must be one of the listed choices");
    }
    if let Some((found, expected)) = text.strip_prefix("invalid ").and_then(|rest| rest.split_once(", expected ")) {
        return Problem::field(pointer, Code::InvalidField, describe_expected(found, expected));
    }
    match parse_message(text) {
        (Code::InvalidField, _) if text.starts_with("UUID") => Problem::field(pointer, Code::InvalidField, "must be an id (UUID)"),
        // Messages for programmers, which may repeat the caller's data.
        (Code::InvalidField, _) if !text.starts_with("invalid-field: ") => {
            Problem::field(pointer, Code::InvalidField, "has an unacceptable value")
        }
        (code, message) => Problem::field(pointer, code, message),
    }
}

/// Pointer of a member. serde's path may already end with its name.
fn child_pointer(pointer: &str, name: &str) -> String {
    let mut whole = pointer.to_owned();
    let mut step = String::new();
    push_pointer_step(&mut step, name);
    if !whole.ends_with(&step) {
        whole.push_str(&step);
    }
    whole
}

/// The name between backticks after a prefix.
fn quoted_name<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(prefix)?.strip_prefix('`')?;
    // A name may contain a backtick. serde's text after the name begins with one of these.
    let end = rest.find("`, expected ").or_else(|| rest.find("`, there are no fields")).unwrap_or(rest.len().saturating_sub(1));
    rest.get(..end)
}

/// Lists the variants of an enum, taken from serde's message.
pub(super) fn describe_choices(text: &str) -> String {
    match text.rsplit_once(", expected ") {
        Some((_, choices)) => format!("must be {}", choices.replace('`', "").replacen("one of", "one of:", 1)),
        None => "has an unacceptable value".into(),
    }
}

fn describe_expected(found: &str, expected: &str) -> String {
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

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
