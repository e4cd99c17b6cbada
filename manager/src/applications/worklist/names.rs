//! What people call those who stand on a page of forms: one statement per kind, not one per form.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::ClientId;

use super::super::applicant::Applicant;
use super::super::form::Form;
use super::super::model::{Action, Application};
use super::store;
use crate::db::{Conn, DbError};

/// Names for people, by id.
#[derive(Debug, Default)]
pub(super) struct Names {
    operators: BTreeMap<String, String>,
    clients: BTreeMap<String, String>,
    keys: BTreeMap<String, String>,
}

/// The names on a page.
pub(super) async fn of(conn: &mut Conn, page: &[(Application, Vec<Action>)]) -> Result<Names, DbError> {
    let (mut operators, mut clients, mut keys) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (application, _) in page {
        match &application.applicant {
            Applicant::Operator(id) => drop(operators.insert(id.as_str())),
            Applicant::Client(id) => drop(clients.insert(id.as_str())),
            Applicant::Visitor { .. } => {}
        }
        clients.extend(application.form.client().map(ClientId::as_str));
        if let Form::Revoke { key, .. } = &application.form {
            keys.insert(key.as_str());
        }
    }
    Ok(Names {
        operators: store::operator_names(conn, &operators).await?,
        clients: store::client_names(conn, &clients).await?,
        keys: store::key_names(conn, &keys).await?,
    })
}

impl Names {
    pub fn of_applicant(&self, applicant: &Applicant) -> String {
        let name = match applicant {
            Applicant::Operator(id) => self.operators.get(id),
            Applicant::Client(id) => self.clients.get(id.as_str()),
            Applicant::Visitor { .. } => None,
        };
        name.cloned().unwrap_or_else(|| applicant.id().to_owned())
    }

    /// The client's whom a form is about, or asks for.
    pub fn of_client(&self, form: &Form) -> String {
        let asked = form.registration().map(|asked| asked.display_name.clone());
        let named = |client: &ClientId| {
            self.clients.get(client.as_str()).cloned().unwrap_or_else(|| client.0.clone())
        };
        form.client().map(named).or(asked).unwrap_or_default()
    }

    /// The key's that a form revokes: such a form brings no name of its own.
    pub fn of_revoked_key(&self, form: &Form) -> Option<String> {
        let Form::Revoke { key, .. } = form else { return None };
        self.keys.get(key.as_str()).cloned()
    }
}
