//! Every template in every language, the installation's own files, and what callers can look at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::model::{Language, Template, built_in, names_of};
use super::render::{Rendered, render};
use super::wrap::columns;
use super::{Fault, check};
use crate::config::Config;
use crate::mail::contexts::{
    ApplicationResult, ApplicationStep, ByLink, Calls, ClientCreated, ClientPasswordReset, Doer, Event,
    FormType, Happened, KeyCredentials, MASK, MailContext, OneTimeLink, Outcome, Per,
    RegistrationConfirmation, Status, XApiKeyIssued,
};
use crate::testing::World;

fn printed(template: Template, language: Language, context: &Value) -> Rendered {
    render(&Config::default(), template, language, context)
        .unwrap_or_else(|error| panic!("{} in {}: {error:#}", template.name(), language.tag()))
}

fn each_sample(mut see: impl FnMut(Template, Language, &str, &Value, Rendered)) {
    for language in Language::ALL {
        for template in Template::ALL {
            for (sample, context) in template.samples() {
                see(template, language, sample, &context, printed(template, language, &context));
            }
        }
    }
}

/// Compares with `tests/mail/<language>/<name>.golden`; `BLESS=1` writes the file anew.
fn check_golden(language: Language, name: &str, printed: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mail").join(language.tag());
    let file = folder.join(format!("{name}.golden"));
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(&folder).expect("a folder for golden files");
        fs::write(&file, printed).expect("the golden file is written");
    }
    let golden = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(printed, golden, "{name} differs from {}; BLESS=1 accepts it", file.display());
}

#[test]
fn every_template_prints_its_samples_as_agreed() {
    each_sample(|template, language, sample, _, mail| {
        let text = format!("Subject: {}\n\n{}", mail.subject, mail.text);
        match sample {
            "full" => {
                check_golden(language, template.name(), &format!("{text}\n=== html ===\n{}", mail.html));
            }
            _ => check_golden(language, &format!("{}.{sample}", template.name()), &text),
        }
    });
}

#[test]
fn both_languages_print_the_same_fields() {
    let fields = |name: &str| -> BTreeSet<String> {
        let mut environment = minijinja::Environment::new();
        environment
            .add_template("it", built_in(name).expect("a built-in text"))
            .expect("its syntax is right");
        let used = environment.get_template("it").expect("added").undeclared_variables(false);
        used.into_iter().collect()
    };
    for name in names_of(Language::En) {
        let (_, file) = name.split_once('/').expect("<language>/<file>");
        let other = format!("{}/{file}", Language::ZhTw.tag());
        assert_eq!(fields(name), fields(&other), "{file}");
    }
}

#[test]
fn every_field_is_documented() {
    let page = include_str!("../../../../docs/mails.md");
    for template in Template::ALL {
        let section =
            page.split("\n### ").find(|section| section.starts_with(&format!("`{}`", template.name())));
        let section = section.unwrap_or_else(|| panic!("docs/mails.md lacks {}", template.name()));
        let (_, context) = template.samples().remove(0);
        for field in context.as_object().expect("a context is an object").keys() {
            let documented = field == "product_name" || section.contains(&format!("`{field}`"));
            assert!(documented, "docs/mails.md lacks {field} of {}", template.name());
        }
    }
}

#[test]
fn every_word_that_a_context_can_name_is_said_in_every_language() {
    let as_json = |context: &ApplicationStep| json!(context);
    for language in Language::ALL {
        for kind in FormType::ALL {
            for what in Event::ALL {
                for level in [None, Some(1)] {
                    let step = Happened { what, level };
                    let context = ApplicationStep { kind, step, ..ApplicationStep::sample() };
                    printed(Template::ApplicationStep, language, &as_json(&context));
                }
            }
            for result in [Outcome::Approved, Outcome::NotCarriedOut, Outcome::Returned, Outcome::Rejected] {
                let context = ApplicationResult { kind, result, ..ApplicationResult::sample() };
                printed(Template::ApplicationResult, language, &json!(context));
            }
        }
        for status in Status::each() {
            let context = ApplicationStep { status, ..ApplicationStep::sample() };
            printed(Template::ApplicationStep, language, &as_json(&context));
        }
        for by in Doer::each() {
            let context = ApplicationStep { by, ..ApplicationStep::sample() };
            printed(Template::ApplicationStep, language, &as_json(&context));
        }
        for per in Per::ALL {
            let quota = Some(Calls { calls: 10, per });
            let context = ClientCreated { api_quota: quota, ..ClientCreated::sample() };
            printed(Template::ClientCreated, language, &json!(context));
        }
    }
}

/// Words that a mail in Chinese may hold: names of things, and what is typed.
const NOT_TRANSLATED: &str = "API Key Secret JSON GET POST HMAC-SHA256 Base64 DGRK TLS X-Api-Key x-api-key \
    X_API_KEY API_KEY SECRET_KEY BODY SIGNATURE Authorization Content-Type content-type application json curl printf \
    openssl dgst sha256 hmac binary base64 data-binary token client password new_password password_confirmation keygate \
    applications show approve return reject export version comment KEYGATE_URL KEYGATE_TOKEN https";

#[test]
fn a_mail_in_chinese_is_in_chinese() {
    let allowed: BTreeSet<&str> = NOT_TRANSLATED.split_whitespace().collect();
    each_sample(|template, language, sample, context, mail| {
        if language != Language::ZhTw {
            return;
        }
        // A long name may stand on two lines.
        let mut own = format!("{} {}", mail.subject, mail.text.replace('\n', " "));
        let mut values = Vec::new();
        texts_in(context, &mut values);
        values.sort_by_key(|text| std::cmp::Reverse(text.len()));
        for value in values {
            own = own.replace(&value, "");
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        for found in own.split(|c: char| !word(c)).map(|word| word.trim_matches('-')) {
            let is_word = found.chars().filter(char::is_ascii_alphabetic).count() > 1;
            assert!(
                !is_word || allowed.contains(found),
                "{}, {sample}: {found:?} in\n{own}",
                template.name()
            );
        }
        // Simplified characters, and terms of the mainland.
        for foreign in ["应", "设", "请", "发", "审", "过", "时", "这", "个", "码", "钥", "试", "单", "驳"]
        {
            assert!(!mail.text.contains(foreign), "{}: {foreign}", template.name());
        }
        for foreign in
            ["接口", "默認", "信息", "服務器", "郵箱", "調用", "賬", "字符", "數據", "客戶端", "回退"]
        {
            assert!(!mail.text.contains(foreign), "{}: {foreign}", template.name());
        }
    });
}

fn texts_in(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts_in(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| texts_in(field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn plain_text_reads_well_on_its_own() {
    each_sample(|template, language, sample, context, mail| {
        let told = format!("{} in {}, {sample}:\n{}", template.name(), language.tag(), mail.text);
        assert!(!mail.subject.is_empty() && !mail.subject.contains(['\r', '\n']), "{told}");
        assert!(!mail.text.starts_with('\n') && !mail.text.contains("\n\n\n"), "{told}");
        for remainder in
            ["&#", "&lt;", "&amp;", "<p ", "<p>", "<br", "{{", "{%", "()", "（）", "None", "none"]
        {
            assert!(!mail.text.contains(remainder), "{remainder}: {told}");
        }
        let mut values = Vec::new();
        texts_in(context, &mut values);
        let lines: Vec<&str> = mail.text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            assert!(*line == "-- " || line.trim_end() == *line, "{line:?}: {told}");
            // Longer only for what cannot be broken: a secret, an address, a name.
            let unbreakable = values.iter().any(|value| columns(value) > 20 && line.contains(value.as_str()));
            assert!(columns(line) <= 78 || unbreakable, "{line:?}: {told}");
            if line.ends_with([':', '：']) {
                let next = lines.iter().skip(number + 1).find(|line| !line.is_empty());
                assert!(next.is_some_and(|next| *next != "-- "), "nothing after {line:?}: {told}");
            }
        }
    });
}

#[test]
fn html_is_whole_and_brings_everything_along() {
    each_sample(|template, language, sample, _, mail| {
        let told = format!("{} in {}, {sample}", template.name(), language.tag());
        for outside in ["src=", "@import", "url(", "<script", "<link", "<iframe", "<form", "javascript:"] {
            assert!(!mail.html.contains(outside), "{told}: {outside}");
        }
        assert!(mail.html.contains(&format!("<html lang=\"{}\">", language.tag())), "{told}");
        let mut open: Vec<&str> = Vec::new();
        for tag in mail.html.split('<').skip(1) {
            let name =
                tag.split(|c: char| !c.is_ascii_alphanumeric() && c != '/' && c != '!').next().unwrap_or("");
            match name.strip_prefix('/') {
                Some(closed) => assert_eq!(open.pop(), Some(closed), "{told}: <{tag}"),
                None if ["!", "!DOCTYPE", "meta", "br"].contains(&name) => {}
                None => open.push(name),
            }
        }
        assert!(open.is_empty(), "{told}: {open:?} is not closed");
    });
}

#[test]
fn credentials_stand_on_lines_of_their_own() {
    let sample = KeyCredentials::sample();
    let english = printed(Template::KeyCredentials, Language::En, &json!(sample));
    let value_of = |label: &str| english.text.lines().find_map(|line| line.strip_prefix(label));
    assert_eq!(value_of("API Key: "), Some(sample.api_key.as_str()));
    assert_eq!(value_of("Secret Key: "), Some(sample.secret_key.as_str()));
    assert_eq!(english.subject, "【Keygate】Notification API Key Authorization Result");
    let chinese = printed(Template::KeyCredentials, Language::ZhTw, &json!(sample));
    for value in [&sample.api_key, &sample.secret_key] {
        assert!(chinese.text.lines().any(|line| line == value), "{}", chinese.text);
    }
}

#[test]
fn with_the_compatible_products_name_the_title_is_the_documented_one() {
    let context = KeyCredentials { product_name: "digiRunner".into(), ..KeyCredentials::sample() };
    let mail = printed(Template::KeyCredentials, Language::En, &json!(context));
    assert_eq!(mail.subject, "【digiRunner】Notification API Key Authorization Result");
}

#[test]
fn a_masked_copy_shows_no_secret_in_any_language() {
    assert_no_secret(&KeyCredentials::sample(), &KeyCredentials::sample().secret_key);
    assert_no_secret(&XApiKeyIssued::sample(), &XApiKeyIssued::sample().x_api_key);
    assert_no_secret(
        &ClientCreated::sample(),
        &ClientCreated::sample().password.expect("the sample has one"),
    );
    assert_no_secret(&ClientPasswordReset::sample(), &ClientPasswordReset::sample().password);
    assert_no_secret(&RegistrationConfirmation::sample(), &RegistrationConfirmation::sample().token);
    let tested = [
        Template::KeyCredentials,
        Template::XApiKeyIssued,
        Template::ClientCreated,
        Template::ClientPasswordReset,
        Template::RegistrationConfirmation,
    ];
    for template in Template::ALL {
        assert_eq!(template.carries_secret(), tested.contains(&template), "{}", template.name());
    }
}

fn assert_no_secret<C: MailContext>(sample: &C, secret: &str) {
    for language in Language::ALL {
        let masked = printed(C::TEMPLATE, language, &json!(sample.masked()));
        for part in [&masked.subject, &masked.text, &masked.html] {
            assert!(!part.contains(secret), "{} shows its secret", C::TEMPLATE.name());
        }
        assert!(masked.text.contains(MASK) || masked.text.contains("***"));
        let clear = printed(C::TEMPLATE, language, &json!(sample));
        assert!(clear.text.contains(secret) && clear.html.contains(secret));
        assert!(!clear.subject.contains(secret));
    }
}

#[test]
fn a_masked_copy_opens_no_link_in_any_language() {
    assert_no_link(&KeyCredentials::sample());
    assert_no_link(&XApiKeyIssued::sample());
    assert_no_link(&ClientCreated::sample());
    assert_no_link(&ClientPasswordReset::sample());
}

fn assert_no_link<C: ByLink>(sample: &C) {
    let code = "#crl_1.c2VjcmV0";
    let url = format!("https://keygate.example/credentials{code}");
    let by_link = sample.clone().by_link(OneTimeLink { url, expires_at: "tomorrow".into() });
    for language in Language::ALL {
        let masked = printed(C::TEMPLATE, language, &json!(by_link.masked()));
        let clear = printed(C::TEMPLATE, language, &json!(by_link));
        for (masked, clear) in [(&masked.text, &clear.text), (&masked.html, &clear.html)] {
            assert!(clear.contains(code) && !masked.contains("crl_1"), "{}", C::TEMPLATE.name());
            assert!(masked.contains(&format!("credentials#{MASK}")), "{}", C::TEMPLATE.name());
        }
    }
}

#[test]
fn what_people_wrote_is_escaped_in_html_and_cannot_break_a_subject() {
    for language in Language::ALL {
        let context = ApplicationStep {
            number: Some("KA-1\r\nBcc: everyone@example.com".into()),
            comment: Some("<script>alert(1)</script>".into()),
            client_name: "<b>Partner</b>".into(),
            apis: vec!["<i>orders</i>".into()],
            link: Some("https://keygate.example/\"><script>".into()),
            ..ApplicationStep::sample()
        };
        let mail = printed(Template::ApplicationStep, language, &json!(context));
        assert!(!mail.subject.contains(['\r', '\n']));
        for raw in ["<script>", "<b>", "<i>", "/\">"] {
            assert!(!mail.html.contains(raw), "{raw} in {}", mail.html);
        }
        assert!(mail.text.contains("<script>alert(1)</script>"));
    }
}

#[test]
fn a_context_without_a_field_is_an_error() {
    let incomplete = json!({ "product_name": "Keygate" });
    assert!(render(&Config::default(), Template::TestMail, Language::En, &incomplete).is_err());
}

/// Settings with a folder of the installation's own texts.
fn with_files(files: &[(&str, &str)]) -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, text).expect("written");
    }
    let config = Config { mail_templates_dir: Some(folder.path().into()), ..Config::default() };
    (folder, config)
}

#[test]
fn a_file_stands_in_for_one_text_and_the_others_stay() {
    let (folder, config) = with_files(&[
        ("en/test.subject", "Hello from {{ product_name }}"),
        ("zh-TW/frame.txt", "{% block body %}{% endblock %}\n\n金融資訊處\n"),
    ]);
    assert_eq!(check(&config).map_err(|faults| faults.len()), Ok(()));
    let sample = &Template::TestMail.samples()[0].1;
    let print = |language| render(&config, Template::TestMail, language, sample).expect("prints");
    let (english, chinese) = (print(Language::En), print(Language::ZhTw));
    assert_eq!(english.subject, "Hello from Keygate");
    assert_eq!(english.text, printed(Template::TestMail, Language::En, sample).text);
    assert_eq!(chinese.subject, "【Keygate】測試郵件");
    assert!(chinese.text.ends_with("\n\n金融資訊處\n"), "{}", chinese.text);

    // A change counts from the next mail on.
    fs::write(folder.path().join("en/test.subject"), "Bye").expect("written");
    assert_eq!(print(Language::En).subject, "Bye");
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_line() {
    for (files, place, reason) in [
        (vec![("en/test.txt", "one\n{{ asked_when }}\n")], "en/test.txt:2", "`asked_when` is undefined"),
        (vec![("en/test.html", "\n\n{% if asked_by %}\n")], "en/test.html", "syntax error"),
        (
            vec![("zh-TW/key_changed.txt", "{{ key_name | shout }}")],
            "zh-TW/key_changed.txt:1",
            "unknown filter",
        ),
        (
            vec![("en/client_created.txt", "Your password: {{ password }}\n")],
            "en/client_created.txt",
            "neither the secret nor the link",
        ),
        (vec![("en/test.txt", "{% include 'other.txt' %}")], "en/test.txt:1", "non-existing"),
        (vec![("en/test.subject", "\n")], "en/test.subject", "empty subject"),
        (vec![("en/test.html", "{{ asked_when }}")], "en/test.html:1", "`asked_when`"),
        (vec![("en/tset.txt", "x")], "en/tset.txt", "stands in for no text"),
        (vec![("de/test.txt", "x")], "de", "stands in for no text"),
    ] {
        let (folder, config) = with_files(&files);
        let faults = check(&config).expect_err(place);
        let [fault] = faults.as_slice() else { panic!("one fault: {faults:?}") };
        let told = fault.to_string().replace(&format!("{}/", folder.path().display()), "");
        assert!(told.starts_with(place) && told.contains(reason), "{told}\n   instead of {place}: {reason}");
    }
    let missing = Config { mail_templates_dir: Some("/nowhere/mail".into()), ..Config::default() };
    assert!(matches!(check(&missing).expect_err("nothing there").as_slice(), [Fault::Unreadable { .. }]));
}

#[test]
fn a_file_that_was_broken_meanwhile_does_not_keep_the_mail_back() {
    let (_folder, config) = with_files(&[("en/test.txt", "{{ no_such_field }}"), ("en/test.subject", "Own")]);
    let sample = &Template::TestMail.samples()[0].1;
    let sent = render(&config, Template::TestMail, Language::En, sample).expect("printed");
    assert_eq!(sent, printed(Template::TestMail, Language::En, sample), "the whole mail is the built-in one");
}

#[test]
fn what_is_exported_is_what_is_built_in() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let into = folder.path().join("mail");
    let export = || super::cli::Command::Export { folder: into.clone(), language: None };
    super::cli::run(&Config::default(), export()).expect("exported");
    let config = Config { mail_templates_dir: Some(into.clone()), ..Config::default() };
    assert_eq!(check(&config).map_err(|faults| faults.len()), Ok(()));
    let read = |name: &str| fs::read_to_string(Path::new(&into).join(name)).expect(name);
    for name in Language::ALL.into_iter().flat_map(names_of) {
        assert_eq!(read(name), built_in(name).expect("built in"), "{name}");
    }
    fs::write(into.join("en/test.txt"), "mine").expect("written");
    super::cli::run(&Config::default(), export()).expect_err("nothing is written over");
    assert_eq!(read("en/test.txt"), "mine");
}

#[tokio::test]
async fn mails_are_looked_at_with_examples_by_those_who_may_read_the_log() {
    for world in World::both().await {
        let reader = world.operator("ann", &["admin"]).await;
        let list = reader.get("/api/v1/mail/templates").await.expect(200);
        assert_eq!(list["items"].as_array().map(Vec::len), Some(Template::ALL.len()));
        let items = list["items"].as_array().expect("items");
        let pair = items.iter().find(|item| item["name"] == "key_credentials").expect("the pair's mail");
        assert_eq!((&pair["secret"], &pair["samples"][0]), (&json!(true), &json!("full")));

        let path = "/api/v1/mail/templates/key_credentials/preview";
        let shown = reader.get(path).await;
        assert!(shown.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
        let shown = shown.expect(200);
        assert_eq!(
            (shown["language"].as_str(), shown["subject"].as_str()),
            (Some("en"), Some("【Keygate】Notification API Key Authorization Result"))
        );
        assert_eq!(shown["context"]["key_name"], "orders key");
        assert!(shown["warning"].is_null());
        let chinese = reader.get(&format!("{path}?language=zh-TW&sample=rotated")).await.expect(200);
        assert!(chinese["html"].as_str().is_some_and(|html| html.contains("您的 API 金鑰已換發新密鑰")));

        reader.get(&format!("{path}?language=de")).await.refuses("language");
        reader.get(&format!("{path}?sample=none")).await.refuses("sample");
        reader.get("/api/v1/mail/templates/none/preview").await.problem(404, "not_found");
        world.anon().get(path).await.problem(401, "unauthenticated");
        world.operator("bob", &["applicant"]).await.get(path).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_preview_says_why_an_installations_file_is_passed_over() {
    let (folder, _) = with_files(&[("en/test.txt", "{{ no_such_field }}")]);
    let [world, _] = World::both_with(|config| config.mail_templates_dir = Some(folder.path().into())).await;
    let reader = world.operator("ann", &["admin"]).await;
    let list = reader.get("/api/v1/mail/templates").await.expect(200);
    let test = list["items"].as_array().and_then(|items| items.iter().find(|item| item["name"] == "test"));
    assert_eq!(test.map(|item| &item["replaced"]), Some(&json!(["en/test.txt"])));
    let shown = reader.get("/api/v1/mail/templates/test/preview").await.expect(200);
    assert!(shown["warning"].as_str().is_some_and(|told| told.contains("en/test.txt:1")), "{shown}");
    assert!(shown["text"].as_str().is_some_and(|text| text.contains("This is a test mail")));
}
