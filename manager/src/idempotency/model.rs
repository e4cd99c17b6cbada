//! Keys, what a call is recognised by, and what is told of one that was carried out.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Characters of a key at most.
pub const MAX_KEY: usize = 128;
/// How long a key is remembered.
pub const KEPT_MS: i64 = 24 * 60 * 60 * 1_000;
/// How long an answer that shows a secret is kept: as long as a caller that lost it keeps trying.
pub(super) const SECRET_KEPT_MS: i64 = 10 * 60 * 1_000;
/// Between the commit and the kept answer lie milliseconds. After this long, its process has ended.
pub(super) const ANSWER_WITHIN_MS: i64 = 10_000;
/// A longer answer is not kept: the repeat is told where to read instead.
pub(super) const MAX_KEPT_ANSWER_BYTES: usize = 1 << 20;

/// A key, as a caller has drawn it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// 1 to [`MAX_KEY`] visible ASCII characters, with or without the quotes of a structured field.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = match text.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"')?,
            None => text,
        };
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        (plain && (1..=MAX_KEY).contains(&text.len())).then(|| Self(text.into()))
    }
}

/// What a call is recognised by.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// Of caller and key.
    pub id: String,
    /// Of everything that the call says.
    pub fingerprint: [u8; 32],
    /// `POST /api/v1/clients`: where to read what became of it.
    pub path: String,
}

impl Call {
    pub fn new(
        caller: &str,
        key: &Key,
        method: &str,
        path_and_query: &str,
        if_match: &[u8],
        body: &[u8],
    ) -> Self {
        // Lengths go in, so that nothing can be moved from one part into the next.
        let digest = |parts: &[&[u8]]| -> [u8; 32] {
            let mut hash = Sha256::new();
            for part in parts {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hash.finalize().into()
        };
        let id = digest(&[caller.as_bytes(), key.0.as_bytes()]);
        Self {
            id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            fingerprint: digest(&[method.as_bytes(), path_and_query.as_bytes(), if_match, body]),
            path: path_and_query.split('?').next().unwrap_or_default().into(),
        }
    }
}

/// An answer as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// What is on record of a call.
pub(super) struct Claim {
    pub run: String,
    pub fingerprint_sealed: String,
    pub claimed_at: UnixMillis,
    pub answered_at: Option<UnixMillis>,
    pub answer_sealed: Option<String>,
    pub answer_until: Option<UnixMillis>,
}

/// How far a call that was claimed has come.
pub(super) enum Progress<'a> {
    /// Its answer is kept.
    Answered { sealed: &'a str },
    /// Its answer was there, and is not kept any more, or never was.
    AnswerGone,
    /// Its answer will be there in a moment.
    Answering,
    /// The process that carried it out ended before it answered.
    AnswerLost,
}

impl Claim {
    pub fn progress(&self, now: UnixMillis) -> Progress<'_> {
        let kept = self.answer_until.is_some_and(|until| now < until);
        match (self.answered_at, self.answer_sealed.as_deref()) {
            (Some(_), Some(sealed)) if kept => Progress::Answered { sealed },
            (Some(_), _) => Progress::AnswerGone,
            (None, _) if now.0 < self.claimed_at.0.saturating_add(ANSWER_WITHIN_MS) => Progress::Answering,
            (None, _) => Progress::AnswerLost,
        }
    }
}

/// The calls with a key that this process is carrying out. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Mutex<BTreeSet<String>>>);

/// A call that is being carried out, until dropped.
pub(super) struct Turn {
    running: Running,
    id: String,
}

impl Running {
    /// None: a call with this id is running.
    pub(super) fn begin(&self, id: &str) -> Option<Turn> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into());
        begun.then(|| Turn { running: self.clone(), id: id.into() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_visible_ascii_of_bounded_length() {
        let longest = "k".repeat(MAX_KEY);
        for good in ["1", "order-17", "8e03978e-40d5-43dd-bc93-6894a57f9324", &longest] {
            assert!(Key::parse(good).is_some_and(|key| key.0 == good), "{good}");
            assert!(Key::parse(&format!("\"{good}\"")).is_some_and(|key| key.0 == good), "{good} in quotes");
        }
        let too_long = "k".repeat(MAX_KEY + 1);
        for bad in ["", " ", "\"\"", "\"open", "open\"", "a b", "a\\b", "schlüssel", &too_long] {
            assert!(Key::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_call_is_another_one_when_any_part_differs() {
        let key = Key::parse("k").expect("a key");
        let call = |caller: &str, path: &str, version: &str, body: &str| {
            Call::new(caller, &key, "POST", path, version.as_bytes(), body.as_bytes())
        };
        let first = call("operator:a", "/p?x=1", "\"1\"", "{}");
        assert_eq!(first.path, "/p");
        assert!(first == call("operator:a", "/p?x=1", "\"1\"", "{}"));
        assert_ne!(first.id, call("operator:b", "/p?x=1", "\"1\"", "{}").id);
        for other in [
            call("operator:a", "/p?x=2", "\"1\"", "{}"),
            call("operator:a", "/p?x=1", "\"2\"", "{}"),
            call("operator:a", "/p?x=1", "\"1\"", "{ }"),
            call("operator:a", "/p?x=1\"", "1\"", "{}"),
            Call::new("operator:a", &key, "PUT", "/p?x=1", b"\"1\"", b"{}"),
        ] {
            assert_eq!(first.id, other.id);
            assert_ne!(first.fingerprint, other.fingerprint);
        }
    }

    #[test]
    fn progress_follows_the_clock_at_both_sides_of_each_edge() {
        let at = UnixMillis;
        let claim = |answered: Option<i64>, sealed: Option<&str>, until: Option<i64>| Claim {
            run: "idr_1".into(),
            fingerprint_sealed: String::new(),
            claimed_at: at(1_000),
            answered_at: answered.map(at),
            answer_sealed: sealed.map(String::from),
            answer_until: until.map(at),
        };
        let name = |claim: &Claim, now: i64| match claim.progress(at(now)) {
            Progress::Answered { .. } => "answered",
            Progress::AnswerGone => "gone",
            Progress::Answering => "answering",
            Progress::AnswerLost => "lost",
        };
        let unanswered = claim(None, None, None);
        assert_eq!(name(&unanswered, 1_000 + ANSWER_WITHIN_MS - 1), "answering");
        assert_eq!(name(&unanswered, 1_000 + ANSWER_WITHIN_MS), "lost");
        let kept = claim(Some(1_001), Some("kv1"), Some(5_000));
        assert_eq!(name(&kept, 4_999), "answered");
        assert_eq!(name(&kept, 5_000), "gone");
        assert_eq!(name(&claim(Some(1_001), None, None), 1_002), "gone");
    }

    #[test]
    fn a_call_runs_once_at_a_time() {
        let running = Running::default();
        let turn = running.begin("a").expect("the first");
        assert!(running.clone().begin("a").is_none());
        assert!(running.begin("b").is_some());
        drop(turn);
        assert!(running.begin("a").is_some());
    }
}
