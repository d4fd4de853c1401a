//! The users that a server knows: `users.toml`.

use super::hash::{Hash, HashError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use syncline_core::Rights;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest file of users.
pub(super) const MAX_FILE: usize = 1024 * 1024;

/// The most users.
const MAX_USERS: usize = 10_000;

/// The longest name of a user: with a password, it must fit what is taken of strangers.
const MAX_NAME: usize = 256;

/// The keys of a user. Of the file, there is `user` alone.
const KEYS: [&str; 6] = ["name", "hash", "certificate", "read", "write", "admin"];

/// How alike an unknown key must be to one of these to be taken for it (1 is the same).
const LIKENESS: f64 = 0.7;

/// Everybody who may come in, and what they may do.
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
    /// The names of those who show a certificate, by what it must name.
    by_certificate: BTreeMap<String, Arc<User>>,
}

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(super) name: String,
    pub(super) proof: Proof,
    pub(super) rights: Arc<Rights>,
}

/// How a user shows who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// With the password of this hash.
    Password(Arc<Hash>),
    /// With a client certificate of this name.
    Certificate(String),
}

/// A file of users that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}{}: {problem}", user.as_ref().map(|name| format!(", user {name:?}")).unwrap_or_default())]
pub struct UsersError {
    /// Where, from 1 on.
    pub line: usize,
    /// Whose entry it is, where that has a name.
    pub user: Option<String>,
    /// What is wrong.
    pub problem: UsersProblem,
}

/// What is wrong with a file of users.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UsersProblem {
    /// It is not TOML.
    #[error("not TOML: {0}")]
    Toml(String),
    /// It is longer than any file of users.
    #[error("expected at most {MAX_FILE} bytes, found {0}")]
    TooLong(usize),
    /// It lists more users than a server knows.
    #[error("expected at most {MAX_USERS} users")]
    TooMany,
    /// It lists nobody.
    #[error("expected at least one [[user]], found none: nobody could come in")]
    Nobody,
    /// A key that means nothing.
    #[error("unknown key {found:?}{}", .nearest.map_or_else(|| format!("; expected one of {}", .expected.join(", ")), |name| format!("; did you mean {name:?}?")))]
    UnknownKey {
        /// As it stands there, clipped.
        found: String,
        /// What it may be.
        expected: &'static [&'static str],
        /// That which is most like it.
        nearest: Option<&'static str>,
    },
    /// A value of another type.
    #[error("{key}: expected {expected}, found {found}")]
    Type {
        /// Whose value.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A user without a name.
    #[error("expected a name")]
    Nameless,
    /// A name that AUTH can't carry.
    #[error("name: expected 1 to {MAX_NAME} bytes without ':', found {0}")]
    Name(&'static str),
    /// A name that stands twice.
    #[error("name: expected each once; this one stands further up, too")]
    NameTaken,
    /// A certificate that stands for two users.
    #[error("certificate: expected each once; this one is that of {0:?}, too")]
    CertificateTaken(String),
    /// A certificate without a name.
    #[error("certificate: expected a name, found none")]
    CertificateNameless,
    /// A user that can show nothing, or too much.
    #[error("expected either a hash or the name of a certificate, found {0}")]
    Proof(&'static str),
    /// The hash can't be used.
    #[error("hash: {0}")]
    Hash(#[from] HashError),
    /// An admin may do everything anyway.
    #[error("{0}: expected it of others; an admin may read and write everything")]
    AdminWithPrefixes(&'static str),
    /// A user that may do nothing.
    #[error("expected a right: read, write, or admin = true")]
    NoRights,
}

impl Users {
    /// Reads what `users.toml` says.
    ///
    /// # Errors
    /// [`UsersError`] names the first thing that is wrong. It shows no hash.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let fail = |at: Range<usize>, user: Option<&str>, problem| UsersError {
            line: 1 + text.as_bytes().iter().take(at.start).filter(|byte| **byte == b'\n').count(),
            user: user.map(str::to_owned),
            problem,
        };
        if text.len() > MAX_FILE {
            return Err(fail(0..0, None, UsersProblem::TooLong(text.len())));
        }
        let file = DeTable::parse(text).map_err(|error| {
            fail(error.span().unwrap_or_default(), None, UsersProblem::Toml(error.message().to_owned()))
        })?;
        let mut users = Self::default();
        for (key, value) in file.get_ref() {
            if key.get_ref() != "user" {
                return Err(fail(key.span(), None, unknown_key(key.get_ref(), &["user"])));
            }
            let list = value.get_ref().as_array();
            let list = list.ok_or_else(|| fail(value.span(), None, wrong_type("user", "[[user]]", value)))?;
            for entry in list {
                let table = entry.get_ref().as_table();
                let table = table.ok_or_else(|| fail(entry.span(), None, wrong_type("user", "[[user]]", entry)))?;
                // Named in every error of its entry, wherever in there it stands.
                let name = table.get("name").and_then(|name| name.get_ref().as_str()).filter(|name| is_name(name));
                let added = Entry::read(table).and_then(|entry| Ok((entry.span.clone(), users.check(entry)?)));
                let (at, user) =
                    added.map_err(|Flaw { at, problem }| fail(at.unwrap_or_else(|| entry.span()), name, problem))?;
                if users.by_name.len() >= MAX_USERS {
                    return Err(fail(at.unwrap_or_else(|| entry.span()), name, UsersProblem::TooMany));
                }
                users.add(user);
            }
        }
        if users.by_name.is_empty() {
            return Err(fail(0..0, None, UsersProblem::Nobody));
        }
        Ok(users)
    }

    /// Who there is, in the order of names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// Who shows a certificate with one of these names.
    pub(super) fn certified(&self, names: &[String]) -> Option<&Arc<User>> {
        names.iter().find_map(|name| self.by_certificate.get(name))
    }

    /// The hashes of all who have one, in the order of names.
    pub(super) fn hashes(&self) -> impl Iterator<Item = &Arc<Hash>> {
        self.by_name.values().filter_map(|user| match &user.proof {
            Proof::Password(hash) => Some(hash),
            Proof::Certificate(_) => None,
        })
    }

    /// Whether an entry fits the others.
    fn check(&self, entry: Entry) -> Result<User, Flaw> {
        let user = entry.user;
        if self.by_name.contains_key(&user.name) {
            return Err(Flaw { at: entry.span, problem: UsersProblem::NameTaken });
        }
        if let Proof::Certificate(name) = &user.proof
            && let Some(other) = self.by_certificate.get(name)
        {
            return Err(Flaw { at: entry.proof_span, problem: UsersProblem::CertificateTaken(other.name.clone()) });
        }
        Ok(user)
    }

    fn add(&mut self, user: User) {
        let user = Arc::new(user);
        if let Proof::Certificate(name) = &user.proof {
            self.by_certificate.insert(name.clone(), user.clone());
        }
        self.by_name.insert(user.name.clone(), user);
    }
}

/// What is wrong, and where; `None`: with the entry as a whole.
struct Flaw {
    at: Option<Range<usize>>,
    problem: UsersProblem,
}

/// A `[[user]]` that is right in itself.
struct Entry {
    user: User,
    span: Option<Range<usize>>,
    proof_span: Option<Range<usize>>,
}

impl Entry {
    fn read(table: &DeTable<'_>) -> Result<Self, Flaw> {
        let flaw = |at: &Spanned<DeValue<'_>>, problem| Flaw { at: Some(at.span()), problem };
        let whole = |problem| Flaw { at: None, problem };
        if let Some((key, _)) = table.iter().find(|(key, _)| !KEYS.contains(&key.get_ref().as_ref())) {
            return Err(Flaw { at: Some(key.span()), problem: unknown_key(key.get_ref(), &KEYS) });
        }
        let text = |key: &'static str| {
            table.get(key).map(|value| match value.get_ref().as_str() {
                Some(text) => Ok((text, value)),
                None => Err(flaw(value, wrong_type(key, "a string", value))),
            })
        };
        let prefixes = |key: &'static str| -> Result<Option<Vec<Bytes>>, Flaw> {
            let Some(value) = table.get(key) else { return Ok(None) };
            let list = value.get_ref().as_array();
            let list = list.ok_or_else(|| flaw(value, wrong_type(key, "a list of prefixes", value)))?;
            let prefixes = list.iter().map(|prefix| {
                let text = prefix
                    .get_ref()
                    .as_str()
                    .ok_or_else(|| flaw(prefix, wrong_type(key, "prefixes that are strings", prefix)));
                Ok(Bytes::copy_from_slice(text?.as_bytes()))
            });
            prefixes.collect::<Result<_, _>>().map(Some)
        };

        let (name, at) = text("name").ok_or_else(|| whole(UsersProblem::Nameless))??;
        if !is_name(name) {
            let found = if name.is_empty() {
                "none"
            } else if name.contains(':') {
                "one with ':'"
            } else {
                "a longer one"
            };
            return Err(flaw(at, UsersProblem::Name(found)));
        }
        let (proof, proof_span) = match (text("hash").transpose()?, text("certificate").transpose()?) {
            (Some((hash, at)), None) => {
                let hash = hash.parse::<Hash>().map_err(|error| flaw(at, error.into()))?;
                (Proof::Password(Arc::new(hash)), at.span())
            }
            (None, Some(("", at))) => return Err(flaw(at, UsersProblem::CertificateNameless)),
            (None, Some((name, at))) => (Proof::Certificate(name.to_owned()), at.span()),
            (None, None) => return Err(whole(UsersProblem::Proof("neither"))),
            (Some(_), Some((_, at))) => return Err(flaw(at, UsersProblem::Proof("both"))),
        };
        let is_admin = match table.get("admin") {
            Some(value) => {
                value.get_ref().as_bool().ok_or_else(|| flaw(value, wrong_type("admin", "true or false", value)))?
            }
            None => false,
        };
        let (read, write) = (prefixes("read")?, prefixes("write")?);
        if is_admin && let Some(key) = ["read", "write"].into_iter().find(|key| table.contains_key(*key)) {
            let at = table.get(key).map(Spanned::span);
            return Err(Flaw { at, problem: UsersProblem::AdminWithPrefixes(key) });
        }
        let (read, write) = (read.unwrap_or_default(), write.unwrap_or_default());
        if !is_admin && read.is_empty() && write.is_empty() {
            return Err(whole(UsersProblem::NoRights));
        }
        let rights = Arc::new(if is_admin { Rights::all() } else { Rights::new(read, write) });
        let user = User { name: name.to_owned(), proof, rights };
        Ok(Self { user, span: Some(at.span()), proof_span: Some(proof_span) })
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains(':')
}

fn wrong_type(key: &'static str, expected: &'static str, value: &Spanned<DeValue<'_>>) -> UsersProblem {
    UsersProblem::Type { key, expected, found: value.get_ref().type_str() }
}

fn unknown_key(found: &str, expected: &'static [&'static str]) -> UsersProblem {
    let alike = |name: &&'static str| strsim::jaro_winkler(found, name);
    let nearest = expected.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    UsersProblem::UnknownKey {
        found: found.chars().take(MAX_NAME).collect(),
        expected,
        nearest: nearest.filter(|name| alike(name) >= LIKENESS),
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
        let told = Users::parse(text).unwrap_err().to_string();
        assert!(!told.contains("c29tZXNhbHQ") && !told.contains("hunter2"), "{told}");
        told
    }

    #[test]
    fn users_with_their_rights() {
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
        let flags = users.named("flags").unwrap();
        assert_eq!(*flags.rights, Rights::new(["flags/".into(), "config/".into()], ["flags/".into()]));
        assert_eq!(flags.proof, Proof::Password(Arc::new(HASH.parse().unwrap())));
        assert_eq!(users.named("nobody"), None);
        let backup = users.certified(&["x".into(), "backup.example.org".into()]).unwrap();
        assert_eq!((&*backup.name, &*backup.rights), ("backup", &Rights::new([Bytes::new()], [])));
        assert!(users.certified(&["ops".into()]).unwrap().rights.is_admin());
        assert_eq!(users.certified(&["flags".into(), "operator".into()]), None, "these are names of no certificates");
        assert_eq!(users.hashes().count(), 1);
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known() {
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
    fn values_of_other_types_are_named() {
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
    fn names_are_there_unique_and_fit_an_auth() {
        assert_eq!(refused("\n[[user]]\nadmin = true"), "line 2: expected a name");
        let named = |name: &str| refused(&format!("[[user]]\nname = \"{name}\"\ncertificate = \"c\"\nadmin = true"));
        assert_eq!(named(""), "line 2: name: expected 1 to 256 bytes without ':', found none");
        assert_eq!(named("a:b"), "line 2: name: expected 1 to 256 bytes without ':', found one with ':'");
        assert_eq!(named(&"x".repeat(257)), "line 2: name: expected 1 to 256 bytes without ':', found a longer one");
        let ann = entry("hash = \"HASH\"\nadmin = true");
        assert_eq!(
            refused(&(ann.clone() + &ann)),
            "line 8, user \"ann\": name: expected each once; this one stands further up, too"
        );
    }

    #[test]
    fn a_user_shows_either_a_password_or_a_certificate() {
        let told = "expected either a hash or the name of a certificate, found";
        assert_eq!(refused(&entry("admin = true")), format!("line 2, user \"ann\": {told} neither"));
        assert_eq!(
            refused(&entry("hash = \"HASH\"\ncertificate = \"c\"\nadmin = true")),
            format!("line 5, user \"ann\": {told} both")
        );
        assert_eq!(
            refused(&entry("certificate = \"\"\nadmin = true")),
            "line 4, user \"ann\": certificate: expected a name, found none"
        );
        let two =
            entry("certificate = \"c\"\nadmin = true") + "[[user]]\nname = \"bob\"\ncertificate = \"c\"\nread=[\"\"]";
        assert_eq!(
            refused(&two),
            "line 8, user \"bob\": certificate: expected each once; this one is that of \"ann\", too"
        );
        assert!(
            refused(&entry("hash = \"hunter2\"\nadmin = true"))
                .starts_with("line 4, user \"ann\": hash: expected a hash of")
        );
    }

    #[test]
    fn an_admin_needs_no_prefixes_and_all_others_some() {
        assert_eq!(
            refused(&entry("hash = \"HASH\"\nwrite = []\nadmin = true")),
            "line 5, user \"ann\": write: expected it of others; an admin may read and write everything"
        );
        for nothing in ["", "admin = false", "read = []\nwrite = []"] {
            let told = refused(&entry(&format!("hash = \"HASH\"\n{nothing}")));
            assert_eq!(told, "line 2, user \"ann\": expected a right: read, write, or admin = true");
        }
        assert!(Users::parse(&entry("hash = \"HASH\"\nadmin = false\nread = [\"x\"]")).is_ok());
    }

    #[test]
    fn the_file_is_bounded_and_names_somebody() {
        assert_eq!(refused(""), "line 1: expected at least one [[user]], found none: nobody could come in");
        assert_eq!(refused(&"#".repeat(MAX_FILE + 1)), "line 1: expected at most 1048576 bytes, found 1048577");
        assert!(refused("\n[[user]]\nname = \"ann\nhash = \"hunter2\"").starts_with("line 3: not TOML: "));
        let user = |i| format!("[[user]]\nname=\"{i}\"\ncertificate=\"{i}\"\nadmin=true\n");
        let many: String = (0..MAX_USERS).map(user).collect();
        assert_eq!(Users::parse(&many).unwrap().names().count(), MAX_USERS);
        assert_eq!(refused(&(many + &user(MAX_USERS))), "line 40002, user \"10000\": expected at most 10000 users");
    }
}
