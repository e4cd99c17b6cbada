//! Every refusal as it goes over the wire, in both formats, against the files in
//! `tests/vectors/denials`. `BLESS=1 cargo test -p gate --test denials` writes them
//! anew; look at the difference before committing it.
#![cfg(not(target_arch = "wasm32"))] // it reads files

use std::fmt::Write;
use std::path::PathBuf;

use gate::credential::jwt;
use gate::denial::{Circumstances, Denial, status_of};
use gate::id::{ClientId, CredentialId};
use gate::request::CredentialKind::{Basic, Bearer, Dgrk, XApiKey};
use gate::time::{Interval, UnixMillis};
use gate::wire::directory::DenialFormat;
use gate::wire::exchange::MeterKind;

/// 2023-06-05T06:09:20.673Z, the moment of the reference's sample.
const NOW: UnixMillis = UnixMillis(1_685_945_360_673);

/// File name (the row of digiRunner's tables that it renders, or `own-…`), denial.
fn rows() -> Vec<(&'static str, Denial)> {
    let at = |hours: i64| UnixMillis(NOW.0 + hours * 3_600_000);
    let exhausted = |kind, limit, retry_after_s| Denial::QuotaExhausted { kind, limit, retry_after_s };
    vec![
        ("dgrk-1-no-credential", Denial::CredentialMissing { accepts: vec![Dgrk, XApiKey] }),
        ("dgrk-1-header-parse", Denial::CredentialMalformed { kind: Some(Dgrk) }),
        ("dgrk-2-key-not-found", Denial::CredentialUnknown { kind: Dgrk }),
        ("dgrk-3-client-disabled", Denial::ClientDisabled),
        ("dgrk-3-client-locked", Denial::ClientLocked),
        ("dgrk-4-address", Denial::AddressNotAllowed { address: "192.0.2.1".into() }),
        ("dgrk-5-before-start-day", Denial::ClientNotStarted { from: at(24) }),
        ("dgrk-5-after-end-day", Denial::ClientExpired { until: at(-24) }),
        (
            "dgrk-5-service-time",
            Denial::OutsideServiceTime { next: Some(Interval { from: at(1), until: at(9) }) },
        ),
        ("dgrk-5-service-time-none-ahead", Denial::OutsideServiceTime { next: None }),
        (
            "dgrk-6-signature",
            Denial::SignatureIncorrect { received_sha256: [0xab; 32], minified_sha256: [0xcd; 32] },
        ),
        ("dgrk-7-status", Denial::CredentialInactive { kind: Dgrk }),
        ("dgrk-8-revoked", Denial::CredentialRevoked { kind: Dgrk, at: at(-2) }),
        ("dgrk-9-expired", Denial::CredentialExpired { kind: Dgrk, at: at(-2) }),
        ("dgrk-10-use-quota", exhausted(MeterKind::KeyUses, 5, None)),
        ("dgrk-11-api-not-on-key", Denial::PermissionDenied { kind: Dgrk }),
        ("dgrk-exception", Denial::Internal),
        ("x-api-key-1-not-found", Denial::CredentialUnknown { kind: XApiKey }),
        ("x-api-key-5-not-effective", Denial::CredentialNotEffective { kind: XApiKey, at: at(2) }),
        ("x-api-key-6-expired", Denial::CredentialExpired { kind: XApiKey, at: at(-2) }),
        ("x-api-key-7-groups", Denial::PermissionDenied { kind: XApiKey }),
        ("bearer-1-signature", Denial::TokenUnverified { fault: jwt::Fault::Signature }),
        ("bearer-2-expired", Denial::CredentialExpired { kind: Bearer, at: at(-2) }),
        ("bearer-3-unknown", Denial::CredentialUnknown { kind: Bearer }),
        ("bearer-3-revoked", Denial::CredentialRevoked { kind: Bearer, at: at(-2) }),
        ("bearer-7-user", Denial::CredentialInactive { kind: Bearer }),
        ("bearer-8-scope", Denial::PermissionDenied { kind: Bearer }),
        ("bearer-10-use-count", exhausted(MeterKind::TokenUses, 3, None)),
        ("basic-2-password", Denial::CredentialUnknown { kind: Basic }),
        ("quota-1-client", exhausted(MeterKind::ClientQuota, 1_000, Some(64_240))),
        ("quota-2-tps", Denial::RateExceeded { tps: 10 }),
        ("gateway-2-api-not-found", Denial::ApiNotFound),
        ("gateway-4-api-disabled", Denial::ApiDisabled),
        ("gateway-7-method", Denial::MethodNotAllowed { allow: vec!["GET".into(), "POST".into()] }),
        ("own-bearer-malformed", Denial::CredentialMalformed { kind: Some(Bearer) }),
        ("own-bearer-missing", Denial::CredentialMissing { accepts: vec![Bearer, XApiKey] }),
        ("own-path-ambiguous", Denial::PathAmbiguous),
        ("own-credential-unknown-scheme", Denial::CredentialMalformed { kind: None }),
        ("own-credential-duplicated", Denial::CredentialDuplicated),
        ("own-credential-not-accepted", Denial::CredentialNotAccepted { kind: Basic, accepts: vec![Dgrk] }),
        ("own-dgrk-not-effective", Denial::CredentialNotEffective { kind: Dgrk, at: at(2) }),
        ("own-x-api-key-inactive", Denial::CredentialInactive { kind: XApiKey }),
        ("own-x-api-key-revoked", Denial::CredentialRevoked { kind: XApiKey, at: at(-2) }),
        ("own-audience", Denial::AudienceDenied),
        ("own-overloaded", Denial::Overloaded),
        ("own-quota-contended", Denial::QuotaContended { kind: MeterKind::ClientQuota }),
        ("own-quota-unavailable", Denial::QuotaUnavailable { kind: MeterKind::KeyUses }),
        ("own-capacity", Denial::Capacity),
        ("own-lookup-unavailable", Denial::LookupUnavailable),
        ("own-lookups-throttled", Denial::LookupsThrottled),
        ("own-directory-unavailable", Denial::DirectoryUnavailable),
        ("own-stale", Denial::Stale),
        ("own-body-too-large", Denial::BodyTooLarge { max: 1_048_576 }),
        ("own-body-not-signable", Denial::BodyNotSignable),
        ("own-signatures-throttled", Denial::SignaturesThrottled),
    ]
}

/// Both responses, as text.
fn render(denial: &Denial) -> String {
    let (client, credential) = (ClientId::from("acme"), CredentialId::from("tk_1"));
    let mut text = String::new();
    for (name, format) in [("problem", DenialFormat::Problem), ("digirunner", DenialFormat::Digirunner)] {
        let response = denial.respond(&Circumstances {
            format,
            path: "/dgrc/orders",
            client: Some(&client),
            credential: Some(&credential),
            now: NOW,
            utc_offset_min: 480,
            grpc: true,
            decision: "5b1c0e9d3a7f4216-42",
        });
        let grpc = response.grpc_status.expect("asked for");
        writeln!(text, "# {name}\nHTTP {} (gRPC {grpc})", response.status).expect("a String takes text");
        for (header, value) in &response.headers {
            writeln!(text, "{header}: {value}").expect("a String takes text");
        }
        writeln!(text, "\n{}\n", response.body).expect("a String takes text");
    }
    text
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/denials").join(format!("{name}.txt"))
}

#[test]
fn refusals_read_as_their_golden_files_say() {
    for (name, denial) in rows() {
        let rendered = render(&denial);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(file(name), &rendered).expect("the folder is writable");
        }
        let golden = std::fs::read_to_string(file(name)).unwrap_or_default();
        assert_eq!(rendered, golden, "{name}");
    }
}

#[test]
fn every_golden_file_has_its_row_and_every_code_its_file() {
    let rows = rows();
    let mut codes: Vec<&str> = rows.iter().map(|(_, denial)| denial.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    let mut known = gate::denial::CODES.map(|(code, _)| code).to_vec();
    known.sort_unstable();
    assert_eq!(codes, known, "a new denial wants a row here, in docs/denials.md and in CODES");
    let files = std::fs::read_dir(file("x").parent().expect("a folder")).expect("readable").count();
    assert_eq!(files, rows.len(), "a golden file without a row");
}

#[test]
fn bodies_are_json_and_repeat_their_status() {
    let (client, credential) = (ClientId::from("a\"b\\c"), CredentialId::from("tk_1"));
    for format in [DenialFormat::Problem, DenialFormat::Digirunner] {
        for (name, denial) in rows() {
            let response = denial.respond(&Circumstances {
                format,
                path: "/a\"b",
                client: Some(&client),
                credential: Some(&credential),
                now: NOW,
                utc_offset_min: -570,
                grpc: false,
                decision: "5b1c0e9d3a7f4216-42",
            });
            let body: serde_json::Value = serde_json::from_str(&response.body).expect(name);
            if let Some(status) = body.get("status") {
                assert_eq!(status, response.status, "{name}");
            }
            if format == DenialFormat::Problem {
                assert_eq!(status_of(denial.code()), Some(response.status), "{name}");
            }
            assert_eq!(response.grpc_status, None);
            let challenge = response.headers.iter().find(|(header, _)| *header == "www-authenticate");
            let lacks_scope = matches!(denial, Denial::PermissionDenied { kind: Bearer });
            let challenged = response.status == 401 || denial.status() == 401 || lacks_scope;
            assert_eq!(challenge.is_some(), challenged, "{name}");
        }
    }
}
