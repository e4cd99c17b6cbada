//! Who may call which operation, said once: enforced before the handler runs, and shown in the
//! document.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use utoipa_axum::router::UtoipaMethodRouter;

use super::bodiless::Bodiless;
use crate::app::App;
use crate::http::Permission;
use crate::problem::Problem;
use crate::{client_portal, idempotency, operators};

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a token.
    Open,
    /// Clients that have signed in.
    Client,
    /// Visitors who follow a form that they have asked for.
    Visitor,
    /// Every operator, even one who must set an own password before anything else.
    OwnSession,
    /// Every operator.
    SignedIn,
    /// Operators who have one of these permissions.
    Permitted(&'static [Permission]),
    /// It depends on the object; in words. The action decides.
    Decided(&'static str),
}

impl Access {
    /// Finds out who calls and whether they may, and leaves them where the handler takes them from.
    /// Returns who it is, as the audit trail names it.
    async fn admit(self, app: &App, request: &mut Request) -> Result<String, Problem> {
        match self {
            Self::Open => return Ok(idempotency::STRANGERS.into()),
            Self::Client => {
                let caller = client_portal::sessions::identify(app, request.headers()).await?;
                let name = caller.audit_name();
                request.extensions_mut().insert(caller);
                return Ok(name);
            }
            Self::Visitor => {
                let caller = client_portal::registrations::identify(app, request.headers()).await?;
                let name = caller.audit_name();
                request.extensions_mut().insert(caller);
                return Ok(name);
            }
            Self::OwnSession | Self::SignedIn | Self::Permitted(_) | Self::Decided(_) => {}
        }
        let actor = operators::identify(app, request.headers()).await?;
        if self != Self::OwnSession {
            actor.require_own_password()?;
        }
        if let Self::Permitted(permissions) = self {
            actor.require_one_of(permissions)?;
        }
        let name = actor.audit_name();
        request.extensions_mut().insert(actor);
        Ok(name)
    }
}

/// The operations of a capability, or of all of them.
#[derive(Clone)]
pub struct Routes {
    capability: &'static str,
    operations: Vec<Operations>,
}

/// What was registered in one line: operations of one path that the same operators may call.
#[derive(Clone)]
pub(super) struct Operations {
    pub capability: &'static str,
    pub access: Access,
    pub routes: UtoipaMethodRouter<App>,
}

impl Routes {
    /// None yet. The capability's name is the tag of its operations and begins their ids.
    pub fn of(capability: &'static str) -> Self {
        Self { capability, operations: Vec::new() }
    }

    /// Operations for everybody, without a token.
    #[must_use]
    pub fn open(self, routes: UtoipaMethodRouter<App>) -> Self {
        self.with(Access::Open, routes)
    }

    /// Operations for clients that have signed in. The handler takes the client as an argument,
    /// `caller: SignedIn`.
    #[must_use]
    pub fn client(self, routes: UtoipaMethodRouter<App>) -> Self {
        self.with(Access::Client, routes)
    }

    /// Operations for visitors who follow a form. The handler takes the visitor as an argument,
    /// `caller: Visitor`.
    #[must_use]
    pub fn visitor(self, routes: UtoipaMethodRouter<App>) -> Self {
        self.with(Access::Visitor, routes)
    }

    /// Operations for every operator, also one who must set an own password before anything else.
    #[must_use]
    pub fn own_session(self, routes: UtoipaMethodRouter<App>) -> Self {
        self.with(Access::OwnSession, routes)
    }

    /// Operations for every operator.
    #[must_use]
    pub fn signed_in(self, routes: UtoipaMethodRouter<App>) -> Self {
        self.with(Access::SignedIn, routes)
    }

    /// Operations for those who have one of the permissions.
    #[must_use]
    pub fn permitted(self, to: &'static [Permission], routes: UtoipaMethodRouter<App>) -> Self {
        self.with(Access::Permitted(to), routes)
    }

    /// Operations whose right depends on the object: `rule` says how, the action decides.
    #[must_use]
    pub fn decided(self, rule: &'static str, routes: UtoipaMethodRouter<App>) -> Self {
        self.with(Access::Decided(rule), routes)
    }

    /// Those of another capability as well.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.operations.extend(other.operations);
        self
    }

    pub(super) fn operations(&self) -> &[Operations] {
        &self.operations
    }

    /// What serves them.
    pub fn into_router(self, app: &App) -> Router<App> {
        self.operations.into_iter().fold(Router::new(), |router, operations| {
            let Operations { access, routes: (_, paths, methods), .. } = operations;
            let bodiless = Bodiless::of(&paths);
            let state = (app.clone(), access, bodiless);
            let methods = methods.route_layer(middleware::from_fn_with_state(state, admit));
            paths.paths.keys().fold(router, |router, path| router.route(path, methods.clone()))
        })
    }

    fn with(mut self, access: Access, routes: UtoipaMethodRouter<App>) -> Self {
        self.operations.push(Operations { capability: self.capability, access, routes });
        self
    }
}

/// Finds out who calls and whether they may, before anything else of the call is read. The
/// handler takes the [`Actor`](crate::http::Actor) as an argument where it matters who it is.
async fn admit(
    State((app, access, bodiless)): State<(App, Access, Bodiless)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = access.admit(&app, &mut request).await?;
    let request = bodiless.unburdened(request).await?;
    idempotency::once(&app, &caller, request, next).await
}
