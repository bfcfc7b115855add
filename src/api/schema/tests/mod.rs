//! Catalogues read from a real server, by a role that is no superuser.

mod embeds;
mod keeping;
mod reading;
pub(in crate::api) mod scratch;

use tokio_postgres::Client;

use super::{Catalog, Error, Name, Scope, load};

const FIXTURES: &str = include_str!("fixtures.sql");

/// The catalogue of the fixtures.
async fn fixtures() -> Catalog {
    let (_, mut owner) = scratch::database(FIXTURES).await;
    let schemas = ["test".to_owned()];
    let extra = ["extensions".to_owned()];
    let scope = Scope { schemas: &schemas, extra_search_path: &extra, login: None };
    read(&mut owner, &scope, None).await.unwrap_or_else(|error| panic!("{}", crate::error::chain(&error)))
}

async fn read(session: &mut Client, scope: &Scope<'_>, last: Option<&Catalog>) -> Result<Catalog, Error> {
    load(&session.transaction().await.unwrap(), scope, last).await
}

fn name(name: &str) -> Name {
    Name { schema: "test".into(), name: name.into() }
}
