//! Lists by pages, and GET /admin/audit.

use http::{HeaderName, HeaderValue};

use super::Inner;
use super::answer;
use super::ask::Ask;
use super::failure::{Answer, Failure};
use super::store::audit;
use crate::http::Response;

impl Inner {
    /// GET /admin/audit
    pub(super) async fn audit(&self, ask: &Ask) -> Answer {
        let (page, size) = paging(ask)?;
        let filter: Option<(&[&'static str], &str)> = match ask.param("query") {
            None => None,
            Some(query) => Some(match query.split_once(':') {
                Some(("author", text)) => (&["actor_username", "actor_name"], text),
                Some(("action", text)) => (&["action"], text),
                Some(("type", text)) => (&["log_type"], text),
                _ => return Err(Failure::invalid(format!("Invalid query scope: {query}"))),
            }),
        };
        let connection = self.pool.get().await?;
        let wanted = audit::Page { offset: (page - 1).saturating_mul(size), limit: size, filter };
        let (entries, total) = audit::list(&*connection, &wanted).await?;
        Ok(with_pages(answer::json(http::StatusCode::OK, &entries), ask, page, size, total))
    }
}

/// The page, from 1, and its size.
pub fn paging(ask: &Ask) -> Result<(i64, i64), Failure> {
    let number = |name: &str, usual: i64| match ask.param(name) {
        None => Ok(usual),
        Some(text) => text
            .parse::<i64>()
            .ok()
            .filter(|number| *number >= 0)
            .ok_or_else(|| Failure::invalid(format!("Bad Pagination Parameters: {name} must be a number"))),
    };
    let size = number("per_page", 50)?;
    if size == 0 {
        return Err(Failure::invalid("Bad Pagination Parameters: per_page must be greater than 0"));
    }
    Ok((number("page", 1)?.max(1), size.min(1_000)))
}

const TOTAL: HeaderName = HeaderName::from_static("x-total-count");

pub fn with_pages(mut response: Response, ask: &Ask, page: i64, size: i64, total: i64) -> Response {
    let pages = (total + size - 1) / size;
    let path = ask.target.split('?').next().unwrap_or_default();
    // Clients read the number after the first =, so `page` comes first.
    let link = |number: i64, rel: &str| {
        let number = number.to_string();
        let mut pairs = vec![("page", number.as_str())];
        pairs.extend(
            ask.params().iter().filter(|(name, _)| name != "page").map(|(name, value)| (name.as_str(), value.as_str())),
        );
        format!("<{path}?{}>; rel=\"{rel}\"", answer::form(&pairs))
    };
    let mut links = Vec::new();
    if pages > page {
        links.push(link(page + 1, "next"));
    }
    links.push(link(pages, "last"));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(links.join(", ")) {
        headers.insert(http::header::LINK, value);
    }
    headers.insert(TOTAL, HeaderValue::from(total));
    response
}
