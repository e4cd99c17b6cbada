//! The texts of mails: `/api/v1/mail/templates`.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, Preview, PreviewError, Summary};
use super::model::{Language, Template};
use crate::app::App;
use crate::http::{Json, Page, Path, Permission, Query, Routes};
use crate::problem::Problem;

/// `/api/v1/mail/templates` and below.
pub fn routes() -> Routes {
    Routes::of("mails")
        .permitted(&[Permission::MailRead], routes!(list_templates))
        .permitted(&[Permission::MailRead], routes!(preview_template))
}

/// A mail that the manager can send.
#[derive(Serialize, ToSchema)]
#[schema(as = MailTemplateSummary)]
struct TemplateView {
    #[schema(value_type = Template)]
    name: &'static str,
    /// It carries a secret: it cannot be sent again from the log, which masks it.
    secret: bool,
    /// Names of the examples that it can be previewed with.
    samples: Vec<&'static str>,
    /// Those of its texts for which a file of the installation stands in, such as `zh-TW/test.txt`.
    replaced: Vec<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct PreviewQuery {
    /// Absent: the setting `mail_language`.
    #[param(inline, value_type = Option<Language>)]
    language: Option<String>,
    /// Name of an example; absent: `full`.
    sample: Option<String>,
}

/// A mail as it would be sent. The HTML is a text for the caller to show where it can do no harm,
/// such as a sandboxed frame.
#[derive(Serialize, ToSchema)]
#[schema(as = MailPreview)]
struct PreviewView {
    #[schema(value_type = Template)]
    template: &'static str,
    language: Language,
    sample: String,
    subject: String,
    text: String,
    html: String,
    /// What the template was given: the fields that an installation's own text may print.
    context: serde_json::Value,
    /// Why the built-in text is shown though a file of the installation stands in for it.
    warning: Option<String>,
}

impl From<Summary> for TemplateView {
    fn from(summary: Summary) -> Self {
        Self {
            name: summary.template.name(),
            secret: summary.template.carries_secret(),
            samples: summary.template.samples().into_iter().map(|(name, _)| name).collect(),
            replaced: summary.replaced,
        }
    }
}

impl From<Preview> for PreviewView {
    fn from(preview: Preview) -> Self {
        Self {
            template: preview.template.name(),
            language: preview.language,
            sample: preview.sample.to_owned(),
            subject: preview.rendered.subject,
            text: preview.rendered.text,
            html: preview.rendered.html,
            context: preview.context,
            warning: preview.warning,
        }
    }
}

/// List the mails that the manager can send.
#[utoipa::path(get, path = "/api/v1/mail/templates")]
async fn list_templates(State(app): State<App>) -> Json<Page<TemplateView>> {
    let items = actions::list(&app.config).into_iter().map(TemplateView::from).collect();
    Json(Page { items, next: None })
}

/// Show a mail as it would be sent, with an example's values.
#[utoipa::path(get, path = "/api/v1/mail/templates/{name}/preview", params(PreviewQuery))]
async fn preview_template(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<PreviewQuery>,
) -> Result<Json<PreviewView>, Problem> {
    let template = Template::parse(&name).ok_or(PreviewError::NoTemplate { name })?;
    let language = match query.language {
        Some(tag) => Language::parse(&tag).ok_or(PreviewError::NoLanguage { tag })?,
        None => app.config.mail_language,
    };
    let sample = query.sample.as_deref().unwrap_or(actions::FULL);
    Ok(Json(actions::preview(&app.config, template, language, sample)?.into()))
}

impl From<PreviewError> for Problem {
    fn from(error: PreviewError) -> Self {
        let detail = error.to_string();
        match error {
            PreviewError::NoTemplate { .. } => Self::not_found(detail),
            PreviewError::NoLanguage { .. } => Self::invalid_query("language", detail),
            PreviewError::NoSample { .. } => Self::invalid_query("sample", detail),
            PreviewError::Unprintable(_) => {
                tracing::error!("{detail}");
                Self::internal()
            }
        }
    }
}
