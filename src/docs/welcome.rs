//! The page at "/" when nothing is configured: Beacon works, here is the documentation, this is what to do next.

use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};

use super::encoded::{Encoded, REVALIDATE};
use super::links;
use super::site::{refuse_method, wants_html};
use super::theme::Theme;
use super::view;
use crate::http::{Handler, Problem, Reply, Request, escape};

const HTML: &str = "text/html; charset=utf-8";

/// The three next steps: title, text, the name of the file, code.
const STEPS: [(&str, &str, &str, &str); 3] = [
    (
        "Serve a folder",
        "Put this into <code>/etc/beacon/beacon.toml</code> and your files are here instead of this page.",
        "beacon.toml",
        "[mounts.www]\npath = \"/\"\nsite.root = \"/srv/www\"\n",
    ),
    (
        "Get a real certificate",
        "With a public name that leads to this machine, Beacon obtains a certificate and renews it.",
        "beacon.toml",
        "[tls.acme]\ndomains = [\"www.example.org\"]\nemail = \"you@example.org\"\n",
    ),
    (
        "Keep it to yourself for now",
        "A <code>.env</code> file in the folder that Beacon is started in puts every page behind a password.",
        ".env",
        "AUTH_WALL_USERNAME=you\nAUTH_WALL_PASSWORD=choose-one\nAUTH_WALL_REALM=Preview\n",
    ),
];

/// The welcome page, and a themed answer for every address that has nothing.
pub struct Welcome {
    page: Encoded,
    missing: Encoded,
}

impl Welcome {
    /// The page, with links to the documentation mounted at `docs_path` ("/docs").
    #[must_use]
    pub fn new(docs_path: &str) -> Self {
        let docs = links::base(docs_path);
        let missing = format!(
            "<article class=\"missing\"><p class=\"status\">404</p><h1>There is nothing at this address</h1>\
             <p>Beacon runs, but nothing is configured to answer here. <a href=\"/\">To the welcome page</a> or \
             <a href=\"{}\">to the documentation</a>.</p></article>",
            escape(&docs)
        );
        // Quickly compressed, because this is done before Beacon is ready.
        Self {
            page: Encoded::new(StatusCode::OK, HTML, REVALIDATE, frame("Welcome to Beacon", &docs, &page(&docs)), 4),
            missing: Encoded::new(
                StatusCode::NOT_FOUND,
                HTML,
                REVALIDATE,
                frame("Not found · Beacon", &docs, &missing),
                4,
            ),
        }
    }
}

impl Handler for Welcome {
    fn handle(&self, request: Request) -> Reply<'_> {
        let headers = &request.parts.headers;
        if let Some(refusal) = refuse_method(&request) {
            return Reply::Now(refusal);
        }
        let rest = request.context.rest();
        if rest.is_empty() {
            return Reply::Now(self.page.response(headers));
        }
        if let Some(response) = Theme::get().response(rest, headers) {
            return Reply::Now(response);
        }
        if !wants_html(headers) {
            return Reply::Now(Problem::not_found().response(headers, &request.context.id));
        }
        let mut response = self.missing.response(headers);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Reply::Now(response)
    }
}

fn frame(title: &str, docs: &str, main: &str) -> String {
    let body = format!(
        "<header class=\"bar\"><a class=\"brand\" href=\"/\">{}<span>Beacon</span></a>\
         <a class=\"to-docs\" href=\"{}\">Documentation</a>{}</header>\n\
         <main id=\"content\" class=\"welcome\" tabindex=\"-1\">{main}</main>\n",
        view::mark(),
        escape(docs),
        view::scheme_button()
    );
    view::document(title, &Theme::get().head("/"), &body)
}

fn page(docs: &str) -> String {
    let steps = STEPS.map(|(title, text, file, code)| {
        format!(
            "<li><h2>{title}</h2><p>{text}</p><div class=\"code\" data-language=\"{file}\"><pre tabindex=\"0\"><code>{}\
             </code></pre></div></li>\n",
            escape(code)
        )
    });
    format!(
        "<section class=\"hero\"><div class=\"lamp\">{}</div><h1>Beacon is running</h1>\
         <p class=\"lead\">It serves this page and its own documentation. Nothing else is configured yet, so here \
         is where to begin.</p>\
         <p><a class=\"button\" href=\"{docs}\">Read the documentation</a></p></section>\n\
         <ol class=\"steps\">\n{}</ol>\n\
         <p class=\"after\">After a change, <code>beacon check</code> tells what is wrong, where, and how to mend it. \
         A reload takes the change over and drops no request.</p>\n",
        view::mark(),
        steps.concat(),
        docs = escape(docs),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docs::site::tests::{get, header, text};

    #[test]
    fn the_welcome_page_links_to_the_documentation_and_loads_only_what_it_serves() {
        let welcome = Welcome::new("/docs");
        let Reply::Now(response) = welcome.handle(get("/", "/")) else { panic!() };
        assert_eq!(response.status(), StatusCode::OK);
        assert!(header(&response, "content-security-policy").starts_with("default-src 'none'; script-src 'self'"));
        let html = text(response);
        assert!(html.contains("href=\"/docs/\"") && !html.contains("style=") && !html.contains("://"), "{html}");
        let wanted: Vec<&str> = html.split("\"/_beacon/").skip(1).map(|rest| rest.split_once('"').unwrap().0).collect();
        assert_eq!(wanted.len(), 4);
        for name in wanted {
            let Reply::Now(response) = welcome.handle(get("/", &format!("/_beacon/{name}"))) else { panic!() };
            assert_eq!(response.status(), StatusCode::OK, "{name}");
        }
    }

    #[test]
    fn other_addresses_are_not_found() {
        let welcome = Welcome::new("/docs");
        for path in ["/x", "/_beacon/", "/_beacon/nothing.js", "/index.html"] {
            let Reply::Now(response) = welcome.handle(get("/", path)) else { panic!() };
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
