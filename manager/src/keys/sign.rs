//! `keygate sign`: the `Authorization` header for a pair and a body, and a call that carries it.
//! Needs no database and no settings: partners' developers may run it too.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use gate::credential::dgrk::{self, Explanation};
use gate::credential::minify::Shape;

use super::cli::read_secret;
use super::model::{ApiKey, SecretKey};

/// Sign a body with a DGRK pair.
#[derive(Debug, Args)]
pub struct Command {
    /// The public API key.
    #[arg(long, env = "KEYGATE_SIGN_API_KEY")]
    api_key: String,
    /// File that holds the secret key, `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "secret_key")]
    secret_file: Option<PathBuf>,
    /// The secret key itself. On a command line others can see it: prefer --secret-file or the
    /// environment variable KEYGATE_SIGN_SECRET_KEY.
    #[arg(long)]
    secret_key: Option<String>,
    /// The body, as it is sent.
    #[arg(long, conflicts_with = "body_file", allow_hyphen_values = true)]
    body: Option<String>,
    /// File that holds the body, `-` for standard input.
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// Where the call goes.
    #[arg(long, default_value = "https://<your gateway>/<path>")]
    url: String,
    /// Its method; default: POST with a body, GET without.
    #[arg(long)]
    method: Option<String>,
    /// Also print what is signed, step by step.
    #[arg(long)]
    explain: bool,
}

/// The variable that the secret may come from.
const SECRET_VARIABLE: &str = "KEYGATE_SIGN_SECRET_KEY";

/// Prints to standard output; warnings go to standard error.
pub fn run(command: Command) -> anyhow::Result<()> {
    let on_command_line = command.secret_key.is_some();
    let secret = match (&command.secret_key, &command.secret_file) {
        (Some(secret), _) => secret.clone(),
        (None, Some(file)) => read_secret(file)?,
        (None, None) => match std::env::var(SECRET_VARIABLE) {
            Ok(secret) if !secret.is_empty() => secret,
            Ok(_) | Err(_) => {
                bail!(
                    "the secret key is missing: give --secret-file FILE (`-` for standard input) or set {SECRET_VARIABLE}"
                )
            }
        },
    };
    let body = match (&command.body, &command.body_file) {
        (Some(body), _) => body.clone().into_bytes(),
        (None, Some(file)) if file.as_os_str() == "-" => {
            if command.secret_file.as_deref().is_some_and(|secret| secret.as_os_str() == "-") {
                bail!("--secret-file and --body-file cannot both be standard input");
            }
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).context("standard input")?;
            body
        }
        (None, Some(file)) => {
            std::fs::read(file).with_context(|| format!("cannot read the body from {}", file.display()))?
        }
        (None, None) => Vec::new(),
    };
    if on_command_line {
        eprintln!(
            "keygate: warning: --secret-key can be seen by others on this machine and stays in the shell's history; \
             prefer --secret-file or {SECRET_VARIABLE}"
        );
    }
    let api_key = ApiKey::parse(&command.api_key).context("--api-key")?;
    let secret = SecretKey::parse(&secret).context("the secret key")?;
    let call = Call {
        method: command.method.as_deref(),
        url: &command.url,
        body: &body,
        body_file: command.body_file.as_ref().map(|file| file.display().to_string()),
    };
    print!("{}", told(api_key.as_str(), secret.reveal(), &call, command.explain)?);
    Ok(())
}

struct Call<'a> {
    method: Option<&'a str>,
    url: &'a str,
    body: &'a [u8],
    body_file: Option<String>,
}

fn told(api_key: &str, secret: &str, call: &Call<'_>, explain: bool) -> anyhow::Result<String> {
    let explained = dgrk::explain(api_key, secret, call.body);
    let mut out = format!("Authorization: {}\n\n{}\n", explained.authorization, curl(call, &explained)?);
    if explain {
        write!(
            out,
            "\nminified text:        {}\nhow it came about:    {}\nmessage:              {} bytes (minified text, API key, secret key)\n\
             sha256 of the body:   {}\nsha256, minified:     {}\nsignature:            {}\n",
            String::from_utf8_lossy(&explained.minified),
            came_about(&explained),
            explained.message_bytes,
            hex(&explained.received_sha256),
            hex(&explained.minified_sha256),
            explained.signature,
        )?;
    }
    Ok(out)
}

fn came_about(explained: &Explanation<'_>) -> &'static str {
    match explained.shape {
        Ok(Shape::AsReceived) => "the body as it is",
        Ok(Shape::Spaced) => "the body without its white space",
        Ok(Shape::Rewritten) => "the body written anew (numbers or escapes in another form)",
        Err(_) => "the body as it is: it is not JSON",
    }
}

/// A line for a POSIX shell that sends exactly the bytes that were signed for.
fn curl(call: &Call<'_>, explained: &Explanation<'_>) -> anyhow::Result<String> {
    let method = call.method.unwrap_or(if call.body.is_empty() { "GET" } else { "POST" });
    let mut line = format!(
        "curl -X {} {} -H {}",
        quoted(method),
        quoted(call.url),
        quoted(&format!("Authorization: {}", explained.authorization))
    );
    if !call.body.is_empty() {
        let data = match (&call.body_file, std::str::from_utf8(call.body)) {
            (Some(file), _) if file != "-" => format!("@{file}"),
            // curl reads a leading @ as the name of a file.
            (_, Ok(text)) if !text.starts_with('@') => text.to_owned(),
            (_, _) => bail!("this body cannot stand on a command line: give it with --body-file"),
        };
        line.push_str(" -H 'Content-Type: application/json' --data-binary ");
        line.push_str(&quoted(&data));
    }
    Ok(line)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const API_KEY: &str = "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==";
    const SECRET: &str =
        "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw==";

    fn told_for(body: &str, file: Option<&str>) -> anyhow::Result<String> {
        let call = Call {
            method: None,
            url: "https://api.example/it's",
            body: body.as_bytes(),
            body_file: file.map(str::to_owned),
        };
        told(API_KEY, SECRET, &call, true)
    }

    #[test]
    fn the_published_pair_signs_as_published() {
        for (body, signature, minified, how) in [
            ("", "O/Fa9EJ3EbDOnFUt+1VqbmzjxcYuyxMfS1LRpml9yB0=", "", "the body as it is"),
            (
                "{ \"a\" : 1 }",
                "yCBQT82YsjmVU1zu34W4+6KollyPuaZp0QvylRmXafU=",
                "{\"a\":1}",
                "without its white space",
            ),
            ("hello world", "+DLn+jBYoz1XJNCswaskXx0buEazfabiw++BcuvxnlU=", "hello world", "not JSON"),
        ] {
            let told = told_for(body, None).expect("signed");
            assert!(told.starts_with(&format!("Authorization: DGRK {API_KEY}.{signature}\n")), "{told}");
            assert!(told.contains(&format!("minified text:        {minified}\n")), "{told}");
            assert!(told.contains(how), "{told}");
            let message = minified.len() + API_KEY.len() + SECRET.len();
            assert!(told.contains(&format!("{message} bytes")), "{told}");
            assert!(!told.contains(SECRET));
        }
    }

    #[test]
    fn the_ready_call_is_quoted_and_sends_the_signed_bytes() {
        let told = told_for("{\"a\":\"it's\"}", None).expect("signed");
        assert!(told.contains(r"curl -X 'POST' 'https://api.example/it'\''s'"), "{told}");
        assert!(told.contains(r#"--data-binary '{"a":"it'\''s"}'"#), "{told}");
        assert!(told_for("x", Some("body.json")).expect("signed").contains("--data-binary '@body.json'"));
        assert!(told_for("", None).expect("signed").contains("curl -X 'GET'"));
        assert!(told_for("@secret", None).is_err(), "curl would send another file");
    }
}
