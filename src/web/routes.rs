//! How a route is declared, and the router and the API's description that are made of the declarations.
//!
//! Each file of routes has a function `routes()`. A route states beside its handler who may use it,
//! what it takes and what it answers:
//!
//! ```ignore
//! pub fn routes() -> Routes {
//!     Routes::of("devices", "What is provisioned.")
//!         .with(
//!             Op::get("device_list", "/devices", Access::per_client(Role::Viewer), list)
//!                 .says("Devices by name")
//!                 .query::<Which>()
//!                 .answers::<Page<DeviceView>>(200),
//!         )
//!         .with(
//!             Op::put("device_replace", "/devices/{name}", Access::per_client(Role::Operator), replace)
//!                 .says("Adds a device, or replaces it")
//!                 .takes::<ReplaceDevice>()
//!                 .answers::<DeviceView>(200)
//!                 .conditional(),
//!         )
//! }
//! ```
//!
//! and `web::all_routes` names the function. There is no other way to a path: what is not declared is
//! not served, and a declaration without an access does not compile. [`super::guard`] holds the route
//! to its access; a route that is [`Access::per_client`] takes the [`Caller`] as an argument and asks
//! its scope. `tests/api/matrix.rs` tries every route with every role, for the own and for a foreign
//! client, and fails for a route that it does not know.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware;
use axum::routing::{self, MethodRouter};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{App, guard};
use crate::access::Access;
#[allow(unused_imports, reason = "named in the documentation")]
use crate::access::Caller;
use crate::api::PREFIX;

/// Longest time until the head of an answer, unless a route says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The routes of one file.
pub struct Routes {
    pub tag: &'static str,
    pub about: &'static str,
    pub prefix: &'static str,
    pub ops: Vec<Op>,
}

/// One operation: a method of a path.
pub struct Op {
    pub declared: Declared,
    /// Below the prefix, such as `/runs/{id}`.
    pub path: &'static str,
    pub summary: &'static str,
    /// Of the query string: an object of strings, numbers and flags.
    pub query: Option<SchemaOf>,
    pub body: Option<SchemaOf>,
    pub answers: Vec<Answer>,
    /// Honours If-Match and If-None-Match, and answers with an ETag.
    pub conditional: bool,
    handler: MethodRouter<Arc<App>>,
}

/// What the guard has to know of an operation.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Unique, such as `run_start`; the audit log calls it the action.
    pub id: &'static str,
    pub method: Method,
    pub access: Access,
    pub patience: Duration,
    /// The answer holds a secret, which is shown once and stored nowhere.
    pub secret: bool,
    /// What it takes is a form of one of our pages.
    pub form: bool,
    /// It changes nothing, though it is a POST because of what it takes.
    pub harmless: bool,
}

pub struct Answer {
    pub status: u16,
    pub media_type: &'static str,
    /// None: no body, or bytes.
    pub schema: Option<SchemaOf>,
}

impl Declared {
    pub fn mutates(&self) -> bool {
        self.method != Method::GET && !self.harmless
    }
}

impl Routes {
    pub fn of(tag: &'static str, about: &'static str) -> Self {
        Self {
            tag,
            about,
            prefix: PREFIX,
            ops: Vec::new(),
        }
    }

    /// Beside the API: what monitors and browsers look for at a place of their own.
    pub fn at_root(mut self) -> Self {
        self.prefix = "";
        self
    }

    pub fn with(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {$(
        pub fn $name<H, T>(id: &'static str, path: &'static str, access: Access, handler: H) -> Self
        where
            H: Handler<T, Arc<App>>,
            T: 'static,
        {
            Self::new(id, Method::$method, path, access, routing::$name(handler))
        }
    )*};
}

impl Op {
    methods!(get GET, post POST, put PUT, delete DELETE);

    fn new(
        id: &'static str,
        method: Method,
        path: &'static str,
        access: Access,
        handler: MethodRouter<Arc<App>>,
    ) -> Self {
        Self {
            declared: Declared {
                id,
                method,
                access,
                patience: PATIENCE,
                secret: false,
                form: false,
                harmless: false,
            },
            path,
            summary: "",
            query: None,
            body: None,
            answers: Vec::new(),
            conditional: false,
            handler,
        }
    }

    /// What it does, in one line.
    pub fn says(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(T::json_schema);
        self
    }

    /// A JSON body.
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// JSON.
    pub fn answers<T: JsonSchema>(self, status: u16) -> Self {
        self.answers_as::<T>(status, "application/json")
    }

    /// Documents, one after the other.
    pub fn answers_as<T: JsonSchema>(mut self, status: u16, media_type: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            media_type,
            schema: Some(SchemaGenerator::subschema_for::<T>),
        });
        self
    }

    /// Bytes or text, or nothing where the media type is empty.
    pub fn answers_bytes(mut self, status: u16, media_type: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            media_type,
            schema: None,
        });
        self
    }

    pub fn conditional(mut self) -> Self {
        self.conditional = true;
        self
    }

    /// The answer is not stored for an Idempotency-Key.
    pub fn secret(mut self) -> Self {
        self.declared.secret = true;
        self
    }

    /// It takes a form of one of our pages, which may have the session's token in a field.
    pub fn form(mut self) -> Self {
        self.declared.form = true;
        self
    }

    /// It changes nothing, though it is a POST because of what it takes: it is not in the audit log.
    pub fn harmless(mut self) -> Self {
        self.declared.harmless = true;
        self
    }

    /// Until the head of the answer; less than a minute is the default.
    pub fn within(mut self, patience: Duration) -> Self {
        self.declared.patience = patience;
        self
    }
}

/// The router of all declarations.
pub fn router(app: &Arc<App>, all: Vec<Routes>) -> Router<Arc<App>> {
    let mut router = Router::new();
    for routes in all {
        for op in routes.ops {
            let gate = guard::Gate {
                app: app.clone(),
                op: Arc::new(op.declared),
            };
            let guarded = op
                .handler
                .route_layer(middleware::from_fn_with_state(gate, guard::admit));
            router = router.route(&format!("{}{}", routes.prefix, op.path), guarded);
        }
    }
    router
}
