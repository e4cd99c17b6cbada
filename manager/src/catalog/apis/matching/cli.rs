//! `keygate api match`

use gate::wire::directory::{ApiEntry, PathRule};

use super::actions::explain_match;
use super::model::Explanation;
use crate::app::App;
use crate::catalog::apis::model::credential_name;

/// What gates would do with a request, before its credential is looked at.
#[derive(Debug, clap::Args)]
pub struct Match {
    /// E.g. GET.
    method: String,
    /// https://host/path, or a path alone for a host that no API names.
    url: String,
}

/// Says it.
pub async fn run(app: &App, command: Match) -> anyhow::Result<()> {
    let explanation = explain_match(app, &command.method, &command.url).await?;
    print!("{}", in_words(&explanation));
    Ok(())
}

pub(super) fn in_words(explanation: &Explanation) -> String {
    let Explanation { target, normal_path, meant, refusal, near } = explanation;
    let host = if target.host.is_empty() { "a host that no API names" } else { &target.host };
    let mut text = format!("{} {} at {host}\n", target.method, target.path);
    if let Some(path) = normal_path.as_ref().filter(|path| **path != target.path) {
        text += &format!("  is read as {path}\n");
    }
    if let Some(api) = meant {
        text += &format!("  means {}\n", describe(api));
        let accepts: Vec<_> = api.accepts.iter().map(|kind| credential_name(*kind)).collect();
        let accepts = if api.no_auth { "no credential is asked for".into() } else { accepts.join(", ") };
        text += &format!("  accepts: {accepts}\n");
    }
    if let Some(refusal) = refusal {
        text += &format!("  is refused: {} {} ({})\n", refusal.status, refusal.code, refusal.reason);
    }
    if meant.is_none() && refusal.is_none() {
        text += "  means no API, and goes upstream unchecked (unregistered = \"pass\")\n";
    }
    if !near.is_empty() {
        text += "near misses:\n";
    }
    for miss in near {
        text += &format!("  {}\n", describe(&miss.api));
        for reason in &miss.reasons {
            text += &format!("    {reason}\n");
        }
    }
    text
}

fn describe(api: &ApiEntry) -> String {
    let (kind, path) = match &api.path {
        PathRule::Exact(path) => ("exact", path),
        PathRule::Prefix(path) => ("prefix", path),
        PathRule::Template(path) => ("template", path),
    };
    let every = |names: &[String], all: &str| if names.is_empty() { all.into() } else { names.join(", ") };
    format!(
        "{}/{} ({}{}): {kind} {path}, {}, {}",
        api.module,
        api.id,
        api.uid,
        if api.enabled { "" } else { ", disabled" },
        every(&api.methods, "every method"),
        every(&api.hosts, "every host"),
    )
}
