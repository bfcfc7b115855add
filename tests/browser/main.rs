//! Journeys of a headless Chromium through what a fresh Beacon shows: the welcome page and the documentation.
//!
//! Each test starts the built binary on free ports and lets `journey.mjs` drive the browser. A journey prints one line of
//! JSON for each thing that it checked; what is expected to be checked is listed here, so that nothing is left out in silence.

#![cfg(test)]

mod driver;
#[path = "../support/node.rs"]
mod node;
mod server;

use driver::{journey, look};
use server::Server;

#[test]
fn a_visitor_opens_the_welcome_page_and_the_documentation() {
    let server = Server::start("");
    journey(
        &server,
        "visit",
        &[
            "the welcome page opens over HTTP/2",
            "the welcome page leads to the documentation",
            "next leads to the next page, previous back",
            "a heading's anchor is at the top of the window and in the address",
            "the code is copied as it stands",
            "a missing page says so and leads back",
            "a missing page beside the documentation says so",
            "the chosen scheme stays on the next page and after a reload",
            "the system's scheme is followed until one is chosen",
            "the page can be read without scripts",
            "nothing failed, nothing came from elsewhere, the console is empty",
        ],
    );
}

#[test]
fn search_leads_to_the_section() {
    let server = Server::start("");
    journey(
        &server,
        "search",
        &[
            "the slash opens the search, and the input has the focus",
            "results appear, the first is chosen, the arrows move",
            "Enter leads to the page with the heading",
            "what is not there is said not to be there",
            "markup in the search is text",
            "Escape closes the search",
            "control and K open it",
            "nothing failed, nothing came from elsewhere, the console is empty",
        ],
    );
}

#[test]
fn every_page_is_whole_on_a_desk_and_on_a_phone() {
    let server = Server::start("");
    journey(
        &server,
        "pages",
        &[
            "the navigation lists every page",
            "every page answers 200 and has one heading of the first level",
            "every page has a title of its own",
            "no page scrolls sideways at 390 pixels",
            "no page scrolls sideways at 320 pixels",
            "next leads through every page",
            "every link within the documentation leads somewhere",
            "the drawer opens on a phone, leads to a page, and closes",
            "nothing failed, nothing came from elsewhere, the console is empty",
        ],
    );
}

#[test]
fn a_folder_and_its_errors_are_pages_too() {
    let server = Server::with_folder();
    journey(
        &server,
        "folder",
        &[
            "a folder is listed, and its links lead to the files",
            "an error is a page",
            "nothing failed, nothing came from elsewhere, the console is empty",
        ],
    );
}

#[test]
fn axe_finds_no_violation_of_wcag_a_and_aa() {
    let server = Server::start("");
    journey(
        &server,
        "contrast",
        &[
            "welcome, light",
            "welcome, dark",
            "index, light",
            "index, dark",
            "long page, light",
            "long page, dark",
            "code in colours, light",
            "code in colours, dark",
            "search, light",
            "search, dark",
            "drawer on a phone, light",
            "drawer on a phone, dark",
            "missing page, light",
            "missing page, dark",
        ],
    );
    let server = Server::with_folder();
    journey(&server, "contrast-folder", &["listing, light", "listing, dark", "error page, light", "error page, dark"]);
}

/// `cargo test --test browser -- --ignored` writes pictures of the pages, for a person to look at.
#[test]
#[ignore = "writes pictures for people, and checks nothing"]
fn look_at_the_pages() {
    println!("pictures are in {}", look(&Server::start(""), "look").display());
    println!("pictures are in {}", look(&Server::with_folder(), "look-folder").display());
}
