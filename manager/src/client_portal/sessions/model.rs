//! A session, when it ends, and what keeps a client out of it.

use gate::time::UnixMillis;
use gate::wire::exchange::ClientStatus;

use crate::clients::{Client, PasswordMark};
use crate::config::LockoutScope;

/// Sessions of one client at most: a further sign-in ends the oldest.
pub const MAX_SESSIONS: i64 = 20;
/// However much it is used, a session ends so long after the sign-in, or `client_session_ttl_s`
/// after it where that is longer.
pub const MAX_SLIDING_MS: i64 = 86_400_000;
/// A use moves the end of a session by this at least: what is nearer is not worth a write.
const STEP_MS: i64 = 60_000;

/// A client that has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// As it is at this call.
    pub client: Client,
    /// Which session the call presents.
    pub session: Session,
}

impl SignedIn {
    /// As the audit trail names who acts.
    pub fn audit_name(&self) -> String {
        format!("client:{}", self.client.id.as_str())
    }
}

/// A session on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `cs_…`
    pub id: String,
    /// Whose.
    pub client: String,
    /// Of the password that opened it.
    pub password: PasswordMark,
    /// When.
    pub created_at: UnixMillis,
    /// Last instant.
    pub expires_at: UnixMillis,
}

/// How long sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// From the sign-in, or where it slides from the last use.
    pub ttl_ms: i64,
    /// Whether use prolongs it.
    pub sliding: bool,
}

impl Lifetime {
    /// Last instant of a session that is opened now.
    pub fn end(self, now: UnixMillis) -> UnixMillis {
        UnixMillis(now.0.saturating_add(self.ttl_ms))
    }

    /// The last instant that this use gives a session, where that is worth a write.
    pub fn prolonged(self, session: &Session, now: UnixMillis) -> Option<UnixMillis> {
        let latest = session.created_at.0.saturating_add(self.ttl_ms.max(MAX_SLIDING_MS));
        let end = now.0.saturating_add(self.ttl_ms).min(latest);
        let worth = end - session.expires_at.0 >= STEP_MS.min(self.ttl_ms / 10);
        (self.sliding && worth && end > session.expires_at.0).then_some(UnixMillis(end))
    }
}

/// Why a client can neither sign in nor go on. Told only to who knows the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    /// By an operator.
    #[error("the client is disabled: ask an operator to enable it")]
    Disabled,
    /// By an operator.
    #[error("the client is locked: ask an operator to unlock it")]
    Locked,
    /// Its first day is to come.
    #[error("the client's first day is {on}: sign in from then on")]
    NotStarted {
        /// Its first day.
        on: jiff::civil::Date,
    },
    /// Its last day is over.
    #[error("the client's last day was {on}: ask an operator for a later one")]
    Over {
        /// Its last day.
        on: jiff::civil::Date,
    },
}

/// What keeps the client out now. Hours of service are those of its calls: they keep nobody from
/// looking after keys. A lock after wrong passwords ends what is open only where the installation
/// wants it to close everything.
pub fn barred(client: &Client, lockout: LockoutScope, now: UnixMillis) -> Option<Barred> {
    match client.status {
        ClientStatus::Disabled => return Some(Barred::Disabled),
        ClientStatus::Locked => return Some(Barred::Locked),
        ClientStatus::Active if lockout == LockoutScope::All && client.password_locked() => {
            return Some(Barred::Locked);
        }
        ClientStatus::Active => {}
    }
    let (dates, validity) = (client.dates?, client.validity()?);
    if now < validity.from {
        Some(Barred::NotStarted { on: dates.start })
    } else if now > validity.until {
        Some(Barred::Over { on: dates.expiry })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(expires_at: i64) -> Session {
        Session {
            id: "cs_1".into(),
            client: "acme".into(),
            password: PasswordMark::from(String::new()),
            created_at: UnixMillis(0),
            expires_at: UnixMillis(expires_at),
        }
    }

    #[test]
    fn a_use_moves_the_end_where_sessions_slide_and_never_beyond_a_day() {
        const HOUR: i64 = 3_600_000;
        let sliding = Lifetime { ttl_ms: HOUR, sliding: true };
        let prolonged = |lifetime: Lifetime, expires_at, now| {
            lifetime.prolonged(&session(expires_at), UnixMillis(now)).map(|end| end.0)
        };
        assert_eq!(sliding.end(UnixMillis(7)), UnixMillis(HOUR + 7));
        for (expires_at, now, end) in [
            (HOUR, 0, None),
            (HOUR, STEP_MS - 1, None),
            (HOUR, STEP_MS, Some(HOUR + STEP_MS)),
            (24 * HOUR - STEP_MS, 24 * HOUR - STEP_MS - 1, Some(24 * HOUR)),
            (24 * HOUR, 24 * HOUR - 1, None),
        ] {
            assert_eq!(prolonged(sliding, expires_at, now), end, "{expires_at} {now}");
        }
        let fixed = Lifetime { ttl_ms: HOUR, sliding: false };
        assert_eq!(prolonged(fixed, HOUR, STEP_MS), None);
        // A short one is measured in a tenth of itself.
        let short = Lifetime { ttl_ms: 60_000, sliding: true };
        assert_eq!(prolonged(short, 60_000, 5_999), None);
        assert_eq!(prolonged(short, 60_000, 6_000), Some(66_000));
        // One that is longer than a day ends as it was opened to end.
        let long = Lifetime { ttl_ms: 48 * HOUR, sliding: true };
        assert_eq!(prolonged(long, 48 * HOUR, 40 * HOUR), None);
    }
}
