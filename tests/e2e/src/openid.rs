//! An OpenID provider that is not ours: npm's `oidc-provider`, in a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command};

use anyhow::{Context as _, Result, bail};

use crate::process::Process;
use crate::provision;

/// The id of its one client.
pub const CLIENT_ID: &str = "keygate";
/// That client's secret: what a form would encode is in it.
pub const CLIENT_SECRET: &str = "secret of keygate: a/b+c";

/// A running provider. It signs in whoever comes, as whom they say. Dropped: killed.
pub struct Provider {
    /// Its name, and where it is.
    pub issuer: String,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _process: Process,
}

impl Provider {
    /// Starts it, its complaints going to a file below `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        let script = provision::root().join("tests/e2e/src/openid_provider.mjs");
        let mut command = Command::new("node");
        command.arg(script.canonicalize()?).arg(provision::oidc_provider()?);
        let (process, input, output) =
            Process::spawn_led("oidc-provider", &mut command, &folder.join("openid.log"))?;
        let mut provider =
            Self { issuer: String::new(), input, output: BufReader::new(output), _process: process };
        provider.issuer = provider.line()?;
        Ok(provider)
    }

    /// Where its client is: from then on it answers.
    pub fn serve(&mut self, redirect_url: &str) -> Result<()> {
        writeln!(self.input, "{redirect_url}")?;
        match self.line()?.as_str() {
            "ready" => Ok(()),
            other => bail!("oidc-provider says {other:?}"),
        }
    }

    fn line(&mut self) -> Result<String> {
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).context("read from oidc-provider")?;
            if line.is_empty() {
                bail!("oidc-provider has ended: see its openid.log");
            }
            // It warns of itself: it is set up for tests.
            if !line.starts_with("oidc-provider ") {
                return Ok(line.trim().to_owned());
            }
        }
    }
}
