//! Body of a problem by RFC 9457, the same for answers stored in a transaction and for errors of a handler.

use crate::{Code, Refusal};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Error in one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// JSON pointer into the body, such as `/items/0/quantity`. For query parameters, `/` and the name.
    pub pointer: String,
    pub message: String,
    pub code: Code,
}

const TYPE_PREFIX: &str = "/problems/";

#[derive(Serialize)]
struct ProblemJson<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: u16,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Serialize for FieldError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ProblemField { pointer: self.pointer.clone(), message: self.message.clone(), code: self.code.number() }.serialize(serializer)
    }
}

/// JSON of a problem without its trace id, which the request layer adds. It begins with the type and ends in `}`.
pub fn problem_body(refusal: &Refusal, errors: &[FieldError], extra: &[(&str, Value)]) -> Vec<u8> {
    let code = refusal.code;
    let json = ProblemJson {
        r#type: format!("{TYPE_PREFIX}{}", code.slug()),
        title: code.title(),
        status: code.status(),
        detail: &refusal.detail,
        code: code.number(),
        errors,
    };
    let mut body = serde_json::to_vec(&json).expect("strings and numbers always serialize");
    for (name, value) in extra {
        body.pop();
        body.push(b',');
        body.extend_from_slice(Value::from(*name).to_string().as_bytes());
        body.push(b':');
        body.extend_from_slice(value.to_string().as_bytes());
        body.push(b'}');
    }
    body
}

/// Code of a body written by [`problem_body`].
pub fn code_of(body: &[u8]) -> Option<Code> {
    let rest = body.strip_prefix(b"{\"type\":\"/problems/")?;
    let slug = &rest[..rest.iter().position(|byte| *byte == b'"')?];
    Code::from_slug(std::str::from_utf8(slug).ok()?)
}

/// Why a request was not done, as RFC 9457 `application/problem+json`.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "type": "/problems/sold-out", "title": "The coupons are gone", "status": 409, "detail": "All 100 coupons are given out.",
    "code": 6011, "trace_id": "0af7651916cd43dd8448eb211c80319c"
}))]
pub struct ProblemBody {
    /// Stable name of the problem.
    pub r#type: String,
    /// The same for every problem of this type.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// One sentence about this occurrence.
    pub detail: String,
    /// The problem's number: 1000 general, 2000 payment and wallet, 3000 accounts, 4000 catalogue and stock, 5000 orders, 6000 coupons.
    pub code: u16,
    /// The fields that are wrong, when the request itself is. At most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemField>,
    /// Number of wrong fields, when there are more than `errors` lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_count: Option<u64>,
    /// W3C trace id; name it when you ask for help.
    pub trace_id: String,
}

/// Error in one field.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// JSON pointer into the body; for query parameters `/` and the name.
    #[schema(example = "/items/0/quantity")]
    pub pointer: String,
    #[schema(example = "must be a whole number")]
    pub message: String,
    /// The number of this field's problem.
    #[schema(example = 1005)]
    pub code: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &[u8]) -> Value {
        serde_json::from_slice(body).expect("a problem is JSON")
    }

    // I9
    #[test]
    fn a_problem_names_all_fields() {
        let errors = [
            FieldError { pointer: "/name".into(), message: "must be shorter".into(), code: Code::TooLong },
            FieldError { pointer: "/items/0/quantity".into(), message: "must be at least 1".into(), code: Code::InvalidField },
        ];
        let body = read(&problem_body(&Code::InvalidField.into(), &errors, &[("hint", json!({"a": 1}))]));
        assert_eq!((&body["type"], &body["status"], &body["code"]), (&json!("/problems/invalid-field"), &json!(422), &json!(1005)));
        assert_eq!(body["errors"][0], json!({"pointer": "/name", "message": "must be shorter", "code": 1007}));
        assert_eq!(body["errors"][1]["pointer"], "/items/0/quantity");
        assert_eq!(body["hint"], json!({"a": 1}));
    }

    #[test]
    fn the_code_is_read_back_from_the_body() {
        for code in Code::ALL {
            assert_eq!(code_of(&problem_body(&(*code).into(), &[], &[])), Some(*code));
        }
        assert_eq!(code_of(b"{}"), None);
    }
}
