//! Links to credentials, as those who get the mails use them.

use axum::body::Body;
use axum::http::Method;

use super::{Mailed, World};
use crate::config::{Config, CredentialDelivery};

const BASE: &str = "https://keygate.example";

/// Settings of a world whose mails hold links.
pub fn by_link(config: &mut Config) {
    config.credential_delivery = CredentialDelivery::Link;
    config.public_url = Some(BASE.into());
}

impl Mailed {
    /// The link in it.
    pub fn link(&self) -> &str {
        let page = format!("{BASE}/credentials#");
        let link = self.text.lines().map(str::trim).find(|line| line.starts_with(&page));
        link.unwrap_or_else(|| panic!("a link in {}", self.text))
    }
}

impl World {
    /// Status and text of the page that a link opens.
    pub async fn page_behind(&self, link: &str) -> (u16, String) {
        let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("code", link).finish();
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        let page = self.anon().raw(Method::POST, "/credentials", &kind, Body::from(form)).await;
        (page.status, page.body.as_str().expect("a page").to_owned())
    }
}
