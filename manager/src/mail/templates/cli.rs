//! `keygate mail template …` and `keygate mail preview`: no database is asked.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::actions::{self, FULL, Preview, PreviewError};
use super::model::{Language, Part, SHARED, Template, built_in, names_of};
use super::{check, files};
use crate::config::Config;

/// The texts of mails.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell every mail, its examples, and which of its texts a file stands in for.
    List,
    /// Print a text as it counts now: the file that stands in for it, else the built-in one.
    Show {
        /// Such as `key_credentials`; or `layout.html`, `parts.html`, `frame.html`, `frame.txt`,
        /// `phrases`: what mails share.
        name: String,
        /// `en` or `zh-TW`; absent: the setting `mail_language`.
        #[arg(long, value_parser = language)]
        language: Option<Language>,
        /// Which of a mail's texts.
        #[arg(long, default_value = "text")]
        part: Part,
    },
    /// Write the built-in texts into a folder, to be changed and named in `mail_templates_dir`.
    /// What is not changed is best deleted there: the built-in text goes on being kept up.
    Export {
        /// Made if it is not there. A file that exists is not written over.
        folder: PathBuf,
        /// One language only.
        #[arg(long, value_parser = language)]
        language: Option<Language>,
    },
    /// Check the files in `mail_templates_dir` as `serve` does at its start.
    Check,
}

/// Print a mail with an example's values.
#[derive(Debug, Args)]
pub struct PreviewCommand {
    /// Such as `key_credentials`.
    template: String,
    /// `en` or `zh-TW`; absent: the setting `mail_language`.
    #[arg(long, value_parser = language)]
    language: Option<Language>,
    /// Which of its texts; absent: subject and text.
    #[arg(long)]
    part: Option<Part>,
    /// Which example.
    #[arg(long, default_value = FULL)]
    sample: String,
    /// Write it into this file instead.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn language(tag: &str) -> Result<Language, PreviewError> {
    Language::parse(tag).ok_or_else(|| PreviewError::NoLanguage { tag: tag.into() })
}

fn template(name: &str) -> Result<Template, PreviewError> {
    Template::parse(name).ok_or_else(|| PreviewError::NoTemplate { name: name.into() })
}

/// Runs one command.
pub fn run(config: &Config, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List => {
            for summary in actions::list(config) {
                let samples: Vec<_> = summary.template.samples().into_iter().map(|(name, _)| name).collect();
                println!("{:<24} examples: {}", summary.template.name(), samples.join(", "));
                for name in summary.replaced {
                    println!("{:<24} replaced: {name}", "");
                }
            }
            Ok(())
        }
        Command::Show { name, language, part } => {
            let language = language.unwrap_or(config.mail_language);
            print!("{}", source(config, &name, language, part)?);
            Ok(())
        }
        Command::Export { folder, language } => export(&folder, language),
        Command::Check => match check(config) {
            Ok(()) => {
                println!("every mail prints in every language");
                Ok(())
            }
            Err(faults) => {
                for fault in &faults {
                    eprintln!("{fault}");
                }
                bail!("{} of the mails' texts cannot be used", faults.len())
            }
        },
    }
}

/// Runs `keygate mail preview`.
pub fn preview(config: &Config, command: PreviewCommand) -> anyhow::Result<()> {
    let language = command.language.unwrap_or(config.mail_language);
    let Preview { rendered, warning, .. } =
        actions::preview(config, template(&command.template)?, language, &command.sample)?;
    if let Some(warning) = warning {
        eprintln!("keygate: warning: the built-in text is shown: {warning}");
    }
    let printed = match command.part {
        Some(Part::Subject) => format!("{}\n", rendered.subject),
        Some(Part::Text) => rendered.text,
        Some(Part::Html) => rendered.html,
        None => format!("Subject: {}\n\n{}", rendered.subject, rendered.text),
    };
    match command.out {
        Some(file) => {
            std::fs::write(&file, printed).with_context(|| format!("cannot write {}", file.display()))
        }
        None => {
            print!("{printed}");
            Ok(())
        }
    }
}

fn source(config: &Config, name: &str, language: Language, part: Part) -> anyhow::Result<String> {
    let shared = [name.to_owned(), format!("{}/{name}", language.tag())];
    let name = match shared.into_iter().find(|shared| built_in(shared).is_some()) {
        Some(shared) => shared,
        None => template(name)?.part_name(language, part),
    };
    if let Some(folder) = &config.mail_templates_dir
        && let Some(text) = files::read(folder, &name)?
    {
        return Ok(text);
    }
    Ok(built_in(&name).unwrap_or_default().to_owned())
}

fn export(folder: &Path, language: Option<Language>) -> anyhow::Result<()> {
    let languages = Language::ALL.into_iter().filter(|one| language.is_none_or(|wanted| wanted == *one));
    let names: Vec<&str> = languages.flat_map(names_of).chain(SHARED).collect();
    if let Some(there) = names.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
        bail!("{} exists, nothing was written: export into another folder", there.display());
    }
    for name in &names {
        let file = folder.join(name);
        let parent = file.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        // Never over a file that somebody wrote meanwhile.
        let mut options = std::fs::OpenOptions::new();
        let text = built_in(name).unwrap_or_default();
        let written = options.write(true).create_new(true).open(&file);
        written
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("wrote {} texts into {}", names.len(), folder.display());
    Ok(())
}
