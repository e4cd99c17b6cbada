//! The document, put together from the operations and what all of them have in common.

use serde_json::{Map, Value, json};
use utoipa::IntoParams as _;
use utoipa::openapi::path::ParameterIn;

use super::answers::SCHEMAS;
use super::routes::{Access, Operations, Routes};
use crate::http::{DEFAULT_PAGE, MAX_PAGE};
use crate::idempotency::IdempotencyKey;
use crate::problem::ProblemDocument;

/// The refusals that operations share: status, name below `components/responses`, what it means.
const REFUSALS: [(&str, &str, &str); 10] = [
    (
        "400",
        "Unreadable",
        "`malformed_json`, `invalid_query` or `invalid_header`: it cannot be read; `unexpected_body`: it takes none.",
    ),
    ("401", "Unauthenticated", "`unauthenticated`: no token, or one that is unknown, expired or revoked."),
    (
        "403",
        "Forbidden",
        "`forbidden`: none of your roles has the permission that `detail` names; `password_change_required`.",
    ),
    ("404", "NotFound", "`not_found`: there is no such thing."),
    ("409", "Repeated", REPEATED),
    (
        "412",
        "VersionMismatch",
        "`version_mismatch`: it was changed since the version in `If-Match` was read.",
    ),
    ("413", "BodyTooLarge", "`body_too_large`."),
    ("415", "UnsupportedMediaType", "`unsupported_media_type`: send JSON as `application/json`."),
    (
        "422",
        "Invalid",
        "`invalid_body` or `invalid_field`: `field` has a value that cannot be taken; \
         `idempotency_key_reused`: another call had this key.",
    ),
    (
        "503",
        "Busy",
        "`database_busy`, `database_full`, `busy`: nothing was changed; repeat after `Retry-After`.",
    ),
];

/// What every writing operation may answer, whatever else it conflicts with.
const REPEATED: &str = "`request_in_progress`, `already_carried_out`: of a call with `Idempotency-Key` that is \
    repeated before it has ended, or when its answer is not kept any more.";

/// The OpenAPI document of these operations.
pub fn of(routes: &Routes) -> Value {
    let mut schemas = Schemas::default();
    schemas.add_schema_of::<ProblemDocument>();
    let mut paths = Map::new();
    for operations in routes.operations() {
        let (own, own_paths, _) = &operations.routes;
        for (name, schema) in own {
            schemas.add(name, bounded(json!(schema)));
        }
        let Value::Object(items) = json!(own_paths) else { continue };
        for (path, item) in items {
            let Value::Object(item) = item else { continue };
            let described = paths.entry(path.clone()).or_insert_with(|| json!({}));
            for (method, mut operation) in item {
                complete(&mut operation, &method, &path, operations, &mut schemas);
                described[method] = operation;
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Keygate management API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Clients, APIs, keys, forms and operators of Keygate, and what clients do themselves. \
                Refusals are problem documents (RFC 9457) whose `code` programs compare.",
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas.0,
            "responses": REFUSALS
                .iter()
                .map(|(status, name, means)| (name.to_string(), refusal(status, means)))
                .collect::<Map<_, _>>(),
            "headers": {
                "X-Request-Id": {
                    "description": "The id of the call; the log has it too.",
                    "required": true,
                    "schema": { "type": "string" },
                },
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of a session or an API token. What stands beside an operation \
                        are the permissions of which the operator needs one.",
                },
                "client": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of a client's session, from `POST /client/v1/session`.",
                },
                "visitor": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token that follows a form, from `POST /client/v1/registrations/confirm`.",
                },
            },
        },
    })
}

/// Schemas by name.
#[derive(Default)]
struct Schemas(Map<String, Value>);

impl Schemas {
    fn add_schema_of<T: utoipa::ToSchema>(&mut self) {
        self.add(&T::name(), json!(T::schema()));
    }

    /// Two types of the same name would hide each other: every test that builds a router fails.
    fn add(&mut self, name: &str, mut schema: Value) {
        // Their order means nothing, and differs between what is taken and what is answered.
        if let Some(Value::Array(required)) = schema.get_mut("required") {
            required.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
        if let Some(before) = self.0.insert(name.to_string(), schema.clone()) {
            debug_assert_eq!(
                before, schema,
                "two schemas are named {name}: give one another name with #[schema(as = ..)]"
            );
        }
    }
}

/// Adds what the operation shares with all others.
fn complete(operation: &mut Value, method: &str, path: &str, registered: &Operations, schemas: &mut Schemas) {
    let capability = registered.capability;
    let id = operation["operationId"].as_str().unwrap_or_default();
    operation["operationId"] = format!("{capability}_{id}").into();
    operation["tags"] = json!([capability]);
    operation["security"] = security(registered.access);
    if let Access::Decided(rule) = registered.access {
        operation["x-access"] = rule.into();
    }
    let mut refused = vec!["503"];
    match registered.access {
        Access::Open => {}
        Access::OwnSession | Access::Client | Access::Visitor => refused.push("401"),
        Access::SignedIn | Access::Permitted(_) | Access::Decided(_) => refused.extend(["401", "403"]),
    }
    if path.contains('{') {
        refused.push("404");
    }
    if operation.get("requestBody").is_some() {
        refused.extend(["400", "413", "415", "422"]);
    }
    let writes = method != "get";
    if let Some(Value::Array(parameters)) = operation.get_mut("parameters") {
        for parameter in parameters {
            match parameter["in"].as_str() {
                Some("query") => refused.push("400"),
                Some("header") => refused.extend(["400", "412"]),
                _ => {}
            }
            complete_parameter(parameter);
        }
    }
    if writes {
        refused.extend(["400", "409", "422"]);
        let key = IdempotencyKey::into_params(|| Some(ParameterIn::Header));
        match operation.get_mut("parameters") {
            Some(Value::Array(parameters)) => parameters.extend(key.iter().map(|key| json!(key))),
            _ => operation["parameters"] = json!(key),
        }
    }
    let Value::Object(responses) = operation["responses"].take() else { return };
    let mut all = Map::new();
    for (status, mut response) in responses {
        if let Some(Value::Object(shown)) = response.as_object_mut().and_then(|own| own.remove(SCHEMAS)) {
            for (name, schema) in shown {
                schemas.add(&name, whole(schema));
            }
        }
        let own = response["description"].as_str().unwrap_or_default();
        let response = if status.starts_with('2') {
            response["headers"]["X-Request-Id"] = request_id();
            response
        } else if response.get("content").is_some() {
            // In a form of its own, beside the one that all operations share.
            let mut shown = refusal(&status, own);
            shown["content"]["application/json"] = response["content"]["application/json"].take();
            shown
        } else if writes && status == "409" {
            refusal(&status, &format!("{own} {REPEATED}"))
        } else {
            refusal(&status, own)
        };
        all.insert(status, response);
    }
    for (status, name, means) in REFUSALS {
        if refused.contains(&status) && !all.contains_key(status) {
            let response = match registered.access {
                Access::Permitted(permissions) if status == "403" => {
                    let names: Vec<_> = permissions.iter().map(|permission| permission.as_str()).collect();
                    refusal(status, &format!("{means} This needs {}.", names.join(" or ")))
                }
                Access::Decided(rule) if status == "403" => refusal(status, &format!("{means} {rule}")),
                _ => json!({ "$ref": format!("#/components/responses/{name}") }),
            };
            all.insert(status.into(), response);
        }
    }
    operation["responses"] = all.into();
}

fn security(access: Access) -> Value {
    match access {
        Access::Open => json!([]),
        Access::Client => json!([{ "client": [] }]),
        Access::Visitor => json!([{ "visitor": [] }]),
        Access::OwnSession | Access::SignedIn | Access::Decided(_) => json!([{ "bearer": [] }]),
        Access::Permitted(permissions) => {
            permissions.iter().map(|permission| json!({ "bearer": [permission.as_str()] })).collect()
        }
    }
}

/// Pages are the same everywhere; what is in a query is never null.
fn complete_parameter(parameter: &mut Value) {
    let query = parameter["in"] == "query";
    match parameter["name"].as_str() {
        Some("limit") if query => {
            parameter["description"] = "Items of a page at most.".into();
            parameter["schema"] =
                json!({ "type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE });
        }
        Some("cursor") if query => {
            parameter["description"] = "`next` of the page before, unchanged.".into();
            parameter["schema"] = json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]*$" });
        }
        _ => {
            let schema = parameter["schema"].take();
            parameter["schema"] = bounded(if query { without_null(schema) } else { schema });
        }
    }
}

fn without_null(mut schema: Value) -> Value {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            schema["type"] = only.clone();
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("oneOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [only] = choices.as_slice() {
            return only.clone();
        }
    }
    schema
}

/// Texts that are taken hold no U+0000, which a database cannot store.
fn bounded(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(object) => {
            let text = match object.get("type") {
                Some(Value::String(kind)) => kind == "string",
                Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
                _ => false,
            };
            let free =
                ["pattern", "format", "enum", "const"].iter().all(|bound| !object.contains_key(*bound));
            if text && free {
                object.insert("pattern".into(), "^[^\\u0000]*$".into());
            }
            for (key, part) in object {
                if !matches!(key.as_str(), "enum" | "const" | "default" | "examples") {
                    *part = bounded(part.take());
                }
            }
        }
        Value::Array(parts) => {
            for part in parts {
                *part = bounded(part.take());
            }
        }
        _ => {}
    }
    schema
}

/// An answer has all its fields: null where there is nothing.
fn whole(mut schema: Value) -> Value {
    if let Value::Object(object) = &mut schema {
        if let Some(Value::Object(properties)) = object.get_mut("properties") {
            let names: Vec<Value> = properties.keys().map(|name| name.as_str().into()).collect();
            for property in properties.values_mut() {
                *property = whole(property.take());
            }
            object.insert("required".into(), names.into());
        }
        for key in ["allOf", "oneOf", "anyOf"] {
            if let Some(Value::Array(parts)) = object.get_mut(key) {
                for part in parts {
                    *part = whole(part.take());
                }
            }
        }
        if let Some(items) = object.get_mut("items") {
            *items = whole(items.take());
        }
    }
    schema
}

fn refusal(status: &str, means: &str) -> Value {
    let mut headers = json!({ "X-Request-Id": request_id() });
    match status {
        "401" => headers["WWW-Authenticate"] = json!({ "schema": { "type": "string" } }),
        "409" | "429" | "503" => {
            headers["Retry-After"] = json!({ "description": "Seconds.", "schema": { "type": "integer" } })
        }
        _ => {}
    }
    json!({
        "description": means,
        "headers": headers,
        "content": {
            "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } },
        },
    })
}

fn request_id() -> Value {
    json!({ "$ref": "#/components/headers/X-Request-Id" })
}
