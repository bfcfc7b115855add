//! Accounts over a real database and a real mail server: the flows of clients, and what must not be possible.

mod admin;
mod external;
mod factors;
mod flows;
mod harness;
mod refresh;
mod safety;
