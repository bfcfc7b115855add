//! Everything that is tested through the library's public surface or against the running binary: one binary, one file
//! a surface.

#![cfg(test)]

mod accounts;
mod accounts_security;
mod acme;
mod administration;
mod api_security;
mod attacks;
mod backup;
mod control;
mod database;
mod database_faults;
mod doctor;
mod edge;
mod failover;
mod identity;
mod jobs;
mod life;
mod managed;
mod nss;
mod outbox;
mod outbox_counted;
#[path = "../support/python.rs"]
mod python;
mod quota;
mod rest;
mod schedules;
mod services;
mod storage_s3;
#[path = "../support/mod.rs"]
mod support;
mod tasks_api;
mod wall;
