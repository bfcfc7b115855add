//! What a client asks for: the query string, preferences, media types and ranges, as values.

mod ast;
mod error;
mod filter;
mod form;
mod name;
mod order;
mod parse;
mod reader;
mod select;
#[cfg(test)]
mod tests;

pub use ast::{
    Aggregate, By, Column, Embed, Field, Filter, Is, Item, Key, Level, Logic, Operation, Operator, Order, Quantifier,
    Search, Step,
};
pub use error::Error;
pub use form::{Pair, canonical, encode, pairs};
pub use parse::{MAX_QUERY, Mode, Query, parse, parse_text};
