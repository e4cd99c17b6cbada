//! Who is told what about a form: the applicant at every step, the reviewers of a level when it
//! is theirs. None of these mails holds a secret.

use gate::id::ClientId;
use gate::wire::exchange::MeterKind;
use jiff::tz::TimeZone;

use super::applicant::Applicant;
use super::form::Form;
use super::model::{Application, Effect, State, Step};
use super::world;
use crate::app::App;
use crate::approvals::FormKind;
use crate::approvals::signers::Signer;
use crate::config::CredentialRecipients;
use crate::db::{Conn, DbError};
use crate::mail::contexts::{ApplicationResult, ApplicationStep};
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
    // The address of a page for operators is of no use to others.
    let link = match application.applicant {
        Applicant::Operator(_) => facts.link.clone(),
        Applicant::Client(_) | Applicant::Visitor { .. } => None,
    };
    match facts.result(app, application, step) {
        Some(result) => {
            let result = ApplicationResult { link, ..result };
            send(conn, app, application, to_applicant, result).await?;
        }
        None => {
            let told = ApplicationStep { link, ..facts.step(app, application, step, false) };
            send(conn, app, application, to_applicant, told).await?;
        }
    }
    let reviewers = signers.iter().filter_map(|signer| signer.person.email.clone()).map(Recipient::from);
    let told = facts.step(app, application, step, true);
    send(conn, app, application, reviewers, told).await?;
    Ok(())
}

/// What every mail about a form says.
struct Facts {
    number: String,
    kind: FormKind,
    applicant: String,
    by: Option<String>,
    comment: Option<String>,
    client_id: String,
    client_name: String,
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
        let uids = application.form.terms().map(|terms| terms.apis.clone()).unwrap_or_default();
        let used_up = match (&application.form, &application.state) {
            (Form::Change { key, .. }, State::Approved { effect: Effect::Done { .. }, .. }) => {
                let meter = quotas::meter_of(conn, MeterKind::KeyUses, key.as_str()).await?;
                meter.filter(|meter| meter.remaining() == 0).map(|meter| meter.debited)
            }
            (_, _) => None,
        };
        Ok(Self {
            used_up,
            number: application.number.map_or_else(|| "draft".to_owned(), |number| number.to_string()),
            kind: application.form.kind(),
            applicant: world::applicant_name(conn, &application.applicant).await?,
            by: Some(world::doer(conn, step).await?),
            comment: Some(step.comment.clone()).filter(|comment| !comment.is_empty()),
            client_id,
            client_name,
            apis: world::api_names(conn, &uids).await?,
            link: world::link(app, application),
        })
    }

    fn step(
        &self,
        app: &App,
        application: &Application,
        step: &Step,
        waiting_for_you: bool,
    ) -> ApplicationStep {
        let applied_at = application.submitted_at.unwrap_or(application.created_at);
        ApplicationStep {
            product_name: app.config.product_name.clone(),
            number: self.number.clone(),
            kind: self.kind.label().to_owned(),
            step: in_words(step),
            by: self.by.clone(),
            comment: self.comment.clone(),
            status: application.state.label(),
            applied_on: day_of(applied_at, &app.config.zone()).to_string(),
            applicant: self.applicant.clone(),
            client_id: self.client_id.clone(),
            client_name: self.client_name.clone(),
            apis: self.apis.clone(),
            link: self.link.clone(),
            waiting_for_you,
        }
    }

    /// The mail of a form that has ended or came back; none while it is still under way, or when
    /// the applicant ended it.
    fn result(&self, app: &App, application: &Application, step: &Step) -> Option<ApplicationResult> {
        let zone = app.config.zone();
        let (result, notes) = match &application.state {
            State::Draft | State::PendingOrder { .. } | State::Cancelled { .. } => return None,
            State::Returned { .. } => {
                ("returned", vec!["Edit the form and submit it again, or withdraw it.".to_owned()])
            }
            State::Rejected { .. } => ("rejected", vec!["A rejected form is final.".to_owned()]),
            State::Approved { effect: Effect::Stopped { .. }, .. } => return None,
            State::Approved { effect: Effect::Failed { reason, .. }, .. } => (
                "approved, but could not be carried out",
                vec![format!("When the change was due: {reason}.")],
            ),
            State::Approved { effect: Effect::Scheduled { due }, .. } => (
                "approved",
                vec![format!(
                    "It takes effect at {}. Until then the key runs on its present settings, and the change can \
                     still be stopped.",
                    print_instant(*due, &zone)
                )],
            ),
            State::Approved { effect: Effect::Done { .. }, .. } => {
                let mut notes = notes_on_done(app, application, step, &zone);
                notes.extend(self.used_up.map(|used| {
                    format!(
                        "Its quota is used up: {used} uses count so far. Calls are refused until another \
                         change raises the quota or resets the usage."
                    )
                }));
                ("approved", notes)
            }
            State::Approved { effect: Effect::Registered { client, .. }, .. } => {
                ("approved", vec![registered(app, client)])
            }
        };
        let terms = application.form.terms();
        Some(ApplicationResult {
            product_name: app.config.product_name.clone(),
            number: self.number.clone(),
            kind: self.kind.label().to_owned(),
            result: result.to_owned(),
            by: self.by.clone(),
            comment: self.comment.clone(),
            client_id: self.client_id.clone(),
            client_name: self.client_name.clone(),
            key_name: terms.map(|terms| terms.name.clone()),
            effective_on: application.form.effective_date().map(|date| date.to_string()),
            expires_on: terms.map(|terms| terms.expiry_date.to_string()),
            apis: self.apis.clone(),
            notes,
            link: self.link.clone(),
        })
    }
}

/// Whole sentences about what has been done.
fn notes_on_done(app: &App, application: &Application, step: &Step, zone: &TimeZone) -> Vec<String> {
    let today = day_of(step.at, zone);
    match &application.form {
        Form::Apply { terms, .. } => {
            let mut notes = vec![delivery(app)];
            if terms.effective_date < today {
                notes.push(format!(
                    "The effective date {} passed during the review: the key is active from the approval on.",
                    terms.effective_date
                ));
            } else if terms.effective_date > today {
                notes.push(format!("The key is accepted from {} on.", terms.effective_date));
            }
            notes
        }
        Form::Change { reset_usage: true, .. } => {
            vec!["The key runs on its new settings now; uses so far no longer count.".to_owned()]
        }
        Form::Change { reset_usage: false, .. } => {
            vec!["The key runs on its new settings now; what has been used stays used.".to_owned()]
        }
        Form::Revoke { .. } => vec!["The key is no longer accepted.".to_owned()],
        Form::Client { .. } => Vec::new(),
    }
}

fn registered(app: &App, client: &ClientId) -> String {
    let when = match app.config.credential_mail_delay_s {
        0..60 => "within a minute".to_owned(),
        seconds => format!("in about {} minutes", seconds.div_ceil(60)),
    };
    format!(
        "The client was created; it signs in as {}. Its first password is sent to its addresses {when}.",
        client.as_str()
    )
}

fn delivery(app: &App) -> String {
    let to = match app.config.credential_recipients {
        CredentialRecipients::Client => "the client's addresses",
        CredentialRecipients::Applicant => "your address",
        CredentialRecipients::Both => "the client's addresses and to yours",
    };
    match app.config.credential_mail_delay_s {
        0 => format!("The key pair is sent to {to} in a mail of its own."),
        1..60 => format!("The key pair is sent to {to} within a minute."),
        seconds => format!("The key pair is sent to {to} in about {} minutes.", seconds.div_ceil(60)),
    }
}

/// `approved at level 1`
fn in_words(step: &Step) -> String {
    let done = match step.action.as_str() {
        "submit" => "submitted",
        "resubmit" => "submitted again",
        "approve" => "approved",
        "return" => "returned",
        "reject" => "rejected",
        "withdraw" => "withdrawn",
        "stop" => "stopped",
        "apply" => "carried out",
        "fail" => "not carried out",
        "cancel" => "cancelled",
        other => other,
    };
    step.level.map_or_else(|| done.to_owned(), |level| format!("{done} at level {level}"))
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
