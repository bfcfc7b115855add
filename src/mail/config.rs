//! Configuration of mail: the section `[mail]`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};

use super::Kind;
use crate::clock::duration;
use crate::error::Fault;
use crate::secret::Secret;

/// The mail server, and what is sent through it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The mail server's name; "" sends no mail at all.
    pub host: String,
    /// Its port; 0 is 587 for "starttls", 465 for "tls" and 25 for "none".
    pub port: u16,
    /// "starttls" (encryption is demanded, not only tried), "tls" (from the first byte), or "none", which takes no
    /// password unless the server is on this machine.
    pub security: Security,
    /// Certificates (PEM) to trust beside the public ones, for a mail server with a private authority; "" is none.
    pub ca_file: PathBuf,
    /// The user name; "" sends without signing in.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// The sender, as in "Example <no-reply@example.org>".
    pub from: String,
    /// The name this side greets the server with; "" is the domain of mail.from.
    pub hello: String,
    /// How long one step of a conversation with the mail server may take.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How long a mail is tried again while the server is away or asks to come later.
    #[serde(with = "duration")]
    pub give_up_after: Duration,
    /// The most mails that wait at a time; more are refused.
    pub queue: u32,
    /// The most conversations with the mail server at a time.
    pub connections: u32,
    /// A folder with templates of your own: NAME.html, NAME.txt, or both, where NAME is confirmation, recovery,
    /// magic_link, invite, email_change or reauthentication. What is missing is built in; "" is none.
    pub templates: PathBuf,
    /// The subject lines, which are templates too.
    pub subjects: Subjects,
}

/// The subject line of each mail.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Subjects {
    /// Confirms the address of a new account.
    pub confirmation: String,
    /// Lets somebody in who forgot the password.
    pub recovery: String,
    /// Signs in without a password.
    pub magic_link: String,
    /// Invites somebody.
    pub invite: String,
    /// Confirms the change to another address.
    pub email_change: String,
    /// Confirms that it is really the user who changes the password.
    pub reauthentication: String,
}

/// How the conversation with the mail server is protected.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Plain until STARTTLS, which must succeed.
    #[default]
    Starttls,
    /// TLS from the start.
    Tls,
    /// Not at all.
    None,
}

impl Security {
    /// The port that is usual for it.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 0,
            security: Security::Starttls,
            ca_file: PathBuf::new(),
            username: String::new(),
            password: Secret::default(),
            from: String::new(),
            hello: String::new(),
            timeout: Duration::from_secs(10),
            give_up_after: Duration::from_mins(15),
            queue: 1_000,
            connections: 4,
            templates: PathBuf::new(),
            subjects: Subjects::default(),
        }
    }
}

impl Default for Subjects {
    fn default() -> Self {
        Self {
            confirmation: "Confirm your address".into(),
            recovery: "Reset your password".into(),
            magic_link: "Your sign-in link".into(),
            invite: "You have been invited".into(),
            email_change: "Confirm your new address".into(),
            reauthentication: "{{ .Token }} is your confirmation code".into(),
        }
    }
}

impl Subjects {
    /// The subject of `kind`.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &str {
        match kind {
            Kind::Confirmation => &self.confirmation,
            Kind::Recovery => &self.recovery,
            Kind::MagicLink => &self.magic_link,
            Kind::Invite => &self.invite,
            Kind::EmailChange => &self.email_change,
            Kind::Reauthentication => &self.reauthentication,
        }
    }
}

impl Config {
    /// Whether mail can be sent.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.host.is_empty()
    }

    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.is_on() && self.from.parse::<Mailbox>().is_err() {
            let problem = if self.from.is_empty() { "is not set although mail.host is" } else { "is no mail address" };
            faults.push(Fault::new("from", problem, "Use \"Example <no-reply@example.org>\"."));
        }
        if self.host.contains(|ch: char| ch.is_whitespace() || ch.is_control() || ch == '/') {
            faults.push(Fault::new("host", "is no host name", "Use a name alone, as in \"smtp.example.org\"."));
        }
        if self.username.is_empty() != self.password.is_empty() {
            let (set, unset) =
                if self.username.is_empty() { ("password", "username") } else { ("username", "password") };
            faults.push(Fault::new(
                unset,
                format!("is not set although mail.{set} is"),
                format!("Set mail.{unset}, or remove mail.{set} if the server asks for neither."),
            ));
        }
        if self.security == Security::None && !self.username.is_empty() && !is_local(&self.host) {
            faults.push(Fault::new(
                "security",
                "is \"none\", which would send the password over the network for everybody to read",
                "Use \"starttls\" or \"tls\", or remove mail.username and mail.password.",
            ));
        }
        for (key, value) in [("queue", self.queue), ("connections", self.connections)] {
            if value == 0 {
                faults.push(Fault::new(key, "is 0, so that no mail could be sent", "Use 1 or more."));
            }
        }
        if self.timeout.is_zero() {
            faults.push(Fault::new("timeout", "is 0, so that no mail could be sent", "Use \"10s\"."));
        }
        faults
    }
}

/// Whether mail for `host` stays on this machine.
fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(config: &Config) -> Vec<String> {
        config.validate().into_iter().map(|fault| fault.key).collect()
    }

    fn usable() -> Config {
        Config { host: "smtp.example.org".into(), from: "Us <us@example.org>".into(), ..Config::default() }
    }

    #[test]
    fn no_server_needs_nothing_and_a_server_needs_a_sender() {
        assert!(keys(&Config::default()).is_empty());
        assert!(keys(&usable()).is_empty());
        assert_eq!(keys(&Config { from: String::new(), ..usable() }), ["from"]);
        assert_eq!(keys(&Config { from: "a@b\r\nBcc: c@d".into(), ..usable() }), ["from"]);
        assert_eq!(keys(&Config { host: "smtp://x".into(), ..usable() }), ["host"]);
    }

    #[test]
    fn a_password_never_crosses_a_network_in_clear() {
        let plain = Config { security: Security::None, username: "u".into(), password: Secret::new("p"), ..usable() };
        assert_eq!(keys(&plain), ["security"]);
        for host in ["127.0.0.1", "::1", "localhost"] {
            assert!(keys(&Config { host: host.into(), ..plain.clone() }).is_empty(), "{host}");
        }
        assert!(keys(&Config { username: String::new(), password: Secret::default(), ..plain }).is_empty());
    }

    #[test]
    fn half_of_the_credentials_is_a_fault() {
        assert_eq!(keys(&Config { username: "u".into(), ..usable() }), ["password"]);
        assert_eq!(keys(&Config { password: Secret::new("p"), ..usable() }), ["username"]);
    }
}
