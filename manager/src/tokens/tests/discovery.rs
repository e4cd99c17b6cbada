//! What programs are told of the server, and whether it is so.

use serde_json::{Value, json};

use super::shop;
use crate::testing::World;

const METADATA: &str = "/.well-known/oauth-authorization-server";
const ISSUER: &str = "http://127.0.0.1:8080";

#[tokio::test]
async fn what_discovery_promises_is_there() {
    let world = World::sqlite().await;
    let shop = shop(&world).await;
    let answer = shop.anon.get(METADATA).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let told = answer.expect(200);
    let methods = json!(["client_secret_basic", "client_secret_post", "none"]);
    assert_eq!(
        told,
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": format!("{ISSUER}/oauth/authorize"),
            "token_endpoint": format!("{ISSUER}/oauth/token"),
            "jwks_uri": format!("{ISSUER}/oauth/jwks"),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["client_credentials", "password", "refresh_token", "authorization_code"],
            "token_endpoint_auth_methods_supported": methods,
            "ui_locales_supported": ["en", "zh-TW"],
            "revocation_endpoint": format!("{ISSUER}/oauth2/revoke"),
            "revocation_endpoint_auth_methods_supported": methods,
            "introspection_endpoint": format!("{ISSUER}/oauth2/introspect"),
            "introspection_endpoint_auth_methods_supported": methods,
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        })
    );
    let path =
        |member: &str| told[member].as_str().expect("a URL").strip_prefix(ISSUER).expect("ours").to_owned();
    for member in ["jwks_uri", "authorization_endpoint"] {
        let status = shop.anon.get(&path(member)).await.status;
        assert!(matches!(status, 200 | 400), "{member}: {status}");
    }
    for member in ["token_endpoint", "revocation_endpoint", "introspection_endpoint"] {
        let answer = shop.call(&path(member), "", None).await;
        assert!(answer.body["error"].is_string(), "{member}: {:#}", answer.body);
    }
}

#[tokio::test]
async fn the_issuer_that_is_told_is_the_one_that_tokens_name() {
    let elsewhere = |config: &mut crate::config::Config| {
        config.token_issuer = Some("https://id.example/".parse().expect("a URL"));
    };
    let world = World::sqlite_with(elsewhere).await;
    let shop = shop(&world).await;
    let told = shop.anon.get(METADATA).await.expect(200);
    let token = shop.token().await;
    assert_eq!(told["issuer"], "https://id.example");
    assert_eq!(super::claims(super::text(&token, "access_token"))["iss"], told["issuer"]);
}

#[tokio::test]
async fn programs_of_digirunner_find_the_endpoints_where_they_look() {
    let world = World::sqlite().await;
    let shop = shop(&world).await;
    let first = shop.anon.get(METADATA).await.expect(200);
    for idp_type in ["GOOGLE", "MS", "OIDC", "LDAP", "MLDAP", "API", "JDBC", "CUS"] {
        let path = format!("/dgrv4/ssotoken/{idp_type}/.well-known/openid-configuration");
        assert_eq!(shop.anon.get(&path).await.expect(200), first, "{idp_type}");
        let path = format!("/dgrv4/ssotoken/v2/{idp_type}/.well-known/openid-configuration");
        let second: Value = shop.anon.get(&path).await.expect(200);
        assert_eq!(
            second,
            json!({
                "issuer": ISSUER,
                "token_endpoint": format!("{ISSUER}/oauth/v2/token"),
                "jwks_uri": first["jwks_uri"],
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "revocation_endpoint": first["revocation_endpoint"],
                "revocation_endpoint_auth_methods_supported":
                    first["revocation_endpoint_auth_methods_supported"],
                "introspection_endpoint": first["introspection_endpoint"],
                "introspection_endpoint_auth_methods_supported":
                    first["introspection_endpoint_auth_methods_supported"],
                "authorization_response_iss_parameter_supported": false,
            })
        );
    }
    for path in [
        "/dgrv4/ssotoken/nobody/.well-known/openid-configuration",
        "/dgrv4/ssotoken/v2/google/.well-known/openid-configuration",
    ] {
        shop.anon.get(path).await.problem(404, "not_found");
    }
}
