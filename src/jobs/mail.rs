//! Tasks that send a mail: through the server of [mail], from a template or with words of the task's own.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::call::{bind, object, source, string, unusable};
use super::config;
use super::fill::Text;
use crate::error::chain;
use crate::mail::{Folder, Mail, Mailer, Undelivered, Words};
use crate::tasks::native::{Call, Failure, Handler};

/// The most recipients of one mail.
const RECIPIENTS: usize = 100;
/// What a task may hand over whose configuration names no template, in this order.
const ARGUMENTS: [&str; 7] = ["to", "subject", "template", "values", "text", "html", "reply_to"];

/// A task that sends a mail.
pub(super) struct Post {
    mailer: Mailer,
    templates: Arc<Folder>,
    to: Vec<Text>,
    subject: Option<Text>,
    template: Option<String>,
    reply_to: Option<String>,
}

/// Why there is no such task.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder has no such template.
    #[error("there is no template {0}: neither {0}.txt nor {0}.html")]
    Template(String),
    /// A text of the configuration cannot be read.
    #[error("{0} {1}")]
    Text(&'static str, String),
}

impl Post {
    /// The task of a configuration that was validated.
    ///
    /// # Errors
    /// A template that is not there.
    pub(super) fn new(config: &config::Mail, mailer: Mailer, templates: Arc<Folder>) -> Result<Self, Error> {
        let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
        let template = filled(&config.template);
        if let Some(name) = template.as_ref().filter(|name| !templates.has(name)) {
            return Err(Error::Template(name.clone()));
        }
        let read = |key, text: &String| Text::parse(text).map_err(|problem| Error::Text(key, problem));
        Ok(Self {
            mailer,
            templates,
            to: config.to.iter().map(|to| read("to", to)).collect::<Result<_, _>>()?,
            subject: filled(&config.subject).map(|subject| read("subject", &subject)).transpose()?,
            template,
            reply_to: filled(&config.reply_to),
        })
    }

    fn put_together(&self, call: &Call) -> Result<Mail, Failure> {
        let (free, none);
        let (bound, template, values) = if let Some(template) = &self.template {
            (&call.kwargs, Some(template.as_str()), &call.kwargs)
        } else {
            (free, none) = (bind(call, &ARGUMENTS)?, Map::new());
            (&free, string(&free, "template")?, object(&free, "values")?.unwrap_or(&none))
        };
        let mut words = match template {
            Some(name) => self.words(name, values)?,
            None => Words::default(),
        };
        if self.template.is_none() {
            for (part, name) in [(&mut words.text, "text"), (&mut words.html, "html"), (&mut words.subject, "subject")]
            {
                if let Some(text) = string(bound, name)? {
                    *part = Some(text.to_owned());
                }
            }
        }
        if let Some(subject) = &self.subject {
            words.subject = Some(subject.fill(&source(call), str::to_owned)?);
        }
        if words.text.is_none() && words.html.is_none() {
            return Err(Failure::arguments("the mail has no words: 'template', 'text' or 'html' is missing"));
        }
        let Some(subject) = words.subject else {
            return Err(Failure::arguments("the mail has no subject"));
        };
        let reply_to = match (&self.reply_to, &self.template) {
            (Some(own), _) => Some(own.clone()),
            (None, None) => string(bound, "reply_to")?.map(str::to_owned),
            (None, Some(_)) => None,
        };
        let to = self.recipients(call, bound)?;
        let subject = subject.chars().map(|ch| if ch.is_control() { ' ' } else { ch }).collect();
        Ok(Mail { to, reply_to, subject, text: words.text, html: words.html, id: call.id.to_string() })
    }

    fn words(&self, template: &str, values: &Map<String, Value>) -> Result<Words, Failure> {
        match self.templates.render(template, values) {
            Some(Ok(words)) => Ok(words),
            Some(Err(missing)) => {
                Err(Failure::arguments(format!("the template {template} has '{missing}', and the task has not")))
            }
            None => {
                let known: Vec<&str> = self.templates.names().collect();
                Err(unusable(format!("there is no template {template}; there are: {}", known.join(", "))))
            }
        }
    }

    fn recipients(&self, call: &Call, bound: &Map<String, Value>) -> Result<Vec<String>, Failure> {
        let mut to = Vec::new();
        if self.to.is_empty() {
            match bound.get("to") {
                Some(Value::String(one)) => to.push(one.clone()),
                Some(Value::Array(list)) => {
                    to.extend(list.iter().map(|one| one.as_str().unwrap_or_default().to_owned()));
                }
                _ => return Err(Failure::arguments("'to' is missing: an address, or a list of them")),
            }
        }
        for text in &self.to {
            to.push(text.fill(&source(call), str::to_owned)?);
        }
        if to.is_empty() || to.len() > RECIPIENTS {
            return Err(unusable(format!("a mail goes to 1 to {RECIPIENTS} addresses, and not to {}", to.len())));
        }
        Ok(to)
    }
}

impl Handler for Post {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        async move {
            let mail = self.put_together(&call)?;
            // Not ended by a soft limit: a conversation that is cut short may have delivered the mail.
            deliver(&self.mailer, &mail).await
        }
        .boxed()
    }
}

/// Hands a mail to the mail server.
///
/// # Errors
/// It was not taken. Addresses are not repeated.
pub(super) async fn deliver(mailer: &Mailer, mail: &Mail) -> Result<Value, Failure> {
    match mailer.deliver(mail).await {
        Ok(()) => Ok(json!({ "recipients": mail.to.len() })),
        Err(Undelivered::Final(problem)) => Err(Failure::permanent("MailRefused", problem)),
        Err(Undelivered::Later(problem)) => Err(Failure::passing("MailDelayed", problem)),
        Err(Undelivered::Unsendable(error)) => Err(unusable(chain(&error).to_string())),
    }
}
