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
    /// Mails that were given up within the last 24 hours; those not counted that somebody took back.
    pub failed_last_day: i64,
    /// When a server last accepted a mail (UTC ms).
    pub last_success_at: Option<i64>,
    /// When an attempt last failed (UTC ms).
    pub last_failure_at: Option<i64>,
    /// What it failed with, without addresses of people.
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
    /// They do not, the last one did not, or one of two servers fails.
    Degraded,
}

/// Something that does not keep a call from being done, but that its caller should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Warning {
    /// `mail_not_configured`, `mail_failing`; in probes also `mail_server_failing`,
    /// `administrators_without_address`.
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
    pub failed_last_day: i64,
}

/// A server's record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fared {
    pub address: String,
    pub last_success_at: Option<i64>,
    pub last_failure_at: Option<i64>,
    pub last_error: Option<String>,
}

impl Fared {
    fn told(&self) -> &str {
        self.last_error.as_deref().unwrap_or("no reason on record")
    }
}

impl Warning {
    /// It keeps mails from going out, which whoever causes one should know.
    pub(super) fn stops_mails(&self) -> bool {
        matches!(self.code, NOT_CONFIGURED | FAILING)
    }
}

const NOT_CONFIGURED: &str = "mail_not_configured";
const FAILING: &str = "mail_failing";

impl Health {
    pub(super) fn of(transport: MailTransport, queue: Queue, servers: &[Fared], now: UnixMillis) -> Self {
        let wait = match queue.waiting {
            0 => "no mail waits".to_string(),
            1 => "1 mail waits".into(),
            n => format!("{n} mails wait"),
        };
        let failing: Vec<_> =
            servers.iter().filter(|server| server.last_failure_at > server.last_success_at).collect();
        let last_failed = servers.iter().max_by_key(|server| server.last_failure_at);
        let warning = match (transport, failing.as_slice()) {
            (MailTransport::None, _) => Some(Warning {
                code: NOT_CONFIGURED,
                message: format!(
                    "No mail is sent, because mail_transport is `none`: {wait}. Set mail_transport and \
                     smtp_host, try them with `keygate mail test --to ADDRESS` and restart: what waits is sent then."
                ),
            }),
            (MailTransport::Smtp | MailTransport::File, []) => None,
            (MailTransport::Smtp | MailTransport::File, failing) if failing.len() == servers.len() => {
                let told: Vec<_> = failing.iter().map(|server| server.told()).collect();
                Some(Warning {
                    code: FAILING,
                    message: format!(
                        "The last mail could not be sent ({}): {wait}, to be tried again without anybody's doing. See what \
                         is wrong with `keygate mail test --to ADDRESS`.",
                        told.join("; ")
                    ),
                })
            }
            (MailTransport::Smtp | MailTransport::File, failing) => failing.first().map(|server| Warning {
                code: "mail_server_failing",
                message: format!(
                    "The mail server {} fails ({}), and the other one stands in alone. See what is wrong with \
                     `keygate mail test --to ADDRESS --server primary` or `secondary`.",
                    server.address,
                    server.told()
                ),
            }),
        };
        Self {
            status: if warning.is_some() { Status::Degraded } else { Status::Ok },
            waiting: queue.waiting,
            due: queue.due,
            oldest_unsent_s: queue.oldest_due_at.map(|at| now.0.saturating_sub(at.0).max(0) / 1_000),
            failed_last_day: queue.failed_last_day,
            last_success_at: servers.iter().filter_map(|server| server.last_success_at).max(),
            last_failure_at: last_failed.and_then(|server| server.last_failure_at),
            last_error: last_failed.and_then(|server| server.last_error.clone()),
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
            ("keygate_mails_failed_last_day", self.failed_last_day),
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
