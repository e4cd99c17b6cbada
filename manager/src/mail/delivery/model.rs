//! Which server is asked when, and what an attempt means for the mail.

use gate::time::UnixMillis;

use super::super::model::{Mail, SendError, Via};
use super::super::transport::Refusal;

/// How long a server rests after its first failure; it doubles from then on …
const FIRST_PAUSE_MS: i64 = 5_000;
/// … up to this: so long after it is well again the mails still wait.
const LONGEST_PAUSE_MS: i64 = 60_000;
/// The wait after the first failed attempt at a mail; it doubles from then on …
const FIRST_RETRY_MS: i64 = 15_000;
/// … up to this.
const LONGEST_RETRY_MS: i64 = 3_600_000;
/// Attempts at one mail whose answer was lost: each may have brought it once more.
pub const MAX_UNANSWERED: u32 = 5;

/// A server, as all replicas know it together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `host:port`, or a folder.
    pub address: String,
    /// Conversations in a row that failed for its own reasons.
    pub failures: u32,
    /// No conversation before.
    pub paused_until: Option<UnixMillis>,
}

/// What may be done with a server now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is well: as many conversations as there are mails.
    Ask,
    /// It has rested: one conversation may try.
    Probe,
    /// It rests.
    Rest,
}

impl Server {
    /// Nothing is known of it, which is no reason not to ask.
    pub fn never_asked(address: &str) -> Self {
        Self { address: address.into(), failures: 0, paused_until: None }
    }

    /// At `now`.
    pub fn turn(&self, now: UnixMillis) -> Turn {
        match self.paused_until {
            None => Turn::Ask,
            Some(until) if until > now => Turn::Rest,
            Some(_) => Turn::Probe,
        }
    }

    /// How long it rests after one more failure.
    pub fn next_pause_ms(&self) -> i64 {
        (FIRST_PAUSE_MS << self.failures.min(20)).min(LONGEST_PAUSE_MS)
    }
}

/// One server's part of an attempt.
#[derive(Debug)]
pub struct Tried {
    pub via: Via,
    pub server: Server,
    pub started_at: UnixMillis,
    pub ended_at: UnixMillis,
    /// Its answer.
    pub result: Result<String, Refusal>,
}

impl Tried {
    /// As it stands in the table.
    pub fn outcome(&self) -> &'static str {
        match &self.result {
            Ok(_) => "accepted",
            Err(refusal) => outcome_name(&refusal.error),
        }
    }

    /// What it said, or what went wrong.
    pub fn told(&self) -> String {
        match &self.result {
            Ok(answer) => answer.clone(),
            Err(refusal) => refusal.error.to_string(),
        }
    }
}

/// As it stands in the table.
pub fn outcome_name(error: &SendError) -> &'static str {
    match error {
        SendError::Retry(_) => "postponed",
        SendError::Refused(_) => "refused",
        SendError::Unavailable(_) => "unavailable",
        SendError::AnswerLost(_) => "answer_lost",
    }
}

/// One attempt at a mail, at all servers that could be asked.
#[derive(Debug)]
pub struct Attempt {
    pub tried: Vec<Tried>,
    pub outcome: Outcome,
}

/// What it came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Sent { via: Via },
    Failed(SendError),
}

impl Attempt {
    /// From its parts; `configured` servers there are, with those that rest.
    pub fn of(tried: Vec<Tried>, configured: usize) -> Self {
        let outcome = outcome(&tried, configured);
        Self { tried, outcome }
    }

    /// The mail could not even be written.
    pub fn unwritable(error: SendError) -> Self {
        Self { tried: Vec::new(), outcome: Outcome::Failed(error) }
    }

    /// It says something about the mail, and not only that no server could be asked.
    pub fn is_one_of_the_mail(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed(SendError::Unavailable(_)))
    }
}

fn outcome(tried: &[Tried], configured: usize) -> Outcome {
    let mut errors = Vec::with_capacity(tried.len());
    for one in tried {
        match &one.result {
            Ok(_) => return Outcome::Sent { via: one.via },
            Err(refusal) => errors.push(&refusal.error),
        }
    }
    let told = errors.iter().map(|error| error.text()).collect::<Vec<_>>().join("; then ");
    Outcome::Failed(if errors.iter().any(|error| matches!(error, SendError::AnswerLost(_))) {
        SendError::AnswerLost(told)
    } else if errors.iter().all(|error| matches!(error, SendError::Unavailable(_))) {
        SendError::Unavailable(told)
    } else if errors.len() == configured && errors.iter().all(|error| matches!(error, SendError::Refused(_)))
    {
        SendError::Refused(told)
    } else {
        // One that rests may take yet what another refused.
        SendError::Retry(told)
    })
}

/// What becomes of a mail after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// It waits for another attempt.
    TryAgain {
        /// Not before.
        at: UnixMillis,
    },
    /// It is given up.
    GiveUp,
}

/// The decision after an attempt at `mail` (which counts it) has failed with `error`.
pub fn after_failure(mail: &Mail, error: &SendError, give_up_ms: i64, now: UnixMillis) -> AfterFailure {
    let too_old = now.0.saturating_sub(mail.due_at.0) >= give_up_ms;
    let over = match error {
        SendError::Refused(_) => true,
        SendError::AnswerLost(_) => too_old || mail.unanswered.saturating_add(1) >= MAX_UNANSWERED,
        SendError::Retry(_) | SendError::Unavailable(_) => too_old,
    };
    if over {
        AfterFailure::GiveUp
    } else {
        AfterFailure::TryAgain { at: UnixMillis(now.0.saturating_add(retry_after_ms(mail.attempts))) }
    }
}

/// 15 s, 30 s, 1 min … 1 h.
fn retry_after_ms(attempts: u32) -> i64 {
    let doublings = attempts.saturating_sub(1).min(20);
    (FIRST_RETRY_MS << doublings).min(LONGEST_RETRY_MS)
}

#[cfg(test)]
mod tests {
    use super::super::super::model::{About, MailState};
    use super::super::super::templates::{Language, Template};
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn mail(attempts: u32, unanswered: u32) -> Mail {
        Mail {
            id: "ml_1".into(),
            template: Template::TestMail,
            language: Language::En,
            recipient: "anna@example.com".into(),
            about: About::new("test", "1"),
            subject: String::new(),
            body_masked: String::new(),
            state: MailState::Sending { claimed_until: UnixMillis(0) },
            attempts,
            unanswered,
            maybe_repeated: unanswered > 0,
            last_error: None,
            created_at: UnixMillis(0),
            due_at: UnixMillis(1_000),
        }
    }

    #[test]
    fn attempts_grow_rarer_and_end_with_the_mails_age() {
        let retry = SendError::Retry("451".into());
        let lost = SendError::AnswerLost("timeout".into());
        let refused = SendError::Refused("550".into());
        let again = |at| AfterFailure::TryAgain { at: UnixMillis(at) };
        for (attempts, unanswered, error, at, expected) in [
            (1, 0, &retry, 1_000, again(16_000)),
            (2, 1, &lost, 1_000, again(31_000)),
            (9, 0, &retry, 1_000, again(1_000 + HOUR_MS)),
            (1_000, 0, &retry, 1_000, again(1_000 + HOUR_MS)),
            (80, 0, &retry, 999 + 72 * HOUR_MS, again(999 + 73 * HOUR_MS)),
            (80, 0, &retry, 1_000 + 72 * HOUR_MS, AfterFailure::GiveUp),
            (1, 0, &lost, 1_000 + 72 * HOUR_MS, AfterFailure::GiveUp),
            (5, MAX_UNANSWERED - 2, &lost, 1_000, again(241_000)),
            (5, MAX_UNANSWERED - 1, &lost, 1_000, AfterFailure::GiveUp),
            (5, MAX_UNANSWERED, &retry, 1_000, again(241_000)),
            (1, 0, &refused, 1_000, AfterFailure::GiveUp),
        ] {
            let found = after_failure(&mail(attempts, unanswered), error, 72 * HOUR_MS, UnixMillis(at));
            assert_eq!(found, expected, "{attempts} {unanswered} {error} {at}");
        }
    }

    #[test]
    fn a_server_rests_ever_longer_up_to_a_minute_and_is_then_tried_once() {
        let mut server = Server { address: "mx:25".into(), failures: 0, paused_until: None };
        assert_eq!(server.turn(UnixMillis(0)), Turn::Ask);
        server.paused_until = Some(UnixMillis(10));
        assert_eq!(server.turn(UnixMillis(9)), Turn::Rest);
        assert_eq!(server.turn(UnixMillis(10)), Turn::Probe);
        for (failures, pause_ms) in [(0, 5_000), (1, 10_000), (3, 40_000), (4, 60_000), (1_000_000, 60_000)] {
            server.failures = failures;
            assert_eq!(server.next_pause_ms(), pause_ms, "{failures}");
        }
    }

    #[test]
    fn several_servers_say_one_thing_together() {
        use SendError::{AnswerLost, Refused, Retry, Unavailable};
        let tried = |result: Result<(), SendError>| Tried {
            via: Via::Primary,
            server: Server { address: "mx:25".into(), failures: 0, paused_until: None },
            started_at: UnixMillis(0),
            ended_at: UnixMillis(0),
            result: result.map(|()| "250 ok".into()).map_err(|error| Refusal {
                error,
                of_the_server: false,
                advice: "",
            }),
        };
        let (retry, refused) = (|| Err(Retry("r".into())), || Err(Refused("f".into())));
        let (gone, lost) = (|| Err(Unavailable("u".into())), || Err(AnswerLost("l".into())));
        for (results, configured, expected) in [
            (vec![Ok(())], 1, Outcome::Sent { via: Via::Primary }),
            (vec![gone(), Ok(())], 2, Outcome::Sent { via: Via::Primary }),
            (vec![refused()], 1, Outcome::Failed(Refused("f".into()))),
            (vec![refused(), refused()], 2, Outcome::Failed(Refused("f; then f".into()))),
            (vec![refused()], 2, Outcome::Failed(Retry("f".into()))),
            (vec![refused(), gone()], 2, Outcome::Failed(Retry("f; then u".into()))),
            (vec![gone(), retry()], 2, Outcome::Failed(Retry("u; then r".into()))),
            (vec![gone(), gone()], 2, Outcome::Failed(Unavailable("u; then u".into()))),
            (vec![gone()], 2, Outcome::Failed(Unavailable("u".into()))),
            (vec![lost()], 2, Outcome::Failed(AnswerLost("l".into()))),
            (vec![refused(), lost()], 2, Outcome::Failed(AnswerLost("f; then l".into()))),
        ] {
            let tried: Vec<Tried> = results.into_iter().map(tried).collect();
            assert_eq!(outcome(&tried, configured), expected);
        }
    }
}
