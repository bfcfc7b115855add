//! Who asks: the user of an access token, or somebody with an administrator's key.

use futures_util::future::try_join;
use http::HeaderName;
use uuid::Uuid;

use super::Inner;
use super::ask::Ask;
use super::failure::Failure;
use super::store::sessions::{self, Session};
use super::store::{Db, users};
use super::user::User;

/// A user with a good access token.
pub struct Signed {
    /// The user as the database has it now.
    pub user: User,
    /// The session of the token; tokens that others made may have none.
    pub session: Option<Session>,
}

/// Roles that may call what is for administrators.
const ADMINISTRATORS: [&str; 2] = ["service_role", "supabase_admin"];

const API_KEY: HeaderName = HeaderName::from_static("apikey");

impl Inner {
    /// The user of the request's access token, whose session must still be there.
    pub(super) async fn signed(&self, db: &impl Db, ask: &Ask) -> Result<Signed, Failure> {
        let token = ask
            .bearer()
            .ok_or_else(|| Failure::unauthorized("no_authorization", "This endpoint requires a Bearer token"))?;
        let claims = self.keys.verify(token).map_err(|error| bad_token(&error.message()))?;
        let subject = claims.text("sub").filter(|subject| !subject.is_empty());
        let subject = subject.ok_or_else(|| Failure::forbidden("bad_jwt", "invalid claim: missing sub claim"))?;
        let id =
            Uuid::try_parse(subject).map_err(|_| Failure::bad("bad_jwt", "invalid claim: sub claim must be a UUID"))?;
        let session = match claims.text("session_id").filter(|session| !session.is_empty()) {
            None => None,
            Some(session) => Some(
                Uuid::try_parse(session)
                    .map_err(|_| Failure::forbidden("bad_jwt", "invalid claim: session_id claim must be a UUID"))?,
            ),
        };
        let of_session = async {
            match session {
                Some(session) => sessions::by_id(db, session).await,
                None => Ok(None),
            }
        };
        let (user, found) = try_join(users::by_id(db, id), of_session).await?;
        let user =
            user.ok_or_else(|| Failure::forbidden("user_not_found", "User from sub claim in JWT does not exist"))?;
        let found = found.filter(|session| session.user_id == id);
        if session.is_some() && found.is_none() {
            let message = "Session from session_id claim in JWT does not exist";
            return Err(Failure::forbidden("session_not_found", message));
        }
        Ok(Signed { user, session: found })
    }

    /// The role of an administrator's key or token.
    pub(super) fn administrator(&self, ask: &Ask) -> Result<String, Failure> {
        if ask.bearer().is_none() && ask.header(API_KEY).is_none() {
            return Err(Failure::unauthorized("no_authorization", "This endpoint requires a Bearer token"));
        }
        let caller = self.gateway.identify(&ask.headers).map_err(|refusal| bad_token(&refusal.message))?;
        if ADMINISTRATORS.contains(&&*caller.role) {
            return Ok(caller.role.to_string());
        }
        Err(Failure::forbidden("not_admin", "User not allowed"))
    }
}

fn bad_token(problem: &str) -> Failure {
    Failure::forbidden("bad_jwt", format!("invalid JWT: unable to parse or verify signature, {problem}"))
}
