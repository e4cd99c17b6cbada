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
    /// What the link was for.
    Credentials(&'a Credentials),
    /// That this link opens nothing.
    Refusal,
    /// That it is to be tried again.
    Busy,
}

/// Languages of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageLanguage {
    /// `en`
    English,
    /// `zh-Hant-TW`
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
    shown_title: OfEach,
    shown: OfEach,
    api_key: &'static str,
    secret_key: &'static str,
    x_api_key: &'static str,
    password: &'static str,
    key_name: &'static str,
    client: &'static str,
    keep: OfEach,
    refused_title: &'static str,
    refused: &'static str,
    refused_do: &'static str,
    busy_title: &'static str,
    busy: &'static str,
    again: &'static str,
}

/// A sentence for each kind of [`super::model::Secret`].
#[derive(Serialize)]
struct OfEach {
    key_pair: &'static str,
    x_api_key: &'static str,
    password: &'static str,
}

const ENGLISH: Texts = Texts {
    title: "Your key or password",
    question: "Your key or password is ready to be shown.",
    once: "It is shown once. Have a safe place ready before you go on, such as a password manager.",
    code: "Code",
    code_hint: "Paste the link from the mail, or what stands behind the # in it.",
    show: "Show it now",
    shown_title: OfEach { key_pair: "Your API key", x_api_key: "Your X-Api-Key", password: "Your password" },
    shown: OfEach {
        key_pair: "Copy both now: they are not shown again, and this link has served its purpose.",
        x_api_key: "Copy it now: it is not shown again, and this link has served its purpose.",
        password: "Copy it now: it is not shown again, and this link has served its purpose.",
    },
    api_key: "API Key",
    secret_key: "Secret Key",
    x_api_key: "X-Api-Key",
    password: "Password",
    key_name: "Key name",
    client: "Client",
    keep: OfEach {
        key_pair: "Keep the secret key safe: whoever holds it can call in your name. The mail says how to call. \
                   Close this page when you are done.",
        x_api_key: "Keep the key safe: it travels in clear with every request, so call over TLS alone; whoever \
                    reads it can call in your name. The mail says how to call. Close this page when you are done.",
        password: "Keep the password safe: whoever holds it can act in the name of this client. The mail says \
                   what it serves for. Close this page when you are done.",
    },
    refused_title: "This link opens nothing",
    refused: "It was opened before, its time is over, what it was to show has ended, or the code is not complete.",
    refused_do: "If nothing was shown to you, ask the person who administers your keys and your account for a new \
                 one. If somebody else may have opened the link, say so at once.",
    busy_title: "Please try again",
    busy: "Nothing could be shown just now.",
    again: "Open the link from the mail again in a moment.",
};

const TRADITIONAL_CHINESE: Texts = Texts {
    title: "您的金鑰或密碼",
    question: "您的金鑰或密碼已可顯示。",
    once: "內容僅顯示一次。請先準備好安全的保存方式（例如密碼管理工具）再繼續。",
    code: "代碼",
    code_hint: "請貼上信件中的連結，或連結中 # 之後的內容。",
    show: "立即顯示",
    shown_title: OfEach {
        key_pair: "您的 API 金鑰", x_api_key: "您的 X-Api-Key", password: "您的密碼"
    },
    shown: OfEach {
        key_pair: "請立即複製以下兩項內容：之後不會再次顯示，此連結也已失效。",
        x_api_key: "請立即複製以下金鑰：之後不會再次顯示，此連結也已失效。",
        password: "請立即複製以下密碼：之後不會再次顯示，此連結也已失效。",
    },
    api_key: "API 金鑰（API Key）",
    secret_key: "密鑰（Secret Key）",
    x_api_key: "X-Api-Key",
    password: "密碼",
    key_name: "金鑰名稱",
    client: "用戶端",
    keep: OfEach {
        key_pair: "請妥善保管密鑰：取得密鑰的人即可用您的名義呼叫 API。呼叫方式請見信件。完成後請關閉此頁面。",
        x_api_key: "請妥善保管金鑰：金鑰會以明文隨每個請求傳送，因此請一律透過 TLS 呼叫；取得金鑰的人即可用您的名義呼叫 API。呼叫方式請見信件。完成後請關閉此頁面。",
        password: "請妥善保管密碼：取得密碼的人即可用這個用戶端的名義操作。密碼的用途請見信件。完成後請關閉此頁面。",
    },
    refused_title: "此連結無法使用",
    refused: "連結可能已開啟過、已逾期、內容已失效，或代碼不完整。",
    refused_do: "若您尚未看到內容，請聯絡負責管理金鑰及帳號的人員重新核發。若可能有他人開啟過此連結，請立即告知。",
    busy_title: "請再試一次",
    busy: "目前無法顯示內容。",
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
    use super::super::model::Secret;
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
        let key_name = "<script>alert(1)</script>".to_owned();
        let [pair, x_api_key, password] = [
            Secret::KeyPair { api_key: "A".into(), secret_key: "S".into(), key_name: key_name.clone() },
            Secret::XApiKey { x_api_key: "X".into(), key_name },
            Secret::Password { password: "<script>alert(2)</script>".into() },
        ]
        .map(|secret| Credentials { secret, client_id: "partner".into(), client_name: "R&D".into() });
        for language in [PageLanguage::English, PageLanguage::TraditionalChinese] {
            let of = [&pair, &x_api_key, &password].map(Shown::Credentials);
            let shows = [Shown::Question, Shown::Refusal, Shown::Busy].into_iter().chain(of);
            for shown in shows {
                let page = render("Keygate", language, &shown).expect("printed");
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
