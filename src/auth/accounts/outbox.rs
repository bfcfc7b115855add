//! Mails to users: makes their codes and links, and sends them.
//!
//! A mail is prepared in the transaction that stores its token, and posted after the commit: a link that leads nowhere
//! would be worse than none.

use time::OffsetDateTime;

use super::answer;
use super::failure::Failure;
use super::limits::Class;
use super::store::Db;
use super::store::tokens::{self, Purpose};
use super::token;
use super::user::{User, filled};
use super::{Inner, MOUNT};
use crate::auth::hooks::Point;
use crate::mail::{Kind, Values};

/// A mail that is ready to go.
#[derive(Debug)]
pub struct Mailing {
    kind: Kind,
    to: String,
    /// The code to type in.
    pub code: String,
    /// What the link has in place of the code.
    pub hash: String,
    /// The link's `type`.
    pub action: &'static str,
    /// Where the link leads in the end.
    pub redirect_to: String,
}

/// The link's `type` for a kind of mail.
#[must_use]
pub fn action(kind: Kind) -> &'static str {
    match kind {
        Kind::Confirmation => "signup",
        Kind::Recovery => "recovery",
        Kind::MagicLink => "magiclink",
        Kind::Invite => "invite",
        Kind::EmailChange => "email_change",
        Kind::Reauthentication => "reauthentication",
    }
}

impl Inner {
    /// Whether mails go anywhere.
    pub(super) fn mails(&self) -> bool {
        self.mailer.is_on() || self.hooks.has(Point::SendEmail)
    }

    /// Whether a mail may be sent at all; asked before it is known whether somebody has an account.
    pub(super) fn may_mail(&self) -> Result<(), Failure> {
        if !self.mails() {
            return Err(crate::mail::Error::Unset.into());
        }
        self.limits
            .take_shared(Class::MailSent)
            .map_err(|wait| Failure { message: "email rate limit exceeded".into(), ..Failure::too_soon(wait) })
    }

    /// The wait after the last mail of a kind to the user.
    pub(super) fn check_interval(&self, sent: Option<OffsetDateTime>) -> Result<(), Failure> {
        match User::wait(sent, self.config.mail_interval, OffsetDateTime::now_utc()) {
            None => Ok(()),
            Some(wait) => Err(Failure::too_soon(wait)),
        }
    }

    /// The same wait for an address that nobody has.
    pub(super) fn check_unknown(&self, kind: Kind, address: &str) -> Result<(), Failure> {
        self.limits.take_address(kind.name(), address, self.config.mail_interval).map_err(Failure::too_soon)
    }

    /// Makes the code and the link of a mail and stores their hash, in the user too, who is to be saved afterwards.
    /// `pkce` says that the link continues a flow of PKCE. A change of the address makes up to two mails.
    pub(super) async fn prepare(
        &self,
        db: &impl Db,
        user: &mut User,
        kind: Kind,
        pkce: bool,
        redirect_to: &str,
    ) -> Result<Vec<Mailing>, Failure> {
        let now = OffsetDateTime::now_utc();
        let address = user.address().to_owned();
        let make = |to: &str| -> Result<Mailing, Failure> {
            let code = token::code(self.config.otp_length)?;
            let hash = format!("{}{}", if pkce { token::PKCE } else { "" }, token::hash(to, &code));
            let redirect_to = redirect_to.to_owned();
            Ok(Mailing { kind, to: to.to_owned(), code, hash, action: action(kind), redirect_to })
        };
        let mut mailings = Vec::new();
        match kind {
            Kind::Confirmation | Kind::Invite => {
                let mailing = make(&address)?;
                tokens::put(db, user.id, Purpose::Confirmation, &mailing.hash, &address).await?;
                user.confirmation_token = Some(mailing.hash.clone());
                user.confirmation_sent_at = Some(now);
                if kind == Kind::Invite {
                    user.invited_at = Some(now);
                }
                mailings.push(mailing);
            }
            Kind::Recovery | Kind::MagicLink => {
                let mailing = make(&address)?;
                tokens::put(db, user.id, Purpose::Recovery, &mailing.hash, &address).await?;
                user.recovery_token = Some(mailing.hash.clone());
                user.recovery_sent_at = Some(now);
                mailings.push(mailing);
            }
            Kind::Reauthentication => {
                let mailing = make(&address)?;
                tokens::put(db, user.id, Purpose::Reauthentication, &mailing.hash, &address).await?;
                user.reauthentication_token = Some(mailing.hash.clone());
                user.reauthentication_sent_at = Some(now);
                mailings.push(mailing);
            }
            Kind::EmailChange => {
                let new = filled(user.email_change.as_ref()).unwrap_or_default().to_owned();
                let mailing = make(&new)?;
                tokens::put(db, user.id, Purpose::EmailChangeNew, &mailing.hash, &new).await?;
                user.email_change_token_new = Some(mailing.hash.clone());
                user.email_change_token_current = None;
                mailings.push(mailing);
                if self.config.secure_email_change && !address.is_empty() {
                    let mailing = make(&address)?;
                    tokens::put(db, user.id, Purpose::EmailChangeCurrent, &mailing.hash, &address).await?;
                    user.email_change_token_current = Some(mailing.hash.clone());
                    mailings.push(mailing);
                } else {
                    tokens::take(db, user.id, Purpose::EmailChangeCurrent).await?;
                }
                user.email_change_confirm_status = 0;
                user.email_change_sent_at = Some(now);
            }
        }
        Ok(mailings)
    }

    /// The link with a token's hash.
    pub(super) fn link(&self, hash: &str, action: &str, redirect_to: &str) -> String {
        let pairs = [("token", hash), ("type", action)];
        // Programs look for the address as it was given; it is encoded where the link would be read otherwise.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/@?,".contains(&byte);
        let redirect_to = if redirect_to.bytes().all(plain) {
            format!("redirect_to={redirect_to}")
        } else {
            answer::form(&[("redirect_to", redirect_to)])
        };
        format!("{}{MOUNT}/verify?{}&{redirect_to}", self.base_url, answer::form(&pairs))
    }

    /// Sends what was prepared, after the commit.
    pub(super) fn post(&self, user: &User, mailings: &[Mailing]) -> Result<(), Failure> {
        if self.hooks.has(Point::SendEmail) {
            return self.post_by_hook(user, mailings);
        }
        for mailing in mailings {
            let values = Values {
                confirmation_url: &self.link(&mailing.hash, mailing.action, &mailing.redirect_to),
                token: &mailing.code,
                token_hash: &mailing.hash,
                site_url: self.allowed.site_url(),
                redirect_to: &mailing.redirect_to,
                email: user.address(),
                new_email: filled(user.email_change.as_ref()).unwrap_or_default(),
                sending_to: &mailing.to,
                data: &user.user_metadata,
            };
            self.mailer.send(mailing.kind, &mailing.to, &values)?;
        }
        Ok(())
    }
}
