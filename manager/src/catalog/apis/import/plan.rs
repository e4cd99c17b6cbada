//! What an import would do: the APIs of a document beside those of the catalogue.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::ApiUid;
use gate::request::CredentialKind;
use gate::time::UnixMillis;
use gate::wire::directory::Audience;

use super::model::{Options, Planned, Reading};
use super::texts::{one_line, shortened};
use crate::catalog::apis::model::{Api, ApiName, ApiSource, MAX_API_NAME, MAX_LABEL, MAX_LABELS};
use crate::catalog::apis::place::Place;
use crate::catalog::model::folded;

/// What becomes of one API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// As in the document; None: it is not there.
    pub operation: Option<String>,
    pub change: Change,
    pub warnings: Vec<String>,
}

/// How an API differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is new.
    Create(Box<Api>),
    /// It is brought up to date.
    Update { before: Box<Api>, after: Box<Api> },
    /// It is as the document says.
    Unchanged(Box<Api>),
    /// It came by an earlier import, and is not in the document; it stays.
    Missing(Box<Api>),
    /// The same, and it goes.
    Remove(Box<Api>),
}

impl Change {
    /// The API as it is to be, or was last.
    pub(super) fn api(&self) -> &Api {
        match self {
            Self::Create(api) | Self::Unchanged(api) | Self::Missing(api) | Self::Remove(api) => api,
            Self::Update { after, .. } => after,
        }
    }

    /// Whether the API is not there yet.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Self::Create(_))
    }

    /// Whether it is there, and will answer elsewhere.
    pub(super) fn moves(&self) -> bool {
        matches!(self, Self::Update { before, after } if Place::of(before) != Place::of(after))
    }
}

/// Compares. `held` are all APIs of the module; `draw` makes an id for a new one.
pub(super) fn plan(
    reading: &Reading,
    held: Vec<Api>,
    options: &Options,
    now: UnixMillis,
    mut draw: impl FnMut() -> ApiUid,
) -> Vec<Step> {
    let mut held: BTreeMap<ApiName, Api> = held.into_iter().map(|api| (api.id.clone(), api)).collect();
    let mut steps = Vec::with_capacity(reading.apis.len());
    for planned in &reading.apis {
        let (change, warnings) = match held.remove(&planned.id) {
            Some(before) => update(before, planned, options, now),
            None => create(&reading.module, planned, options, now, draw()),
        };
        steps.push(Step { operation: Some(planned.operation.clone()), change, warnings });
    }
    // What the document has and cannot be held stays as it is. Where it does not even have an id, that
    // may be any.
    let unread: Vec<_> = reading.unsupported.iter().filter(|one| one.id.is_none()).collect();
    let spared = unread.first().filter(|_| options.prune).map(|one| {
        format!(
            "it stays, although prune=true: what the document has at {} cannot be read, and may be it",
            shortened(&one_line(&one.operation), MAX_API_NAME)
        )
    });
    let kept: BTreeSet<_> = reading.unsupported.iter().filter_map(|one| one.id.as_ref()).collect();
    for (id, api) in held {
        if api.source == ApiSource::Imported && !kept.contains(&id) {
            let api = Box::new(api);
            let change =
                if options.prune && spared.is_none() { Change::Remove(api) } else { Change::Missing(api) };
            steps.push(Step { operation: None, change, warnings: spared.iter().cloned().collect() });
        }
    }
    steps
}

fn create(
    module: &ApiName,
    planned: &Planned,
    options: &Options,
    now: UnixMillis,
    uid: ApiUid,
) -> (Change, Vec<String>) {
    let mut warnings = planned.access.warnings.clone();
    let accepts = planned.access.accepts.clone();
    let takes_unsigned = planned.takes_forms && accepts.contains(&CredentialKind::Dgrk);
    let unsigned_forms = takes_unsigned && options.unsigned_forms.unwrap_or(true);
    if unsigned_forms {
        warnings.push(UNSIGNED.into());
    }
    let api = Api {
        uid,
        module: module.clone(),
        id: planned.id.clone(),
        name: planned.name.clone(),
        description: planned.description.clone(),
        hosts: planned.hosts.clone(),
        methods: planned.methods.clone(),
        path: planned.path.clone(),
        no_auth: accepts.is_empty(),
        accepts,
        enabled: options.enabled.unwrap_or(false),
        audience: options.audience.unwrap_or(Audience::Both),
        unsigned_forms,
        labels: labels(&planned.tags, &mut warnings),
        enable_at: None,
        disable_at: None,
        source: ApiSource::Imported,
        groups: Vec::new(),
        scopes: Vec::new(),
        created_at: now,
        updated_at: now,
        version: 1,
    };
    (Change::Create(Box::new(api)), warnings)
}

const UNSIGNED: &str = "it takes forms: unsigned_forms is set, so that DGRK callers send form and multipart bodies \
                        unsigned; unsigned_forms=false has them signed";

fn update(before: Api, planned: &Planned, options: &Options, now: UnixMillis) -> (Change, Vec<String>) {
    let mut warnings = Vec::new();
    let mut after = before.clone();
    after.name.clone_from(&planned.name);
    after.description.clone_from(&planned.description);
    after.hosts.clone_from(&planned.hosts);
    after.methods.clone_from(&planned.methods);
    after.path.clone_from(&planned.path);
    after.labels = labels(&planned.tags, &mut warnings);
    // What opens an API is the operators', unless an option names it.
    if options.accepts.is_some() {
        after.accepts.clone_from(&planned.access.accepts);
        after.no_auth = after.accepts.is_empty();
        warnings.extend(planned.access.warnings.iter().cloned());
    }
    if let Some(enabled) = options.enabled
        && enabled != before.enabled
    {
        after.enabled = enabled;
        after.drop_needless_turn();
    }
    after.audience = options.audience.unwrap_or(before.audience);
    let takes_unsigned = planned.takes_forms && after.accepts.contains(&CredentialKind::Dgrk);
    match options.unsigned_forms {
        Some(wanted) => {
            after.unsigned_forms = wanted && takes_unsigned;
            if after.unsigned_forms {
                warnings.push(UNSIGNED.into());
            }
        }
        None if takes_unsigned && !after.unsigned_forms => warnings.push(
            "it takes forms, and DGRK callers must sign them: unsigned_forms=true lets them go unsigned"
                .into(),
        ),
        None => {}
    }
    if before.source != ApiSource::Imported {
        warnings
            .push("it was registered by hand: the import keeps it up to date, and never removes it".into());
    }
    let change = if after == before {
        Change::Unchanged(Box::new(before))
    } else {
        (after.updated_at, after.version) = (now, before.version + 1);
        Change::Update { before: Box::new(before), after: Box::new(after) }
    };
    (change, warnings)
}

/// Tags within the rules of labels.
fn labels(tags: &[String], warnings: &mut Vec<String>) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    let (mut cut, mut seen) = (false, BTreeSet::new());
    for tag in tags {
        let label: String = tag.chars().take(MAX_LABEL).collect();
        let label = label.trim_end().to_string();
        cut |= label != *tag;
        if !seen.insert(folded(&[&label])) {
            continue;
        }
        if labels.len() == MAX_LABELS {
            cut = true;
            break;
        }
        labels.push(label);
    }
    if cut {
        warnings.push(format!(
            "of its tags the first {MAX_LABELS} become labels, the first {MAX_LABEL} characters of each"
        ));
    }
    labels
}
