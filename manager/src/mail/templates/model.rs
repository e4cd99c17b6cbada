//! Every mail there is, and the languages they exist in. The texts are compiled in from
//! `templates/mail/<language>/<name>.{subject,txt,html}`; what they share stands beside them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mail::contexts::{self, MailContext};
use crate::openapi::schema::schema_of;

/// Languages that every template exists in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    En,
    /// Traditional Chinese, as it is written in Taiwan.
    #[serde(rename = "zh-TW")]
    ZhTw,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::En, Self::ZhTw];

    /// Tag of the language as in BCP 47; also the name of its folder.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::ZhTw => "zh-TW",
        }
    }

    /// The language of that tag.
    pub fn parse(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag() == tag)
    }
}

/// The three texts that a mail is made of.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One line.
    Subject,
    /// Plain text.
    Text,
    /// The same as HTML.
    Html,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Subject, Self::Text, Self::Html];

    /// What its file's name ends with.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "txt",
            Self::Html => "html",
        }
    }
}

macro_rules! source {
    (concat $language:literal, $file:literal) => {
        (
            concat!($language, "/", $file),
            include_str!(concat!("../../../templates/mail/", $language, "/", $file)),
        )
    };
    ($file:literal) => {
        ($file, include_str!(concat!("../../../templates/mail/", $file)))
    };
}

/// What templates of all languages are made from: the HTML page and its pieces.
const SHARED_SOURCES: [(&str, &str); 2] = [source!("layout.html"), source!("parts.html")];

/// The names of what all languages share.
pub(super) const SHARED: [&str; 2] = [SHARED_SOURCES[0].0, SHARED_SOURCES[1].0];

macro_rules! sources {
    ($($language:literal)+, $names:tt) => { [$(sources!(@ $language, $names)),+] };
    (@ $language:literal, ($($name:literal)+)) => {
        &[
            $((concat!($language, "/", $name, ".subject"),
             include_str!(concat!("../../../templates/mail/", $language, "/", $name, ".subject"))),
            (concat!($language, "/", $name, ".txt"),
             include_str!(concat!("../../../templates/mail/", $language, "/", $name, ".txt"))),
            (concat!($language, "/", $name, ".html"),
             include_str!(concat!("../../../templates/mail/", $language, "/", $name, ".html"))),)+
            source!(concat $language, "frame.html"),
            source!(concat $language, "frame.txt"),
            source!(concat $language, "phrases"),
        ]
    };
}

/// One line per mail: its name and whether it carries a secret. Its context is the type of the
/// same name in [`contexts`].
macro_rules! templates {
    ($($variant:ident $name:literal $secret:ident;)+) => {
        /// Every mail there is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Template {
            $(#[doc = concat!("Prints [`contexts::", stringify!($variant), "`].")] $variant,)+
        }

        impl Template {
            /// In the order of the enum.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// As it stands in the outbox, the mail log and the names of the files.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// A mail of this template holds a secret: its copy in the log is masked and it cannot
            /// be sent again from there.
            pub fn carries_secret(self) -> bool {
                match self { $(Self::$variant => templates!(@ $secret),)+ }
            }

            /// Contexts that show what the template can print, by name; the first one, `full`, is
            /// [`MailContext::sample`].
            pub fn samples(self) -> Vec<(&'static str, Value)> {
                match self { $(Self::$variant => as_json::<contexts::$variant>(),)+ }
            }

            /// The secret, or the link to it, in each of [`Template::samples`]: what masking hides.
            pub(super) fn secrets(self) -> Vec<Vec<String>> {
                match self { $(Self::$variant => secrets_of::<contexts::$variant>(),)+ }
            }
        }

        /// Name (`<language>/<name>.<part>`) and text of every part, language by language.
        const SOURCES: [&[(&str, &str)]; Language::ALL.len()] = sources!("en" "zh-TW", ($($name)+));
    };
    (@ secret) => { true };
    (@ open) => { false };
}

templates! {
    ApplicationStep "application_step" open;
    ApplicationResult "application_result" open;
    ReviewWaiting "review_waiting" open;
    ReviewStuck "review_stuck" open;
    KeyCredentials "key_credentials" secret;
    KeyChanged "key_changed" open;
    KeyExpiring "key_expiring" open;
    CredentialsUndelivered "credentials_undelivered" open;
    QuotaReached "quota_reached" open;
    XApiKeyIssued "x_api_key_issued" secret;
    XApiKeyExpiring "x_api_key_expiring" open;
    ClientCreated "client_created" secret;
    ClientPasswordReset "client_password_reset" secret;
    RegistrationConfirmation "registration_confirmation" secret;
    TestMail "test" open;
}

schema_of! { Template as MailTemplate: one_of(Template::ALL.map(Template::name)) }
schema_of! { Language as MailLanguage: one_of(Language::ALL.map(Language::tag)) }

/// The text of that name that is compiled in.
pub(super) fn built_in(name: &str) -> Option<&'static str> {
    let mut sources = SOURCES.into_iter().flatten().chain(&SHARED_SOURCES);
    sources.find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The names of a language's texts, `<language>/<name>.<part>`.
pub(super) fn names_of(language: Language) -> impl Iterator<Item = &'static str> {
    let names = SOURCES.into_iter().flatten().map(|(name, _)| *name);
    names.filter(move |name| name.split('/').next() == Some(language.tag()))
}

impl Template {
    /// The name of one of its texts.
    pub fn part_name(self, language: Language, part: Part) -> String {
        format!("{}/{}.{}", language.tag(), self.name(), part.extension())
    }

    /// The template of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|template| template.name() == name)
    }
}

fn as_json<C: MailContext>() -> Vec<(&'static str, Value)> {
    let samples = std::iter::once(("full", C::sample())).chain(C::variants());
    let json = |context| serde_json::to_value(context).expect("fields with names that are texts");
    samples.map(|(name, context)| (name, json(context))).collect()
}

fn secrets_of<C: MailContext>() -> Vec<Vec<String>> {
    let samples = std::iter::once(C::sample()).chain(C::variants().into_iter().map(|(_, context)| context));
    let json = |context: &C| serde_json::to_value(context).expect("fields with names that are texts");
    let hidden = |context: C| {
        let (clear, masked) = (json(&context), json(&context.masked()));
        let fields = clear.as_object().into_iter().flatten();
        let secrets = fields.filter(|(name, value)| masked[name.as_str()] != **value);
        secrets.filter_map(|(_, value)| value.as_str().map(str::to_owned)).collect()
    };
    samples.map(hidden).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for template in Template::ALL {
            assert_eq!(Template::parse(template.name()), Some(template));
        }
        assert_eq!(Template::parse("unknown"), None);
        for language in Language::ALL {
            assert_eq!(Language::parse(language.tag()), Some(language));
            assert_eq!(serde_json::json!(language), language.tag());
        }
    }
}
