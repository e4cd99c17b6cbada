//! Envoy as a process, with the shipped `envoy/envoy.yaml`: only addresses and paths are replaced.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client::{self, Answer, Call};
use crate::process::Process;
use crate::{preload, provision, wait};

/// How long it may take to be ready; compiling the filter is most of it.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The environment variable through which the shipped configuration takes the gateway's token.
pub const TOKEN_VARIABLE: &str = "KEYGATE_GATEWAY_TOKEN";

/// One more listener: the shipped one with another name and port, and what is said here.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name.
    pub name: &'static str,
    /// `127.0.0.1` or `::1`.
    pub host: IpAddr,
    /// The filter's setting `origin`, and what goes with it.
    pub origin: &'static str,
    /// Proxies before Envoy whose `X-Forwarded-For` is believed.
    pub trusted_hops: u32,
}

/// What is replaced in the shipped configuration.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// Worker threads.
    pub workers: u32,
    /// The filter's file.
    pub filter: PathBuf,
    /// Where the API is.
    pub upstream: SocketAddr,
    /// Where the manager, or a proxy before it, is.
    pub manager: SocketAddr,
    /// Where its further replicas, or proxies before them, are.
    pub replicas: Vec<SocketAddr>,
    /// The token that the manager gave for this gateway.
    pub token: String,
    /// Besides the shipped one.
    pub listeners: Vec<Listener>,
}

/// A running Envoy.
pub struct Envoy {
    /// Where callers go.
    pub address: SocketAddr,
    /// Its admin interface.
    pub admin: SocketAddr,
    /// Where the further listeners are, by name.
    listeners: BTreeMap<&'static str, SocketAddr>,
    folder: PathBuf,
    wiring: Wiring,
    /// How many times as fast its time passes, for [`preload`].
    haste: Option<PathBuf>,
    /// Listeners come from a file, and one that is removed drains for so many seconds.
    drain_s: Option<u32>,
    process: Option<Process>,
}

impl Envoy {
    /// Renders the configuration into `folder`.
    pub fn configure(folder: &Path, wiring: Wiring) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let listeners = wiring.listeners.iter();
        let listeners = listeners.map(|listener| Ok((listener.name, crate::free_address_of(listener.host)?)));
        let envoy = Self {
            listeners: listeners.collect::<Result<_>>()?,
            address: crate::free_address()?,
            admin: crate::free_address()?,
            folder: folder.to_owned(),
            wiring,
            haste: None,
            drain_s: None,
            process: None,
        };
        let shipped = provision::root().join("envoy/envoy.yaml");
        let shipped =
            std::fs::read_to_string(&shipped).with_context(|| format!("read {}", shipped.display()))?;
        std::fs::write(envoy.folder.join("envoy.yaml"), envoy.render(&shipped)?)
            .context("write envoy.yaml")?;
        Ok(envoy)
    }

    /// Each value stands exactly once in the shipped file; one that is gone is an error, so that
    /// the tests cannot come to run on something else than what is shipped.
    fn render(&self, shipped: &str) -> Result<String> {
        let port = |address: SocketAddr| format!("port_value: {}", address.port());
        let replacements = [
            ("port_value: 10000".to_owned(), port(self.address)),
            ("port_value: 9901".to_owned(), port(self.admin)),
            ("port_value: 8081".to_owned(), port(self.wiring.upstream)),
            ("port_value: 8080".to_owned(), port(self.wiring.manager)),
            ("/etc/envoy/keygate.wasm".to_owned(), self.wiring.filter.display().to_string()),
        ];
        let mut rendered = shipped.to_owned();
        for (from, to) in &replacements {
            if shipped.matches(from.as_str()).count() != 1 {
                bail!("envoy/envoy.yaml does not have `{from}` exactly once");
            }
            rendered = rendered.replacen(from.as_str(), to, 1);
        }
        // The shipped file listens for everybody; tests do not.
        let rendered = rendered.replace("address: 0.0.0.0", "address: 127.0.0.1");
        let (before, rest) = rendered.split_once("  - name: public\n").context("envoy.yaml: no listener")?;
        let (listener, after) = rest.split_once("\n  clusters:\n").context("envoy.yaml: no clusters")?;
        let listener = format!("  - name: public\n{listener}");
        let mut listeners = listener.clone();
        for more in &self.wiring.listeners {
            listeners.push('\n');
            listeners.push_str(&self.another(&listener, more)?);
        }
        // The manager's cluster is the last of the file.
        let mut endpoints = String::new();
        for replica in &self.wiring.replicas {
            let port = replica.port();
            endpoints.push_str(&format!(
                "        - endpoint:\n            address:\n              socket_address: {{ address: 127.0.0.1, \
                 port_value: {port} }}\n"
            ));
        }
        if !after.trim_end().ends_with(&format!("{} }}", port(self.wiring.manager))) {
            bail!("envoy/envoy.yaml does not end with the manager's address");
        }
        Ok(format!("{before}{listeners}\n  clusters:\n{}\n{endpoints}", after.trim_end()))
    }

    /// The shipped listener, changed as `more` says.
    fn another(&self, shipped: &str, more: &Listener) -> Result<String> {
        let mut rendered = shipped.to_owned();
        let hops = format!("use_remote_address: true\n          xff_num_trusted_hops: {}", more.trusted_hops);
        for (from, to) in [
            ("- name: public".to_owned(), format!("- name: {}", more.name)),
            ("stat_prefix: public".to_owned(), format!("stat_prefix: {}", more.name)),
            ("address: 127.0.0.1".to_owned(), format!("address: \"{}\"", more.host)),
            (
                format!("port_value: {}", self.address.port()),
                format!("port_value: {}", self.listener(more.name).port()),
            ),
            ("use_remote_address: true".to_owned(), hops),
            (r#""origin": "external""#.to_owned(), more.origin.to_owned()),
        ] {
            if rendered.matches(from.as_str()).count() != 1 {
                bail!("the listener of envoy/envoy.yaml does not have `{from}` exactly once");
            }
            rendered = rendered.replacen(from.as_str(), &to, 1);
        }
        Ok(rendered)
    }

    /// Replaces a text of its configuration, which stands there once. To be said before its start.
    pub fn change(&self, from: &str, to: &str) -> Result<()> {
        let path = self.folder.join("envoy.yaml");
        let rendered = std::fs::read_to_string(&path).context("read envoy.yaml")?;
        if rendered.matches(from).count() != 1 {
            bail!("envoy.yaml does not have `{from}` exactly once");
        }
        std::fs::write(&path, rendered.replacen(from, to, 1)).context("write envoy.yaml")
    }

    /// Has its listeners come from a file that it watches, so that they can be removed while it runs; what is
    /// removed drains for `drain_s`. To be said before its start.
    pub fn watch_listeners(&mut self, drain_s: u32) -> Result<()> {
        let path = self.folder.join("envoy.yaml");
        let rendered = std::fs::read_to_string(&path).context("read envoy.yaml")?;
        let (before, rest) = rendered.split_once("  listeners:\n").context("envoy.yaml: no listeners")?;
        let (listeners, after) = rest.split_once("\n  clusters:\n").context("envoy.yaml: no clusters")?;
        let kind = "  - \"@type\": type.googleapis.com/envoy.config.listener.v3.Listener\n    name: ";
        self.write_listeners(&listeners.replace("  - name: public\n", &format!("{kind}public\n")))?;
        let file = self.listeners_file();
        let dynamic = format!(
            "node: {{ id: e2e, cluster: e2e }}\n\ndynamic_resources:\n  lds_config:\n    resource_api_version: V3\n    \
             path_config_source: {{ path: {:?} }}\n",
            file.display().to_string()
        );
        std::fs::write(&path, format!("{dynamic}\n{before}  clusters:\n{after}"))
            .context("write envoy.yaml")?;
        self.drain_s = Some(drain_s);
        Ok(())
    }

    /// Replaces a text in the configuration of its listeners while it runs.
    pub fn change_listeners(&self, from: &str, to: &str) -> Result<()> {
        let present = std::fs::read_to_string(self.listeners_file()).context("read the listeners")?;
        if !present.contains(from) {
            bail!("the listeners have no `{from}`");
        }
        let listeners = present.replace(from, to);
        self.write_listeners(listeners.strip_prefix("resources:\n").unwrap_or(&listeners))
    }

    /// Removes all listeners while it runs.
    pub fn remove_listeners(&self) -> Result<()> {
        self.write_listeners("  []")
    }

    fn listeners_file(&self) -> PathBuf {
        self.folder.join("listeners.yaml")
    }

    /// Envoy sees a file that is moved there.
    fn write_listeners(&self, listeners: &str) -> Result<()> {
        let new = self.folder.join("listeners.new");
        std::fs::write(&new, format!("resources:\n{listeners}\n")).context("write the listeners")?;
        std::fs::rename(&new, self.listeners_file()).context("move the listeners")
    }

    /// Where a further listener is.
    pub fn listener(&self, name: &str) -> SocketAddr {
        *self.listeners.get(name).expect("the plan has a listener of this name")
    }

    /// Starts it and waits until its listeners answer.
    pub async fn start(&mut self) -> Result<()> {
        self.launch()?;
        let started = wait::now();
        loop {
            let process = self.process.as_mut().context("it was just started")?;
            process.check()?;
            let ready = client::http1(self.admin, &Call::get("/ready")).await;
            if ready.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if started.elapsed() > START_LIMIT {
                bail!("Envoy is not ready after {} s:\n{}", START_LIMIT.as_secs(), process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts it without waiting for anything.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(provision::envoy()?);
        command
            .arg("--config-path")
            .arg(self.folder.join("envoy.yaml"))
            .args(["--concurrency", &self.wiring.workers.to_string()])
            // Several of them run side by side.
            .args(["--disable-hot-restart", "--log-level", "warning", "--component-log-level", "wasm:info"])
            .env(TOKEN_VARIABLE, &self.wiring.token)
            .current_dir(&self.folder);
        if let Some(drain_s) = self.drain_s {
            command.args(["--drain-strategy", "immediate", "--drain-time-s", &drain_s.to_string()]);
        }
        if let Some(haste) = &self.haste {
            command.env("LD_PRELOAD", preload::library("clock_haste")?).env("E2E_CLOCK_HASTE_FILE", haste);
        }
        self.process = Some(Process::spawn("Envoy", &mut command, &self.folder.join("envoy.log"))?);
        Ok(())
    }

    /// Time that passes for it passes so many times as fast from now on. It has to be said before its start,
    /// if only that it is 1, and can be changed while it runs.
    pub fn set_haste(&mut self, times: i64) -> Result<()> {
        let haste = self.haste.get_or_insert_with(|| self.folder.join("haste"));
        // In place: it is mapped into the process.
        let mut file = std::fs::File::options().create(true).write(true).truncate(false).open(haste)?;
        std::io::Write::write_all(&mut file, &times.to_ne_bytes()).context("write the haste")
    }

    /// Stops it as an operator would.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// One call over HTTP/1.1 on a connection of its own.
    pub async fn call(&self, call: &Call) -> Result<Answer> {
        client::http1(self.address, call).await
    }

    /// All counters and gauges, by name.
    pub async fn stats(&self) -> Result<BTreeMap<String, u64>> {
        let answer = client::http1(self.admin, &Call::get("/stats?type=Counters")).await?;
        let gauges = client::http1(self.admin, &Call::get("/stats?type=Gauges")).await?;
        let text = answer.text() + "\n" + &gauges.text();
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
            .collect())
    }

    /// The same as a Prometheus server reads them.
    pub async fn prometheus(&self) -> Result<String> {
        Ok(client::http1(self.admin, &Call::get("/stats/prometheus")).await?.text())
    }

    /// Where it writes its log, and its access log between.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("envoy.log")
    }

    /// What the admin interface shows of the configuration.
    pub async fn config_dump(&self) -> Result<String> {
        Ok(client::http1(self.admin, &Call::get("/config_dump")).await?.text())
    }

    /// Whether it was started and not stopped since.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The token with which it speaks to the manager.
    pub fn token(&self) -> &str {
        &self.wiring.token
    }

    /// Its process, while it runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Its process's number, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        self.process.as_ref().context("Envoy does not run")?.rss_kib()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Its folder: configuration and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
