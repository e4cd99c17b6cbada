//! List what can be sent, and look at it.

use serde_json::Value;
use thiserror::Error;

use super::files;
use super::model::{Language, Part, Template};
use super::render::{Rendered, built_in_render, render_strictly};
use crate::config::Config;

/// The example that shows everything.
pub(super) const FULL: &str = "full";

/// A template and what of it the installation has replaced.
pub(super) struct Summary {
    pub template: Template,
    pub replaced: Vec<String>,
}

/// A mail with an example's values.
pub(super) struct Preview {
    pub template: Template,
    pub language: Language,
    pub sample: &'static str,
    pub rendered: Rendered,
    pub context: Value,
    /// Why a file of the installation was passed over.
    pub warning: Option<String>,
}

/// Why there is nothing to look at.
#[derive(Debug, Error)]
pub enum PreviewError {
    /// No such mail.
    #[error("there is no mail template {name:?}; there are {}", Template::ALL.map(Template::name).join(", "))]
    NoTemplate {
        /// As asked for.
        name: String,
    },
    /// No such language.
    #[error("there are no mails in {tag:?}; language is one of {}", Language::ALL.map(Language::tag).join(", "))]
    NoLanguage {
        /// As asked for.
        tag: String,
    },
    /// No such example.
    #[error("{template} has no example {sample:?}; sample is one of {}", known.join(", "))]
    NoSample {
        /// Of which template.
        template: &'static str,
        /// As asked for.
        sample: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// A built-in text does not print its example: a defect of this program.
    #[error(transparent)]
    Unprintable(#[from] minijinja::Error),
}

/// Every mail there is.
pub(super) fn list(config: &Config) -> Vec<Summary> {
    let replaced = |template: Template| {
        let names = Language::ALL.into_iter().flat_map(move |language| {
            Part::ALL.into_iter().map(move |part| template.part_name(language, part))
        });
        names.filter(|name| files::path_of(config, name).is_some()).collect()
    };
    Template::ALL.into_iter().map(|template| Summary { template, replaced: replaced(template) }).collect()
}

/// One mail, printed as [`super::render`] would.
pub(super) fn preview(
    config: &Config,
    template: Template,
    language: Language,
    sample: &str,
) -> Result<Preview, PreviewError> {
    let samples = template.samples();
    let known = samples.iter().map(|(name, _)| *name).collect();
    let (sample, context) = samples
        .into_iter()
        .find(|(name, _)| *name == sample)
        .ok_or_else(|| PreviewError::NoSample { template: template.name(), sample: sample.into(), known })?;
    let own = config.mail_templates_dir.as_deref().map(|folder| {
        render_strictly(folder, template, language, &context).map_err(|error| files::told(folder, &error))
    });
    let (rendered, warning) = match own {
        Some(Ok(rendered)) => (rendered, None),
        Some(Err(warning)) => (built_in_render(template, language, &context)?, Some(warning)),
        None => (built_in_render(template, language, &context)?, None),
    };
    Ok(Preview { template, language, sample, rendered, context, warning })
}
