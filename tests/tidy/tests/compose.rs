//! `docker-compose.yml` against the code: no Docker engine starts it in our checks, so each command,
//! port and setting that it names is looked up. (Variables: `documents.rs`.)

use std::collections::BTreeSet;

use tidy::{assert_none, code, read};
use yaml_rust2::{Yaml, YamlLoader};

fn compose() -> Yaml {
    let text = read("docker-compose.yml").expect("docker-compose.yml");
    let mut documents = YamlLoader::load_from_str(&text).expect("docker-compose.yml is YAML");
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

/// A service's field, looked up through `<<` too.
fn field<'a>(service: &'a Yaml, name: &str) -> &'a Yaml {
    match &service[name] {
        Yaml::BadValue => match &service["<<"] {
            Yaml::BadValue => &service[name],
            base => field(base, name),
        },
        found => found,
    }
}

fn services(compose: &Yaml) -> Vec<(String, &Yaml)> {
    let services = compose["services"].as_hash().expect("services");
    services.iter().map(|(name, service)| (name.as_str().expect("a name").to_owned(), service)).collect()
}

fn texts(yaml: &Yaml) -> Vec<String> {
    match yaml {
        Yaml::String(text) => vec![text.clone()],
        Yaml::Array(items) => items.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// The subcommands of `keygate`, as its help names them.
fn subcommands() -> BTreeSet<String> {
    let main = code(&read("manager/src/main.rs").expect("manager/src/main.rs"));
    let body =
        main.split("enum Command {").nth(1).expect("`enum Command`").split("\n}").next().expect("its end");
    let variants =
        body.lines().map(str::trim).filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let kebab = |variant: &str| {
        let mut name = String::new();
        for c in variant.chars().take_while(char::is_ascii_alphanumeric) {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    };
    let names: BTreeSet<String> = variants.map(kebab).collect();
    assert!(names.contains("serve"), "{names:?}");
    names
}

#[test]
fn compose_has_the_pieces_of_the_demo() {
    let compose = compose();
    let names: BTreeSet<String> = services(&compose).into_iter().map(|(name, _)| name).collect();
    for piece in ["postgres", "manager-1", "manager-2", "envoy", "mail", "upstream"] {
        assert!(names.contains(piece), "{piece} is missing: {names:?}");
    }
}

#[test]
fn every_command_of_the_manager_exists() {
    let known = subcommands();
    let compose = compose();
    let mut used = Vec::new();
    for (service, fields) in services(&compose) {
        let command = texts(field(fields, "command"));
        let is_manager = field(field(fields, "build"), "target").as_str() == Some("manager");
        if is_manager && field(fields, "entrypoint").is_badvalue() {
            // The image's entry point is `keygate` itself.
            used.push((service.clone(), command.first().expect("a command").clone()));
        }
        for line in command.iter().flat_map(|text| text.lines()) {
            if let Some(rest) = line.trim().strip_prefix("keygate ") {
                used.push((service.clone(), rest.split(' ').next().expect("a word").to_owned()));
            }
        }
    }
    assert!(used.len() >= 4, "{used:?}");
    let unknown = used.iter().filter(|(_, name)| !known.contains(name)).map(|u| format!("{u:?}")).collect();
    assert_none("docker-compose.yml runs a command that keygate does not have", unknown);
}

#[test]
fn every_port_is_one_that_somebody_listens_on() {
    let envoy = read("envoy/envoy.yaml").expect("envoy/envoy.yaml");
    let manager = read("docker-compose.yml").expect("docker-compose.yml");
    let compose = compose();
    let mut violations = Vec::new();
    for (service, fields) in services(&compose) {
        for mapping in texts(field(fields, "ports")) {
            let parts: Vec<&str> = mapping.split(':').collect();
            let [address, _, inside] = parts[..] else { panic!("{service}: {mapping}: address:port:port") };
            if address != "127.0.0.1" {
                violations.push(format!("{service}: {mapping} is open to everybody"));
            }
            let listens = match service.as_str() {
                "envoy" => envoy.contains(&format!("address: 0.0.0.0, port_value: {inside} ")),
                "manager-1" | "manager-2" => {
                    manager.contains(&format!("KEYGATE_LISTEN: \"0.0.0.0:{inside}\""))
                }
                "mail" => inside == "8025",
                _ => false,
            };
            if !listens {
                violations.push(format!("{service}: nobody listens on {inside}"));
            }
        }
    }
    assert_none("ports of docker-compose.yml", violations);
    let image = read("docker/Dockerfile").expect("docker/Dockerfile");
    for (port, name) in [("8081", "upstream"), ("8080", "manager")] {
        let shipped = format!("address: 127.0.0.1, port_value: {port}");
        assert!(
            envoy.contains(&shipped),
            "envoy/envoy.yaml has `{shipped}`, which docker/Dockerfile replaces"
        );
        assert!(image.contains(&format!("s/{shipped}/address: {name}, port_value: {port}/")));
    }
    assert!(image.contains("/etc/envoy/keygate.wasm") && envoy.contains("\"/etc/envoy/keygate.wasm\""));
}

#[test]
fn every_dependency_is_a_service() {
    let compose = compose();
    let names: BTreeSet<String> = services(&compose).into_iter().map(|(name, _)| name).collect();
    let mut violations = Vec::new();
    for (service, fields) in services(&compose) {
        if let Some(dependencies) = field(fields, "depends_on").as_hash() {
            for dependency in
                dependencies.keys().filter_map(Yaml::as_str).filter(|name| !names.contains(*name))
            {
                violations.push(format!("{service} depends on {dependency}"));
            }
        }
    }
    assert_none("docker-compose.yml", violations);
}
