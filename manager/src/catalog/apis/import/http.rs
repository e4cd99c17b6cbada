//! `POST /api/v1/apis/import`.

use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use gate::request::CredentialKind;
use gate::wire::directory::Audience;
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, ImportError};
use super::document::{Format, MAX_DOCUMENT_BYTES, Unreadable};
use super::model::{Accepts, Options, Refused};
use super::report::Report;
use crate::app::App;
use crate::http::{Actor, Json, Permission, Query, Routes, too_large};
use crate::openapi::wire;
use crate::problem::Problem;

/// The import.
pub fn routes() -> Routes {
    Routes::of("catalog").permitted(&[Permission::CatalogWrite], routes!(import_apis))
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        let detail = error.to_string();
        match error {
            ImportError::Refused(refused) => refused.into(),
            ImportError::Unsupported(_) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unsupported_operations",
                "Operations cannot be held",
                detail,
            ),
            ImportError::Conflict(_) => Self::conflict("import_conflict", detail),
            ImportError::Interrupted(error) => {
                tracing::error!(%error, "Reading an OpenAPI document broke off");
                Self::internal()
            }
            ImportError::Catalog(error) => error.into(),
            ImportError::Db(error) => error.into(),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::Unreadable(Unreadable::TooLarge { .. }) => too_large(MAX_DOCUMENT_BYTES),
            Refused::Unreadable(Unreadable::Malformed { .. }) => Self::new(
                StatusCode::BAD_REQUEST,
                "malformed_document",
                "The document cannot be read",
                detail,
            ),
            Refused::Unreadable(Unreadable::ExternalReference { at, .. }) => {
                Self::invalid_document(detail).field(at)
            }
            Refused::Swagger2 => Self::invalid_document(detail).field("#/swagger"),
            Refused::Version { .. } => Self::invalid_document(detail).field("#/openapi"),
            Refused::Structure { at, .. } => Self::invalid_document(detail).field(at),
            Refused::NoOperations | Refused::TooManyOperations => {
                Self::invalid_document(detail).field("#/paths")
            }
            Refused::Option { option, .. } => Self::invalid(option, detail),
        }
    }
}

impl Problem {
    fn invalid_document(detail: String) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_document",
            "The document cannot be imported",
            detail,
        )
    }
}

/// What an import is asked for, as text. What is absent: the document's or the default for a new
/// API, and for one that is there already what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// true: nothing is changed, the answer says what would be.
    pub dry_run: Option<bool>,
    /// Module of the APIs; default: the document's title.
    #[param(value_type = Option<String>, max_length = 150, pattern = "^[A-Za-z0-9_.-]*$")]
    pub module: Option<String>,
    /// `dgrk`, `x_api_key`, `bearer`, `basic` (several with commas), or `document`: what the
    /// security schemes say. New APIs: `dgrk,x_api_key`.
    pub accepts: Option<String>,
    /// true: operations with `security: []` ask for no credential.
    pub allow_no_auth: Option<bool>,
    /// New APIs: `both`.
    #[param(inline, value_type = Option<wire::Audience>)]
    pub audience: Option<Audience>,
    /// New APIs: false.
    pub enabled: Option<bool>,
    /// Whether form and multipart bodies go unsigned where an operation takes them. New APIs: true.
    pub unsigned_forms: Option<bool>,
    /// Instead of the hosts of the document's servers, several with commas; empty: every host.
    pub hosts: Option<String>,
    /// Instead of the base path of the document's servers; empty: none.
    pub base_path: Option<String>,
    /// true: what cannot be held is left out; else nothing is imported then.
    pub skip_unsupported: Option<bool>,
    /// true: APIs of an earlier import that the document does not have are removed.
    pub prune: Option<bool>,
}

impl ImportQuery {
    /// Checks what is text.
    pub(super) fn options(self) -> Result<Options, Refused> {
        let list = |text: String| -> Vec<String> {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_string).collect()
        };
        Ok(Options {
            module: self.module,
            accepts: self.accepts.as_deref().map(parse_accepts).transpose()?,
            allow_no_auth: self.allow_no_auth.unwrap_or(false),
            audience: self.audience,
            enabled: self.enabled,
            unsigned_forms: self.unsigned_forms,
            hosts: self.hosts.map(list),
            base_path: self.base_path,
            skip_unsupported: self.skip_unsupported.unwrap_or(false),
            prune: self.prune.unwrap_or(false),
        })
    }
}

fn parse_accepts(text: &str) -> Result<Accepts, Refused> {
    if text.trim() == "document" {
        return Ok(Accepts::Document);
    }
    let kinds = text.split(',').map(|name| serde_json::from_value(Value::from(name.trim())));
    let mut kinds = kinds.collect::<Result<Vec<CredentialKind>, _>>().map_err(|_| Refused::Option {
        option: "accepts",
        reason: format!("{text:?} must be `document` or some of dgrk, x_api_key, bearer, basic with commas"),
    })?;
    kinds.sort();
    kinds.dedup();
    Ok(Accepts::Named(kinds))
}

/// An uploaded document.
struct Upload {
    text: Vec<u8>,
    format: Format,
}

impl<S: Send + Sync> FromRequest<S> for Upload {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let format = match media_type.to_ascii_lowercase().as_str() {
            "application/json" | "application/vnd.oai.openapi+json" => Some(Format::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "application/vnd.oai.openapi+yaml" => {
                Some(Format::Yaml)
            }
            // Either of them.
            "application/vnd.oai.openapi" => None,
            _ => {
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "unsupported_media_type",
                    "Unsupported media type",
                    "send the OpenAPI document itself as the body, with the header `Content-Type: application/yaml` \
                     or `Content-Type: application/json`",
                )
                .field("Content-Type"));
            }
        };
        let body = axum::body::to_bytes(request.into_body(), MAX_DOCUMENT_BYTES)
            .await
            .map_err(|_| too_large(MAX_DOCUMENT_BYTES))?;
        Ok(Self { format: format.unwrap_or_else(|| Format::guess(&body)), text: body.into() })
    }
}

/// An OpenAPI document, 3.0 to 3.2, as JSON or YAML.
#[derive(ToSchema)]
#[schema(as = OpenApiDocument)]
#[expect(dead_code, reason = "describes the body, which is read by its own rules")]
struct DocumentSchema {
    /// `3.0.3`, `3.1.0` …
    #[schema(pattern = "^3\\.[012](\\..*)?$")]
    openapi: String,
    /// With a `title`, from which the module's name is made.
    info: Value,
    /// By their paths.
    paths: Value,
}

/// Import the APIs of an OpenAPI 3 document: what is new is created, what has changed is updated.
///
/// All or nothing, in one transaction. `dry_run=true` answers what would be done and changes nothing;
/// a second import of the same document changes nothing either. Documents are not fetched, and nothing
/// that they refer to is.
#[utoipa::path(post, path = "/api/v1/apis/import", params(ImportQuery), request_body(
    content((DocumentSchema = "application/json"), (DocumentSchema = "application/yaml")),
    description = "The document itself, 16 MiB at most."
), responses(
    (status = 409, description = "`import_conflict`"),
))]
async fn import_apis(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ImportQuery>,
    upload: Upload,
) -> Result<Json<Report>, Problem> {
    let dry_run = query.dry_run.unwrap_or(false);
    let options = query.options()?;
    let Upload { text, format } = upload;
    Ok(Json(actions::import(&app, &actor.audit_name(), text, format, options, dry_run).await?))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn options_are_read_from_text() {
        use CredentialKind::{Basic, Dgrk};
        let query = |accepts: &str, hosts: &str| ImportQuery {
            accepts: Some(accepts.into()),
            hosts: Some(hosts.into()),
            ..ImportQuery::default()
        };
        let options = query(" basic, dgrk,basic", "a.example, b.example").options().expect("valid");
        assert_eq!(options.accepts, Some(Accepts::Named(vec![Dgrk, Basic])));
        assert_eq!(options.hosts, Some(vec!["a.example".into(), "b.example".into()]));
        let options = query("document", "").options().expect("valid");
        assert_eq!((options.accepts, options.hosts), (Some(Accepts::Document), Some(vec![])));
        assert_eq!(ImportQuery::default().options(), Ok(Options::default()));
        for wrong in ["", "dgrk,", "no_auth", "DGRK"] {
            assert!(matches!(query(wrong, "").options(), Err(Refused::Option { option: "accepts", .. })));
        }
    }
}
