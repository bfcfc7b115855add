//! Tasks that call a function in the database. A task names a function and values; it never has a statement.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::body::whole;
use super::call::{bind, forbidden, source, string, until_asked, unusable};
use super::config::{self, Arguments};
use super::function::{Name, Pattern, call as statement, call_with_json};
use crate::db::{self, Pool, Transaction};
use crate::error::chain;
use crate::tasks::native::{Call, Failure, Handler};

/// What a task may hand over that names its function, in this order.
const ARGUMENTS: [&str; 2] = ["function", "args"];
/// The role where the configuration names none.
pub(super) const ROLE: &str = "service_role";
/// Longer than the database's own limit, whose error says more.
const GRACE: Duration = Duration::from_secs(5);
/// Where there is no limit.
const LONGEST: Duration = Duration::from_hours(24 * 7);

/// A task that calls a function.
pub(super) struct Procedure {
    /// None: there is no database.
    pool: Option<Pool>,
    /// None: the task names it.
    name: Option<Name>,
    allowed: Vec<Pattern>,
    arguments: Arguments,
    role: String,
    time_limit: Duration,
}

impl Procedure {
    /// The task of a configuration that was validated; it ends a call after `time_limit`, if that is not zero. The pool's
    /// login must be able to become the role.
    pub(super) fn new(config: &config::Sql, pool: Option<Pool>, time_limit: Duration) -> Self {
        Self {
            pool,
            name: Name::parse(&config.function),
            allowed: config.functions.iter().filter_map(|name| Pattern::parse(name)).collect(),
            arguments: config.arguments,
            role: if config.role.is_empty() { ROLE.into() } else { config.role.clone() },
            time_limit,
        }
    }

    async fn call(&self, call: &Call) -> Result<Value, Failure> {
        let Some(name) = &self.name else {
            let bound = bind(call, &ARGUMENTS)?;
            let name = string(&bound, "function")?.ok_or_else(|| Failure::arguments("'function' is missing"))?;
            let name = Name::parse(name)
                .ok_or_else(|| unusable(format!("'{name}' is no function with its schema, as in schema.function")))?;
            if !self.allowed.iter().any(|pattern| pattern.allows(&name)) {
                return Err(forbidden(format!(
                    "the function {name} is not allowed: sql.functions of the task's handler does not name it"
                )));
            }
            return match bound.get("args") {
                None | Some(Value::Null) => self.perform(call, &name, &[], &Map::new()).await,
                Some(Value::Array(args)) => self.perform(call, &name, args, &Map::new()).await,
                Some(Value::Object(kwargs)) => self.perform(call, &name, &[], kwargs).await,
                Some(_) => Err(Failure::arguments("'args' must be a list or an object")),
            };
        };
        self.perform(call, name, &call.args, &call.kwargs).await
    }

    async fn perform(
        &self,
        call: &Call,
        name: &Name,
        args: &[Value],
        kwargs: &Map<String, Value>,
    ) -> Result<Value, Failure> {
        let pool = self.pool.as_ref().ok_or_else(|| Failure::passing("Unavailable", "there is no database"))?;
        let (sql, parameters) = match self.arguments {
            Arguments::Named => statement(name, args, kwargs),
            Arguments::Json => call_with_json(name, &whole(&super::fill::Source { args, kwargs, ..source(call) })),
        };
        let limit = self.time_limit.as_millis().to_string();
        let claims = json!({ "role": self.role }).to_string();
        let settings = [
            ("statement_timeout", limit.as_str()),
            ("search_path", name.search_path()),
            ("role", &self.role),
            ("request.jwt.claims", &claims),
            ("application_name", "beacon tasks"),
        ];
        let transaction = Transaction {
            read_only: false,
            isolation: None,
            settings: &settings,
            before: None,
            sql: &sql,
            parameters: &parameters,
            rollback: false,
            prepare: true,
        };
        let longest = if self.time_limit.is_zero() { LONGEST } else { self.time_limit + GRACE };
        let row = pool.transact_within(&transaction, longest).await.map_err(|error| failure(&error))?;
        let text: Option<String> = row.try_get(0).map_err(|error| failure(&error.into()))?;
        text.map_or(Ok(Value::Null), |text| {
            serde_json::from_str(&text).map_err(|error| unusable(format!("the function's result is no JSON: {error}")))
        })
    }
}

impl Handler for Procedure {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        // Who drops the statement's future has it cancelled, and the transaction rolled back.
        async move { until_asked(&call.cancel, self.call(&call)).await }.boxed()
    }
}

/// What an error of the database means for the task.
fn failure(error: &db::Error) -> Failure {
    let Some(told) = error.database() else {
        let message = chain(error).to_string();
        let passes = error.is_unavailable() || matches!(error, db::Error::Busy(_));
        return if passes {
            Failure::passing("Unavailable", message)
        } else {
            Failure::permanent("DatabaseError", message)
        };
    };
    let code = told.code().code();
    let message = format!("{} (SQLSTATE {code})", told.message());
    if passes(code) || error.is_unavailable() {
        Failure::passing("DatabaseError", message)
    } else {
        Failure::permanent("DatabaseError", message)
    }
}

/// Whether the same call may succeed later: it met another transaction, or the server is out of something, going away, or no
/// longer the primary.
/// Functions say so themselves by raising PT429 or PT500 to PT599, as for the API.
fn passes(code: &str) -> bool {
    matches!(code, "25006" | "40001" | "40P01" | "55P03" | "PT429")
        || ["53", "08", "57P", "PT5"].iter().any(|class| code.starts_with(class))
}
