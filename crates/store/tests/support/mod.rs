//! What the tests `order` and `watch` share: server connections over one memory engine, a driver that executes their
//! effects in any order that a driver may, and the search among random schedules.
//!
//! A test adds its client, which implements [`DrivenClient`], and its checks.

mod coverage;
mod driver;
mod history;
mod link;

pub(crate) use coverage::{Coverage, search};
pub(crate) use driver::{DrivenClient, Driver, DriverStep, driver_step, recent_log_size};
pub(crate) use history::commits_after;
pub(crate) use link::{EffectResult, Link};
