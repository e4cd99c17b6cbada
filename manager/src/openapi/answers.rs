//! What a handler can answer, and how that reads in the document: status, headers and schema
//! follow from the type that it returns.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::{self, ContentBuilder, HeaderBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use crate::http::{Json, Page, Versioned};
use crate::problem::Problem;

/// 201: it was made, and can be read at this path.
#[derive(Clone, Debug)]
pub struct Created<A>(pub String, pub A);

/// 201: it was made; it has no path of its own.
#[derive(Clone, Debug)]
pub struct Added<A>(pub A);

/// 202: it was taken; what becomes of it is not told here.
#[derive(Clone, Copy, Debug)]
pub struct Accepted;

/// 204: it was done, and there is nothing to show.
#[derive(Clone, Copy, Debug)]
pub struct NoContent;

/// Where the schemas that an answer refers to travel until the document is put together:
/// `IntoResponses` has no other place for them.
pub(super) const SCHEMAS: &str = "x-schemas";

type Responses = BTreeMap<String, RefOr<openapi::Response>>;

impl<A: IntoResponse> IntoResponse for Created<A> {
    fn into_response(self) -> Response {
        let mut response = Added(self.1).into_response();
        if let Ok(location) = HeaderValue::try_from(self.0) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

impl<A: IntoResponse> IntoResponse for Added<A> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, self.0).into_response()
    }
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        StatusCode::ACCEPTED.into_response()
    }
}

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl<T: ToSchema> IntoResponses for Json<T> {
    fn responses() -> Responses {
        let mut schemas = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut schemas);
        let schemas: serde_json::Map<String, Value> =
            schemas.into_iter().map(|(name, schema)| (name, json!(schema))).collect();
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name()))).build();
        let response = ResponseBuilder::new()
            .description("Done.")
            .content("application/json", content)
            .extensions(Some(ExtensionsBuilder::new().add(SCHEMAS, Value::Object(schemas)).build()));
        BTreeMap::from([("200".into(), response.build().into())])
    }
}

impl<T: ToSchema> IntoResponses for Versioned<T> {
    fn responses() -> Responses {
        each(Json::<T>::responses(), |response| {
            with_header(response, "ETag", "The version of what is shown, for `If-Match`.");
        })
    }
}

impl<A: IntoResponses> IntoResponses for Created<A> {
    fn responses() -> Responses {
        each(Added::<A>::responses(), |response| {
            with_header(response, "Location", "The path at which it can be read.");
        })
    }
}

impl<A: IntoResponses> IntoResponses for Added<A> {
    fn responses() -> Responses {
        let made = each(A::responses(), |response| response.description = "Made.".into());
        made.into_values().map(|response| ("201".into(), response)).collect()
    }
}

impl IntoResponses for Accepted {
    fn responses() -> Responses {
        let response = ResponseBuilder::new().description("Taken; what becomes of it is not told here.");
        BTreeMap::from([("202".into(), response.build().into())])
    }
}

impl IntoResponses for NoContent {
    fn responses() -> Responses {
        let response = ResponseBuilder::new().description("Done; there is nothing to show.");
        BTreeMap::from([("204".into(), response.build().into())])
    }
}

/// Refusals are the same for all operations, or named by the operation: see `document`.
impl IntoResponses for Problem {
    fn responses() -> Responses {
        Responses::new()
    }
}

impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<openapi::Schema> {
        use utoipa::openapi::{ArrayBuilder, ObjectBuilder, schema::Type};
        let next = ObjectBuilder::new()
            .schema_type(openapi::schema::SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some("Goes into `cursor` of the next call; null: this is the last page."));
        ObjectBuilder::new()
            .property("items", ArrayBuilder::new().items(Ref::from_schema_name(T::name())))
            .property("next", next)
            .required("items")
            .required("next")
            .into()
    }
}

impl<T: ToSchema> ToSchema for Page<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        format!("{}Page", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<openapi::Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

fn each(mut responses: Responses, change: impl Fn(&mut openapi::Response)) -> Responses {
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            change(response);
        }
    }
    responses
}

fn with_header(response: &mut openapi::Response, name: &str, description: &str) {
    let header = HeaderBuilder::new().schema(Some(String::schema())).description(Some(description)).build();
    response.headers.insert(name.into(), header.into());
}
