//! /factors: second factors of the signed-in user. Codes of an authenticator (TOTP) are supported; factors by phone and
//! WebAuthn are refused by name.
//!
//! A right code raises the session to aal2, gives it another refresh token, and ends the user's sessions that have less:
//! whoever has only the password is out. A code counts once, and wrong ones are counted by challenge and by factor.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Inner;
use super::access::Signed;
use super::admin::identifier;
use super::answer;
use super::ask::Ask;
use super::failure::{Answer, Failure};
use super::limits::Class;
use super::session::Ticket;
use super::store::audit::{Action, Actor, note};
use super::store::sessions::{self, Session, Which};
use super::store::{Db, factors, users};
use super::token;
use crate::auth::totp::{self, Verdict};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Enrol {
    friendly_name: String,
    factor_type: String,
    issuer: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Verify {
    challenge_id: String,
    code: String,
}

/// A factor that was begun and not finished gives way after this.
const UNFINISHED: std::time::Duration = std::time::Duration::from_mins(5);
/// Wrong codes of one factor in an hour, times the attempts at one challenge.
const ROUNDS: i64 = 5;

impl Inner {
    /// The signed-in user, who has a session and is somebody.
    async fn member(&self, db: &impl Db, ask: &Ask) -> Result<(Signed, Session), Failure> {
        let signed = self.signed(db, ask).await?;
        if signed.user.is_anonymous {
            let message = "Anonymous user not allowed to perform these actions";
            return Err(Failure::forbidden("no_authorization", message));
        }
        let session = signed.session.clone().ok_or_else(|| {
            Failure::forbidden("session_not_found", "The access token belongs to no session of this server")
        })?;
        Ok((signed, session))
    }

    /// POST /factors
    pub(super) async fn enrol_factor(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::User, ask.client).map_err(Failure::too_many)?;
        let params: Enrol = ask.json()?;
        let mut connection = self.pool.get().await?;
        let (signed, session) = self.member(&*connection, ask).await?;
        match params.factor_type.as_str() {
            "totp" if self.config.mfa.totp_enroll => {}
            "totp" => {
                return Err(Failure::unprocessable("mfa_totp_enroll_not_enabled", "MFA enroll is disabled for TOTP"));
            }
            "phone" => {
                return Err(Failure::unprocessable("mfa_phone_enroll_not_enabled", "MFA enroll is disabled for Phone"));
            }
            "webauthn" => {
                let message = "MFA enroll is disabled for WebAuthn";
                return Err(Failure::unprocessable("mfa_webauthn_enroll_not_enabled", message));
            }
            _ => return Err(Failure::invalid("factor_type needs to be totp, phone, or webauthn")),
        }
        if params.friendly_name.len() > 255 {
            return Err(Failure::invalid("friendly_name may have at most 255 bytes"));
        }
        let site = self.allowed.site_host();
        let issuer = if params.issuer.is_empty() { &site } else { &params.issuer };
        let account = if signed.user.address().is_empty() {
            signed.user.phone.clone().unwrap_or_default()
        } else {
            signed.user.address().to_owned()
        };
        let made = totp::enrol(issuer, &account).map_err(|error| match error {
            totp::Error::TooLong => Failure::invalid(error.to_string()),
            other => Failure::internal("Error generating QR Code", other.to_string()),
        })?;

        let now = OffsetDateTime::now_utc();
        let transaction = connection.begin().await?;
        users::lock(&transaction, signed.user.id).await?;
        factors::remove_unverified(&transaction, signed.user.id, Some(now - UNFINISHED)).await?;
        let user = users::by_id(&transaction, signed.user.id).await?.ok_or_else(gone)?;
        if user.factors.iter().any(|factor| factor.friendly_name.as_deref() == Some(&*params.friendly_name)) {
            let message =
                format!("A factor with the friendly name {:?} for this user already exists", params.friendly_name);
            return Err(Failure::unprocessable("mfa_factor_name_conflict", message));
        }
        if user.factors.len() >= self.config.mfa.max_factors as usize {
            let message = "Maximum number of verified factors reached, unenroll to continue";
            return Err(Failure::unprocessable("too_many_enrolled_mfa_factors", message));
        }
        if user.has_factor() && session.aal == "aal1" {
            return Err(Failure::forbidden("insufficient_aal", "AAL2 required to enroll a new factor"));
        }
        let id = Uuid::new_v4();
        let name = Some(params.friendly_name.as_str()).filter(|name| !name.is_empty());
        factors::add(&transaction, user.id, id, name, made.secret.expose(), now).await?;
        note(&transaction, &Actor::User(&user), Action::FactorInProgress, json!({"factor_id": id}), ask.client).await?;
        transaction.commit().await?;
        answer::ok(&json!({
            "id": id,
            "type": "totp",
            "friendly_name": params.friendly_name,
            "totp": {
                "qr_code": made.svg.expose(),
                "secret": made.secret.expose(),
                "uri": made.uri.expose(),
            },
        }))
    }

    /// POST /factors/{id}/challenge
    pub(super) async fn challenge_factor(&self, ask: &Ask, factor: &str) -> Answer {
        self.limits.take(Class::Factor, ask.client).map_err(Failure::too_many)?;
        let factor = identifier(factor, "factor_id")?;
        let mut connection = self.pool.get().await?;
        let (signed, _) = self.member(&*connection, ask).await?;
        let transaction = connection.begin().await?;
        let found = factors::lock(&transaction, signed.user.id, factor).await?.ok_or_else(unknown)?;
        supported(&found)?;
        let now = OffsetDateTime::now_utc();
        let id = Uuid::new_v4();
        factors::challenge(&transaction, factor, id, ask.client, now).await?;
        let traits =
            json!({"factor_id": factor, "factor_status": if found.verified { "verified" } else { "unverified" }});
        note(&transaction, &Actor::User(&signed.user), Action::ChallengeCreated, traits, ask.client).await?;
        transaction.commit().await?;
        let expires_at = (now + self.config.mfa.challenge_expiry).unix_timestamp();
        answer::ok(&json!({"id": id, "type": "totp", "expires_at": expires_at}))
    }

    /// POST /factors/{id}/verify
    pub(super) async fn verify_factor(&self, ask: &Ask, factor: &str) -> Answer {
        self.limits.take(Class::Factor, ask.client).map_err(Failure::too_many)?;
        let factor = identifier(factor, "factor_id")?;
        let params: Verify = ask.json()?;
        if params.code.is_empty() {
            return Err(Failure::invalid("Code needs to be non-empty"));
        }
        let challenge =
            Uuid::try_parse(&params.challenge_id).map_err(|_| Failure::invalid("challenge_id must be an UUID"))?;
        if !self.config.mfa.totp_verify {
            let message = "MFA verification is disabled for TOTP";
            return Err(Failure::unprocessable("mfa_totp_verify_not_enabled", message));
        }
        let mut connection = self.pool.get().await?;
        let (signed, session) = self.member(&*connection, ask).await?;
        let transaction = connection.begin().await?;
        let step = match self.check_code(&transaction, &signed, factor, challenge, &params.code, ask).await? {
            Ok(step) => step,
            Err(failure) => {
                // The count of wrong codes must outlive the refusal.
                transaction.commit().await?;
                return Err(failure);
            }
        };
        let now = OffsetDateTime::now_utc();
        factors::answer(&transaction, factor, challenge, step, now).await?;
        factors::remove_unverified(&transaction, signed.user.id, None).await?;
        let session = sessions::lock(&transaction, session.id).await?.ok_or_else(gone)?;
        sessions::raise(&transaction, session.id, "totp", factor, now).await?;
        let refresh = token::opaque()?;
        let active = sessions::active_token(&transaction, session.id).await?;
        sessions::rotate(&transaction, &session, active.as_ref(), &refresh, now).await?;
        sessions::close(&transaction, signed.user.id, Which::Lower(session.id)).await?;
        let traits = json!({"factor_id": factor, "challenge_id": challenge, "factor_type": "totp"});
        note(&transaction, &Actor::User(&signed.user), Action::VerificationAttempted, traits, ask.client).await?;
        let user = users::by_id(&transaction, signed.user.id).await?.ok_or_else(gone)?;
        let session = sessions::by_id(&transaction, session.id).await?.ok_or_else(gone)?;
        transaction.commit().await?;
        drop(connection);
        let method = session.methods.first().map(|(method, _)| method.clone()).unwrap_or_default();
        let ticket = Ticket { user, session, refresh, fresh: false, method };
        answer::ok(&self.redeem(ticket).await?.json())
    }

    /// The step of a right code; inside, why a code is refused that was counted.
    async fn check_code(
        &self,
        db: &impl Db,
        signed: &Signed,
        factor: Uuid,
        challenge: Uuid,
        code: &str,
        ask: &Ask,
    ) -> Result<Result<i64, Failure>, Failure> {
        let found = factors::lock(db, signed.user.id, factor).await?.ok_or_else(unknown)?;
        supported(&found)?;
        let asked = factors::find_challenge(db, factor, challenge).await?.ok_or_else(|| {
            let message = "MFA factor with the provided challenge ID not found";
            Failure::unprocessable("mfa_factor_not_found", message)
        })?;
        if asked.answered || asked.client.to_canonical() != ask.client.to_canonical() {
            let message = "Challenge and verify IP addresses mismatch";
            return Err(Failure::unprocessable("mfa_ip_address_mismatch", message));
        }
        let now = OffsetDateTime::now_utc();
        let attempts = self.config.otp_attempts as i32;
        if asked.created_at + self.config.mfa.challenge_expiry < now || asked.attempts >= attempts {
            let message = format!(
                "MFA challenge {challenge} has expired, verify against another challenge or create a new challenge."
            );
            return Err(Failure::unprocessable("mfa_challenge_expired", message));
        }
        if factors::recent_misses(db, factor).await? >= i64::from(attempts) * ROUNDS {
            return Err(Failure::too_many(std::time::Duration::from_hours(1)));
        }
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let verdict = totp::check(&found.secret, code, seconds, found.last_step)
            .map_err(|error| Failure::internal("Database error verifying MFA TOTP secret", error.to_string()))?;
        Ok(match verdict {
            Verdict::Right(step) => Ok(step),
            Verdict::Used | Verdict::Wrong => {
                factors::miss(db, asked.id).await?;
                Err(Failure::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "mfa_verification_failed",
                    "Invalid TOTP code entered",
                ))
            }
        })
    }

    /// DELETE /factors/{id}
    pub(super) async fn remove_factor(&self, ask: &Ask, factor: &str) -> Answer {
        let factor = identifier(factor, "factor_id")?;
        let mut connection = self.pool.get().await?;
        let (signed, session) = self.member(&*connection, ask).await?;
        let transaction = connection.begin().await?;
        let found = factors::lock(&transaction, signed.user.id, factor).await?.ok_or_else(unknown)?;
        if found.verified && session.aal == "aal1" {
            return Err(Failure::unprocessable("insufficient_aal", "AAL2 required to unenroll verified factor"));
        }
        factors::remove(&transaction, signed.user.id, Some(factor)).await?;
        sessions::lower(&transaction, signed.user.id, factor).await?;
        let traits =
            json!({"factor_id": factor, "factor_status": if found.verified { "verified" } else { "unverified" }});
        note(&transaction, &Actor::User(&signed.user), Action::FactorUnenrolled, traits, ask.client).await?;
        transaction.commit().await?;
        answer::ok::<Value>(&json!({"id": factor}))
    }
}

fn supported(factor: &factors::Secret) -> Result<(), Failure> {
    match factor.kind.as_str() {
        "totp" => Ok(()),
        "phone" => {
            Err(Failure::unprocessable("mfa_phone_verify_not_enabled", "MFA verification is disabled for Phone"))
        }
        _ => {
            Err(Failure::unprocessable("mfa_webauthn_verify_not_enabled", "MFA verification is disabled for WebAuthn"))
        }
    }
}

fn unknown() -> Failure {
    Failure::not_found("mfa_factor_not_found", "Factor not found")
}

fn gone() -> Failure {
    Failure::forbidden("session_not_found", "The session has ended")
}
