//! Output on stdout and stderr: lines for people, and JSON for programs.

use crate::failure::Failure;
use crate::shown::{shown, to_hex};
use serde_json::{Map, Value};
use std::fmt;
use std::io::{self, BufWriter, Write};
use syncline_wire::{Revision, Version};

/// The size of the buffer of a [`Printer`].
const BUFFER: usize = 64 * 1024;

/// Writes bytes to stdout and flushes it.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::printing(&error))
}

/// Writes a line to stdout and flushes it.
pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    print(format!("{line}\n").as_bytes())
}

/// Writes a line to stdout about a write that was committed, and flushes it.
///
/// # Errors
/// A failure that says so: nothing must suggest that the write was not made.
pub(crate) fn print_committed(line: &str) -> Result<(), Failure> {
    print_line(line).map_err(|failure| failure.after("the write was committed"))
}

/// Writes a line to stderr.
pub(crate) fn note(text: &str) {
    // If stderr is closed, the line has no reader.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A buffered writer of lines. The owner must call [`flush`](Self::flush) or [`finish`](Self::finish) at the end.
pub(crate) struct Printer<W: Write>(BufWriter<W>);

impl Printer<io::Stdout> {
    pub(crate) fn stdout() -> Self {
        Self::new(io::stdout())
    }
}

impl<W: Write> Printer<W> {
    pub(crate) fn new(to: W) -> Self {
        Self(BufWriter::with_capacity(BUFFER, to))
    }

    pub(crate) fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let written = self.0.write_all(line).and_then(|()| self.0.write_all(b"\n"));
        written.map_err(|error| Failure::printing(&error))
    }

    /// Writes the buffered lines.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|error| Failure::printing(&error))
    }

    /// Writes the buffered lines and returns the underlying writer.
    pub(crate) fn finish(self) -> Result<W, Failure> {
        self.0.into_inner().map_err(|error| Failure::printing(error.error()))
    }
}

/// Returns a key, as it is shown, with its value and version as a line for people.
pub(crate) fn entry(key: &str, value: &[u8], version: Version) -> String {
    format!("{key} = {}  (version {version})", shown(value))
}

/// Returns a deleted key, as it is shown, as a line for people.
pub(crate) fn deletion(key: &str, version: Version) -> String {
    format!("{key} deleted  (version {version})")
}

/// A JSON object about a key. Bytes that are not UTF-8 are in hexadecimal, under a name that ends in `_hex`.
#[derive(Clone, Debug)]
pub(crate) struct Json(Map<String, Value>);

impl Json {
    pub(crate) fn new(key: &[u8], version: Version) -> Self {
        let mut object = Map::new();
        object.insert("version".into(), version.get().into());
        Self(object).bytes("key", key)
    }

    pub(crate) fn value(self, value: &[u8]) -> Self {
        self.bytes("value", value)
    }

    pub(crate) fn deleted(mut self) -> Self {
        self.0.insert("deleted".into(), true.into());
        self
    }

    pub(crate) fn revision(mut self, revision: Revision) -> Self {
        self.0.insert("revision".into(), revision.get().into());
        self
    }

    fn bytes(mut self, name: &str, bytes: &[u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => self.0.insert(name.into(), text.into()),
            Err(_) => self.0.insert(format!("{name}_hex"), to_hex(bytes).into()),
        };
        self
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_any_bytes() {
        let json = Json::new(b"k\"", Version::new(u64::MAX));
        assert_eq!(json.to_string(), r#"{"key":"k\"","version":18446744073709551615}"#);
        let json = Json::new(b"\xff\x00", Version::new(1)).value("clé".as_bytes());
        assert_eq!(json.to_string(), r#"{"key_hex":"ff00","value":"clé","version":1}"#);
        let json = Json::new(b"", Version::new(1)).value(b"\x80\xa9").revision(Revision::new(7));
        assert_eq!(json.to_string(), r#"{"key":"","revision":7,"value_hex":"80a9","version":1}"#);
        let json = Json::new(b"k", Version::new(2)).deleted();
        assert_eq!(json.to_string(), r#"{"deleted":true,"key":"k","version":2}"#);
    }
}
