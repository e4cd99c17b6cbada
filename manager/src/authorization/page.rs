//! The pages: their texts in each language, and how they are printed. Style stands in the page and is
//! allowed by its hash; nothing is loaded from anywhere, and nothing is a script.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::actions::SignInProblem;
use crate::credential_links::PageLanguage;

const PAGE: &str = include_str!("../../templates/authorization/page.html");
/// Of every page of ours.
const HOUSE_STYLE: &str = include_str!("../../templates/credentials/page.css");
const STYLE: &str = include_str!("../../templates/authorization/page.css");

static STYLES: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!("'sha256-{}' 'sha256-{}'", hash(HOUSE_STYLE), hash(STYLE))
});

/// What the browser may do with a page. Nothing is said of `form-action`: browsers hold the whole chain of
/// redirects that answers a form against it, and clients and providers lead people on to places that only
/// they know. The forms are ours, and nothing that somebody else wrote becomes one.
pub(super) fn content_security_policy() -> String {
    let styles = STYLES.as_str();
    format!("default-src 'none'; style-src {styles}; frame-ancestors 'none'; base-uri 'none'")
}

/// What a page shows.
pub(super) enum Shown<'a> {
    /// Two fields.
    SignIn {
        request: &'a str,
        client: &'a str,
        name: &'a str,
        problem: Option<SignInProblem>,
        /// What people call the OpenID provider, if there is one.
        provider: Option<&'a str>,
    },
    /// What a client asks for, and two buttons.
    Consent { request: &'a str, client: &'a str, user: &'a str, name: &'a str, scope: &'a [&'a str] },
    /// That the client's request is wrong.
    Refusal(&'a str),
    /// That the client is switched off.
    Barred,
    /// That this page has had its time.
    Ended,
    /// That it is to be tried again.
    Busy,
}

/// Every sentence of the pages.
#[derive(Serialize)]
struct Texts {
    sign_in_title: &'static str,
    sign_in_for: &'static str,
    username: &'static str,
    password: &'static str,
    sign_in: &'static str,
    cancel: &'static str,
    elsewhere: &'static str,
    problem: &'static str,
    problems: Problems,
    consent_title: &'static str,
    signed_in_as: &'static str,
    asks: &'static str,
    who: &'static str,
    calls: &'static str,
    trust: &'static str,
    allow: &'static str,
    deny: &'static str,
    refused_title: &'static str,
    refused: &'static str,
    barred: &'static str,
    ended_title: &'static str,
    ended: &'static str,
    busy_title: &'static str,
    busy: &'static str,
}

/// A sentence for each [`SignInProblem`].
#[derive(Serialize)]
struct Problems {
    wrong: &'static str,
    disabled: &'static str,
    locked: &'static str,
    too_many: &'static str,
    busy: &'static str,
    elsewhere: &'static str,
    unknown: &'static str,
}

const ENGLISH: Texts = Texts {
    sign_in_title: "Sign in",
    sign_in_for: "You will be sent back to",
    username: "User name",
    password: "Password",
    sign_in: "Sign in",
    cancel: "Cancel",
    elsewhere: "Sign in with",
    problem: "Problem",
    problems: Problems {
        wrong: "User name or password is wrong. After several wrong passwords in a row an account takes none until \
                the person who administers it opens it again.",
        disabled: "This account is switched off. Ask the person who administers it.",
        locked: "This account is locked. Ask the person who administers it.",
        too_many: "Too many wrong passwords came from your network. Please try again later.",
        busy: "Too many people are signing in just now. Please try again in a moment.",
        elsewhere: "The other provider did not sign you in. Please try again, or sign in here.",
        unknown: "You have signed in with the other provider, but are not known here. Ask the person who administers \
                  your account.",
    },
    consent_title: "Allow access?",
    signed_in_as: "You are signed in as",
    asks: "asks to:",
    who: "know who you are",
    calls: "call in your name:",
    trust: "Allow it only if you trust this application and have just asked it to do something for you.",
    allow: "Allow",
    deny: "Do not allow",
    refused_title: "This request cannot be carried out",
    refused: "The application that sent you here has asked in a way that is not understood. Tell its developer:",
    barred: "The application that sent you here may not ask at present. Tell the person who administers it.",
    ended_title: "Please start again",
    ended: "This page was open for too long, belongs to another browser, or has been answered. Go back to the \
            application and begin again. If it happens every time, allow cookies for this site.",
    busy_title: "Please try again",
    busy: "Nothing could be done just now. Go back to the application and begin again in a moment.",
};

const TRADITIONAL_CHINESE: Texts = Texts {
    sign_in_title: "登入",
    sign_in_for: "登入後將返回",
    username: "使用者名稱",
    password: "密碼",
    sign_in: "登入",
    cancel: "取消",
    elsewhere: "使用其他帳號登入：",
    problem: "發生問題",
    problems: Problems {
        wrong: "使用者名稱或密碼錯誤。連續多次輸入錯誤密碼後，帳號將暫停使用密碼，直到管理人員重新開放。",
        disabled: "此帳號已停用，請聯絡管理人員。",
        locked: "此帳號已鎖定，請聯絡管理人員。",
        too_many: "您的網路傳來過多錯誤密碼，請稍後再試。",
        busy: "目前登入人數過多，請稍候再試。",
        elsewhere: "另一個身分提供者未完成登入。請再試一次，或在此登入。",
        unknown: "您已在另一個身分提供者登入，但此處沒有您的帳號。請聯絡管理人員。",
    },
    consent_title: "是否允許存取？",
    signed_in_as: "目前登入身分：",
    asks: "要求：",
    who: "得知您的身分",
    calls: "以您的名義呼叫：",
    trust: "請僅在您信任此應用程式，且剛剛要求它為您執行作業時才允許。",
    allow: "允許",
    deny: "不允許",
    refused_title: "無法處理此要求",
    refused: "將您導向此處的應用程式送出了無法理解的要求。請告知其開發人員：",
    barred: "將您導向此處的應用程式目前不得提出要求。請聯絡其管理人員。",
    ended_title: "請重新開始",
    ended: "此頁面開啟過久、屬於其他瀏覽器，或已經回覆。請回到應用程式重新開始。若每次都發生，請允許此網站使用 Cookie。",
    busy_title: "請再試一次",
    busy: "目前無法處理。請稍後回到應用程式重新開始。",
};

impl SignInProblem {
    fn name(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
            Self::TooMany(_) => "too_many",
            Self::Busy => "busy",
            Self::Elsewhere => "elsewhere",
            Self::Unknown => "unknown",
        }
    }
}

/// The page as HTML.
pub(super) fn render(
    product_name: &str,
    language: PageLanguage,
    shown: &Shown<'_>,
) -> Result<String, minijinja::Error> {
    let say = match language {
        PageLanguage::English => &ENGLISH,
        PageLanguage::TraditionalChinese => &TRADITIONAL_CHINESE,
    };
    let nobody: &[&str] = &[];
    let (state, title, text, reason) = match shown {
        Shown::SignIn { .. } => ("sign_in", say.sign_in_title, "", ""),
        Shown::Consent { .. } => ("consent", say.consent_title, "", ""),
        Shown::Refusal(reason) => ("end", say.refused_title, say.refused, *reason),
        Shown::Barred => ("end", say.refused_title, say.barred, ""),
        Shown::Ended => ("end", say.ended_title, say.ended, ""),
        Shown::Busy => ("end", say.busy_title, say.busy, ""),
    };
    let (request, client, user, name, scope) = match shown {
        Shown::SignIn { request, client, name, .. } => (*request, *client, "", *name, nobody),
        Shown::Consent { request, client, user, name, scope } => (*request, *client, *user, *name, *scope),
        Shown::Refusal(_) | Shown::Barred | Shown::Ended | Shown::Busy => ("", "", "", "", nobody),
    };
    let problem = match shown {
        Shown::SignIn { problem, .. } => problem.map(SignInProblem::name),
        Shown::Consent { .. } | Shown::Refusal(_) | Shown::Barred | Shown::Ended | Shown::Busy => None,
    };
    let provider = match shown {
        Shown::SignIn { provider, .. } => *provider,
        Shown::Consent { .. } | Shown::Refusal(_) | Shown::Barred | Shown::Ended | Shown::Busy => None,
    };
    ENVIRONMENT.get_template("page.html")?.render(context! {
        product_name, state, title, text, reason, request, client, user, name, problem, provider,
        scope => Value::from(Serde(scope)),
        language => language.tag(),
        say => Value::from(Serde(say)),
        house_style => Value::from_safe_string(HOUSE_STYLE.into()),
        style => Value::from_safe_string(STYLE.into()),
    })
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("page.html", PAGE).expect("a test renders the page");
    environment
});

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn pages_escape_what_people_wrote_and_load_and_run_nothing() {
        const EVIL: &str = "\"><script>alert(1)</script>";
        let sign_in = |problem| Shown::SignIn {
            request: EVIL,
            client: EVIL,
            name: EVIL,
            problem,
            provider: Some(EVIL),
        };
        let shows = [
            sign_in(None),
            sign_in(Some(SignInProblem::Wrong)),
            sign_in(Some(SignInProblem::Busy)),
            Shown::Consent { request: EVIL, client: EVIL, user: EVIL, name: EVIL, scope: &[EVIL] },
            Shown::Refusal(EVIL),
            Shown::Barred,
            Shown::Ended,
            Shown::Busy,
        ];
        for language in [PageLanguage::English, PageLanguage::TraditionalChinese] {
            for shown in &shows {
                let page = render("Keygate", language, shown).expect("printed");
                assert!(page.contains(&format!("lang=\"{}\"", language.tag())));
                for foreign in ["<script", "http://", "https://", "src=", "<link", "@import", "url("] {
                    assert!(!page.contains(foreign), "{foreign} in {page}");
                }
                // What the policy allows is what stands there, and every field has its label.
                assert!(page.contains(STYLE) && page.contains(HOUSE_STYLE));
                for field in ["username", "password"] {
                    let label = format!("<label for=\"{field}\">");
                    assert_eq!(page.contains(&format!("id=\"{field}\"")), page.contains(&label));
                }
            }
        }
        let wrong = render("Keygate", PageLanguage::English, &sign_in(Some(SignInProblem::Wrong)));
        assert_eq!(wrong.expect("printed").matches("aria-describedby=\"problem\"").count(), 2);
    }
}
