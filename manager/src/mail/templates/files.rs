//! Files of the installation that stand in for built-in texts: `<folder>/<language>/<name>.<part>`,
//! any of them. They are read when a mail is written, so that a change counts from the next mail on.

use std::io;
use std::path::{Path, PathBuf};

use minijinja::{Error, ErrorKind, HtmlEscape};
use thiserror::Error as ThisError;

use super::model::{Language, Part, SHARED, Template, built_in, names_of};
use super::render::render_part_strictly;
use crate::config::Config;

/// Bytes of one file at most: a mail's HTML has some ten thousand.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// What is wrong with the folder `mail_templates_dir` or a file in it.
#[derive(Debug, PartialEq, Eq, ThisError)]
pub enum Fault {
    /// There is nothing to read.
    #[error("setting mail_templates_dir: {}: {reason}", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file that stands in for nothing: most likely a typing error.
    #[error(
        "{}: stands in for no text of a mail; `keygate mail template list` tells their names",
        path.display()
    )]
    NamesNothing {
        /// Which.
        path: PathBuf,
    },
    /// A text that does not print an example of what it is given.
    #[error("{place}: {reason} (printing the example {sample:?} of {template})")]
    DoesNotPrint {
        /// File and line.
        place: String,
        /// What it stumbled on.
        reason: String,
        /// Of which template.
        template: &'static str,
        /// Which example.
        sample: &'static str,
    },
    /// A text that leaves out what the mail is for.
    #[error(
        "{place}: prints neither the secret nor the link to it (printing the example {sample:?} of {template}): \
         see the built-in text, `keygate mail template show {template}`"
    )]
    LeavesTheSecretOut {
        /// File.
        place: String,
        /// Of which template.
        template: &'static str,
        /// Which example.
        sample: &'static str,
    },
    /// A subject without a word.
    #[error("{place}: prints an empty subject (printing the example {sample:?} of {template})")]
    EmptySubject {
        /// File.
        place: String,
        /// Of which template.
        template: &'static str,
        /// Which example.
        sample: &'static str,
    },
}

/// Everything that is wrong with the installation's files: they must have known names and print
/// every example of every mail.
pub fn check(config: &Config) -> Result<(), Vec<Fault>> {
    let Some(folder) = &config.mail_templates_dir else { return Ok(()) };
    let mut faults = Vec::new();
    if let Err(fault) = check_names(folder, &mut faults) {
        return Err(vec![fault]);
    }
    for language in Language::ALL {
        for template in Template::ALL {
            for ((sample, context), secrets) in template.samples().into_iter().zip(template.secrets()) {
                for part in Part::ALL {
                    let name = template.part_name(language, part);
                    let fault = match render_part_strictly(folder, &name, &context) {
                        Ok(text) if part == Part::Subject && text.trim().is_empty() => {
                            let place = folder.join(&name).display().to_string();
                            Fault::EmptySubject { place, template: template.name(), sample }
                        }
                        Ok(text) if part != Part::Subject && !has_all(&text, &secrets) => {
                            let place = folder.join(&name).display().to_string();
                            Fault::LeavesTheSecretOut { place, template: template.name(), sample }
                        }
                        Ok(_) => continue,
                        Err(error) => Fault::DoesNotPrint {
                            place: place(folder, &error),
                            reason: reason(&error),
                            template: template.name(),
                            sample,
                        },
                    };
                    // What is wrong at one place shows in many examples, and in all that share it.
                    if !faults.iter().any(|known| known.place() == fault.place()) {
                        faults.push(fault);
                    }
                }
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

impl Fault {
    fn place(&self) -> String {
        match self {
            Self::Unreadable { path, .. } | Self::NamesNothing { path } => path.display().to_string(),
            Self::DoesNotPrint { place, .. }
            | Self::EmptySubject { place, .. }
            | Self::LeavesTheSecretOut { place, .. } => place.clone(),
        }
    }
}

/// Whether `text` has each secret, as it is or as HTML writes it.
fn has_all(text: &str, secrets: &[String]) -> bool {
    secrets.iter().all(|secret| text.contains(secret) || text.contains(&HtmlEscape(secret).to_string()))
}

fn check_names(folder: &Path, faults: &mut Vec<Fault>) -> Result<(), Fault> {
    for path in entries(folder)? {
        let name = file_name(&path);
        if SHARED.contains(&name.as_str()) {
            continue;
        }
        let Some(language) = Language::parse(&name) else {
            faults.push(Fault::NamesNothing { path });
            continue;
        };
        let known: Vec<&str> = names_of(language).collect();
        for file in entries(&path)? {
            if !known.contains(&format!("{name}/{}", file_name(&file)).as_str()) {
                faults.push(Fault::NamesNothing { path: file });
            }
        }
    }
    Ok(())
}

/// What lies in a folder, in order, without what editors and container platforms hide there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let unreadable = |error: io::Error| Fault::Unreadable { path: folder.into(), reason: error.to_string() };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.retain(|path| {
        let name = file_name(path);
        !name.starts_with('.') && !name.ends_with('~')
    });
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The installation's text of that name; none where it has no such file.
pub(super) fn read(folder: &Path, name: &str) -> Result<Option<String>, Error> {
    let path = folder.join(name);
    let unreadable = |reason: String| {
        Error::new(ErrorKind::InvalidOperation, format!("{} cannot be read: {reason}", path.display()))
    };
    match std::fs::metadata(&path) {
        Ok(file) if file.len() > MAX_FILE_BYTES => {
            return Err(unreadable(format!("it has more than {MAX_FILE_BYTES} bytes")));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    }
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// Where the installation's text of that name is, if it has one.
pub(super) fn path_of(config: &Config, name: &str) -> Option<PathBuf> {
    let path = config.mail_templates_dir.as_ref()?.join(name);
    path.exists().then_some(path)
}

/// Place and reason of an error, without what the mail holds.
pub(super) fn told(folder: &Path, error: &Error) -> String {
    format!("{}: {}", place(folder, error), reason(error))
}

/// `<file>:<line>`; a built-in text is named as such.
fn place(folder: &Path, error: &Error) -> String {
    let innermost = innermost(error);
    let Some(name) = innermost.name() else { return folder.display().to_string() };
    let path = folder.join(name);
    let file = if path.exists() {
        path.display().to_string()
    } else if built_in(name).is_some() {
        format!("the built-in {name}")
    } else {
        name.to_owned()
    };
    innermost.line().map_or_else(|| file.clone(), |line| format!("{file}:{line}"))
}

fn reason(error: &Error) -> String {
    let innermost = innermost(error);
    match innermost.detail() {
        Some(detail) => format!("{}: {detail}", innermost.kind()),
        None => innermost.kind().to_string(),
    }
}

/// An error within an included text is told by that one, not by who includes it.
fn innermost(error: &Error) -> &Error {
    let mut found = error;
    let mut source = std::error::Error::source(error);
    while let Some(next) = source {
        if let Some(error) = next.downcast_ref::<Error>() {
            found = error;
        }
        source = next.source();
    }
    found
}
