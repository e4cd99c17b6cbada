//! Opaque texts that a call presents as `Authorization: Bearer <text>`: drawn by chance, kept as
//! their hash alone, shown once.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::clock::Random;

/// A new text: `<prefix>_` and 256 bits, which is what makes a plain hash of it enough to keep.
pub fn draw(random: &Random, prefix: &str) -> Zeroizing<String> {
    let secret = Zeroizing::new(random.bytes::<32>());
    Zeroizing::new(format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(*secret)))
}

/// What is kept of a text: lower-case hex of its SHA-256.
pub fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text that a call presents, if it presents one.
pub fn presented(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, text)| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_read_in_any_case_and_no_other_is() {
        for (header_text, text) in [
            ("Bearer x_1", Some("x_1")),
            ("bearer  x_1 ", Some("x_1")),
            ("Basic x_1", None),
            ("Bearer", None),
            ("x_1", None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, header_text.parse().expect("text"))]);
            assert_eq!(presented(&headers), text, "{header_text}");
        }
        assert_eq!(presented(&HeaderMap::new()), None);
    }

    #[test]
    fn no_two_texts_are_alike_and_the_hash_is_the_one_of_the_standard() {
        let random = Random::seeded(1);
        let (one, other) = (draw(&random, "kx"), draw(&random, "kx"));
        assert!(one.starts_with("kx_") && one.len() == 3 + 43 && one != other, "{} {}", *one, *other);
        assert_eq!(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
