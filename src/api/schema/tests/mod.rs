//! Catalogues read from a real server, by a role that is no superuser.

mod embeds;
mod reading;
mod scratch;

use super::{Catalog, Name, Scope, load};

const FIXTURES: &str = include_str!("fixtures.sql");

/// The catalogue of the fixtures.
async fn fixtures() -> Catalog {
    let (_, owner) = scratch::database(FIXTURES).await;
    let schemas = ["test".to_owned()];
    let extra = ["extensions".to_owned()];
    let scope = Scope { schemas: &schemas, extra_search_path: &extra, login: None };
    load(&owner, &scope, None).await.unwrap_or_else(|error| panic!("{}", crate::error::chain(&error)))
}

fn name(name: &str) -> Name {
    Name { schema: "test".into(), name: name.into() }
}
