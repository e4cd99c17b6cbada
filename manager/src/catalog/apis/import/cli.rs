//! `keygate api import`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use gate::wire::directory::Audience;

use super::actions;
use super::document::{Format, MAX_DOCUMENT_BYTES};
use super::http::ImportQuery;
use super::report::{Report, ReportedChange};
use crate::app::App;

/// Bring the operations of an OpenAPI 3 document into the catalogue, one API each. A repeated
/// import updates them.
#[derive(Debug, Args)]
pub struct Import {
    /// The document, JSON or YAML; `-` for standard input.
    file: PathBuf,
    /// Show what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Module of the APIs; default: the document's title.
    #[arg(long)]
    module: Option<String>,
    /// dgrk, x_api_key, bearer, basic (several with commas), or `document`: what its security
    /// schemes say. New APIs: dgrk,x_api_key; others keep what they have.
    #[arg(long)]
    accepts: Option<String>,
    /// Let anybody call operations with `security: []`.
    #[arg(long)]
    allow_no_auth: bool,
    /// From where they may be called: both, internal, external. New APIs: both.
    #[arg(long, value_parser = parse_audience)]
    audience: Option<Audience>,
    /// Whether calls are let in. New APIs: false.
    #[arg(long, value_name = "true|false")]
    enabled: Option<bool>,
    /// Whether form and multipart bodies go unsigned under DGRK where an operation takes them. New
    /// APIs: true.
    #[arg(long, value_name = "true|false")]
    unsigned_forms: Option<bool>,
    /// Hosts instead of those of the document's servers, several with commas; empty: every host.
    #[arg(long)]
    hosts: Option<String>,
    /// Base path instead of that of the document's servers; empty: none.
    #[arg(long)]
    base_path: Option<String>,
    /// Leave out operations that cannot be held; else nothing is imported then.
    #[arg(long)]
    skip_unsupported: bool,
    /// Remove APIs of an earlier import that the document does not have.
    #[arg(long)]
    prune: bool,
}

/// Runs the import and prints what it did.
pub async fn run(app: &App, command: Import) -> anyhow::Result<()> {
    let (text, format) = read_document(&command.file)?;
    let asked = ImportQuery {
        dry_run: Some(command.dry_run),
        module: command.module,
        accepts: command.accepts,
        allow_no_auth: Some(command.allow_no_auth),
        audience: command.audience,
        enabled: command.enabled,
        unsigned_forms: command.unsigned_forms,
        hosts: command.hosts,
        base_path: command.base_path,
        skip_unsupported: Some(command.skip_unsupported),
        prune: Some(command.prune),
    };
    let report = actions::import(app, "cli", text, format, asked.options()?, command.dry_run).await?;
    print!("{}", described(&report));
    match report.refused {
        Some(refused) => bail!("the import would be refused: {refused}"),
        None => Ok(()),
    }
}

fn read_document(file: &Path) -> anyhow::Result<(Vec<u8>, Format)> {
    let mut text = Vec::new();
    let limit = MAX_DOCUMENT_BYTES as u64 + 1;
    if file == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut text).context("standard input")?;
    } else {
        std::fs::File::open(file)
            .and_then(|open| open.take(limit).read_to_end(&mut text))
            .with_context(|| format!("cannot read {}", file.display()))?;
    }
    let format = match file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Format::Json,
        Some("yaml" | "yml") => Format::Yaml,
        Some(_) | None => Format::guess(&text),
    };
    Ok((text, format))
}

fn parse_audience(text: &str) -> Result<Audience, String> {
    serde_json::from_value(text.into()).map_err(|_| "is one of both, internal, external".into())
}

/// One line for each API that is not as it was, and what is to be known of it.
fn described(report: &Report) -> String {
    let mut lines =
        vec![format!("module {} from {:?}, version {:?}", report.module, report.title, report.version)];
    for api in report.apis.iter().filter(|api| api.change != ReportedChange::Unchanged) {
        let operation = api.operation.as_deref().unwrap_or("not in the document");
        lines.push(format!("{:<9} {}  {operation}", api.change.as_str(), api.id));
        let updates = api.fields.as_object().filter(|_| api.change == ReportedChange::Update);
        for (field, change) in updates.into_iter().flatten() {
            lines.push(format!("          {field}: {} -> {}", change["before"], change["after"]));
        }
        lines.extend(api.warnings.iter().map(|warning| format!("          warning: {warning}")));
    }
    for one in &report.unsupported {
        lines.push(format!("cannot    {}: {}", one.operation, one.reason));
    }
    for one in &report.conflicts {
        lines.push(format!("conflict  {}: {}", one.id, one.reason));
    }
    lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    let Report { created, updated, removed, unchanged, .. } = report;
    lines.push(format!(
        "{}{created} created, {updated} updated, {removed} removed, {unchanged} unchanged",
        if report.dry_run { "dry run, nothing was changed: " } else { "" }
    ));
    lines.push(String::new());
    lines.join("\n")
}
