//! What the queue and the servers' records mean.

use std::fmt::Write as _;

use gate::time::UnixMillis;
use serde::Serialize;

use crate::config::MailTransport;

/// How mails fare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `ok`, or `degraded` while there is a warning.
    pub status: Status,
    /// Mails that are not sent yet, those included whose time has not come.
    pub waiting: i64,
    /// Those of them that should have gone by now.
    pub due: i64,
    /// For how many seconds the oldest of these has been due; null where none is.
    pub oldest_unsent_s: Option<i64>,
    /// When a server last accepted a mail (UTC ms).
    pub last_success_at: Option<i64>,
    /// When an attempt last failed (UTC ms).
    pub last_failure_at: Option<i64>,
    /// What that attempt ended with, without addresses of people.
    pub last_error: Option<String>,
    /// What to do about it.
    pub warnings: Vec<Warning>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Mails go out.
    Ok,
    /// They do not, or the last one did not.
    Degraded,
}

/// Something that does not keep a call from being done, but that its caller should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Warning {
    /// `mail_not_configured`, `mail_failing`.
    pub code: &'static str,
    /// A sentence: what is wrong and what to do.
    pub message: String,
}

impl Warning {
    /// For those who are no operators: without what servers said.
    pub fn without_details(self) -> Self {
        Self {
            message: "Mails are not going out at the moment; yours is kept and sent later.".into(),
            ..self
        }
    }
}

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    pub waiting: i64,
    pub due: i64,
    /// Since when the oldest of these has been due.
    pub oldest_due_at: Option<UnixMillis>,
}

/// A server's record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fared {
    pub last_success_at: Option<i64>,
    pub last_failure_at: Option<i64>,
    pub last_error: Option<String>,
}

impl Health {
    pub(super) fn of(transport: MailTransport, queue: Queue, servers: Vec<Fared>, now: UnixMillis) -> Self {
        let last_success_at = servers.iter().filter_map(|server| server.last_success_at).max();
        let last_failed = servers.into_iter().max_by_key(|server| server.last_failure_at);
        let (last_failure_at, last_error) =
            last_failed.map_or((None, None), |server| (server.last_failure_at, server.last_error));
        let wait = match queue.waiting {
            0 => "no mail waits".to_string(),
            1 => "1 mail waits".into(),
            n => format!("{n} mails wait"),
        };
        let warning = match transport {
            MailTransport::None => Some(Warning {
                code: "mail_not_configured",
                message: format!(
                    "No mail is sent, because mail_transport is `none`: {wait}. Set mail_transport and \
                     smtp_host, try them with `keygate mail test --to ADDRESS` and restart: what waits is sent then."
                ),
            }),
            // A server that failed at the same instant stood in for by another has done no harm.
            MailTransport::Smtp | MailTransport::File if last_failure_at > last_success_at => Some(Warning {
                code: "mail_failing",
                message: format!(
                    "The last mail could not be sent ({}): {wait}, to be tried again without anybody's doing. \
                     See what is wrong with `keygate mail test --to ADDRESS`.",
                    last_error.as_deref().unwrap_or("no reason on record")
                ),
            }),
            MailTransport::Smtp | MailTransport::File => None,
        };
        Self {
            status: if warning.is_some() { Status::Degraded } else { Status::Ok },
            waiting: queue.waiting,
            due: queue.due,
            oldest_unsent_s: queue.oldest_due_at.map(|at| now.0.saturating_sub(at.0).max(0) / 1_000),
            last_success_at,
            last_failure_at,
            last_error,
            warnings: warning.into_iter().collect(),
        }
    }

    /// As gauges in Prometheus' text format.
    pub fn gauges(&self) -> String {
        let mut text = String::new();
        for (name, value) in [
            ("keygate_mails_waiting", self.waiting),
            ("keygate_mails_due", self.due),
            ("keygate_mails_oldest_due_seconds", self.oldest_unsent_s.unwrap_or_default()),
            ("keygate_mails_failing", i64::from(self.status == Status::Degraded)),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
        }
        text
    }
}

/// `text` without mail addresses, for those who need not know who gets mails.
pub fn without_addresses(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|word| match word.trim_end() {
            bare if bare.contains('@') => format!("<address>{}", &word[bare.len()..]),
            _ => word.to_string(),
        })
        .collect()
}
