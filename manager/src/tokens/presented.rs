//! What a call to the token endpoint says, and by what the client proves itself there.

use axum::body::Body;
use axum::extract::{FromRequest as _, Multipart, Request};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::refusal::Refusal;

/// Bytes of a body at most: a refresh token and what stands around it fit many times.
pub const MAX_BODY_BYTES: usize = 64 << 10;
/// Parameters at most.
const MAX_PARAMETERS: usize = 64;

/// The parameters of a call, those of the query first. Of one that stands twice the first counts, as with
/// digiRunner.
#[derive(Default)]
pub struct Parameters(Vec<(String, Zeroizing<String>)>);

impl Parameters {
    /// Reads query and body.
    pub async fn read(request: Request) -> Result<(HeaderMap, Self), Refusal> {
        let (parts, body) = request.into_parts();
        let mut parameters = Self::default();
        parameters.add_form(parts.uri.query().unwrap_or_default().as_bytes());
        let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| Refusal::too_large())?;
        let headers = parts.headers.clone();
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if body.is_empty() || media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            parameters.add_form(&body);
        } else if media_type.eq_ignore_ascii_case("multipart/form-data") {
            let request = Request::from_parts(parts, Body::from(body));
            parameters.add_multipart(request).await?;
        } else {
            return Err(Refusal::media_type());
        }
        match parameters.0.len() {
            ..=MAX_PARAMETERS => Ok((headers, parameters)),
            _ => Err(Refusal::invalid_request("Too many parameters")),
        }
    }

    /// The first one of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn add_form(&mut self, form: &[u8]) {
        let read = form_urlencoded::parse(form).take(MAX_PARAMETERS + 1);
        self.0.extend(read.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned()))));
    }

    async fn add_multipart(&mut self, request: Request) -> Result<(), Refusal> {
        let unreadable = || Refusal::invalid_request("The multipart body cannot be read");
        let mut parts = Multipart::from_request(request, &()).await.map_err(|_| unreadable())?;
        while let Some(part) = parts.next_field().await.map_err(|_| unreadable())? {
            let Some(name) = part.name().map(str::to_owned) else { continue };
            let value = Zeroizing::new(part.text().await.map_err(|_| unreadable())?);
            self.0.push((name, value));
            if self.0.len() > MAX_PARAMETERS {
                break;
            }
        }
        Ok(())
    }
}

/// What becomes of a password in the body where there is one in the header too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwoWays {
    /// That of the body counts, as with digiRunner.
    BodyFirst,
    /// A client proves itself in one way only (RFC 6749, section 2.3).
    Refused,
}

/// By what a client proves itself. It is not known yet whether it is right.
pub struct Credentials {
    /// Its id.
    pub client: String,
    /// As presented.
    pub secret: Zeroizing<String>,
}

impl Credentials {
    /// Of the body or of the header. A parameter without a value is none (RFC 6749, section 3.2).
    pub fn read(headers: &HeaderMap, parameters: &Parameters, two_ways: TwoWays) -> Result<Self, Refusal> {
        let given = |name| parameters.get(name).filter(|value| !value.is_empty());
        let mut header = headers.get_all(header::AUTHORIZATION).iter();
        match (given("client_id"), given("client_secret"), header.next()) {
            (Some(_), Some(_), Some(_)) if two_ways == TwoWays::Refused => Err(Refusal::two_ways()),
            (Some(client), Some(secret), _) => {
                Ok(Self { client: client.into(), secret: Zeroizing::new(secret.into()) })
            }
            (None, Some(_), _) => Err(Refusal::invalid_request("Missing client_id")),
            (_, None, Some(_)) if header.next().is_some() => {
                Err(Refusal::invalid_request("The header Authorization stands twice"))
            }
            (client, None, Some(value)) => {
                let own = Self::of_header(value.as_bytes())?;
                match client {
                    Some(other) if other != own.client => Err(Refusal::two_clients()),
                    Some(_) | None => Ok(own),
                }
            }
            (Some(_), None, None) => Err(Refusal::no_secret()),
            (None, None, None) => Err(Refusal::client("Missing required parameter: Authorization")),
        }
    }

    /// The id of a client that presents nothing else.
    pub fn id_alone<'p>(headers: &HeaderMap, parameters: &'p Parameters) -> Option<&'p str> {
        let given = |name| parameters.get(name).filter(|value| !value.is_empty());
        let nothing = given("client_secret").is_none() && !headers.contains_key(header::AUTHORIZATION);
        given("client_id").filter(|_| nothing)
    }

    fn of_header(value: &[u8]) -> Result<Self, Refusal> {
        let unreadable = || Refusal::client("Unauthorized");
        let (scheme, encoded) = value.split_at_checked("basic ".len()).ok_or_else(unreadable)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return Err(unreadable());
        }
        let text = Zeroizing::new(STANDARD.decode(encoded.trim_ascii()).map_err(|_| unreadable())?);
        let text = std::str::from_utf8(&text).map_err(|_| unreadable())?;
        let (client, secret) = text.split_once(':').ok_or_else(unreadable)?;
        if secret.is_empty() {
            return Err(Refusal::no_secret());
        }
        // RFC 6749, section 2.3.1: both may be encoded as in a form.
        let client = unescaped(client).map_or_else(|| client.to_owned(), |text| text.to_string());
        Ok(Self { client, secret: Zeroizing::new(secret.into()) })
    }

    /// The passwords that it may mean, the likeliest first: digiRunner's programs encode theirs in Base64, those
    /// that know the standard may encode it as in a form, others do neither.
    pub fn readings(&self) -> Vec<Zeroizing<String>> {
        let secret: &str = &self.secret;
        let mut readings: Vec<Zeroizing<String>> = Vec::with_capacity(4);
        let mut add = |reading: Zeroizing<String>| {
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        };
        for text in [Some(Zeroizing::new(secret.to_owned())), unescaped(secret)].into_iter().flatten() {
            if let Some(decoded) = decoded(&text) {
                add(decoded);
            }
            add(text);
        }
        readings
    }
}

fn decoded(text: &str) -> Option<Zeroizing<String>> {
    let bytes = STANDARD.decode(text).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty()).map(Zeroizing::new)
}

/// What was encoded as in a form; None: it was not.
fn unescaped(text: &str) -> Option<Zeroizing<String>> {
    if !text.contains('%') {
        return None;
    }
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    let (plain, _) = form_urlencoded::parse(escaped.as_bytes()).next()?;
    Some(Zeroizing::new(plain.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_in_every_way_that_programs_write_it() {
        for (secret, readings) in [
            // The reference's own: tsp123abcd.
            ("dHNwMTIzYWJjZA==", &["tsp123abcd", "dHNwMTIzYWJjZA=="][..]),
            ("dHNwMTIzYWJjZA%3D%3D", &["dHNwMTIzYWJjZA%3D%3D", "tsp123abcd", "dHNwMTIzYWJjZA=="]),
            ("tsp123abcd", &["tsp123abcd"]),
            ("a%26b=c&d", &["a%26b=c&d", "a&b=c&d"]),
            ("100%", &["100%"]),
        ] {
            let read = Credentials { client: "acme".into(), secret: Zeroizing::new(secret.into()) };
            let read: Vec<String> = read.readings().iter().map(|text| text.to_string()).collect();
            assert_eq!(read, readings, "{secret}");
        }
    }

    #[test]
    fn the_header_is_that_of_the_reference() {
        let read = Credentials::of_header(b"Basic dHNwY2xpZW50OmRITndNVEl6WVdKalpBPT0=").expect("read");
        assert_eq!((read.client.as_str(), read.readings()[0].as_str()), ("tspclient", "tsp123abcd"));
        let read = Credentials::of_header(b"basic dHNwY2xpZW50OnRzcDEyM2FiY2Q=").expect("read");
        assert_eq!(read.readings()[0].as_str(), "tsp123abcd");
        for unreadable in ["Bearer x", "Basic", "Basic !", "Basic YWNtZQ==", "Basic //8="] {
            assert!(Credentials::of_header(unreadable.as_bytes()).is_err(), "{unreadable}");
        }
    }
}
