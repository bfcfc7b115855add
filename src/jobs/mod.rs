//! Tasks that need no program of their own: mail, calls over HTTP, functions in the database, commands; and tasks over HTTP
//! for programs that know no Celery.

mod config;

pub use config::Config;
