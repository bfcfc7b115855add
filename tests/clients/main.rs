//! Other people's clients against a running Beacon: supabase-js from npm, supabase from PyPI.
//!
//! A journey is a file of the client's own language. It prints one line of JSON for each case; every case names the
//! capabilities that it covers, by the ids of the clients' public matrix. The page about the API's coverage is made of them.

#![cfg(test)]

mod coverage;
mod journey;
#[path = "../support/node.rs"]
mod node;
#[path = "../support/python.rs"]
mod python;
mod stage;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the harness has more than these tests need")]
mod support;

use journey::Journey;
use stage::Stage;

#[test]
fn supabase_js_reads_and_writes_rows() {
    Journey::JAVASCRIPT_DATA.run(&Stage::new());
}

#[test]
fn supabase_js_has_accounts() {
    Journey::JAVASCRIPT_ACCOUNTS.run(&Stage::new());
}

#[test]
fn supabase_js_comes_through_the_gateway() {
    Journey::JAVASCRIPT_GATEWAY.run(&Stage::new());
}

#[test]
fn supabase_js_signs_in_with_a_provider() {
    Journey::JAVASCRIPT_PROVIDERS.run(&Stage::with_provider());
}

#[test]
fn supabase_py_reads_and_writes_rows() {
    Journey::PYTHON_DATA.run(&Stage::new());
}

#[test]
fn supabase_py_has_accounts() {
    Journey::PYTHON_ACCOUNTS.run(&Stage::new());
}
