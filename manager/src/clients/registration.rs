//! What somebody asks for who is to become a client.

use gate::time::UnixMillis;

use super::form::Fields;
use super::model::{Binding, ClientName, Fault, emails_text};
use crate::operators::Email;
use crate::quotas::Zone;

/// A client that is asked for: all else of it has the defaults of a new client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The code.
    pub name: ClientName,
    /// For people.
    pub display_name: String,
    /// Where its mails, and with them its first password, go: at least one.
    pub emails: Vec<Email>,
    /// From where it may call; none: from everywhere.
    pub bindings: Vec<Binding>,
}

fn required(emails: Option<String>) -> Result<String, Fault> {
    let missing = || {
        let reason = "Email account: Required parameters: the client's e-mail addresses, separated by commas; the \
                      first password goes there";
        Fault::new("emails", reason)
    };
    emails.filter(|emails| !emails.trim().is_empty()).ok_or_else(missing)
}

impl Registration {
    /// Checked by the rules of a new client's form.
    pub fn parse(
        name: Option<String>,
        display_name: Option<String>,
        emails: Option<String>,
        bindings: Option<Vec<Binding>>,
    ) -> Result<Self, Fault> {
        let fields = Fields {
            name,
            display_name,
            emails: Some(Some(required(emails)?)),
            bindings,
            note: Some("-".into()),
            ..Fields::default()
        };
        // Neither id, zone nor instant matter to what is read here.
        let id = ClientName::parse_id("unnamed").expect("letters");
        let client = fields.create(id, &Zone::utc(), UnixMillis(0))?;
        let (name, display_name) = (client.name, client.display_name);
        Ok(Self { name, display_name, emails: client.emails, bindings: client.bindings })
    }

    /// As a new client is entered: `owner` answers for it, `application_number` tells which form
    /// asked for it.
    pub fn fields(&self, owner: String, application_number: Option<String>) -> Fields {
        Fields {
            name: Some(self.name.as_str().into()),
            display_name: Some(self.display_name.clone()),
            application_number: application_number.map(Some),
            bindings: Some(self.bindings.clone()),
            emails: Some(Some(self.emails_text())),
            note: Some(owner),
            ..Fields::default()
        }
    }

    /// The addresses as they are entered and shown.
    pub fn emails_text(&self) -> String {
        emails_text(&self.emails)
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_registration_obeys_the_rules_of_a_new_client() {
        let parse = |name: &str, display: &str, emails: &str, address: &str| {
            let binding = Binding { name: "office".into(), address: address.into() };
            let found = Registration::parse(
                Some(name.into()),
                Some(display.into()),
                Some(emails.into()),
                Some(vec![binding]),
            );
            found.map(|found| found.emails_text()).map_err(|fault| fault.field)
        };
        assert_eq!(parse("acme", "Acme", "a@x.org, b@x.org", "10.0.0.0/8"), Ok("a@x.org,b@x.org".into()));
        assert_eq!(parse(&"a".repeat(50), "Acme", "a@x.org", "::1"), Ok("a@x.org".into()));
        assert_eq!(parse(&"a".repeat(51), "Acme", "a@x.org", "::1"), Err("name"));
        assert_eq!(parse("a b", "Acme", "a@x.org", "::1"), Err("name"));
        assert_eq!(parse("", "Acme", "a@x.org", "::1"), Err("name"));
        assert_eq!(parse("acme", "", "a@x.org", "::1"), Err("display_name"));
        assert_eq!(parse("acme", "Acme", "", "::1"), Err("emails"));
        assert_eq!(parse("acme", "Acme", "nobody", "::1"), Err("emails"));
        assert_eq!(parse("acme", "Acme", "a@x.org", "300.0.0.1/99"), Err("bindings"));
        let none = Registration::parse(Some("acme".into()), Some("Acme".into()), None, None);
        assert_eq!(none.map_err(|fault| fault.field), Err("emails"));
    }
}
