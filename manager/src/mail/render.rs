//! Prints mails. The HTML part escapes what it prints; a name that the context lacks is an error,
//! never an empty place.

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::template::{Language, Part, SOURCES, Template};
use crate::config::Config;

/// A mail ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// Prints `context` (an object with exactly the fields of the template's context).
pub fn render(
    _config: &Config,
    template: Template,
    language: Language,
    context: &impl Serialize,
) -> Result<Rendered, minijinja::Error> {
    let context = Value::from(Serde(context));
    let part = |part: Part| {
        ENVIRONMENT
            .get_template(&format!("{}/{}.{}", language.tag(), template.name(), part.extension()))
            .and_then(|compiled| compiled.render(context.clone()))
    };
    // A line break in a subject would begin another header.
    let subject = part(Part::Subject)?.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Rendered { subject, text: part(Part::Text)?, html: part(Part::Html)? })
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    environment.set_auto_escape_callback(|name| {
        if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
    });
    environment.add_filter("shell_quoted", shell_quoted);
    for (name, source) in SOURCES.iter().copied().flatten() {
        environment.add_template(name, source).expect("a test renders every template");
    }
    environment
});

/// `text` as one word of a POSIX shell, whatever it holds.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::contexts::{
        ApplicationResult, ApplicationStep, ClientCreated, ClientPasswordReset, KeyChanged, KeyCredentials,
        KeyExpiring, Lack, MailContext, RegistrationConfirmation, ReviewStuck, ReviewWaiting, TestMail,
        XApiKeyExpiring, XApiKeyIssued,
    };
    use super::*;

    /// Renders a sample and compares it with the golden file `tests/mail/<name>.golden`;
    /// `BLESS=1` writes the file anew.
    fn check<C: MailContext>(name: &str, sample: &C) -> Rendered {
        let mail = render(&Config::default(), C::TEMPLATE, Language::En, sample).expect("renders");
        let printed =
            format!("Subject: {}\n\n=== text ===\n{}\n=== html ===\n{}", mail.subject, mail.text, mail.html);
        let file =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mail").join(format!("{name}.golden"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &printed).expect("golden file is written");
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(printed, golden, "{name} differs from {}; BLESS=1 accepts it", file.display());
        mail
    }

    #[test]
    fn every_template_prints_its_sample_as_agreed() {
        check("application_step", &ApplicationStep::sample());
        check("application_result", &ApplicationResult::sample());
        check("review_waiting", &ReviewWaiting::sample());
        let escalated = ReviewWaiting { escalated: true, on_behalf_of: None, ..ReviewWaiting::sample() };
        check("review_escalated", &escalated);
        check("review_stuck", &ReviewStuck::sample());
        let people = Lack::People { levels: vec![1, 2], people: vec!["rita".into()] };
        let refused = ReviewStuck { escalation: true, lack: people, link: None, ..ReviewStuck::sample() };
        check("review_not_escalated", &refused);
        check("key_credentials", &KeyCredentials::sample());
        check("key_changed", &KeyChanged::sample());
        check(
            "key_revoked",
            &KeyChanged {
                change: "revoked".into(),
                revoked_at: Some("2026-08-01 12:00:00 Asia/Taipei".into()),
                ..KeyChanged::sample()
            },
        );
        check("key_expiring", &KeyExpiring::sample());
        check("x_api_key_issued", &XApiKeyIssued::sample());
        check("x_api_key_expiring", &XApiKeyExpiring::sample());
        check("client_created", &ClientCreated::sample());
        check("client_password_reset", &ClientPasswordReset::sample());
        check("registration_confirmation", &RegistrationConfirmation::sample());
        check("test", &TestMail::sample());
    }

    #[test]
    fn credentials_stand_on_lines_of_their_own_and_never_in_the_masked_copy() {
        let sample = KeyCredentials::sample();
        let mail =
            render(&Config::default(), Template::KeyCredentials, Language::En, &sample).expect("renders");
        let value_of =
            |label: &str| mail.text.lines().find_map(|line| line.strip_prefix(label)).map(str::to_owned);
        assert_eq!(value_of("API Key: "), Some(sample.api_key.clone()));
        assert_eq!(value_of("Secret Key: "), Some(sample.secret_key.clone()));
        assert_eq!(mail.subject, "【Keygate】Notification API Key Authorization Result");

        assert_no_secret(&sample, &sample.secret_key);
        assert_no_secret(&XApiKeyIssued::sample(), &XApiKeyIssued::sample().x_api_key);
        assert_no_secret(&ClientCreated::sample(), "correct horse");
        assert_no_secret(&ClientPasswordReset::sample(), "k7m2q9wx4bnc8rtz5hvj3dfsyp");
    }

    fn assert_no_secret<C: MailContext>(sample: &C, secret: &str) {
        assert!(C::TEMPLATE.carries_secret());
        let masked =
            render(&Config::default(), C::TEMPLATE, Language::En, &sample.masked()).expect("renders");
        for part in [&masked.subject, &masked.text, &masked.html] {
            assert!(!part.contains(secret), "{} shows its secret", C::TEMPLATE.name());
        }
        let clear = render(&Config::default(), C::TEMPLATE, Language::En, sample).expect("renders");
        assert!(clear.text.contains(secret) && clear.html.contains(secret));
    }

    #[test]
    fn what_people_wrote_is_escaped_in_html_and_cannot_break_a_subject_or_a_shell_word() {
        let context = ApplicationStep {
            kind: "API key\r\nBcc: everyone@example.com".into(),
            comment: Some("<script>alert(1)</script>".into()),
            ..ApplicationStep::sample()
        };
        let mail =
            render(&Config::default(), Template::ApplicationStep, Language::En, &context).expect("renders");
        assert!(!mail.subject.contains(['\r', '\n']));
        assert!(!mail.html.contains("<script>"));
        assert!(mail.text.contains("<script>alert(1)</script>"));
        assert_eq!(shell_quoted("a'; rm -rf ~; '"), r"'a'\''; rm -rf ~; '\'''");
    }

    #[test]
    fn a_context_without_a_field_is_an_error() {
        let incomplete = serde_json::json!({ "product_name": "Keygate" });
        assert!(render(&Config::default(), Template::TestMail, Language::En, &incomplete).is_err());
    }
}
