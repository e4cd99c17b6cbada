//! What is to be done, for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::actions::Outcome;
use super::model::Kind;
use super::work::{Action, Change};

/// Characters of one value that are shown at most.
const MAX_SHOWN: usize = 200;

/// How a terminal marks what comes, changes and goes.
#[derive(Clone, Copy, Debug)]
pub struct Colours(pub bool);

impl Colours {
    fn of(self, action: Action) -> (&'static str, &'static str) {
        if !self.0 {
            return ("", "");
        }
        let begin = match action {
            Action::Create => "\x1b[32m",
            Action::Update => "\x1b[33m",
            Action::Delete => "\x1b[31m",
        };
        (begin, "\x1b[0m")
    }
}

/// Every change, what goes with it, and the counts. `done`: it is done, not to be done.
pub fn outcome(outcome: &Outcome, colours: Colours, done: bool) -> String {
    let mut text = String::new();
    for change in &outcome.changes {
        one(&mut text, change, colours);
    }
    notes(&mut text, outcome);
    // Writing to a text never fails.
    let _ = writeln!(text, "{}", counts(outcome, done));
    text
}

/// How many of what.
pub fn counts(outcome: &Outcome, done: bool) -> String {
    let [create, update, delete] =
        [Action::Create, Action::Update, Action::Delete].map(|action| outcome.count(action));
    let unchanged = outcome.unchanged;
    if outcome.changes.is_empty() {
        format!("Nothing to do: {unchanged} unchanged.")
    } else if done {
        format!("{create} created, {update} updated, {delete} deleted, {unchanged} unchanged.")
    } else {
        format!("{create} to create, {update} to update, {delete} to delete, {unchanged} unchanged.")
    }
}

fn one(text: &mut String, change: &Change, colours: Colours) {
    let (begin, end) = colours.of(change.action);
    let sign = match change.action {
        Action::Create => '+',
        Action::Update => '~',
        Action::Delete => '-',
    };
    let _ = writeln!(text, "{begin}{sign} {} {}{end}", change.kind.noun(), change.id);
    for field in &change.fields {
        let after = value(&field.after);
        let _ = match &field.before {
            Some(before) => writeln!(text, "    {}: {} → {after}", field.field, value(before)),
            None => writeln!(text, "    {}: {after}", field.field),
        };
    }
}

fn notes(text: &mut String, outcome: &Outcome) {
    let mut note = |line: String| {
        let _ = writeln!(text, "! {line}");
    };
    for (kind, means) in [
        (Kind::Client, "public clients, which obtain tokens by code and proof alone, until one is set"),
        (Kind::User, "nobody signs in here until one is set"),
    ] {
        let new: Vec<&str> = outcome.without_password(kind).collect();
        if !new.is_empty() {
            note(format!("without a password ({means}): {}", new.join(", ")));
        }
    }
    for kind in Kind::ALL {
        let of = |action| outcome.changes.iter().any(|change| change.kind == kind && change.action == action);
        if of(Action::Create) && of(Action::Delete) {
            note(format!(
                "the name is what a definition of {} is known by: a new name makes a new one, the old one goes",
                kind.plural()
            ));
        }
        let spared: Vec<&str> =
            outcome.spared.iter().filter(|(of, _)| *of == kind).map(|(_, id)| id.as_str()).collect();
        if !spared.is_empty() {
            note(format!(
                "not in the files, but --prune never deletes {}: {}",
                kind.plural(),
                spared.join(", ")
            ));
        }
    }
}

fn value(value: &Value) -> String {
    let text = match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    shown.push('…');
    shown
}

/// Whether it can be told from what is around it without quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-./:@+".contains(c))
}
