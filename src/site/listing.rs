//! The files of a folder as a page, or as JSON: folders first, then by name; hidden names and what cannot be served
//! are left out.

use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{AtFlags, Dir, FileType, statat};
use sha2::{Digest, Sha256};

use super::error::Failure;
use super::path::is_servable;
use super::root::{Found, Root, Stamp};
use crate::clock::Civil;
use crate::http::{Body, Response, escape};

/// Folders with more names than this are listed in part.
const MOST: usize = 10_000;

const STYLE: &str = ":root{color-scheme:light dark}body{font:1rem/1.6 system-ui,sans-serif;max-width:52rem;margin:3rem \
auto;padding:0 1.25rem;color:#1d2329;background:#fff}h1{font-size:1.35rem;line-height:1.3;margin:0 0 1rem}h1,\
td:first-child{overflow-wrap:anywhere}table{width:100%;border-collapse:collapse}th{text-align:left;font-weight:600;\
color:#586069;font-size:.875rem}td,th{padding:.4rem .75rem;border-bottom:1px solid #e4e4de;vertical-align:baseline}\
td:first-child,th:first-child{padding-left:0}td:last-child,th:last-child{padding-right:0}.n{text-align:right;\
white-space:nowrap;font-variant-numeric:tabular-nums}a{color:#0b5a9e;text-decoration:none}a:hover,a:focus{\
text-decoration:underline}@media(prefers-color-scheme:dark){body{color:#dfe4e9;background:#12161b}td,th{border-color:\
#2a323b}th{color:#9aa5b1}a{color:#7ab8f5}}@media(max-width:36rem){body{margin:1.5rem auto}.d{display:none}}";

struct Row {
    name: String,
    is_folder: bool,
    size: u64,
    modified: u64,
}

/// Whether the client asks for JSON, and not for pages.
pub fn prefers_json(headers: &HeaderMap) -> bool {
    let names = |kind: &[u8]| {
        headers.get_all(ACCEPT).iter().any(|value| memchr::memmem::find(value.as_bytes(), kind).is_some())
    };
    names(b"application/json") && !names(b"text/html")
}

/// The listing of `folder`, which is `rest` below `top` and which clients know as `path`. Blocks.
///
/// # Errors
/// Those of reading the folder.
pub fn render(
    root: &Root,
    top: &OwnedFd,
    folder: File,
    path: &str,
    rest: &str,
    json: bool,
) -> Result<Response, Failure> {
    let (rows, cut) = rows(root, top, folder, rest)?;
    let (body, kind) = if json {
        (as_json(&rows, cut), "application/json")
    } else {
        (as_page(&rows, cut, path, rest.is_empty()), "text/html; charset=utf-8")
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    if !json {
        headers.insert(CONTENT_SECURITY_POLICY, policy().clone());
    }
    Ok(response)
}

/// The rows, sorted, and whether there are more.
fn rows(root: &Root, top: &OwnedFd, folder: File, rest: &str) -> Result<(Vec<Row>, bool), Failure> {
    let mut rows = Vec::new();
    let mut cut = false;
    let folder = OwnedFd::from(folder);
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.is_empty() || name.starts_with('.') || !is_servable(name) {
            continue;
        }
        if rows.len() == MOST {
            cut = true;
            break;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(_) => continue,
            },
            known => known,
        };
        // Opening tells the truth about what would be served; only files and folders, and links in hope, are opened.
        if !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink) {
            continue;
        }
        match root.find(top, &format!("{rest}{name}")) {
            Ok(Found::File(_, stamp)) => {
                rows.push(Row {
                    name: name.to_owned(),
                    is_folder: false,
                    size: stamp.size,
                    modified: stamp.modified(),
                });
            }
            Ok(Found::Folder(inner)) => {
                let modified = inner.metadata().map_or(0, |metadata| Stamp::of(&metadata).modified());
                rows.push(Row { name: name.to_owned(), is_folder: true, size: 0, modified });
            }
            Err(failure @ Failure::Exhausted(_)) => return Err(failure),
            Err(_) => {}
        }
    }
    rows.sort_by(|one, two| two.is_folder.cmp(&one.is_folder).then_with(|| one.name.cmp(&two.name)));
    Ok((rows, cut))
}

fn as_json(rows: &[Row], cut: bool) -> String {
    let entries: Vec<_> = rows
        .iter()
        .map(|row| {
            let mut entry = serde_json::json!({
                "name": row.name,
                "type": if row.is_folder { "folder" } else { "file" },
                "modified": rfc3339(row.modified),
            });
            if !row.is_folder {
                entry["size"] = row.size.into();
            }
            entry
        })
        .collect();
    serde_json::json!({ "entries": entries, "complete": !cut }).to_string()
}

fn as_page(rows: &[Row], cut: bool, path: &str, is_top: bool) -> String {
    let title = escape(path);
    let mut out = String::with_capacity(1_024 + rows.len() * 160);
    let _ = write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>\
         <table><thead><tr><th>Name<th class=n>Size<th class=\"n d\">Changed (UTC)</thead><tbody>"
    );
    if !is_top {
        out.push_str("<tr><td><a href=\"../\">..</a><td class=n><td class=\"n d\">");
    }
    for row in rows {
        let slash = if row.is_folder { "/" } else { "" };
        // The leading ./ keeps a name with a colon from being read as a scheme.
        let link = utf8_percent_encode(&row.name, NON_ALPHANUMERIC);
        let _ = write!(out, "<tr><td><a href=\"./{link}{slash}\">{}{slash}</a><td class=n>", escape(&row.name));
        if !row.is_folder {
            write_size(&mut out, row.size);
        }
        let at = Civil::of(UNIX_EPOCH + Duration::from_secs(row.modified));
        let _ = write!(
            out,
            "<td class=\"n d\">{:04}-{:02}-{:02} {:02}:{:02}",
            at.year, at.month, at.day, at.hour, at.minute
        );
    }
    out.push_str("</tbody></table>");
    if cut {
        let _ = write!(out, "<p>There are more: only {MOST} names are shown.</p>");
    } else if rows.is_empty() {
        out.push_str("<p>This folder is empty.</p>");
    }
    out.push_str("</main></html>\n");
    out
}

fn write_size(out: &mut String, size: u64) {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if size < 1_024 {
        let _ = write!(out, "{size} B");
        return;
    }
    let mut value = size as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_023.95 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    let _ = write!(out, "{value:.1} {}", UNITS[unit]);
}

fn rfc3339(seconds: u64) -> String {
    let at = Civil::of(UNIX_EPOCH + Duration::from_secs(seconds));
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", at.year, at.month, at.day, at.hour, at.minute, at.second)
}

/// Allows nothing but the one inline style, by its hash.
fn policy() -> &'static HeaderValue {
    static POLICY: OnceLock<HeaderValue> = OnceLock::new();
    POLICY.get_or_init(|| {
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
    })
}
