//! Completes the OpenAPI document by rule. A handler declares the answers and limits that are its own. All that follows from the kind of an
//! operation is added here, so that no handler can forget it.

use contracts::Code;
use http::Method;
use kit::{
    http::{DEFAULT_LIMIT, MAX_LIMIT, openapi},
    idempotency::MAX_KEY_LENGTH,
};
use serde_json::json;
use std::collections::BTreeSet;
use utoipa::{
    Number,
    openapi::{
        Content, ContentBuilder, HeaderBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, Type,
        link::LinkBuilder,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    },
};

const PROBLEM_JSON: &str = "application/problem+json";
const KEY: &str = "Idempotency-Key";

/// Changes that store no answer, because a repeat harms nothing: a key has no effect on them.
const WITHOUT_KEY: [&str; 4] = ["accounts.sign_in", "accounts.web_sign_in", "accounts.refresh", "orders.quote"];

/// Names of the shared answers with a problem, by status.
const PROBLEM_ANSWERS: [(u16, &str); 11] = [
    (400, "BadRequest"),
    (401, "Unauthenticated"),
    (403, "Forbidden"),
    (404, "NotFound"),
    (408, "Timeout"),
    (409, "Conflict"),
    (413, "BodyTooLarge"),
    (415, "UnsupportedMediaType"),
    (422, "Unprocessable"),
    (429, "TooManyRequests"),
    (503, "Unavailable"),
];
/// Answer for every status that no other entry names.
const ANY_PROBLEM: &str = "AnyProblem";

/// Operations that go on with the id of an answer: (operation, status, names of the next ones). The parameter is always `id`.
const NEXT_OPERATIONS: [(&str, &str, &[&str]); 5] = [
    ("orders.create", "201", &["orders.get", "orders.pay", "orders.cancel", "orders.confirm"]),
    ("coupons.create", "201", &["coupons.get", "coupons.claim", "coupons.standing"]),
    ("catalog.create", "201", &["catalog.get", "catalog.update", "catalog.delete"]),
    ("stores.create", "201", &["stores.get", "orders.list_sold"]),
    ("accounts.sign_up", "201", &["accounts.get"]),
];

/// Adds to each operation the answers, limits, headers and links of its kind.
pub fn complete_operations(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (status, name) in PROBLEM_ANSWERS {
        components.responses.insert(name.to_owned(), RefOr::T(problem_answer(problems_of(status), status)));
    }
    components.responses.insert(ANY_PROBLEM.to_owned(), RefOr::T(problem_answer("Any other problem".to_owned(), 0)));
    for item in document.paths.paths.values_mut() {
        for (method, operation) in openapi::operations_mut(item) {
            complete(&method, operation);
        }
    }
}

fn complete(method: &Method, operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    add_key(method, &id, operation);
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            limit_parameter(parameter);
        }
    }
    let summary = operation.summary.clone().unwrap_or_default();
    for (status, answer) in &mut operation.responses.responses {
        if let RefOr::T(answer) = answer {
            complete_answer(status, answer, &summary);
        }
    }
    for status in statuses_of_kind(method, operation) {
        let name = PROBLEM_ANSWERS.iter().find(|(known, _)| *known == status).map_or(ANY_PROBLEM, |(_, name)| name);
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| reference(name));
    }
    operation.responses.responses.insert("default".to_owned(), reference(ANY_PROBLEM));
    add_links(&id, operation);
}

/// Statuses of problems that every operation of this kind can answer.
pub fn statuses_of_kind(method: &Method, operation: &Operation) -> BTreeSet<u16> {
    let mut statuses = BTreeSet::from([503]);
    let parameters: Vec<&Parameter> = operation.parameters.iter().flatten().filter_map(parameter).collect();
    let has = |place: ParameterIn| parameters.iter().any(|parameter| parameter.parameter_in == place);
    if openapi::takes_caller(operation) {
        statuses.extend([401, 403]);
    }
    if *method != Method::GET {
        statuses.insert(429);
    }
    if operation.request_body.is_some() {
        statuses.extend([400, 408, 413, 415, 422]);
    }
    if has(ParameterIn::Query) {
        statuses.extend([400, 422]);
    }
    if has(ParameterIn::Path) {
        statuses.extend([400, 404]);
    }
    if parameters.iter().any(|parameter| parameter.name == KEY) {
        statuses.extend([400, 409, 422]);
    }
    statuses
}

fn parameter(given: &RefOr<Parameter>) -> Option<&Parameter> {
    match given {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    }
}

/// Declares the key on every change that accepts one.
fn add_key(method: &Method, id: &str, operation: &mut Operation) {
    let declared = operation.parameters.iter().flatten().filter_map(parameter).any(|parameter| parameter.name == KEY);
    if declared || *method == Method::GET || WITHOUT_KEY.contains(&id) {
        return;
    }
    let key = ParameterBuilder::new()
        .name(KEY)
        .parameter_in(ParameterIn::Header)
        .description(Some("Identifies the intention: a repeat with the same key and request gets the first answer for 24 hours"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    operation.parameters.get_or_insert_default().push(key.into());
}

/// Limits of parameters that several operations have.
fn limit_parameter(parameter: &mut Parameter) {
    let text = || ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
    let schema = match parameter.name.as_str() {
        KEY => text().max_length(Some(MAX_KEY_LENGTH)).pattern(Some("^[\\x20-\\x7e]+$")),
        "cursor" => text(),
        "limit" => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(Number::from(1.0)))
            .maximum(Some(Number::from(f64::from(MAX_LIMIT))))
            .default(Some(json!(DEFAULT_LIMIT))),
        _ => return,
    };
    parameter.schema = Some(schema.into());
}

fn complete_answer(status: &str, answer: &mut Response, summary: &str) {
    if answer.description.is_empty() {
        summary.clone_into(&mut answer.description);
    }
    if status.starts_with(['4', '5'])
        && let Some(content) = answer.content.shift_remove("application/json")
    {
        answer.content.insert(PROBLEM_JSON.to_owned(), content);
    }
    if status == "429" || status == "503" {
        add_retry_after(answer);
    }
}

fn add_retry_after(answer: &mut Response) {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(Number::from(0.0)));
    let header = HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds to wait before the next try")).build();
    answer.headers.insert("Retry-After".to_owned(), header.into());
}

/// Slugs of the problems with this status.
fn problems_of(status: u16) -> String {
    let slugs: Vec<String> = Code::ALL.iter().filter(|code| code.status() == status).map(|code| format!("`{}`", code.slug())).collect();
    slugs.join(", ")
}

fn problem_answer(description: String, status: u16) -> Response {
    let content: Content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemBody"))).build();
    let mut answer = ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build();
    if status == 429 || status == 503 {
        add_retry_after(&mut answer);
    }
    answer
}

fn reference(name: &str) -> RefOr<Response> {
    RefOr::Ref(Ref::from_response_name(name))
}

fn add_links(id: &str, operation: &mut Operation) {
    for (_, status, next) in NEXT_OPERATIONS.iter().filter(|(from, ..)| *from == id) {
        let Some(RefOr::T(answer)) = operation.responses.responses.get_mut(*status) else { continue };
        for operation in *next {
            let link = LinkBuilder::new().operation_id(*operation).parameter("id", "$response.body#/id").build();
            answer.links.insert(operation.replace('.', "-"), link.into());
        }
    }
}
