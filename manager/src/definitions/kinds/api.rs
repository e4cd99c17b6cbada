//! APIs.

use std::collections::BTreeMap;

use gate::request::CredentialKind;
use gate::wire::directory::{Audience, PathRule};

use super::switching::{self, MomentText};
use super::{PAGE, spec};
use crate::catalog::apis::{self, ApiFields, ApiFilter, NewApi};
use crate::catalog::{Api, ApiSource};
use crate::db::{Conn, DbError};
use crate::definitions::model::{Defined, Kind, Wanted};
use crate::definitions::plan::{Kept, Plan, Present, Steps};
use crate::definitions::work::{Managed, Names, Refusal, Work};

spec! {
    /// An API, as `POST /api/v1/apis` takes it.
    pub struct ApiSpec {
        /// With `id` its name, `shop/orders`.
        module: String,
        /// Unique within the module.
        id: String,
        /// For people.
        name: String,
        /// For people.
        description: String,
        /// Empty = every host.
        hosts: Vec<String>,
        /// Empty = every method.
        methods: Vec<String>,
        /// Where it answers.
        path: PathRule,
        /// Which credentials it accepts.
        accepts: Vec<CredentialKind>,
        /// No credential is asked for.
        no_auth: bool,
        /// false: calls are answered 503.
        enabled: bool,
        /// From where it may be called.
        audience: Audience,
        /// Form and multipart bodies go unsigned.
        unsigned_forms: bool,
        /// To find it by.
        labels: Vec<String>,
        /// When it becomes enabled by itself: a day, a time, or an instant.
        enable_at: Option<MomentText>,
        /// When it becomes disabled by itself.
        disable_at: Option<MomentText>,
    }

    impl Spec {
        const KIND: Kind = Kind::Api;
        const IDENTITY: &'static [&'static str] = &["module", "id"];
        const REQUIRED: &'static [&'static str] = &["path"];
        const TOGETHER: &'static [&'static str] = &["enabled", "enable_at", "disable_at"];

        fn id(&self) -> String {
            format!("{}/{}", self.module.as_deref().unwrap_or_default(), self.id.as_deref().unwrap_or_default())
        }
    }
}

impl Managed for ApiSpec {
    fn wanted(wanted: &Wanted) -> &[Defined<Self>] {
        &wanted.apis
    }

    fn present(present: &mut Present) -> &mut BTreeMap<String, Kept<Self>> {
        &mut present.apis
    }

    fn steps(plan: &Plan) -> &Steps<Self> {
        &plan.apis
    }

    async fn read_all(conn: &mut Conn, _: &Names) -> Result<Vec<Kept<Self>>, DbError> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = apis::apis(conn, &ApiFilter::default(), &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = last.title();
            all.extend(page.into_iter().map(kept));
        }
    }

    async fn create(&self, conn: &mut Conn, work: &mut Work<'_>) -> Result<Kept<Self>, Refusal> {
        let mut fields = self.entered()?;
        switching::settle(&mut fields, None, &work.app.config.zone(), work.now)?;
        let new = NewApi {
            module: self.module.clone().unwrap_or_default(),
            id: self.id.clone().unwrap_or_default(),
            source: ApiSource::Registered,
            fields,
        };
        let (app, by, now) = (work.app, work.by, work.now);
        Ok(kept(apis::create_in(conn, work.held(), app, by, new, now).await?))
    }

    async fn update(
        &self,
        before: &Kept<Self>,
        conn: &mut Conn,
        work: &mut Work<'_>,
    ) -> Result<Kept<Self>, Refusal> {
        let (app, by, now, mut fields) = (work.app, work.by, work.now, self.entered()?);
        switching::settle(&mut fields, Some(&before.spec), &app.config.zone(), now)?;
        let expected = Some(before.version);
        let held = work.held();
        Ok(kept(apis::update_in(conn, held, app, by, &before.handle, expected, fields, now).await?))
    }

    async fn delete(kept: &Kept<Self>, conn: &mut Conn, work: &mut Work<'_>) -> Result<(), Refusal> {
        let (by, now) = (work.by, work.now);
        Ok(apis::delete_in(conn, work.held(), by, &kept.handle, Some(kept.version), now).await?)
    }
}

impl ApiSpec {
    /// As it would be sent over HTTP.
    fn entered(&self) -> Result<ApiFields, Refusal> {
        let moment = |field, moment: &Option<Option<MomentText>>| match moment {
            None => Ok(None),
            Some(moment) => moment.as_ref().map(|text| text.parse(field)).transpose().map(Some),
        };
        Ok(ApiFields {
            name: self.name.clone(),
            description: self.description.clone(),
            hosts: self.hosts.clone(),
            methods: self.methods.clone(),
            path: self.path.clone(),
            accepts: self.accepts.clone(),
            no_auth: self.no_auth,
            enabled: self.enabled,
            audience: self.audience,
            unsigned_forms: self.unsigned_forms,
            labels: self.labels.clone(),
            enable_at: moment("enable_at", &self.enable_at)?,
            disable_at: moment("disable_at", &self.disable_at)?,
        })
    }
}

fn kept(api: Api) -> Kept<ApiSpec> {
    // Every field is named, so that a new one is not forgotten.
    let Api {
        uid,
        module,
        id,
        name,
        description,
        hosts,
        methods,
        path,
        accepts,
        no_auth,
        enabled,
        audience,
        unsigned_forms,
        labels,
        enable_at,
        disable_at,
        source: _,
        groups: _,
        scopes: _,
        created_at: _,
        updated_at: _,
        version,
    } = api;
    let spec = ApiSpec {
        module: Some(module.to_string()),
        id: Some(id.to_string()),
        name: Some(name),
        description: Some(description),
        hosts: Some(hosts),
        methods: Some(methods),
        path: Some(path),
        accepts: Some(accepts),
        no_auth: Some(no_auth),
        enabled: Some(enabled),
        audience: Some(audience),
        unsigned_forms: Some(unsigned_forms),
        labels: Some(labels),
        enable_at: Some(enable_at.map(MomentText::from)),
        disable_at: Some(disable_at.map(MomentText::from)),
    };
    Kept { spec, handle: uid.as_str().to_owned(), version, aside: 0 }
}
