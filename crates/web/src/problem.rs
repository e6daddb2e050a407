//! Responses with problems by RFC 9457. The body tells the caller how to react. It never contains a type name, an SQL query, a file path
//! or a cause chain.

use super::PROBLEM_JSON;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use contracts::{
    Code, Refusal,
    money::AmountOutOfRange,
    problem::{FieldError, problem_body},
};
use db::DbError;
use engine::{Fault, SubmitError};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use runtime::line_limit::LineLimit;
use serde_json::Value;
use uuid::Uuid;

/// `Retry-After` in seconds while overloaded or degraded: long enough for a batch or a restart to finish.
pub const RETRY_AFTER_SECS: u32 = 1;

/// Most wrong fields in one answer, so that an answer does not grow with the mistake.
const MAX_FIELD_ERRORS: usize = 20;

/// Reason for a failed request, returned from a handler as the error.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub refusal: Refusal,
    pub errors: Vec<FieldError>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    pub extra: Vec<(&'static str, Value)>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Refusal::new(code, detail).into()
    }

    /// A problem with one wrong field.
    pub fn field(pointer: impl Into<String>, code: Code, message: impl Into<String>) -> Problem {
        Problem::fields(vec![FieldError { pointer: pointer.into(), message: message.into(), code }])
    }

    /// A problem with several wrong fields. Its type is the code of the fields if they all agree, else `invalid-field`.
    /// Many wrong fields are counted, and the first [`MAX_FIELD_ERRORS`] are shown.
    pub fn fields(mut errors: Vec<FieldError>) -> Problem {
        let count = errors.len();
        let first = errors.first().map_or(Code::InvalidField, |error| error.code);
        let code = if errors.iter().all(|error| error.code == first) { first } else { Code::InvalidField };
        let detail = match errors.as_slice() {
            [only] => format!("{} {}", if only.pointer.is_empty() { "The body" } else { &only.pointer }, only.message),
            _ if count > MAX_FIELD_ERRORS => format!("{count} fields have unacceptable values; the first {MAX_FIELD_ERRORS} are listed."),
            _ => format!("{count} fields have unacceptable values."),
        };
        let mut problem = Problem::from(Refusal::new(code, detail));
        if count > MAX_FIELD_ERRORS {
            errors.truncate(MAX_FIELD_ERRORS);
            problem = problem.with("error_count", count.into());
        }
        Problem { errors, ..problem }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: Value) -> Problem {
        self.extra.push((name, value));
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Problem {
        self.retry_after = Some(seconds);
        self
    }

    pub fn code(&self) -> Code {
        self.refusal.code
    }

    /// The response with its trace id, for responses that bypass the request layer.
    pub(crate) fn into_traced(self, trace: Uuid) -> Response {
        let mut response = self.into_response();
        add_trace(&mut response, trace);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Problem { refusal, errors: Vec::new(), retry_after: None, extra: Vec::new() }
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Refusal::from(code).into()
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Overloaded => Problem::from(Code::Overloaded).retry_after(RETRY_AFTER_SECS),
            SubmitError::Unavailable | SubmitError::Stale => Problem::from(Code::Unavailable).retry_after(RETRY_AFTER_SECS),
            SubmitError::Unknown => {
                let detail = "Whether this was done is not known. Repeat the request with the same Idempotency-Key.";
                Problem::new(Code::Unavailable, detail).retry_after(RETRY_AFTER_SECS)
            }
            // The writer logged the reason with the operation.
            SubmitError::Failed => Code::Internal.into(),
        }
    }
}

static UNAVAILABLE: LineLimit = LineLimit::new("request failed: database unavailable");

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        match error {
            // A setting of this process that no repeat corrects.
            error @ DbError::Open(_) => {
                tracing::error!(%error, "request failed: database error");
                Code::Internal.into()
            }
            error if error.is_outage() || matches!(error, DbError::Retry(_) | DbError::Locked(_) | DbError::Slow) => {
                if let Some(left_out) = UNAVAILABLE.take() {
                    tracing::warn!(%error, left_out, "request failed: database unavailable");
                }
                Problem::from(Code::Unavailable).retry_after(RETRY_AFTER_SECS)
            }
            error => {
                tracing::error!(%error, "request failed: database error");
                Code::Internal.into()
            }
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Db(error) => error.into(),
            fault => {
                tracing::error!(error = %fault, "request failed");
                Code::Internal.into()
            }
        }
    }
}

impl From<AmountOutOfRange> for Problem {
    fn from(_: AmountOutOfRange) -> Self {
        Code::AmountOutOfRange.into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Bytes::from(problem_body(&self.refusal, &self.errors, &self.extra));
        let mut response = Response::new(Body::from(body.clone()));
        *response.status_mut() = StatusCode::from_u16(self.refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        add_code_headers(self.refusal.code, headers);
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(UntracedBody(body));
        response
    }
}

/// Body of a problem without its trace id, which only the request layer knows.
#[derive(Clone)]
struct UntracedBody(Bytes);

/// Appends the trace id to the body of a problem. Other bodies stay unchanged.
pub(super) fn add_trace(response: &mut Response, trace: Uuid) {
    if let Some(UntracedBody(body)) = response.extensions_mut().remove::<UntracedBody>() {
        let mut body = Vec::from(body);
        body.pop();
        body.extend_from_slice(format!(",\"trace_id\":\"{}\"}}", trace.simple()).as_bytes());
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(body);
    }
}

/// Adds the headers that every response with this code has.
pub(super) fn add_code_headers(code: Code, headers: &mut HeaderMap) {
    if code.status() == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
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
        let problem = Problem::fields(vec![
            FieldError { pointer: "/name".into(), message: "must be shorter".into(), code: Code::TooLong },
            FieldError { pointer: "/items/0/quantity".into(), message: "must be at least 1".into(), code: Code::InvalidField },
        ]);
        let body = read(&problem_body(&problem.refusal, &problem.errors, &[("hint", json!({"a": 1}))]));
        assert_eq!((&body["type"], &body["status"], &body["code"]), (&json!("/problems/invalid-field"), &json!(422), &json!(1005)));
        assert_eq!(body["errors"][0], json!({"pointer": "/name", "message": "must be shorter", "code": 1007}));
        assert_eq!(body["errors"][1]["pointer"], "/items/0/quantity");
        assert_eq!(body["hint"], json!({"a": 1}));
    }

    // I9
    #[test]
    fn fields_that_agree_give_the_type() {
        assert_eq!(Problem::field("/lines", Code::TooMany, "has too many").code(), Code::TooMany);
        let field = |code| FieldError { pointer: "/name".into(), message: "must be shorter".into(), code };
        let mixed = Problem::fields(vec![field(Code::TooLong), field(Code::InvalidField)]);
        assert_eq!((mixed.code(), mixed.errors.len()), (Code::InvalidField, 2));
    }

    #[tokio::test]
    async fn the_trace_goes_into_the_body() {
        let response = Problem::new(Code::NotFound, "No \"such\" thing").with("order_id", json!(7)).into_traced(Uuid::from_u128(1));
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.expect("the body is in memory");
        let body = read(&bytes);
        assert_eq!(body["trace_id"], "00000000000000000000000000000001");
        assert_eq!((&body["detail"], &body["order_id"]), (&json!("No \"such\" thing"), &json!(7)));
    }

    // row 77
    #[test]
    fn technical_failures_have_a_retry_after_and_no_details() {
        for problem in
            [Problem::from(SubmitError::Overloaded), SubmitError::Unavailable.into(), DbError::Busy.into(), DbError::DiskFull.into()]
                .into_iter()
                .chain([DbError::Closed("gone".into()), DbError::Unknown].map(Problem::from))
                .chain([DbError::Retry("40001".into()), DbError::Locked("55P03".into())].map(Problem::from))
                .chain([DbError::Server("53200".into()), DbError::Damaged("page 7".into()), DbError::Slow].map(Problem::from))
        {
            assert_eq!((problem.code().status(), problem.retry_after), (503, Some(1)));
        }
        let inside = Problem::from(DbError::Unique("shelf_items.secret".into()));
        assert_eq!(inside.code(), Code::Internal);
        let text = String::from_utf8(problem_body(&inside.refusal, &inside.errors, &inside.extra)).expect("JSON is UTF-8");
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(Problem::from(Fault::Bug("inside".into())).refusal.detail, Code::Internal.title());
    }
}
