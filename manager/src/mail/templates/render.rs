//! Prints mails. The HTML part escapes what it prints; a name that the context lacks is an error,
//! never an empty place.
//!
//! A file of the installation stands in for the text of the same name that is compiled in. One
//! that does not print its context must not keep the mail from its reader: then the built-in
//! template is printed, and a warning says so.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior};
use serde::Serialize;

use super::files;
use super::model::{Language, Part, SHARED, Template, built_in};
use super::wrap::wrap;
use crate::config::Config;

/// A mail ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// Prints `context` (an object with exactly the fields of the template's context).
pub fn render(
    config: &Config,
    template: Template,
    language: Language,
    context: &impl Serialize,
) -> Result<Rendered, Error> {
    if let Some(folder) = &config.mail_templates_dir {
        match render_with(&environment(Some(folder.clone())), template, language, context) {
            Ok(rendered) => return Ok(rendered),
            Err(error) => tracing::warn!(
                template = template.name(),
                language = language.tag(),
                "A file of mail_templates_dir does not print its mail, the built-in template is sent instead: {}",
                files::told(folder, &error)
            ),
        }
    }
    built_in_render(template, language, context)
}

/// Prints with the texts that are compiled in.
pub(super) fn built_in_render(
    template: Template,
    language: Language,
    context: &impl Serialize,
) -> Result<Rendered, Error> {
    render_with(&BUILT_IN, template, language, context)
}

/// Prints with the installation's files or not at all.
pub(super) fn render_strictly(
    folder: &Path,
    template: Template,
    language: Language,
    context: &impl Serialize,
) -> Result<Rendered, Error> {
    render_with(&environment(Some(folder.to_owned())), template, language, context)
}

/// Prints one part with the installation's files or not at all.
pub(super) fn render_part_strictly(
    folder: &Path,
    name: &str,
    context: &impl Serialize,
) -> Result<String, Error> {
    render_part(&environment(Some(folder.to_owned())), name, &Value::from(Serde(context)))
}

fn render_with(
    environment: &Environment<'static>,
    template: Template,
    language: Language,
    context: &impl Serialize,
) -> Result<Rendered, Error> {
    let context = Value::from(Serde(context));
    let part = |part| render_part(environment, &template.part_name(language, part), &context);
    // A line break in a subject would begin another header.
    let subject = part(Part::Subject)?.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Rendered { subject, text: part(Part::Text)?, html: part(Part::Html)? })
}

fn render_part(environment: &Environment<'static>, name: &str, context: &Value) -> Result<String, Error> {
    environment.get_template(name)?.render(context.clone())
}

static BUILT_IN: LazyLock<Environment<'static>> = LazyLock::new(|| environment(None));

/// What templates can do: print, escape, quote for a shell, wrap, and use the parts that they
/// share. Nothing in it reads a file but those of `folder` that stand in for a built-in one.
fn environment(folder: Option<PathBuf>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    environment.set_auto_escape_callback(|name| {
        if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
    });
    // What a template imports is its language's, unless all languages share it.
    environment.set_path_join_callback(|name, parent| match parent.split_once('/') {
        Some((language, _)) if !SHARED.contains(&name) => format!("{language}/{name}").into(),
        Some(_) | None => name.into(),
    });
    environment.add_filter("shell_quoted", shell_quoted);
    environment.add_filter("wrap", |text: &str| wrap(text));
    environment.set_loader(move |name| {
        let Some(built_in) = built_in(name) else { return Ok(None) };
        match &folder {
            Some(folder) => Ok(files::read(folder, name)?.or_else(|| Some(built_in.to_owned()))),
            None => Ok(Some(built_in.to_owned())),
        }
    });
    environment
}

/// `text` as one word of a POSIX shell, whatever it holds.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_word_cannot_be_left() {
        assert_eq!(shell_quoted("a'; rm -rf ~; '"), r"'a'\''; rm -rf ~; '\'''");
    }
}
