//! `keygate apply` and `keygate export`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use super::actions::{self, ApplyError, Manner, Outcome};
use super::files::{self, Format};
use super::model::{Kind, MAX_FAULTS};
use super::show::{self, Colours};
use crate::app::App;
use crate::question::agreed;

/// What `--detailed-exitcode` says when there is something to do.
const CHANGES: u8 = 2;

/// Make clients, users, APIs, groups, scopes and approval flows what files say: the plan is shown first,
/// and everything is done in one transaction or nothing is. What a file leaves out stays as it is.
#[derive(Debug, Args)]
pub struct Apply {
    /// A file, or a folder whose *.yaml, *.yml and *.json are read with those of the folders in it;
    /// `-` for the standard input. Repeat for several.
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: end with 2 when there is something to do, 0 when there is nothing.
    #[arg(long, requires = "dry_run")]
    detailed_exitcode: bool,
    /// Do it without asking; needed where nobody sits at a terminal.
    #[arg(long)]
    yes: bool,
    /// Delete APIs, groups and scopes that no file defines, if the files define any of that kind.
    /// Clients and flows are never deleted.
    #[arg(long)]
    prune: bool,
}

/// Write down clients, users, APIs, groups, scopes and approval flows as files that `apply` takes: without
/// passwords, keys and tokens.
#[derive(Debug, Args)]
pub struct Export {
    /// A file (*.yaml, *.yml or *.json), or a folder, in which one file per kind is written;
    /// without it the standard output.
    #[arg(short = 'o', long = "output", value_name = "PATH")]
    output: Option<PathBuf>,
    /// Only these: apis, groups, scopes, clients, users, flows; repeat for several.
    #[arg(long = "kind", value_name = "KIND", value_parser = parse_kind)]
    kinds: Vec<Kind>,
    /// For the standard output and folders; a file has the format that its name ends with.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| format!("the kinds are {}", Kind::ALL.map(Kind::plural).join(", ")))
}

/// Runs `apply`.
pub async fn apply(app: &App, command: Apply) -> anyhow::Result<ExitCode> {
    let reader = files::read(&command.files)?;
    let (wanted, faults) = (reader.wanted, reader.faults);
    if wanted.is_empty() && faults.is_empty() {
        bail!("the files define nothing");
    }
    let colours = Colours(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let manner = Manner { dry_run: true, prune: command.prune, agreed: None };
    let ask = !command.dry_run && !command.yes;
    if ask && !std::io::stdin().is_terminal() {
        bail!("nobody can be asked here: --yes does it without asking, --dry-run shows what would be done");
    }
    if command.dry_run || ask {
        let planned = told(actions::apply(app, "cli", &wanted, faults, manner.clone()).await)?;
        print!("{}", show::outcome(&planned, colours, false));
        if command.dry_run {
            let code = if command.detailed_exitcode && !planned.changes.is_empty() { CHANGES } else { 0 };
            return Ok(ExitCode::from(code));
        }
        if planned.changes.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        if !agreed(&mut std::io::stdin().lock(), &mut std::io::stdout())? {
            bail!("nothing was done");
        }
        let manner = Manner { dry_run: false, agreed: Some(planned.digest()), ..manner };
        let done = told(actions::apply(app, "cli", &wanted, Vec::new(), manner).await)?;
        println!("Done: {}", show::counts(&done, true));
        return Ok(ExitCode::SUCCESS);
    }
    let manner = Manner { dry_run: false, ..manner };
    let done = told(actions::apply(app, "cli", &wanted, faults, manner).await)?;
    print!("{}", show::outcome(&done, colours, true));
    Ok(ExitCode::SUCCESS)
}

/// Every fault stands in a line of its own, so that editors find the places.
fn told(result: Result<Outcome, ApplyError>) -> anyhow::Result<Outcome> {
    result.map_err(|error| match error {
        ApplyError::Refused(faults) => {
            for fault in faults.iter().take(MAX_FAULTS) {
                eprintln!("{fault}");
            }
            let all = faults.len();
            let shown =
                if all > MAX_FAULTS { format!(", {MAX_FAULTS} of them shown") } else { String::new() };
            anyhow::anyhow!("nothing was done: {all} to be put right{shown}")
        }
        ApplyError::NotAgreed | ApplyError::TooMany | ApplyError::Db(_) => error.into(),
    })
}

/// Runs `export`.
pub async fn export(app: &App, command: Export) -> anyhow::Result<ExitCode> {
    let kinds: Vec<Kind> = match command.kinds {
        none if none.is_empty() => Kind::ALL.to_vec(),
        named => Kind::ALL.into_iter().filter(|kind| named.contains(kind)).collect(),
    };
    let documents = actions::export(app, &kinds).await?;
    match command.output {
        None => print!("{}", files::text(&documents, command.format.unwrap_or(Format::Yaml))?),
        Some(path) => match Format::of(&path).filter(|_| !path.is_dir()) {
            Some(format) => {
                if command.format.is_some_and(|asked| asked != format) {
                    bail!("--format is not what {} ends with: leave it out", path.display());
                }
                files::write_file(&path, &files::text(&documents, format)?)?;
                eprintln!("{} definitions in {}", documents.len(), path.display());
            }
            None => {
                let format = command.format.unwrap_or(Format::Yaml);
                let written = files::write_folder(&path, &kinds, &documents, format)
                    .with_context(|| format!("--output {}", path.display()))?;
                let names: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
                eprintln!("{} definitions in {}", documents.len(), names.join(", "));
            }
        },
    }
    Ok(ExitCode::SUCCESS)
}
