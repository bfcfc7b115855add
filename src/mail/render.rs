//! The mails that accounts need: which there are, what can be put into them, and the built-in and the operator's
//! templates.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::template::{Template, Vocabulary};
use super::{Config, Error};
use crate::assets;

/// Which mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Confirms the address of a new account.
    Confirmation,
    /// Lets somebody in who forgot the password.
    Recovery,
    /// Signs in without a password.
    MagicLink,
    /// Invites somebody.
    Invite,
    /// Confirms the change to another address, sent to the old and to the new one.
    EmailChange,
    /// Confirms that it is really the user.
    Reauthentication,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Confirmation, Self::Recovery, Self::MagicLink, Self::Invite, Self::EmailChange, Self::Reauthentication];

    /// The name of its files and of its subject's key.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirmation => "confirmation",
            Self::Recovery => "recovery",
            Self::MagicLink => "magic_link",
            Self::Invite => "invite",
            Self::EmailChange => "email_change",
            Self::Reauthentication => "reauthentication",
        }
    }
}

/// What can be put into a mail.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The link to follow.
    pub confirmation_url: &'a str,
    /// The code to type in.
    pub token: &'a str,
    /// The token of the link, for links of the application's own.
    pub token_hash: &'a str,
    /// The site's address.
    pub site_url: &'a str,
    /// Where the link leads in the end.
    pub redirect_to: &'a str,
    /// The user's address.
    pub email: &'a str,
    /// The address that the user changes to.
    pub new_email: &'a str,
    /// The address that this mail goes to.
    pub sending_to: &'a str,
    /// The user's own data.
    pub data: &'a Map<String, Value>,
}

static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

impl Default for Values<'_> {
    fn default() -> Self {
        Self {
            confirmation_url: "",
            token: "",
            token_hash: "",
            site_url: "",
            redirect_to: "",
            email: "",
            new_email: "",
            sending_to: "",
            data: &NOTHING,
        }
    }
}

/// A mail as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// One line.
    pub subject: String,
    /// The mail as text.
    pub text: String,
    /// The mail as HTML.
    pub html: String,
}

/// The templates of all mails.
#[derive(Debug)]
pub struct Templates([Texts; Kind::ALL.len()]);

#[derive(Debug)]
struct Texts {
    subject: Template,
    text: Template,
    html: Template,
}

impl Templates {
    /// Reads the operator's templates, and the built-in ones for what is missing.
    ///
    /// # Errors
    /// A template that cannot be read or used, with its file and line.
    pub fn load(config: &Config) -> Result<Self, Error> {
        let folder = (!config.templates.as_os_str().is_empty()).then_some(config.templates.as_path());
        let [confirmation, recovery, magic_link, invite, email_change, reauthentication] = Kind::ALL;
        let read = |kind| Texts::read(kind, config, folder);
        Ok(Self([
            read(confirmation)?,
            read(recovery)?,
            read(magic_link)?,
            read(invite)?,
            read(email_change)?,
            read(reauthentication)?,
        ]))
    }

    /// The mail of a kind, with values put in.
    #[must_use]
    pub fn render(&self, kind: Kind, values: &Values<'_>) -> Letter {
        let texts = &self.0[kind as usize];
        let subject = texts.subject.render(values);
        Letter { subject: one_line(&subject), text: texts.text.render(values), html: texts.html.render(values) }
    }
}

/// A subject: a header's line ends where a value says so, unless it cannot say so.
pub(super) fn one_line(subject: &str) -> String {
    subject.chars().map(|ch| if ch.is_control() { ' ' } else { ch }).take(200).collect()
}

impl Texts {
    fn read(kind: Kind, config: &Config, folder: Option<&Path>) -> Result<Self, Error> {
        let name = kind.name();
        let body = |extension: &str, markup: bool| {
            let file = format!("{name}.{extension}");
            let own = folder.map(|folder| folder.join(&file));
            match own.map(|path| (std::fs::read_to_string(&path), path)) {
                Some((Ok(text), path)) => {
                    Template::read(&path.display().to_string(), &text, markup, Vocabulary::Accounts)
                }
                Some((Err(source), path)) if source.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::File { path, source })
                }
                _ => Template::read(&file, assets::text(&format!("mail/{file}")), markup, Vocabulary::Accounts),
            }
        };
        Ok(Self {
            subject: Template::read(
                &format!("mail.subjects.{name}"),
                config.subjects.of(kind),
                false,
                Vocabulary::Accounts,
            )?,
            text: body("txt", false)?,
            html: body("html", true)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values<'static> {
        Values {
            confirmation_url: "https://a.example/auth/v1/verify?token=abc",
            token: "123456",
            email: "ann@example.org",
            new_email: "new@example.org",
            site_url: "https://a.example",
            ..Values::default()
        }
    }

    #[test]
    fn every_built_in_mail_has_its_link_or_code_in_both_forms() {
        let templates = Templates::load(&Config::default()).unwrap();
        for kind in Kind::ALL {
            let letter = templates.render(kind, &values());
            assert!(!letter.subject.is_empty(), "{kind:?}");
            for part in [&letter.text, &letter.html] {
                assert!(part.contains("123456"), "{kind:?}: {part}");
                let link = part.contains("verify?token=abc");
                assert_eq!(link, kind != Kind::Reauthentication, "{kind:?}: {part}");
            }
        }
    }

    #[test]
    fn the_operators_template_goes_first_and_a_wrong_one_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { templates: folder.path().into(), ..Config::default() };
        std::fs::write(folder.path().join("recovery.html"), "Own {{ .Token }}").unwrap();
        let templates = Templates::load(&config).unwrap();
        assert_eq!(templates.render(Kind::Recovery, &values()).html, "Own 123456");
        assert!(templates.render(Kind::Recovery, &values()).text.contains("123456"));
        std::fs::write(folder.path().join("invite.txt"), "{{ .Tokn }}").unwrap();
        let message = Templates::load(&config).unwrap_err().to_string();
        assert!(message.contains("invite.txt, line 1: {{ .Tokn }} is not known"), "{message}");
    }

    #[test]
    fn a_subject_stays_on_one_line() {
        let mut config = Config::default();
        config.subjects.invite = "Hello {{ .Data.name }}".into();
        let data = serde_json::json!({"name": "x\r\nBcc: all@example.org"}).as_object().cloned().unwrap();
        let letter = Templates::load(&config).unwrap().render(Kind::Invite, &Values { data: &data, ..values() });
        assert_eq!(letter.subject, "Hello x  Bcc: all@example.org");
    }
}
