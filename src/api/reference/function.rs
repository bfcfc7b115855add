//! The page of a function: each of its overloads, with arguments, what comes back, and a call.

use super::examples::Place;
use super::frame::Content;
use super::sights::Shown;
use crate::api::schema::{Function, Returns, Volatility};
use crate::http::escape;

/// What a function returns, in words.
pub(super) fn returns(function: &Function) -> String {
    let what = match &function.returns {
        Returns::Void => return "nothing".to_owned(),
        Returns::Scalar(type_name) => type_name.to_string(),
        Returns::Composite(name) => name.name.to_string(),
        Returns::Columns(columns) => {
            let columns: Vec<String> = columns.iter().map(|(name, type_name)| format!("{name} {type_name}")).collect();
            format!("({})", columns.join(", "))
        }
        Returns::Record => "record".to_owned(),
    };
    if function.returns_set { format!("rows of {what}") } else { what }
}

/// The page.
pub(super) fn page(shown: &Shown, overloads: &[std::sync::Arc<Function>]) -> Content {
    let Some(first) = overloads.first() else { return Content::default() };
    let place = Place { origin: &shown.origin, profile: shown.profile(&first.name.schema) };
    let mut content = Content::titled(&*first.name.name);
    for (at, function) in overloads.iter().enumerate() {
        if overloads.len() > 1 {
            // Calls are told apart by the names of their arguments.
            content.add(&format!("<h2>Form {}</h2>", at + 1));
        }
        content.comment(function.comment.as_deref());
        let reads = match function.volatility {
            Volatility::Volatile => "may write: POST only",
            Volatility::Stable | Volatility::Immutable => "reads only: GET or POST",
        };
        content.add(&format!("<ul class=\"can\"><li>returns {}</li><li>{reads}</li></ul>", escape(&returns(function))));
        if !function.parameters.is_empty() {
            content.add(&arguments(function));
        }
        content.add(&place.call(function));
    }
    content
}

fn arguments(function: &Function) -> String {
    let rows = function.parameters.iter().map(|parameter| {
        let name = if parameter.name.is_empty() {
            "the whole body".to_owned()
        } else {
            format!("<code>{}</code>", escape(&parameter.name))
        };
        let how = match (parameter.required, parameter.variadic) {
            (_, true) => "any number",
            (true, false) => "required",
            (false, false) => "optional",
        };
        format!("<tr><td>{name}</td><td><code>{}</code></td><td>{how}</td></tr>\n", escape(&parameter.type_name))
    });
    format!(
        "<div class=\"table\"><table><thead><tr><th>Argument</th><th>Type</th><th>Given</th></tr></thead>\n<tbody>\n{}\
         </tbody></table></div>",
        rows.collect::<String>()
    )
}
