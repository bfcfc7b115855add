//! What a client asks for: the query string, preferences, media types and ranges, as values.

mod ast;
mod error;
mod filter;
mod form;
mod media;
mod name;
mod order;
mod parse;
mod preferences;
mod range;
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
pub use media::{Media, Plan};
#[cfg(test)]
pub use parse::parse_text;
pub use parse::{MAX_QUERY, Mode, Query, parse};
pub use preferences::{Applied, Counted, End, Missing, Preferences, Resolution, Returned};
pub use range::narrow;
