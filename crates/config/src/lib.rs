//! The configuration file of a Syncline server.
//!
//! ```
//! use syncline_config::{Names, Value, parse};
//!
//! let names = Names { keys: &["listen", "max-key"], not_in_a_file: &["config"] };
//! let found = parse("max-key = '8KiB'", &names)?;
//! assert_eq!((&*found[0].key, found[0].line), ("max-key", 1));
//! assert_eq!(found[0].value, Value::Text("8KiB".into()));
//! # Ok::<_, syncline_config::ConfigError>(())
//! ```
//!
//! This crate holds what the binary and the fuzz target `config` share: the parser of the file ([`parse`]) and the
//! notation of sizes and counts ([`Size`], [`count`]). It does not know the command line: the caller passes the names
//! that a file may contain. Only [`read_bounded`] opens files.

mod file;
mod read;
mod size;

pub use file::{Assignment, ConfigError, MAX_FILE, Names, Value, parse};
pub use read::{read_bounded, read_text};
pub use size::{Size, count};
