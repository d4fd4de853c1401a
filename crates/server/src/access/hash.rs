//! The hash of a password, in the notation that configuration files hold.

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Argon2, Block, Params};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The maximum memory, in KiB, that one verification may use. Without it, a file could make the server allocate any amount.
const MAX_MEMORY: u32 = 256 * 1024;

/// The maximum number of passes over that memory that one verification may make.
const MAX_PASSES: u32 = 32;

/// The highest cost of bcrypt: the binary logarithm of its rounds, so each step doubles the time.
const MAX_BCRYPT_COST: u32 = 16;

/// The current version of Argon2, and the only one that is accepted.
const ARGON2_VERSION: u32 = 0x13;

/// The number of characters of an unknown algorithm's name that an error shows.
const MAX_SHOWN_NAME: usize = 16;

/// The hash of a password: bcrypt, or Argon2id.
///
/// bcrypt uses only the first 72 bytes of a password, as in every implementation.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(Algorithm);

#[derive(Clone, PartialEq, Eq)]
enum Algorithm {
    /// In its own notation, which was validated.
    Bcrypt(String),
    Argon2id(Box<PasswordHash>),
}

/// The memory that Argon2id needs.
///
/// It is reused: under a guessing attack, a server would otherwise allocate and free it many times a second, and allocators
/// then return little of it to the system.
#[derive(Default)]
pub(super) struct Workspace(Vec<Block>);

impl Workspace {
    /// Computes the hash of a password, with the salt and the costs of `hash`.
    fn argon2id(&mut self, password: &[u8], hash: &PasswordHash) -> Option<Output> {
        let params = Params::try_from(hash).ok()?;
        self.0.resize(params.block_count(), Block::default());
        let mut found = vec![0; hash.hash.as_ref()?.as_bytes().len()];
        // Argon2id, version 0x13: parsing accepts no other.
        let argon2 = Argon2::from(params);
        argon2.hash_password_into_with_memory(password, hash.salt.as_ref()?, &mut found, &mut self.0).ok()?;
        Output::new(&found).ok()
    }
}

/// An error: a text is not a usable hash.
///
/// The error shows nothing of the text except the name of an algorithm, because the text may be a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HashError {
    /// The text does not begin with a supported algorithm.
    #[error(
        "expected a hash of bcrypt ($2a$, $2b$, $2y$) or Argon2id ($argon2id$), found {found}; `syncline passwd` makes one"
    )]
    Algorithm {
        /// The name of the algorithm, if the text has one.
        found: String,
    },
    /// The text begins like a hash, and is incomplete or damaged.
    #[error("expected a complete {algorithm} hash, found one with {problem}; was it cut or wrapped?")]
    Malformed {
        /// The name of the algorithm.
        algorithm: &'static str,
        /// What is wrong with the hash.
        problem: String,
    },
    /// Verifying a password would take too much time or memory, which an attacker could exploit.
    #[error("{what}: expected at most {max}, found {found}")]
    TooCostly {
        /// The cost that is too high.
        what: &'static str,
        /// Its limit.
        max: u32,
        /// Its value.
        found: u32,
    },
}

/// An error: a password could not be hashed, because the system provides no random numbers or no memory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("can't hash a password: {0}")]
pub struct HashingError(String);

impl Hash {
    /// Hashes a password with Argon2id: 19 MiB, 2 passes and 1 lane, as the OWASP cheat sheet recommends.
    ///
    /// # Errors
    /// Returns [`HashingError`] if the system provides no random numbers or no memory.
    pub fn make(password: &[u8]) -> Result<Self, HashingError> {
        let made = Argon2::default().hash_password(password);
        made.map(|hash: PasswordHash| Self(Algorithm::Argon2id(Box::new(hash))))
            .map_err(|e| HashingError(e.to_string()))
    }

    /// Returns whether this is the password.
    ///
    /// A wrong password takes as long as the right one: tens of milliseconds, depending on the costs of the hash. Do not
    /// call it on a thread that other tasks need.
    pub fn verify(&self, password: &[u8]) -> bool {
        self.verify_within(&mut Workspace::default(), password)
    }

    /// Does the same as [`verify`](Self::verify), in memory that is reused.
    pub(super) fn verify_within(&self, workspace: &mut Workspace, password: &[u8]) -> bool {
        match &self.0 {
            Algorithm::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Algorithm::Argon2id(hash) => workspace.argon2id(password, hash).is_some_and(|found| {
                // The comparison takes constant time.
                hash.hash.as_ref() == Some(&found)
            }),
        }
    }

    /// Returns the hash in the notation of files. Keep it secret: it allows guessing the password offline.
    pub fn expose(&self) -> String {
        match &self.0 {
            Algorithm::Bcrypt(hash) => hash.clone(),
            Algorithm::Argon2id(hash) => hash.to_string(),
        }
    }

    fn bcrypt(text: &str) -> Result<Self, HashError> {
        let malformed = |problem: String| HashError::Malformed { algorithm: "bcrypt", problem };
        if text.len() != BCRYPT_LENGTH {
            return Err(malformed(format!("{} characters instead of {BCRYPT_LENGTH}", text.chars().count())));
        }
        let parts = bcrypt::HashParts::from_str(text).map_err(|_| malformed("invalid characters".into()))?;
        let cost = parts.get_cost();
        if !(MIN_BCRYPT_COST..=MAX_BCRYPT_COST).contains(&cost) {
            return Err(if cost > MAX_BCRYPT_COST {
                HashError::TooCostly { what: "the cost of a bcrypt hash", max: MAX_BCRYPT_COST, found: cost }
            } else {
                malformed(format!("a cost of {cost}"))
            });
        }
        Ok(Self(Algorithm::Bcrypt(text.to_owned())))
    }

    fn argon2id(text: &str) -> Result<Self, HashError> {
        let malformed = |problem: String| HashError::Malformed { algorithm: "Argon2id", problem };
        let hash = PasswordHash::new(text).map_err(|error| malformed(error.to_string()))?;
        if hash.version != Some(ARGON2_VERSION) {
            return Err(malformed("a version other than v=19".into()));
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(malformed("no salt or no hash after its parameters".into()));
        }
        let params = Params::try_from(&hash).map_err(|error| malformed(error.to_string()))?;
        for (what, max, found) in [
            ("the memory of an Argon2id hash in KiB (m)", MAX_MEMORY, params.m_cost()),
            ("the passes of an Argon2id hash (t)", MAX_PASSES, params.t_cost()),
        ] {
            if found > max {
                return Err(HashError::TooCostly { what, max, found });
            }
        }
        Ok(Self(Algorithm::Argon2id(Box::new(hash))))
    }
}

/// The number of characters of a bcrypt hash.
const BCRYPT_LENGTH: usize = 60;

/// The lowest cost of bcrypt.
const MIN_BCRYPT_COST: u32 = 4;

impl FromStr for Hash {
    type Err = HashError;

    /// Parses a hash in the notation that common tools print.
    fn from_str(text: &str) -> Result<Self, HashError> {
        let name = text.strip_prefix('$').and_then(|rest| rest.split_once('$')).map(|(name, _)| name);
        match name {
            Some("2a" | "2b" | "2y") => Self::bcrypt(text),
            Some("argon2id") => Self::argon2id(text),
            Some(name) if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
                let found = format!("one of {name:.MAX_SHOWN_NAME$}");
                Err(HashError::Algorithm { found })
            }
            _ => Err(HashError::Algorithm { found: "something else".into() }),
        }
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Algorithm::Bcrypt(_) => "Hash(bcrypt)",
            Algorithm::Argon2id(_) => "Hash(Argon2id)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of "U*U" with cost 5, from the test vectors of crypt_blowfish.
    const BCRYPT: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    fn refused(text: &str) -> String {
        text.parse::<Hash>().unwrap_err().to_string()
    }

    #[test]
    fn hashes_from_other_tools_verify() {
        for name in ["2a", "2b", "2y"] {
            let hash: Hash = BCRYPT.replace("2a", name).parse().unwrap();
            assert!(hash.verify(b"U*U") && !hash.verify(b"U*V") && !hash.verify(b""), "{name}");
        }
        // From the tests of the reference implementation: m=256, t=2, p=1.
        let hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let hash: Hash = hash.parse().unwrap();
        assert!(hash.verify(b"password") && !hash.verify(b"Password") && !hash.verify(b""));
    }

    #[test]
    fn bcrypt_uses_72_bytes_of_a_password() {
        let hash: Hash = bcrypt::hash([b'x'; 72], MIN_BCRYPT_COST).unwrap().parse().unwrap();
        assert!(hash.verify(&[b'x'; 100]) && hash.verify(&[b'x'; 72]) && !hash.verify(&[b'x'; 71]));
    }

    #[test]
    fn new_hashes_are_argon2id_with_owasp_costs_and_a_fresh_salt() {
        let hash = Hash::make(b"secret").unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.expose());
        assert!(hash.verify(b"secret") && !hash.verify(b"secreT"));
        assert_eq!(hash.expose().parse::<Hash>().unwrap(), hash);
        assert_ne!(Hash::make(b"secret").unwrap(), hash);
    }

    #[test]
    fn debug_output_shows_no_hash() {
        assert_eq!(format!("{:?}", BCRYPT.parse::<Hash>().unwrap()), "Hash(bcrypt)");
        assert_eq!(format!("{:?}", Hash::make(b"secret").unwrap()), "Hash(Argon2id)");
    }

    #[test]
    fn errors_show_the_name_of_the_algorithm_and_nothing_else() {
        let expected = |found| {
            format!(
                "expected a hash of bcrypt ($2a$, $2b$, $2y$) or Argon2id ($argon2id$), found {found}; \
                 `syncline passwd` makes one"
            )
        };
        assert_eq!(refused("$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$hash"), expected("one of argon2i"));
        assert_eq!(refused("$argon2d$v=19$m=256,t=2,p=1$c29tZXNhbHQ$hash"), expected("one of argon2d"));
        assert_eq!(refused(&BCRYPT.replace("2a", "2x")), expected("one of 2x"));
        assert_eq!(refused("$6$salt$hash"), expected("one of 6"));
        assert_eq!(refused("$scrypt$ln=16$salt$hash"), expected("one of scrypt"));
        for password in ["", "hunter2", "$", "$$", "$hunter 2$x", "pa$$word$"] {
            assert_eq!(refused(password), expected("something else"));
        }
        assert_eq!(refused(&format!("${}$", "x".repeat(1000))), expected(&format!("one of {}", "x".repeat(16))));
    }

    #[test]
    fn a_truncated_or_damaged_hash_is_refused() {
        for end in 0..BCRYPT.len() {
            assert!(BCRYPT.get(..end).unwrap().parse::<Hash>().is_err(), "{end}");
        }
        assert!(refused(BCRYPT.get(..59).unwrap()).contains("59 characters instead of 60"));
        assert!(refused(&BCRYPT.replace('E', "!")).contains("invalid characters"));
        assert!(refused(&BCRYPT.replace("$05$", "$03$")).contains("a cost of 3"));
        let argon2id = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        for part in ["$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ", "$argon2id$v=19$m=256,t=2,p=1", "$argon2id$"] {
            assert!(refused(part).starts_with("expected a complete Argon2id hash"), "{part}");
        }
        assert!(refused(&argon2id.replace("v=19", "v=16")).contains("a version other than v=19"));
        assert!(refused(&argon2id.replace("t=2", "t=0")).starts_with("expected a complete Argon2id hash"));
    }

    #[test]
    fn costs_are_limited() {
        let argon2id =
            |params: &str| format!("$argon2id$v=19${params}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4");
        assert!(argon2id("m=262144,t=32,p=1").parse::<Hash>().is_ok());
        assert_eq!(
            refused(&argon2id("m=262145,t=2,p=1")),
            "the memory of an Argon2id hash in KiB (m): expected at most 262144, found 262145"
        );
        assert!(refused(&argon2id("m=4294967295,t=2,p=1")).contains("found 4294967295"));
        assert_eq!(
            refused(&argon2id("m=256,t=33,p=1")),
            "the passes of an Argon2id hash (t): expected at most 32, found 33"
        );
        assert!(BCRYPT.replace("$05$", "$16$").parse::<Hash>().is_ok());
        assert_eq!(
            refused(&BCRYPT.replace("$05$", "$17$")),
            "the cost of a bcrypt hash: expected at most 16, found 17"
        );
    }
}
