//! A request as a plain value: what of it may be believed, which credential it presents, and
//! how much of its body a signature covers.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::credential::dgrk::Charset;
use crate::denial::Denial;
use crate::wire::directory::ApiEntry;

/// The kinds of credential, by the name that an API's `accepts` list uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// `Authorization: DGRK <api key>.<signature>`.
    Dgrk,
    /// `X-Api-Key: <key>`.
    XApiKey,
    /// `Authorization: Bearer <token>`.
    Bearer,
    /// `Authorization: Basic <base64>`.
    Basic,
}

impl CredentialKind {
    /// Whether it travels in `Authorization`.
    pub fn in_authorization(self) -> bool {
        match self {
            Self::Dgrk | Self::Bearer | Self::Basic => true,
            Self::XApiKey => false,
        }
    }
}

/// What the gate reads of a request: bytes as they arrived, where the host put them.
#[derive(Clone, Debug, Default)]
pub struct RequestHead<'h> {
    /// `:method`.
    pub method: &'h [u8],
    /// `:path` with its query, as received.
    pub path: &'h [u8],
    /// `:authority`.
    pub host: &'h [u8],
    /// All other headers in order, names in lower case; `:protocol` of an extended CONNECT too.
    pub headers: Vec<(&'h [u8], &'h [u8])>,
    /// No body follows.
    pub end_of_stream: bool,
}

impl<'h> RequestHead<'h> {
    /// Values of the header `name` (lower case), in order.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'h [u8]> + use<'s, 'h> {
        self.headers.iter().filter(move |(n, _)| *n == name.as_bytes()).map(|(_, value)| *value)
    }

    fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }
}

/// Bytes of a path, without its query, at most.
pub const MAX_PATH_BYTES: usize = 8_192;

/// The path without its query, if nobody behind us can read it as another one: no dot segment,
/// `//`, `\`, `;`, `#`, encoded slash, backslash, dot, semicolon or NUL, no broken escape and
/// nothing but visible ASCII. Checked here whatever the connection manager normalises.
pub fn guard_path(path_and_query: &[u8]) -> Result<&str, Denial> {
    let path = path_and_query.split(|b| *b == b'?').next().unwrap_or_default();
    if path.first() != Some(&b'/') || path.len() > MAX_PATH_BYTES {
        return Err(Denial::PathAmbiguous);
    }
    let mut bytes = path.iter();
    let mut previous = 0;
    while let Some(&byte) = bytes.next() {
        match byte {
            b'/' if previous == b'/' => return Err(Denial::PathAmbiguous),
            b'\\' | b';' | b'#' | 0..=0x20 | 0x7f.. => return Err(Denial::PathAmbiguous),
            b'%' => {
                let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
                match digit(bytes.next()).zip(digit(bytes.next())).map(|(high, low)| high << 4 | low) {
                    None | Some(0x00 | 0x2e | 0x2f | 0x3b | 0x5c) => return Err(Denial::PathAmbiguous),
                    Some(_) => {}
                }
            }
            _ => {}
        }
        previous = byte;
    }
    if path.split(|b| *b == b'/').any(|segment| matches!(segment, b"." | b"..")) {
        return Err(Denial::PathAmbiguous);
    }
    core::str::from_utf8(path).map_err(|_| Denial::PathAmbiguous)
}

/// A guarded path as paths are compared: every back end that decodes reads `/%61dmin` as `/admin`,
/// so a character that may stand in clear does, what may not (braces among it) stands encoded, in
/// upper case. Only `%` itself, `?` and `#` stay what they are: decoded they would mean another path.
pub fn normal_path(guarded: &str) -> Cow<'_, str> {
    if !guarded.bytes().any(|byte| matches!(byte, b'%' | b'{' | b'}')) {
        return Cow::Borrowed(guarded);
    }
    let mut normal = String::with_capacity(guarded.len());
    let mut characters = guarded.chars();
    while let Some(character) = characters.next() {
        let decoded = match character {
            '%' => {
                let digits = characters.next().zip(characters.next());
                let value = |(high, low): (char, char)| Some(high.to_digit(16)? << 4 | low.to_digit(16)?);
                digits.and_then(value).and_then(|value| u8::try_from(value).ok())
            }
            plain => u8::try_from(plain).ok(),
        };
        match decoded {
            Some(byte @ 0x21..=0x7e) if !matches!(byte, b'%' | b'?' | b'#' | b'{' | b'}') => {
                normal.push(char::from(byte));
            }
            Some(byte) => {
                let hex =
                    |nibble| char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase();
                normal.extend(['%', hex(byte >> 4), hex(byte & 15)]);
            }
            // A guarded path has neither broken escapes nor other characters.
            None => normal.push(character),
        }
    }
    Cow::Owned(normal)
}

/// A host as APIs are registered under it: lower case, without port and trailing dot. A host
/// that is not ASCII matches no registered host.
pub fn normal_host(authority: &[u8]) -> Cow<'_, str> {
    let text = core::str::from_utf8(authority).unwrap_or_default();
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(inside, _)| inside);
    let host = match bracketed {
        Some(v6) => v6,
        None => text.split_once(':').map_or(text, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Whether a header or trailer could be read as one that only we may write: names compared as
/// back ends of the CGI family do, which see `x_keygate_client_id` and `x-keygate-client-id`
/// as one.
pub fn is_identity_header(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-keygate-";
    let read = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() >= PREFIX.len() && name.iter().map(read).zip(PREFIX).all(|(ours, prefix)| ours == *prefix)
}

/// The header that carries the credential of this API, still as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialHeader<'h> {
    /// `Authorization`, which wins over `X-Api-Key`.
    Authorization(&'h [u8]),
    /// `X-Api-Key`.
    XApiKey(&'h [u8]),
}

/// Finds the credential header of a request to `api`.
///
/// An API that accepts no `Authorization` credential leaves that header to its back end. An
/// empty `Authorization` is none (digiRunner's rule); two are never resolved by choosing one.
pub fn credential_header<'h>(head: &RequestHead<'h>, api: &ApiEntry) -> Result<CredentialHeader<'h>, Denial> {
    let takes_authorization = api.accepts.iter().any(|kind| kind.in_authorization());
    if takes_authorization
        && let Some(value) = single(head, "authorization")?
        && !value.trim_ascii().is_empty()
    {
        return Ok(CredentialHeader::Authorization(value));
    }
    match single(head, "x-api-key")? {
        Some(value) if !value.trim_ascii().is_empty() => Ok(CredentialHeader::XApiKey(value)),
        Some(_) | None => Err(Denial::CredentialMissing { accepts: api.accepts.clone() }),
    }
}

fn single<'h>(head: &RequestHead<'h>, name: &str) -> Result<Option<&'h [u8]>, Denial> {
    let mut values = head.values(name);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Denial::CredentialDuplicated),
        (value, None) => Ok(value),
    }
}

/// What of the body a DGRK signature covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedBody {
    /// Nothing: the empty string is signed.
    Empty,
    /// All of it.
    Whole {
        /// Whether minified forms may be tried.
        charset: Charset,
    },
}

/// What a DGRK signature must cover in this request to `api`.
///
/// The empty-string signature counts for requests without a body, and for form and multipart
/// bodies only where the API is registered to accept them: otherwise a captured header of a
/// GET, with a content type of one's choice, would carry any body.
pub fn signed_body(head: &RequestHead<'_>, api: &ApiEntry) -> Result<SignedBody, Denial> {
    let mut content_types = head.values("content-type");
    let content_type = content_types.next().unwrap_or_default();
    let media_type = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let is = |name: &str| media_type.eq_ignore_ascii_case(name.as_bytes());
    let connect = head.method.eq_ignore_ascii_case(b"connect");
    if is_grpc(head) || connect || head.has("upgrade") || head.has(":protocol") {
        return Err(Denial::BodyNotSignable);
    }
    // Of two content types the back end may believe the other one: no form, and no charset.
    if content_types.next().is_some() && !head.end_of_stream {
        return Ok(SignedBody::Whole { charset: Charset::Other });
    }
    let form = is("application/x-www-form-urlencoded") || is("multipart/form-data");
    if head.end_of_stream || (form && api.unsigned_forms) {
        return Ok(SignedBody::Empty);
    }
    Ok(SignedBody::Whole { charset: Charset::of_content_type(content_type) })
}

/// A CORS preflight: it cannot carry a credential, and by setting needs none.
pub fn is_cors_preflight(head: &RequestHead<'_>) -> bool {
    head.method == b"OPTIONS" && head.has("origin") && head.has("access-control-request-method")
}

/// A gRPC request: its refusals are gRPC statuses.
pub fn is_grpc(head: &RequestHead<'_>) -> bool {
    head.values("content-type").any(|content_type| match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';' | b' ')),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::directory::{Audience, PathRule};
    use alloc::vec;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn api(accepts: &[CredentialKind], unsigned_forms: bool) -> ApiEntry {
        ApiEntry {
            uid: "orders".into(),
            module: "shop".into(),
            id: "orders".into(),
            hosts: vec![],
            methods: vec![],
            path: PathRule::Exact("/orders".into()),
            accepts: accepts.to_vec(),
            no_auth: false,
            enabled: true,
            audience: Audience::Both,
            groups: vec![],
            unsigned_forms,
        }
    }

    fn head<'h>(method: &'h str, headers: &[(&'h str, &'h str)]) -> RequestHead<'h> {
        RequestHead {
            method: method.as_bytes(),
            path: b"/orders",
            headers: headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect(),
            ..RequestHead::default()
        }
    }

    #[test]
    fn paths_that_could_mean_another_are_refused() {
        for path in [
            "",
            "orders",
            "*",
            "//",
            "/a//b",
            "/a/./b",
            "/a/.",
            "/../a",
            "/a/..",
            "/a\\b",
            "/a;b",
            "/a#b",
            "/%2e%2e/a",
            "/%2E/a",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%3bb",
            "/a%00",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a b",
            "/a\tb",
            "/ä",
            "http://host/a",
        ] {
            assert_eq!(guard_path(path.as_bytes()), Err(Denial::PathAmbiguous), "{path}");
        }
        assert_eq!(guard_path(b"/a\xff"), Err(Denial::PathAmbiguous));
        assert_eq!(
            guard_path(&[b"/".as_slice(), &[b'a'; MAX_PATH_BYTES]].concat()),
            Err(Denial::PathAmbiguous)
        );
    }

    #[test]
    fn ordinary_paths_lose_their_query_only() {
        for (path, guarded) in [
            ("/", "/"),
            ("/orders/7?x=//..%2f", "/orders/7"),
            ("/a/", "/a/"),
            ("/a/...", "/a/..."),
            ("/a.b/.c", "/a.b/.c"),
            ("/caf%C3%A9", "/caf%C3%A9"),
            ("/100%25", "/100%25"),
            ("/a?", "/a"),
        ] {
            assert_eq!(guard_path(path.as_bytes()), Ok(guarded));
        }
        assert!(guard_path(&[b"/".as_slice(), &[b'a'; MAX_PATH_BYTES - 1]].concat()).is_ok());
    }

    #[test]
    fn spellings_of_one_path_are_one() {
        for (path, normal) in [
            ("/admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/items%3asearch", "/items:search"),
            ("/%7Euser", "/~user"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/100%25", "/100%25"),
            ("/what%3f", "/what%3F"),
            ("/{id}", "/%7Bid%7D"),
            ("/%7bid%7d", "/%7Bid%7D"),
        ] {
            assert_eq!(normal_path(path), normal);
            assert_eq!(normal_path(normal), normal, "once is enough");
            assert!(guard_path(normal.as_bytes()).is_ok(), "{normal}");
        }
    }

    #[test]
    fn hosts_lose_case_port_and_dot() {
        for (authority, host) in [
            ("API.Example.com:8443", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("api.example.com.:80", "api.example.com"),
            ("[2001:DB8::1]:443", "2001:db8::1"),
            ("", ""),
        ] {
            assert_eq!(normal_host(authority.as_bytes()), host);
        }
        assert_eq!(normal_host(b"\xff\xfe"), "");
    }

    #[test]
    fn identity_headers_are_known_however_they_are_spelt() {
        for (name, ours) in [
            ("x-keygate-client-id", true),
            ("X_Keygate.Client~Id", true),
            ("x-keygate-", true),
            ("x-keygate", false),
            ("xx-keygate-client-id", false),
        ] {
            assert_eq!(is_identity_header(name.as_bytes()), ours, "{name}");
        }
    }

    #[test]
    fn authorization_wins_where_the_api_takes_it() {
        use CredentialKind::{Dgrk, XApiKey};
        let both = head("GET", &[("authorization", "DGRK k.s"), ("x-api-key", "x")]);
        assert_eq!(
            credential_header(&both, &api(&[Dgrk, XApiKey], false)),
            Ok(CredentialHeader::Authorization(b"DGRK k.s"))
        );
        assert_eq!(
            credential_header(&both, &api(&[XApiKey], false)),
            Ok(CredentialHeader::XApiKey(b"x")),
            "an Authorization header that the API does not take belongs to its back end"
        );
        let empty = head("GET", &[("authorization", " "), ("x-api-key", "x")]);
        assert_eq!(
            credential_header(&empty, &api(&[Dgrk, XApiKey], false)),
            Ok(CredentialHeader::XApiKey(b"x"))
        );
        assert_eq!(
            credential_header(&head("GET", &[]), &api(&[Dgrk], false)),
            Err(Denial::CredentialMissing { accepts: vec![Dgrk] })
        );
    }

    #[test]
    fn two_credentials_are_never_resolved_by_choosing_one() {
        use CredentialKind::{Dgrk, XApiKey};
        let takes_both = api(&[Dgrk, XApiKey], false);
        for name in ["authorization", "x-api-key"] {
            let twice = head("GET", &[(name, "a"), (name, "b")]);
            assert_eq!(credential_header(&twice, &takes_both), Err(Denial::CredentialDuplicated), "{name}");
        }
        let theirs = head("GET", &[("authorization", "a"), ("authorization", "b"), ("x-api-key", "x")]);
        assert_eq!(credential_header(&theirs, &api(&[XApiKey], false)), Ok(CredentialHeader::XApiKey(b"x")));
    }

    #[test]
    fn what_a_signature_covers() {
        let json = [("content-type", "application/json")];
        let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let multipart = [("content-type", "Multipart/Form-Data; boundary=x")];
        let latin = [("content-type", "text/plain; charset=\"ISO-8859-1\"")];
        let utf8 = [("content-type", "text/plain;charset=UTF-8")];
        let whole = Ok(SignedBody::Whole { charset: Charset::Utf8 });
        for (what, method, headers, end_of_stream, unsigned_forms, covered) in [
            ("no body", "GET", &[][..], true, false, Ok(SignedBody::Empty)),
            ("no body on POST", "POST", &json, true, false, Ok(SignedBody::Empty)),
            ("GET with a body", "GET", &[], false, false, whole.clone()),
            ("JSON", "POST", &json, false, true, whole.clone()),
            ("form, registered", "POST", &form, false, true, Ok(SignedBody::Empty)),
            ("form, not registered", "POST", &form, false, false, whole.clone()),
            ("multipart, registered", "POST", &multipart, false, true, Ok(SignedBody::Empty)),
            ("multipart, not registered", "POST", &multipart, false, false, whole.clone()),
            (
                "a form and something else",
                "POST",
                &[form[0], json[0]],
                false,
                true,
                Ok(SignedBody::Whole { charset: Charset::Other }),
            ),
            (
                "another charset",
                "PUT",
                &latin,
                false,
                false,
                Ok(SignedBody::Whole { charset: Charset::Other }),
            ),
            ("UTF-8 by name", "PUT", &utf8, false, false, whole),
            (
                "gRPC",
                "POST",
                &[("content-type", "application/grpc+proto")],
                false,
                false,
                Err(Denial::BodyNotSignable),
            ),
            ("WebSocket", "GET", &[("upgrade", "websocket")], true, false, Err(Denial::BodyNotSignable)),
            (
                "extended CONNECT",
                "CONNECT",
                &[(":protocol", "websocket")],
                false,
                false,
                Err(Denial::BodyNotSignable),
            ),
        ] {
            let mut head = head(method, headers);
            head.end_of_stream = end_of_stream;
            assert_eq!(signed_body(&head, &api(&[CredentialKind::Dgrk], unsigned_forms)), covered, "{what}");
        }
    }

    #[test]
    fn a_preflight_is_more_than_an_options_request() {
        let preflight = [("origin", "https://a.example"), ("access-control-request-method", "PUT")];
        assert!(is_cors_preflight(&head("OPTIONS", &preflight)));
        assert!(!is_cors_preflight(&head("OPTIONS", &[("origin", "https://a.example")])));
        assert!(!is_cors_preflight(&head("POST", &preflight)));
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (content_type, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&head("POST", &[("content-type", content_type)])), grpc, "{content_type}");
        }
    }
}
