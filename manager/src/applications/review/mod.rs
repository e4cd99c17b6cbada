//! What a reviewer looks at before signing: the key before and after, what was used of it, how the
//! client stands, and what speaks against a signature.

mod model;
mod view;

use std::collections::BTreeSet;

use gate::id::{ApiUid, GroupId};
use gate::request::CredentialKind;
use gate::wire::exchange::MeterKind;

use super::actions::today;
use super::applicant::Caller;
use super::form::Form;
use super::model::{Application, State};
use super::{signing, world};
use crate::app::App;
use crate::config::CredentialRecipients;
use crate::db::{Conn, DbError};
use crate::validity::Validity;
use crate::{catalog, clients, keys, quotas};

use model::{API_WITHOUT_DGRK, ApiFacts, Facts, KeyTerms};
pub use model::{Review, Warning, meet};
pub use view::{ApiName, ReviewView, WarningView};

/// The review of a form that can still go on; one that has ended has none: the key and the client
/// that its reviewers saw are no longer those of now.
pub(super) async fn of(
    conn: &mut Conn,
    app: &App,
    application: &Application,
) -> Result<Option<Review>, DbError> {
    if application.state.is_final() {
        return Ok(None);
    }
    let (form, now, zone) = (&application.form, app.now(), app.config.zone());
    let key = match form.key() {
        Some(id) => keys::by_id(conn, id).await?,
        None => None,
    };
    let used = match &key {
        Some(key) => quotas::meter_of(conn, MeterKind::KeyUses, key.id.as_str()).await?,
        None => None,
    };
    let key = key.map(|key| KeyTerms {
        name: key.name.as_str().to_owned(),
        expiry_date: Validity::of_instants(key.validity, &zone).expires_on(),
        quota: key.uses.as_number(),
        apis: key.apis,
        state: key.state,
    });
    let client = match form.client() {
        Some(id) => clients::by_id(conn, id.as_str()).await?,
        None => None,
    };
    let mut uids: BTreeSet<ApiUid> = form.terms().map(|terms| terms.apis.clone()).unwrap_or_default();
    uids.extend(key.iter().flat_map(|key| key.apis.clone()));
    let uids: Vec<ApiUid> = uids.into_iter().collect();
    let apis = catalog::apis_of(conn, &uids).await?;
    let groups: BTreeSet<GroupId> = apis.iter().flat_map(|api| api.groups.clone()).collect();
    let groups: Vec<GroupId> = groups.into_iter().collect();
    let levels = catalog::known_groups(conn, &groups).await?;
    let apis = apis.into_iter().map(|api| {
        let levels = levels.iter().filter(|group| api.groups.contains(&group.id));
        let facts = ApiFacts {
            name: if api.name.is_empty() { api.title() } else { api.name.clone() },
            enabled: api.enabled,
            without_dgrk: api.refuses(CredentialKind::Dgrk),
            source: api.source,
            audience: api.audience,
            lowest_level: levels.map(|group| group.security_level).min(),
        };
        (api.uid, facts)
    });
    let facts = Facts {
        today: today(app, now),
        key,
        used: used.map(|meter| meter.at(now).debited),
        apis: apis.collect(),
        needs_address: matches!(form, Form::Apply { .. })
            && matches!(
                app.config.credential_recipients,
                CredentialRecipients::Client | CredentialRecipients::Both
            ),
        redirected: matches!(application.state, State::PendingOrder { .. })
            && world::redirected(
                application,
                world::credentials_go_to(conn, &app.config, application).await?.iter().flatten(),
            ),
        shortage: match application.state {
            State::PendingOrder { .. } => signing::shortage(conn, app, application).await?,
            _ => None,
        },
        client,
        taken: world::taken_names(conn, form).await?,
    };
    Ok(Some(Review::of(form, facts)))
}

/// What `caller`, who has saved or handed in the form, should know of it. A client is told of what it can
/// see itself, and not how it stands with reviewers.
pub async fn remarks(
    app: &App,
    caller: Caller<'_>,
    application: &Application,
) -> Result<Vec<Warning>, DbError> {
    let review = of(&mut *app.db.snapshot().await?, app, application).await?;
    let mut warnings = review.map(|review| review.warnings).unwrap_or_default();
    match caller {
        Caller::Operator(_) => {}
        Caller::Client(_) => warnings.retain(|warning| warning.code == API_WITHOUT_DGRK),
        Caller::Visitor(_) => warnings.clear(),
    }
    Ok(warnings)
}
