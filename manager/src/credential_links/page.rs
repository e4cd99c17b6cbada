//! The page: its texts in each language, and how it is printed. Style and script stand in the page
//! and are allowed by their hashes; nothing is loaded from anywhere.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::model::Credentials;

const PAGE: &str = include_str!("../../templates/credentials/page.html");
const STYLE: &str = include_str!("../../templates/credentials/page.css");
const SCRIPT: &str = include_str!("../../templates/credentials/page.js");

/// What the browser may do with the page.
pub(super) static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// What the page shows.
pub(super) enum Shown<'a> {
    /// A button, and a field for a code that no link has brought.
    Question,
    /// The pair.
    Credentials(&'a Credentials),
    /// That this link opens nothing.
    Refusal,
    /// That it is to be tried again.
    Busy,
}

/// Languages of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageLanguage {
    English,
    TraditionalChinese,
}

impl PageLanguage {
    /// What a browser asks for most (`Accept-Language`); English where it asks for neither.
    pub fn preferred(accepted: &str) -> Self {
        let mut best = (0.0, Self::English);
        for part in accepted.split(',') {
            let mut fields = part.split(';').map(str::trim);
            let tag = fields.next().unwrap_or_default().to_ascii_lowercase();
            let weight =
                fields.find_map(|field| field.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            let language = match tag.split('-').next() {
                Some("zh") => Self::TraditionalChinese,
                Some("en") => Self::English,
                _ => continue,
            };
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }

    /// BCP 47.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::TraditionalChinese => "zh-Hant-TW",
        }
    }

    fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::TraditionalChinese => &TRADITIONAL_CHINESE,
        }
    }
}

/// Every sentence of the page.
#[derive(Serialize)]
struct Texts {
    title: &'static str,
    question: &'static str,
    once: &'static str,
    code: &'static str,
    code_hint: &'static str,
    show: &'static str,
    shown_title: &'static str,
    shown: &'static str,
    api_key: &'static str,
    secret_key: &'static str,
    key_name: &'static str,
    client: &'static str,
    keep: &'static str,
    refused_title: &'static str,
    refused: &'static str,
    refused_do: &'static str,
    busy_title: &'static str,
    busy: &'static str,
    again: &'static str,
}

const ENGLISH: Texts = Texts {
    title: "Your API key",
    question: "Your API key and its secret key are ready to be shown.",
    once: "They are shown once. Have a safe place ready before you go on, such as a password manager.",
    code: "Code",
    code_hint: "Paste the link from the mail, or what stands behind the # in it.",
    show: "Show the keys now",
    shown_title: "Your API key",
    shown: "Copy both now: they are not shown again, and this link has served its purpose.",
    api_key: "API Key",
    secret_key: "Secret Key",
    key_name: "Key name",
    client: "Client",
    keep: "Keep the secret key safe: whoever holds it can call in your name. The mail says how to call. \
           Close this page when you are done.",
    refused_title: "This link opens nothing",
    refused: "It was opened before, its time is over, the key has ended, or the code is not complete.",
    refused_do: "If the keys were not shown to you, ask the person who administers your API keys for a new \
                 secret key. If somebody else may have opened the link, say so at once.",
    busy_title: "Please try again",
    busy: "The keys could not be shown just now.",
    again: "Open the link from the mail again in a moment.",
};

const TRADITIONAL_CHINESE: Texts = Texts {
    title: "您的 API 金鑰",
    question: "您的 API 金鑰與密鑰已可顯示。",
    once: "內容僅顯示一次。請先準備好安全的保存方式（例如密碼管理工具）再繼續。",
    code: "代碼",
    code_hint: "請貼上信件中的連結，或連結中 # 之後的內容。",
    show: "立即顯示金鑰",
    shown_title: "您的 API 金鑰",
    shown: "請立即複製以下兩項內容：之後不會再次顯示，此連結也已失效。",
    api_key: "API 金鑰（API Key）",
    secret_key: "密鑰（Secret Key）",
    key_name: "金鑰名稱",
    client: "用戶端",
    keep: "請妥善保管密鑰：取得密鑰的人即可用您的名義呼叫 API。呼叫方式請見信件。完成後請關閉此頁面。",
    refused_title: "此連結無法使用",
    refused: "連結可能已開啟過、已逾期、金鑰已失效，或代碼不完整。",
    refused_do: "若您尚未看到金鑰，請聯絡負責管理 API 金鑰的人員換發新的密鑰。若可能有他人開啟過此連結，請立即告知。",
    busy_title: "請再試一次",
    busy: "目前無法顯示金鑰。",
    again: "請稍後再次開啟信件中的連結。",
};

/// The page as HTML.
pub(super) fn render(
    product_name: &str,
    language: PageLanguage,
    shown: &Shown<'_>,
) -> Result<String, minijinja::Error> {
    let (state, credentials) = match shown {
        Shown::Question => ("question", None),
        Shown::Credentials(credentials) => ("credentials", Some(credentials)),
        Shown::Refusal => ("refusal", None),
        Shown::Busy => ("busy", None),
    };
    ENVIRONMENT.get_template("page.html")?.render(context! {
        product_name,
        state,
        credentials => Value::from(Serde(credentials)),
        language => language.tag(),
        say => Value::from(Serde(language.texts())),
        style => Value::from_safe_string(STYLE.into()),
        script => Value::from_safe_string(SCRIPT.into()),
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
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_that_is_asked_for_most() {
        use PageLanguage::{English, TraditionalChinese};
        for (accepted, language) in [
            ("", English),
            ("*", English),
            ("fr, de;q=0.8", English),
            ("zh-TW,zh;q=0.9,en;q=0.8", TraditionalChinese),
            ("zh-Hant", TraditionalChinese),
            ("en-GB, zh-TW;q=0.5", English),
            ("fr, zh-TW;q=0.5, en;q=0.7", English),
            ("EN;q=0.1, ZH;q=0.2", TraditionalChinese),
            ("zh;q=0", English),
        ] {
            assert_eq!(PageLanguage::preferred(accepted), language, "{accepted}");
        }
    }

    #[test]
    fn the_page_escapes_what_people_wrote_and_asks_nobody_for_anything() {
        let credentials = Credentials {
            api_key: "A".into(),
            secret_key: "S".into(),
            key_name: "<script>alert(1)</script>".into(),
            client_id: "partner".into(),
            client_name: "R&D".into(),
        };
        for language in [PageLanguage::English, PageLanguage::TraditionalChinese] {
            let shows = [Shown::Question, Shown::Credentials(&credentials), Shown::Refusal, Shown::Busy];
            for shown in &shows {
                let page = render("Keygate", language, shown).expect("printed");
                assert!(!page.contains("<script>alert"), "{page}");
                assert!(page.contains(&format!("lang=\"{}\"", language.tag())));
                for foreign in ["http://", "https://", "src=", "<link", "@import", "url("] {
                    assert!(!page.contains(foreign), "{foreign} in {page}");
                }
                // What the policy allows is what stands there.
                assert!(page.contains(STYLE) && (page.contains(SCRIPT) || !page.contains("<script")));
            }
        }
    }
}
