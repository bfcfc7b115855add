//! What a client asks for: the query string, preferences, media types and ranges, as values.

mod ast;

pub use ast::{
    Aggregate, By, Column, Embed, Field, Filter, Is, Item, Key, Level, Logic, Operation, Operator, Order, Quantifier,
    Search, Step,
};
