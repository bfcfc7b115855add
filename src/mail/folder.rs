//! The templates of mails that tasks send: NAME.txt, NAME.html or both, and NAME.subject, in one folder.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::render::one_line;
use super::template::{Template, Vocabulary};
use super::{Error, Kind};

/// Templates by their names.
#[derive(Debug, Default)]
pub struct Folder(BTreeMap<String, Texts>);

#[derive(Debug, Default)]
struct Texts {
    subject: Option<Template>,
    text: Option<Template>,
    html: Option<Template>,
}

/// A mail's words, as far as its template has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// One line.
    pub subject: Option<String>,
    /// The mail as text.
    pub text: Option<String>,
    /// The mail as HTML.
    pub html: Option<String>,
}

impl Folder {
    /// Reads a folder's templates, all but those of accounts' mails. Gives those that can be used, and why others cannot.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn load(folder: &Path) -> Result<(Self, Vec<Error>), Error> {
        let failed = |source| Error::File { path: folder.to_owned(), source };
        let mut found = BTreeMap::<String, Texts>::new();
        let mut errors = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let part = |part: Option<&std::ffi::OsStr>| part.and_then(std::ffi::OsStr::to_str).map(str::to_owned);
            let (Some(name), Some(kind)) = (part(path.file_stem()), part(path.extension())) else { continue };
            let known = matches!(kind.as_str(), "subject" | "txt" | "html");
            if !known || name.starts_with('.') || Kind::ALL.iter().any(|kind| kind.name() == name) {
                continue;
            }
            let template = match read(&path, &kind) {
                Ok(template) => template,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let texts = found.entry(name).or_default();
            match kind.as_str() {
                "subject" => texts.subject = Some(template),
                "txt" => texts.text = Some(template),
                _ => texts.html = Some(template),
            }
        }
        found.retain(|_, texts| texts.text.is_some() || texts.html.is_some());
        Ok((Self(found), errors))
    }

    /// Whether there is a template of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names of the templates, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The mail of a template with values put in; nothing if there is none of that name.
    ///
    /// # Errors
    /// The name of a value that is not there.
    #[must_use]
    pub fn render(&self, name: &str, values: &Map<String, Value>) -> Option<Result<Words, String>> {
        let texts = self.0.get(name)?;
        let render = |template: &Option<Template>| template.as_ref().map(|it| it.render_free(values)).transpose();
        Some((|| {
            Ok(Words {
                subject: render(&texts.subject)?.map(|subject| one_line(&subject)),
                text: render(&texts.text)?,
                html: render(&texts.html)?,
            })
        })())
    }
}

fn read(path: &Path, kind: &str) -> Result<Template, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let text = if kind == "subject" { text.trim_end() } else { &text };
    Template::read(&path.display().to_string(), text, kind == "html", Vocabulary::Free)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_folder_s_templates_are_there_by_name_and_those_of_accounts_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("bill.subject", "Bill {{ .number }}\n");
        write("bill.txt", "Dear {{ .name }}");
        write("bill.html", "<p>Dear {{ .name }}</p>");
        write("recovery.txt", "{{ .Token }}");
        write("lonely.subject", "x");
        write("notes.md", "{{ broken");
        let (templates, errors) = Folder::load(folder.path()).unwrap();
        assert!(errors.is_empty());
        assert_eq!(templates.names().collect::<Vec<_>>(), ["bill"]);
        let values = json!({"number": "7\r\nBcc: x@example.org", "name": "<Ann>"}).as_object().cloned().unwrap();
        let words = templates.render("bill", &values).unwrap().unwrap();
        assert_eq!(words.subject.unwrap(), "Bill 7  Bcc: x@example.org");
        assert_eq!(words.text.unwrap(), "Dear <Ann>");
        assert_eq!(words.html.unwrap(), "<p>Dear &lt;Ann&gt;</p>");
        assert_eq!(templates.render("bill", &Map::new()).unwrap().unwrap_err(), "number");
        assert!(templates.render("other", &values).is_none() && !templates.has("lonely"));
        write("bad.txt", "{{ nonsense }}");
        let (templates, errors) = Folder::load(folder.path()).unwrap();
        assert!(templates.has("bill") && !templates.has("bad"));
        assert!(errors.len() == 1 && errors[0].to_string().contains("bad.txt, line 1"), "{errors:?}");
        assert!(Folder::load(&folder.path().join("none")).is_err());
    }
}
