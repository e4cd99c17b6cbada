//! Who is told what about a form: the applicant at every step, the reviewers of a level when it
//! is theirs. None of these mails holds a secret.

use gate::id::ClientId;
use gate::wire::exchange::MeterKind;
use jiff::tz::TimeZone;

use super::applicant::Applicant;
use super::form::Form;
use super::model::{Application, Effect, State, Step};
use super::world::{self, KeyNamed};
use crate::app::App;
use crate::approvals::FormKind;
use crate::approvals::signers::Signer;
use crate::config::{CredentialDelivery, CredentialRecipients};
use crate::db::{Conn, DbError};
use crate::mail::contexts::{
    ApplicationResult, ApplicationStep, Doer, Event, FormType, Happened, Note, Outcome, PairTo, Status,
};
use crate::mail::{self, About, MailContext, MailError, NewMail, Recipient};
use crate::quotas;
use crate::validity::{day_of, print_instant};

/// Tells those concerned of `step`, which made `application` what it is. `signers` are those of the
/// level that waits now.
pub(super) async fn announce(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    step: &Step,
    signers: &[Signer],
) -> Result<(), MailError> {
    let facts = Facts::gather(conn, app, application, step).await?;
    let to_applicant = world::applicant_addresses(conn, &application.applicant).await?;
    // To others a page and commands for operators are of no use, and reviewers have no names.
    let (link, url, by) = match application.applicant {
        Applicant::Operator(_) => (facts.link.clone(), Some(app.config.base_url()), facts.by.clone()),
        Applicant::Client(_) | Applicant::Visitor { .. } => (None, None, nameless(step, &facts.by)),
    };
    match facts.result(app, application, step) {
        Some(result) => {
            let result = ApplicationResult { link, url, by, ..result };
            send(conn, app, application, to_applicant, result).await?;
        }
        None => {
            let told = ApplicationStep { link, url, by, ..facts.step(app, application, step) };
            send(conn, app, application, to_applicant, told).await?;
        }
    }
    for signer in signers {
        let on_behalf_of = match &signer.right.on_behalf_of {
            Some(principal) => Some(world::actor_name(conn, principal).await?),
            None => None,
        };
        let told = facts.step(app, application, step);
        let told = ApplicationStep { waiting_for_you: true, on_behalf_of, ..told };
        send(conn, app, application, signer.person.email.clone().map(Recipient::from), told).await?;
    }
    Ok(())
}

/// Who did `step`, for those to whom operators have no names.
fn nameless(step: &Step, by: &Doer) -> Doer {
    match (Applicant::parse(&step.actor), happened(step).what) {
        (Some(Applicant::Operator(_)), Event::Approved | Event::Returned | Event::Rejected) => Doer::Reviewer,
        (Some(Applicant::Operator(_)), _) => Doer::Operator,
        (_, _) => by.clone(),
    }
}

/// What every mail about a form says.
struct Facts {
    number: Option<String>,
    kind: FormType,
    applicant: String,
    by: Doer,
    comment: Option<String>,
    client_id: String,
    client_name: String,
    key: KeyNamed,
    apis: Vec<String>,
    link: Option<String>,
    /// Uses of a key whose quota a change has put at or below them; none: some are left.
    used_up: Option<u64>,
}

impl Facts {
    async fn gather(
        conn: &mut Conn,
        app: &App,
        application: &Application,
        step: &Step,
    ) -> Result<Self, DbError> {
        let (client_id, client_name) = world::client_of(conn, &application.form).await?;
        let named = world::key_of(conn, &application.form).await?;
        let used_up = match (&application.form, &application.state) {
            (Form::Change { key, terms, .. }, State::Approved { effect: Effect::Done { .. }, .. })
                if terms.quota.is_some() =>
            {
                let meter = quotas::meter_of(conn, MeterKind::KeyUses, key.as_str()).await?;
                meter.filter(|meter| meter.remaining() == 0).map(|meter| meter.debited)
            }
            (_, _) => None,
        };
        Ok(Self {
            used_up,
            number: application.number.map(|number| number.to_string()),
            kind: form_type(application.form.kind()),
            applicant: world::applicant_name(conn, &application.applicant).await?,
            by: match step.actor.as_str() {
                Step::BY_ITSELF => Doer::Itself,
                actor => Doer::Person {
                    name: world::actor_name(conn, actor).await?,
                    on_behalf_of: match &step.on_behalf_of {
                        Some(principal) => Some(world::actor_name(conn, principal).await?),
                        None => None,
                    },
                },
            },
            // Why a change could not be made stands in the result's note.
            comment: Some(step.comment.clone())
                .filter(|comment| !comment.is_empty() && happened(step).what != Event::NotCarriedOut),
            client_id,
            client_name,
            apis: world::api_names(conn, &named.apis).await?,
            key: named,
            link: world::link(app, application),
        })
    }

    fn step(&self, app: &App, application: &Application, step: &Step) -> ApplicationStep {
        let applied_at = application.submitted_at.unwrap_or(application.created_at);
        ApplicationStep {
            product_name: app.config.product_name.clone(),
            number: self.number.clone(),
            kind: self.kind,
            step: happened(step),
            by: self.by.clone(),
            comment: self.comment.clone(),
            status: status(&application.state),
            applied_on: day_of(applied_at, &app.config.zone()).to_string(),
            applicant: self.applicant.clone(),
            client_id: self.client_id.clone(),
            client_name: self.client_name.clone(),
            key_name: self.key.name.clone(),
            api_key: self.key.api_key.clone(),
            effective_on: application.form.effective_date().map(|date| date.to_string()),
            apis: self.apis.clone(),
            link: self.link.clone(),
            version: application.version,
            url: Some(app.config.base_url()),
            waiting_for_you: false,
            on_behalf_of: None,
        }
    }

    /// The mail of a form that has ended or came back; none while it is still under way, or when
    /// the applicant ended it.
    fn result(&self, app: &App, application: &Application, step: &Step) -> Option<ApplicationResult> {
        let zone = app.config.zone();
        let (result, notes) = match &application.state {
            State::Draft | State::PendingOrder { .. } | State::Cancelled { .. } => return None,
            State::Returned { .. } => (Outcome::Returned, vec![Note::EditAndResubmit]),
            State::Rejected { .. } => (Outcome::Rejected, vec![Note::Final]),
            State::Approved { effect, .. } => match effect {
                Effect::Stopped { .. } => return None,
                Effect::Failed { reason, .. } => {
                    (Outcome::NotCarriedOut, vec![Note::Failed { reason: reason.clone() }])
                }
                Effect::Scheduled { due } => {
                    (Outcome::Approved, vec![Note::Scheduled { due: print_instant(*due, &zone) }])
                }
                Effect::Registered { client, .. } => {
                    (Outcome::Approved, vec![registered(app, client, &application.applicant)])
                }
                Effect::Done { .. } => {
                    let mut notes = notes_on_done(app, application, step, &zone);
                    notes.extend(self.used_up.map(|used| Note::UsedUp { used }));
                    (Outcome::Approved, notes)
                }
            },
        };
        let terms = application.form.terms();
        Some(ApplicationResult {
            product_name: app.config.product_name.clone(),
            number: self.number.clone(),
            kind: self.kind,
            result,
            by: self.by.clone(),
            comment: self.comment.clone(),
            client_id: self.client_id.clone(),
            client_name: self.client_name.clone(),
            key_name: self.key.name.clone(),
            api_key: self.key.api_key.clone(),
            effective_on: application.form.effective_date().map(|date| date.to_string()),
            expires_on: terms.map(|terms| terms.expiry_date.to_string()),
            apis: self.apis.clone(),
            notes,
            link: self.link.clone(),
            url: Some(app.config.base_url()),
        })
    }
}

/// What follows from what has been done.
fn notes_on_done(app: &App, application: &Application, step: &Step, zone: &TimeZone) -> Vec<Note> {
    let today = day_of(step.at, zone);
    match &application.form {
        Form::Apply { terms, .. } => {
            let mut notes = vec![delivery(app)];
            let effective_on = terms.effective_date.to_string();
            if terms.effective_date < today {
                notes.push(Note::ActiveFromApproval { effective_on });
            } else if terms.effective_date > today {
                notes.push(Note::AcceptedFrom { effective_on });
            }
            notes
        }
        &Form::Change { reset_usage, .. } => vec![Note::Changed { usage_reset: reset_usage }],
        Form::Revoke { .. } => vec![Note::Revoked],
        Form::Client { .. } => Vec::new(),
    }
}

fn registered(app: &App, client: &ClientId, applicant: &Applicant) -> Note {
    // A visitor has shown one address to be theirs: the password goes to that alone.
    let to = match applicant {
        Applicant::Visitor { .. } => PairTo::Applicant,
        Applicant::Operator(_) | Applicant::Client(_) => PairTo::Client,
    };
    Note::Registered {
        client_id: client.as_str().to_owned(),
        to,
        in_minutes: in_minutes(app),
        by_link: by_link(app),
    }
}

fn delivery(app: &App) -> Note {
    let to = match app.config.credential_recipients {
        CredentialRecipients::Client => PairTo::Client,
        CredentialRecipients::Applicant => PairTo::Applicant,
        CredentialRecipients::Both => PairTo::Both,
    };
    Note::PairIsMailed { to, in_minutes: in_minutes(app), by_link: by_link(app) }
}

fn by_link(app: &App) -> bool {
    match app.config.credential_delivery {
        CredentialDelivery::Mail => false,
        CredentialDelivery::Link => true,
    }
}

fn in_minutes(app: &App) -> u64 {
    app.config.credential_mail_delay_s.div_ceil(60)
}

fn happened(step: &Step) -> Happened {
    let what = match step.action.as_str() {
        "resubmit" => Event::Resubmitted,
        "approve" => Event::Approved,
        "return" => Event::Returned,
        "reject" => Event::Rejected,
        "withdraw" => Event::Withdrawn,
        "stop" => Event::Stopped,
        "apply" => Event::CarriedOut,
        "fail" => Event::NotCarriedOut,
        "cancel" => Event::Cancelled,
        _ => Event::Submitted,
    };
    Happened { what, level: step.level }
}

fn status(state: &State) -> Status {
    match *state {
        State::Draft => Status::Draft,
        State::PendingOrder { level, levels } => Status::Pending { level, levels },
        State::Returned { level, .. } => Status::Returned { level },
        State::Approved { effect: Effect::Done { .. } | Effect::Registered { .. }, .. } => Status::Approved,
        State::Approved { effect: Effect::Scheduled { .. }, .. } => Status::Scheduled,
        State::Approved { effect: Effect::Stopped { .. }, .. } => Status::Stopped,
        State::Approved { effect: Effect::Failed { .. }, .. } => Status::NotCarriedOut,
        State::Rejected { level, .. } => Status::Rejected { level },
        State::Cancelled { .. } => Status::Cancelled,
    }
}

pub(super) fn form_type(kind: FormKind) -> FormType {
    match kind {
        FormKind::Apply => FormType::Ka,
        FormKind::Change => FormType::Ku,
        FormKind::Revoke => FormType::Kr,
        FormKind::Client => FormType::Cr,
    }
}

async fn send<C: MailContext>(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    recipients: impl IntoIterator<Item = Recipient>,
    context: C,
) -> Result<(), MailError> {
    let now = application.updated_at;
    let mail = NewMail {
        recipients: recipients.into_iter().collect(),
        context,
        not_before: now,
        about: About::new("application", application.id.clone()),
    };
    mail::enqueue(conn, app, mail, now).await?;
    Ok(())
}
