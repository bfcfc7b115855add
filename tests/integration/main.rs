//! Everything that is tested through the library's public surface: one binary, one file a surface.

#![cfg(test)]

mod acme;
mod wall;
