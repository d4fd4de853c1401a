//! The users of a server: the file `users.toml`.
//!
//! Parsing reports the first error with its line and the name of the user. No error shows a hash.

use super::hash::{Hash, HashError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use syncline_core::Rights;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The maximum number of users.
const MAX_USERS: usize = 10_000;

/// The maximum size of `users.toml`: 1 KiB for each user, on average. A hash of Argon2id has about 100 bytes, so this leaves
/// space for the name, prefixes and comments.
pub(super) const MAX_FILE: usize = MAX_USERS * 1024;

/// The maximum length of a user's name. Name and password together must fit into the input that an unauthenticated
/// connection may send.
const MAX_NAME: usize = 256;

/// The keys of a `[[user]]`. The file itself has only the key `user`.
const KEYS: [&str; 6] = ["name", "hash", "certificate", "read", "write", "admin"];

/// How similar an unknown key must be to a known one to be taken for a typing error of it. 1 means identical.
const MIN_SIMILARITY: f64 = 0.7;

/// The users of a server, with their credentials and rights.
///
/// ```
/// let users = syncline_server::Users::parse(r#"
///     [[user]]
///     name = "flags"
///     certificate = "flags.example.org"
///     read = ["flags/"]
/// "#)?;
/// assert_eq!(users.names().collect::<Vec<_>>(), ["flags"]);
/// # Ok::<_, syncline_server::UsersError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    by_name: BTreeMap<String, Arc<User>>,
    /// The users that authenticate with a certificate, by the name that the certificate must have.
    by_certificate: BTreeMap<String, Arc<User>>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(super) name: String,
    pub(super) credential: Credential,
    pub(super) rights: Arc<Rights>,
}

/// What a user authenticates with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// The password of this hash.
    Password(Arc<Hash>),
    /// A client certificate with this name.
    Certificate(String),
}

/// A `users.toml` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}{}: {problem}", user.as_ref().map(|name| format!(", user {name:?}")).unwrap_or_default())]
pub struct UsersError {
    /// The line of the error, starting at 1.
    pub line: usize,
    /// The name of the user whose entry has the error, if it has a name.
    pub user: Option<String>,
    /// What is wrong.
    pub problem: UsersProblem,
}

/// What is wrong with a `users.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UsersProblem {
    /// The file is not TOML.
    #[error("not TOML: {0}")]
    Toml(String),
    /// The file is larger than the limit.
    #[error("expected at most {MAX_FILE} bytes, found {0}")]
    TooLong(usize),
    /// The file lists more users than the limit.
    #[error("expected at most {MAX_USERS} users")]
    TooMany,
    /// The file lists no users.
    #[error("expected at least one [[user]], found none: no client could authenticate")]
    NoUsers,
    /// A key is unknown.
    #[error("unknown key {found:?}{}", .nearest.map_or_else(|| format!("; expected one of {}", .expected.join(", ")), |name| format!("; did you mean {name:?}?")))]
    UnknownKey {
        /// The key, truncated.
        found: String,
        /// The known keys.
        expected: &'static [&'static str],
        /// The most similar known key, if one is similar enough.
        nearest: Option<&'static str>,
    },
    /// A value has the wrong type.
    #[error("{key}: expected {expected}, found {found}")]
    Type {
        /// The key of the value.
        key: &'static str,
        /// The expected type.
        expected: &'static str,
        /// The type of the value.
        found: &'static str,
    },
    /// A user has no name.
    #[error("expected a name")]
    MissingName,
    /// A name is empty, too long, or contains a colon, which AUTH cannot carry.
    #[error("name: expected 1 to {MAX_NAME} bytes without ':', found {0}")]
    InvalidName(&'static str),
    /// Two users have the same name.
    #[error("name: expected a unique name, found one that an earlier user has")]
    DuplicateName,
    /// Two users have the same certificate.
    #[error("certificate: expected a unique name, found that of user {0:?}")]
    DuplicateCertificate(String),
    /// The name of a certificate is empty.
    #[error("certificate: expected a name, found none")]
    EmptyCertificate,
    /// A user has no credential, or two.
    #[error("expected either a hash or the name of a certificate, found {0}")]
    Credential(&'static str),
    /// A hash cannot be used.
    #[error("hash: {0}")]
    Hash(#[from] HashError),
    /// An admin has prefixes, although it may access every key.
    #[error("{0}: expected no prefixes for an admin, who may read and write everything")]
    AdminWithPrefixes(&'static str),
    /// A user has no rights.
    #[error("expected a right: read, write, or admin = true")]
    NoRights,
}

impl Users {
    /// Parses the text of a `users.toml`.
    ///
    /// # Errors
    /// Returns [`UsersError`], which describes the first error. It shows no hash.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let error = |at: Range<usize>, user: Option<&str>, problem| UsersError {
            line: 1 + text.as_bytes().iter().take(at.start).filter(|byte| **byte == b'\n').count(),
            user: user.map(str::to_owned),
            problem,
        };
        if text.len() > MAX_FILE {
            return Err(error(0..0, None, UsersProblem::TooLong(text.len())));
        }
        let file = DeTable::parse(text).map_err(|cause| {
            error(cause.span().unwrap_or_default(), None, UsersProblem::Toml(cause.message().to_owned()))
        })?;
        let mut users = Self::default();
        for (key, value) in file.get_ref() {
            if key.get_ref() != "user" {
                return Err(error(key.span(), None, unknown_key(key.get_ref(), &["user"])));
            }
            let list = value.get_ref().as_array();
            let list = list.ok_or_else(|| error(value.span(), None, wrong_type("user", "[[user]]", value)))?;
            for entry in list {
                let table = entry.get_ref().as_table();
                let table = table.ok_or_else(|| error(entry.span(), None, wrong_type("user", "[[user]]", entry)))?;
                // Every error of the entry names the user, even if the name comes after the error.
                let name = table.get("name").and_then(|name| name.get_ref().as_str()).filter(|name| is_name(name));
                let added = Entry::read(table).and_then(|entry| Ok((entry.span.clone(), users.check(entry)?)));
                let (at, user) = added
                    .map_err(|EntryError { at, problem }| error(at.unwrap_or_else(|| entry.span()), name, problem))?;
                if users.by_name.len() >= MAX_USERS {
                    return Err(error(at.unwrap_or_else(|| entry.span()), name, UsersProblem::TooMany));
                }
                users.add(user);
            }
        }
        if users.by_name.is_empty() {
            return Err(error(0..0, None, UsersProblem::NoUsers));
        }
        Ok(users)
    }

    /// Returns the names of all users, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Returns the user with this name.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// Returns the user whose certificate has one of these names.
    pub(super) fn get_by_certificate(&self, names: &[String]) -> Option<&Arc<User>> {
        names.iter().find_map(|name| self.by_certificate.get(name))
    }

    /// Returns the hashes of all users that have a password, sorted by name.
    pub(super) fn hashes(&self) -> impl Iterator<Item = &Arc<Hash>> {
        self.by_name.values().filter_map(|user| match &user.credential {
            Credential::Password(hash) => Some(hash),
            Credential::Certificate(_) => None,
        })
    }

    /// Checks an entry against those that were added before.
    fn check(&self, entry: Entry) -> Result<User, EntryError> {
        let user = entry.user;
        if self.by_name.contains_key(&user.name) {
            return Err(EntryError { at: entry.span, problem: UsersProblem::DuplicateName });
        }
        if let Credential::Certificate(name) = &user.credential
            && let Some(other) = self.by_certificate.get(name)
        {
            return Err(EntryError {
                at: entry.credential_span,
                problem: UsersProblem::DuplicateCertificate(other.name.clone()),
            });
        }
        Ok(user)
    }

    fn add(&mut self, user: User) {
        let user = Arc::new(user);
        if let Credential::Certificate(name) = &user.credential {
            self.by_certificate.insert(name.clone(), user.clone());
        }
        self.by_name.insert(user.name.clone(), user);
    }
}

/// An error in an entry. Without a range, the entry as a whole is wrong.
struct EntryError {
    at: Option<Range<usize>>,
    problem: UsersProblem,
}

/// A `[[user]]` that is valid by itself.
struct Entry {
    user: User,
    span: Option<Range<usize>>,
    credential_span: Option<Range<usize>>,
}

impl Entry {
    fn read(table: &DeTable<'_>) -> Result<Self, EntryError> {
        let error_at = |at: &Spanned<DeValue<'_>>, problem| EntryError { at: Some(at.span()), problem };
        let error = |problem| EntryError { at: None, problem };
        if let Some((key, _)) = table.iter().find(|(key, _)| !KEYS.contains(&key.get_ref().as_ref())) {
            return Err(EntryError { at: Some(key.span()), problem: unknown_key(key.get_ref(), &KEYS) });
        }
        let text = |key: &'static str| {
            table.get(key).map(|value| match value.get_ref().as_str() {
                Some(text) => Ok((text, value)),
                None => Err(error_at(value, wrong_type(key, "a string", value))),
            })
        };
        let prefixes = |key: &'static str| -> Result<Option<Vec<Bytes>>, EntryError> {
            let Some(value) = table.get(key) else { return Ok(None) };
            let list = value.get_ref().as_array();
            let list = list.ok_or_else(|| error_at(value, wrong_type(key, "a list of prefixes", value)))?;
            let prefixes = list.iter().map(|prefix| {
                let text = prefix
                    .get_ref()
                    .as_str()
                    .ok_or_else(|| error_at(prefix, wrong_type(key, "prefixes that are strings", prefix)));
                Ok(Bytes::copy_from_slice(text?.as_bytes()))
            });
            prefixes.collect::<Result<_, _>>().map(Some)
        };

        let (name, at) = text("name").ok_or_else(|| error(UsersProblem::MissingName))??;
        if !is_name(name) {
            let found = if name.is_empty() {
                "none"
            } else if name.contains(':') {
                "one with ':'"
            } else {
                "a longer one"
            };
            return Err(error_at(at, UsersProblem::InvalidName(found)));
        }
        let (credential, credential_span) = match (text("hash").transpose()?, text("certificate").transpose()?) {
            (Some((hash, at)), None) => {
                let hash = hash.parse::<Hash>().map_err(|error| error_at(at, error.into()))?;
                (Credential::Password(Arc::new(hash)), at.span())
            }
            (None, Some(("", at))) => return Err(error_at(at, UsersProblem::EmptyCertificate)),
            (None, Some((name, at))) => (Credential::Certificate(name.to_owned()), at.span()),
            (None, None) => return Err(error(UsersProblem::Credential("neither"))),
            (Some(_), Some((_, at))) => return Err(error_at(at, UsersProblem::Credential("both"))),
        };
        let is_admin = match table.get("admin") {
            Some(value) => {
                value.get_ref().as_bool().ok_or_else(|| error_at(value, wrong_type("admin", "true or false", value)))?
            }
            None => false,
        };
        let (read, write) = (prefixes("read")?, prefixes("write")?);
        if is_admin && let Some(key) = ["read", "write"].into_iter().find(|key| table.contains_key(*key)) {
            let at = table.get(key).map(Spanned::span);
            return Err(EntryError { at, problem: UsersProblem::AdminWithPrefixes(key) });
        }
        let (read, write) = (read.unwrap_or_default(), write.unwrap_or_default());
        if !is_admin && read.is_empty() && write.is_empty() {
            return Err(error(UsersProblem::NoRights));
        }
        let rights = Arc::new(if is_admin { Rights::all() } else { Rights::new(read, write) });
        let user = User { name: name.to_owned(), credential, rights };
        Ok(Self { user, span: Some(at.span()), credential_span: Some(credential_span) })
    }
}

/// Returns whether AUTH can carry the name.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains(':')
}

fn wrong_type(key: &'static str, expected: &'static str, value: &Spanned<DeValue<'_>>) -> UsersProblem {
    UsersProblem::Type { key, expected, found: value.get_ref().type_str() }
}

fn unknown_key(found: &str, expected: &'static [&'static str]) -> UsersProblem {
    let similarity = |name: &&'static str| strsim::jaro_winkler(found, name);
    let nearest = expected.iter().copied().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    UsersProblem::UnknownKey {
        found: found.chars().take(MAX_NAME).collect(),
        expected,
        nearest: nearest.filter(|name| similarity(name) >= MIN_SIMILARITY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn entry(lines: &str) -> String {
        format!("# users\n[[user]]\nname = \"ann\"\n{}\n", lines.replace("HASH", HASH))
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        let error = Users::parse(text).unwrap_err().to_string();
        assert!(!error.contains("c29tZXNhbHQ") && !error.contains("hunter2"), "{error}");
        error
    }

    #[test]
    fn users_have_the_configured_credentials_and_rights() {
        let text = format!(
            r#"
[[user]]
name = "flags"
hash = "{HASH}"
read = ["flags/", "config/"]
write = ["flags/"]

[[user]]
name = "backup"
certificate = "backup.example.org"
read = [""]

[[user]]
name = "operator"
certificate = "ops"
admin = true
"#
        );
        let users = Users::parse(&text).unwrap();
        assert_eq!(users.names().collect::<Vec<_>>(), ["backup", "flags", "operator"]);
        let flags = users.get("flags").unwrap();
        assert_eq!(*flags.rights, Rights::new(["flags/".into(), "config/".into()], ["flags/".into()]));
        assert_eq!(flags.credential, Credential::Password(Arc::new(HASH.parse().unwrap())));
        assert_eq!(users.get("nobody"), None);
        let backup = users.get_by_certificate(&["x".into(), "backup.example.org".into()]).unwrap();
        assert_eq!((&*backup.name, &*backup.rights), ("backup", &Rights::new([Bytes::new()], [])));
        assert!(users.get_by_certificate(&["ops".into()]).unwrap().rights.is_admin());
        assert_eq!(
            users.get_by_certificate(&["flags".into(), "operator".into()]),
            None,
            "these are names of users, not of certificates"
        );
        assert_eq!(users.hashes().count(), 1);
    }

    #[test]
    fn errors_name_unknown_keys_and_the_most_similar_known_key() {
        assert_eq!(
            refused(&entry("hash = \"HASH\"\nraed = [\"x\"]")),
            "line 5, user \"ann\": unknown key \"raed\"; did you mean \"read\"?"
        );
        assert_eq!(
            refused(&entry("hash = \"HASH\"\nzzz = 1")),
            "line 5, user \"ann\": unknown key \"zzz\"; expected one of name, hash, certificate, read, write, admin"
        );
        assert_eq!(refused("\n[[users]]\nname = \"x\""), "line 2: unknown key \"users\"; did you mean \"user\"?");
    }

    #[test]
    fn errors_name_values_of_the_wrong_type() {
        assert_eq!(refused("user = 1"), "line 1: user: expected [[user]], found integer");
        assert_eq!(refused("user = [1]"), "line 1: user: expected [[user]], found integer");
        assert_eq!(refused("[[user]]\nname = 1"), "line 2: name: expected a string, found integer");
        assert_eq!(refused(&entry("hash = 1")), "line 4, user \"ann\": hash: expected a string, found integer");
        let with = |line| refused(&entry(&format!("hash = \"HASH\"\n{line}")));
        assert_eq!(with("read = \"x\""), "line 5, user \"ann\": read: expected a list of prefixes, found string");
        assert_eq!(
            with("write = [\n\"x\",\n7]"),
            "line 7, user \"ann\": write: expected prefixes that are strings, found integer"
        );
        assert_eq!(with("admin = \"yes\""), "line 5, user \"ann\": admin: expected true or false, found string");
    }

    #[test]
    fn names_must_be_present_unique_and_valid_in_auth() {
        assert_eq!(refused("\n[[user]]\nadmin = true"), "line 2: expected a name");
        let named = |name: &str| refused(&format!("[[user]]\nname = \"{name}\"\ncertificate = \"c\"\nadmin = true"));
        assert_eq!(named(""), "line 2: name: expected 1 to 256 bytes without ':', found none");
        assert_eq!(named("a:b"), "line 2: name: expected 1 to 256 bytes without ':', found one with ':'");
        assert_eq!(named(&"x".repeat(257)), "line 2: name: expected 1 to 256 bytes without ':', found a longer one");
        let ann = entry("hash = \"HASH\"\nadmin = true");
        assert_eq!(
            refused(&(ann.clone() + &ann)),
            "line 8, user \"ann\": name: expected a unique name, found one that an earlier user has"
        );
    }

    #[test]
    fn a_user_has_either_a_password_or_a_certificate() {
        let expected = "expected either a hash or the name of a certificate, found";
        assert_eq!(refused(&entry("admin = true")), format!("line 2, user \"ann\": {expected} neither"));
        assert_eq!(
            refused(&entry("hash = \"HASH\"\ncertificate = \"c\"\nadmin = true")),
            format!("line 5, user \"ann\": {expected} both")
        );
        assert_eq!(
            refused(&entry("certificate = \"\"\nadmin = true")),
            "line 4, user \"ann\": certificate: expected a name, found none"
        );
        let two =
            entry("certificate = \"c\"\nadmin = true") + "[[user]]\nname = \"bob\"\ncertificate = \"c\"\nread=[\"\"]";
        assert_eq!(
            refused(&two),
            "line 8, user \"bob\": certificate: expected a unique name, found that of user \"ann\""
        );
        assert!(
            refused(&entry("hash = \"hunter2\"\nadmin = true"))
                .starts_with("line 4, user \"ann\": hash: expected a hash of")
        );
    }

    #[test]
    fn only_an_admin_may_have_no_prefixes() {
        assert_eq!(
            refused(&entry("hash = \"HASH\"\nwrite = []\nadmin = true")),
            "line 5, user \"ann\": write: expected no prefixes for an admin, who may read and write everything"
        );
        for nothing in ["", "admin = false", "read = []\nwrite = []"] {
            let error = refused(&entry(&format!("hash = \"HASH\"\n{nothing}")));
            assert_eq!(error, "line 2, user \"ann\": expected a right: read, write, or admin = true");
        }
        assert!(Users::parse(&entry("hash = \"HASH\"\nadmin = false\nread = [\"x\"]")).is_ok());
    }

    #[test]
    fn the_file_is_limited_in_size_and_lists_a_user() {
        assert_eq!(refused(""), "line 1: expected at least one [[user]], found none: no client could authenticate");
        assert_eq!(refused(&"#".repeat(MAX_FILE + 1)), "line 1: expected at most 10240000 bytes, found 10240001");
        assert!(refused("\n[[user]]\nname = \"ann\nhash = \"hunter2\"").starts_with("line 3: not TOML: "));
    }

    #[test]
    fn the_limit_of_users_is_reachable_with_hashes_and_long_prefixes() {
        let prefix = "a/prefix/of/average/length/".repeat(3);
        // As `syncline passwd` prints it: a salt of 16 bytes, and a hash of 32.
        let hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRvZjE2Ynl0ZQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let user = |i| {
            format!(
                "[[user]]\nname = \"user-{i:05}@department.example.org\"\nhash = \"{hash}\"\n\
                 read = [\"{prefix}{i}/\", \"shared/{prefix}\"]\nwrite = [\"{prefix}{i}/\"]\n\n"
            )
        };
        let many: String = (0..MAX_USERS).map(user).collect();
        let start = std::time::Instant::now();
        let users = Users::parse(&many).unwrap();
        println!("{} users, {} bytes: {:?}", MAX_USERS, many.len(), start.elapsed());
        assert_eq!((users.names().count(), users.hashes().count()), (MAX_USERS, MAX_USERS));
        assert_eq!(
            refused(&(many + &user(MAX_USERS))),
            "line 60002, user \"user-10000@department.example.org\": expected at most 10000 users"
        );
    }
}
