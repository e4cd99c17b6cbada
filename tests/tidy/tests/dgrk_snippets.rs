//! The signing snippets of `docs/dgrk.md`, taken from the document and run on the vectors: what a
//! partner copies must work.
//!
//! bash and openssl must be there. Where Python, Node or Java is missing, its test says so on
//! standard error and checks nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gate::credential::dgrk::{self, Charset, Scratch, Verdict, VerifyingKey};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../docs/dgrk.md");

struct Vectors {
    api_key: String,
    secret_key: String,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    body: String,
    minified: String,
    signature: String,
}

fn vectors() -> Vectors {
    let json: Value = serde_json::from_str(include_str!("../../vectors/dgrk.json")).expect("the vectors");
    let text = |value: &Value, name: &str| value[name].as_str().expect(name).to_owned();
    let cases = json["cases"].as_array().expect("cases").iter().map(|case| Case {
        name: text(case, "name"),
        body: text(case, "body"),
        minified: text(case, "minified"),
        signature: text(case, "signature"),
    });
    Vectors { api_key: text(&json, "api_key"), secret_key: text(&json, "secret_key"), cases: cases.collect() }
}

/// The one fenced block of a language.
fn snippet(language: &str) -> &'static str {
    let opening = format!("\n```{language}\n");
    let mut blocks = DOCUMENT.split(&opening).skip(1);
    let block = blocks.next().unwrap_or_else(|| panic!("docs/dgrk.md has no {language} snippet"));
    assert_eq!(blocks.next(), None, "docs/dgrk.md has two {language} snippets");
    block.split("\n```\n").next().expect("its end")
}

/// Whether a program is installed: whether it can tell its version.
fn runs(program: &str, version: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(version).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Tells even when the test's output is captured.
fn skipped(language: &str, missing: &str) {
    let told = writeln!(std::io::stderr(), "SKIPPED: the {language} snippet of docs/dgrk.md: no {missing}");
    told.expect("standard error is open");
}

fn write_snippet(folder: &Path, name: &str, language: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, snippet(language)).expect("the temporary folder can be written");
    path
}

/// Runs a snippet on a body: the `Authorization` value and the body to send.
fn run(mut command: Command, vectors: &Vectors, body: &str) -> (String, String) {
    command.env("API_KEY", &vectors.api_key).env("SECRET_KEY", &vectors.secret_key);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the runtime was there a moment ago");
    child.stdin.take().expect("piped").write_all(body.as_bytes()).expect("the snippet reads its input");
    let output = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} on {body:?}: {errors}");
    let printed = String::from_utf8(output.stdout).expect("it prints UTF-8");
    let (header, sent) = printed.split_once('\n').unwrap_or_else(|| panic!("one line: {printed:?}"));
    (header.to_owned(), sent.to_owned())
}

/// Runs a snippet on every vector: what it sends, given the case, and a header that verifies it.
fn check(command: impl Fn(&Case) -> Command, sends: impl Fn(&Case) -> String) {
    let vectors = vectors();
    assert!(vectors.cases.len() > 10);
    for case in &vectors.cases {
        let (header, sent) = run(command(case), &vectors, &case.body);
        assert_eq!(sent, sends(case), "{}", case.name);
        let presented =
            dgrk::parse(header.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(presented.api_key, vectors.api_key, "{}", case.name);
        if sent == case.minified {
            assert_eq!(presented.signature.as_str(), case.signature, "{}", case.name);
        }
        let key = VerifyingKey::new(&vectors.api_key, [vectors.secret_key.as_str()]);
        let verdict =
            key.verify(presented.signature, sent.as_bytes(), Charset::Utf8, None, &mut Scratch::new());
        assert!(matches!(verdict, Verdict::Verified(_)), "{}: {verdict:?}", case.name);
    }
}

const FLOATS: &str = "floats re-serialised as Java doubles";
const ESCAPES: &str = "escapes decoded";
const ROOTS: &str = "several roots joined by one space";

#[test]
fn the_bash_snippet_signs_what_it_sends() {
    assert!(runs("bash", "--version"), "bash is needed: apt-get install bash");
    assert!(runs("openssl", "version"), "openssl is needed: apt-get install openssl");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = write_snippet(folder.path(), "sign.sh", "bash");
    let command = |_: &Case| {
        let mut command = Command::new("bash");
        command.arg(&script);
        command
    };
    check(command, |case| case.body.clone());
    let vectors = vectors();
    let with_line_breaks = "{\n \"a\": \"$HOME `id` \\\\ %s\"\n}\n\n";
    let (_, sent) = run(command(&vectors.cases[0]), &vectors, with_line_breaks);
    assert_eq!(sent, with_line_breaks);
}

#[test]
fn the_python_snippet_signs_what_it_sends() {
    if !runs("python3", "--version") {
        return skipped("Python", "python3");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = write_snippet(folder.path(), "sign.py", "python");
    let command = |_: &Case| {
        let mut command = Command::new("python3");
        command.arg(&script);
        command
    };
    check(command, |case| match case.name.as_str() {
        FLOATS => r#"{"p":1.1,"q":12345678.9,"r":100.0,"s":0.0001}"#.into(),
        ROOTS => case.body.clone(),
        _ => case.minified.clone(),
    });
}

#[test]
fn the_javascript_snippet_signs_what_it_sends() {
    if !runs("node", "--version") {
        return skipped("JavaScript", "node");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = write_snippet(folder.path(), "sign.js", "javascript");
    let command = |_: &Case| {
        let mut command = Command::new("node");
        command.arg(&script);
        command
    };
    check(command, |case| match case.name.as_str() {
        FLOATS => r#"{"p":1.1,"q":12345678.9,"r":100,"s":0.0001}"#.into(),
        ROOTS => case.body.clone(),
        _ => case.minified.clone(),
    });
}

#[test]
fn the_java_snippet_signs_what_it_sends() {
    if !runs("java", "-version") || !runs("javac", "-version") {
        return skipped("Java", "java and javac");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = write_snippet(folder.path(), "Sign.java", "java");
    let compiled = Command::new("javac").arg("-d").arg(folder.path()).arg(&source).status();
    assert!(compiled.is_ok_and(|status| status.success()), "the Java snippet does not compile");
    let command = |case: &Case| {
        let is_json = serde_json::from_str::<Value>(&case.body).is_ok();
        let mut command = Command::new("java");
        command.arg("-cp").arg(folder.path()).arg("Sign");
        command.arg(if is_json { "application/json" } else { "text/plain" });
        command
    };
    check(command, |case| match case.name.as_str() {
        FLOATS => r#"{"p":1.10,"q":12345678.9,"r":1e2,"s":0.0001}"#.into(),
        ESCAPES | ROOTS => case.body.clone(),
        _ => case.minified.clone(),
    });
}

#[test]
fn the_example_of_the_document_is_a_vector() {
    let vectors = vectors();
    let case = vectors.cases.iter().find(|case| case.name == "white space stripped").expect("the case");
    let shown = [
        ("API key", &vectors.api_key),
        ("secret key", &vectors.secret_key),
        ("body", &case.body),
        ("minified", &case.minified),
        ("signature", &case.signature),
    ];
    for (name, value) in shown {
        let row = format!("| {name} | `{value}` |");
        assert!(DOCUMENT.contains(&row), "docs/dgrk.md lacks the row {row}");
    }
}
