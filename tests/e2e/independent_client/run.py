"""A client application that is not ours: authlib and joserfc obtain, use, renew, inspect, verify and revoke
tokens by every grant, knowing nothing but the issuer's name, as any program does.

Its standard input is a JSON object:
  issuer     where RFC 8414 says everything else
  api        the URL of an API that takes tokens
  audience   what tokens say as `aud`
  redirect   the redirect URL of both clients; nobody listens there
  client     {id, secret}: with a password
  public     {id}: without one
  user       {name, password}
"""

import json
import os
import sys
import time
from html.parser import HTMLParser
from urllib.parse import parse_qs, urljoin, urlsplit

# The issuer of the test is on loopback and speaks no TLS.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from joserfc import jwt
from joserfc.jwk import KeySet

TIMEOUT_S = 30
PLACE = json.load(sys.stdin)
ISSUER, API, REDIRECT = PLACE["issuer"], PLACE["api"], PLACE["redirect"]
CLIENT, PUBLIC, USER = PLACE["client"], PLACE["public"], PLACE["user"]


def discovered():
    """RFC 8414: the metadata, held against the standard by authlib and against the name that it was asked under."""
    answer = requests.get(get_well_known_url(ISSUER, external=True), timeout=TIMEOUT_S)
    assert answer.status_code == 200, answer.text
    metadata = AuthorizationServerMetadata(answer.json())
    metadata.validate()
    assert metadata["issuer"] == ISSUER, metadata
    return metadata


SERVER = discovered()


class Form(HTMLParser):
    """The first form of a page: where it leads, its hidden fields, and the labels of the others."""

    def __init__(self, page):
        super().__init__()
        self.action, self.hidden, self.ids, self.labels = None, {}, set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert tag != "script", "the pages need none"
        if tag == "form" and self.action is None:
            self.action = attributes["action"]
        if tag == "input" and attributes.get("type") == "hidden":
            self.hidden.setdefault(attributes["name"], attributes["value"])
        if tag == "input" and "id" in attributes:
            self.ids.add(attributes["id"])
        if tag == "label":
            self.labels.add(attributes["for"])


def browse(url):
    """A browser with cookies and without script: signs in, allows, and brings back where it was sent."""
    browser = requests.Session()
    answer = browser.get(url, timeout=TIMEOUT_S, allow_redirects=False)
    for fields in ({"action": "sign_in", "username": USER["name"], "password": USER["password"]}, {"action": "allow"}):
        if answer.status_code == 303:
            break  # Allowed before.
        assert answer.status_code == 200, answer.text
        form = Form(answer.text)
        assert form.ids == form.labels, (form.ids, form.labels)
        to = urljoin(url, form.action)
        answer = browser.post(to, data=form.hidden | fields, timeout=TIMEOUT_S, allow_redirects=False)
    assert answer.status_code == 303, answer.text
    location = answer.headers["location"]
    assert location.startswith(REDIRECT + "?"), location
    assert parse_qs(urlsplit(location).query)["iss"] == [ISSUER], location
    return location


def session(method, client=CLIENT, **more):
    return OAuth2Session(
        client["id"],
        client.get("secret"),
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        default_timeout=TIMEOUT_S,
        **more,
    )


def verified(token):
    """The claims, once signature, issuer, audience and time are found right by the published keys."""
    keys = KeySet.import_key_set(requests.get(SERVER["jwks_uri"], timeout=TIMEOUT_S).json())
    read = jwt.decode(token, keys, algorithms=["RS256"])
    essential = lambda value: {"essential": True, "value": value}
    jwt.JWTClaimsRegistry(iss=essential(ISSUER), aud=essential(PLACE["audience"]), exp={"essential": True}).validate(
        read.claims
    )
    return read.claims


def call(oauth):
    return oauth.get(API, timeout=TIMEOUT_S)


def serves(oauth, owner):
    """A token just obtained: verified, let in by the gateway, and told to be active."""
    token = oauth.token
    assert token["token_type"].lower() == "bearer" and token["expires_in"] > 0, token
    claims = verified(token["access_token"])
    assert claims.get("user_name") == owner and claims["client_id"] == oauth.client_id, claims
    answer = call(oauth)
    assert answer.status_code == 200, (answer.status_code, answer.text)
    return claims


def introspected(oauth, token, hint):
    answer = oauth.introspect_token(SERVER["introspection_endpoint"], token=token, token_type_hint=hint)
    assert answer.status_code == 200, answer.text
    return answer.json()


def inspected_and_revoked(oauth, claims):
    """RFC 7662 and RFC 7009: what was told of a token, and that it serves nobody afterwards."""
    token = oauth.token["access_token"]
    told = introspected(oauth, token, "access_token")
    assert told["active"] is True and told["jti"] == claims["jti"] and told["iss"] == ISSUER, told
    answer = oauth.revoke_token(SERVER["revocation_endpoint"], token=token, token_type_hint="access_token")
    assert answer.status_code == 200, answer.text
    assert introspected(oauth, token, "access_token") == {"active": False}
    # Every gateway knows within a second.
    until = time.monotonic() + 1
    while (answer := call(oauth)).status_code == 200:
        assert time.monotonic() < until, "a revoked token is let in"
    assert answer.status_code == 401, answer.text
    assert 'error="invalid_token"' in answer.headers["www-authenticate"], answer.headers


def renewed(oauth, owner):
    """RFC 6749, section 6: another token of the same owner, and the text that was used is worth nothing."""
    used = oauth.token["refresh_token"]
    before = oauth.token["access_token"]
    oauth.refresh_token(SERVER["token_endpoint"], refresh_token=used)
    assert oauth.token["access_token"] != before and oauth.token["refresh_token"] != used
    return serves(oauth, owner)


def refused(error, attempt):
    try:
        attempt()
    except OAuthError as told:
        assert told.error == error, told
    else:
        raise AssertionError(f"not refused: {error} was expected")


def by_code(method, client):
    """A token for a code with PKCE, and how to present the same code once more."""
    oauth = session(method, client, redirect_uri=REDIRECT, code_challenge_method="S256")
    verifier = generate_token(64)
    url, _ = oauth.create_authorization_url(SERVER["authorization_endpoint"], code_verifier=verifier)
    back = browse(url)
    redeem = lambda: oauth.fetch_token(SERVER["token_endpoint"], authorization_response=back, code_verifier=verifier)
    redeem()
    return oauth, serves(oauth, USER["name"]), redeem


def client_credentials(method):
    oauth = session(method)
    oauth.fetch_token(SERVER["token_endpoint"], grant_type="client_credentials")
    assert "refresh_token" not in oauth.token
    inspected_and_revoked(oauth, serves(oauth, None))
    wrong = session(method, CLIENT | {"secret": "not the password"})
    refused("invalid_client", lambda: wrong.fetch_token(SERVER["token_endpoint"], grant_type="client_credentials"))


def password(method):
    oauth = session(method)
    fetch = lambda word: oauth.fetch_token(SERVER["token_endpoint"], username=USER["name"], password=word)
    refused("invalid_grant", lambda: fetch("not the password"))
    fetch(USER["password"])
    serves(oauth, USER["name"])
    inspected_and_revoked(oauth, renewed(oauth, USER["name"]))
    refresh = oauth.token["refresh_token"]
    oauth.revoke_token(SERVER["revocation_endpoint"], token=refresh, token_type_hint="refresh_token")
    refused("invalid_token", lambda: oauth.refresh_token(SERVER["token_endpoint"], refresh_token=refresh))


def authorization_code(method):
    oauth, _, redeem = by_code(method, CLIENT)
    token = oauth.token["access_token"]
    refused("invalid_grant", redeem)
    assert introspected(oauth, token, "access_token") == {"active": False}, "a replayed code ends its tokens"
    oauth, *_ = by_code(method, CLIENT)
    inspected_and_revoked(oauth, renewed(oauth, USER["name"]))


def public_client():
    oauth = session("none", PUBLIC, redirect_uri=REDIRECT)
    url, _ = oauth.create_authorization_url(SERVER["authorization_endpoint"])
    answer = requests.get(url, timeout=TIMEOUT_S, allow_redirects=False)
    back = answer.headers["location"]
    refused("invalid_request", lambda: oauth.fetch_token(SERVER["token_endpoint"], authorization_response=back))
    oauth, *_ = by_code("none", PUBLIC)
    inspected_and_revoked(oauth, renewed(oauth, USER["name"]))
    own = lambda: session("none", PUBLIC).fetch_token(SERVER["token_endpoint"], grant_type="client_credentials")
    refused("invalid_request", own)


assert set(SERVER["grant_types_supported"]) == {
    "client_credentials",
    "password",
    "authorization_code",
    "refresh_token",
}, "a grant that is not driven below"
for way in ("client_secret_basic", "client_secret_post"):
    assert way in SERVER["token_endpoint_auth_methods_supported"], SERVER
    for grant in (client_credentials, password, authorization_code):
        grant(way)
        print(f"{grant.__name__} by {way}", flush=True)
for endpoint in ("token", "revocation", "introspection"):
    assert "none" in SERVER[f"{endpoint}_endpoint_auth_methods_supported"], SERVER
public_client()
print("authorization_code by none", flush=True)
