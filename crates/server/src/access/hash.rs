//! The hash of a password, as configurations hold it.

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Argon2, Block, Params};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The most memory, in KiB, that one verification may take: a file must not make a server allocate whatever it says.
const MAX_MEMORY: u32 = 256 * 1024;

/// The most passes over that memory.
const MAX_PASSES: u32 = 32;

/// The most rounds of bcrypt, as a power of two: each one more doubles the time.
const MAX_BCRYPT_COST: u32 = 16;

/// The version of Argon2 that all of today write.
const ARGON2_VERSION: u32 = 0x13;

/// How many characters of the name of an algorithm an error shows.
const NAME_SHOWN: usize = 16;

/// The hash of a password: bcrypt, or Argon2id.
///
/// bcrypt knows the first 72 bytes of a password, as everywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(Algorithm);

#[derive(Clone, PartialEq, Eq)]
enum Algorithm {
    /// In its own notation, which was found to be right.
    Bcrypt(String),
    Argon2id(Box<PasswordHash>),
}

/// The memory that Argon2id asks for: used again, for whoever guesses makes a server take and free it many times a second, and
/// then allocators give little of it back.
#[derive(Default)]
pub(super) struct Workspace(Vec<Block>);

impl Workspace {
    /// What this password gives with the salt and the costs of a hash.
    fn argon2id(&mut self, password: &[u8], hash: &PasswordHash) -> Option<Output> {
        let params = Params::try_from(hash).ok()?;
        self.0.resize(params.block_count(), Block::default());
        let mut found = vec![0; hash.hash.as_ref()?.as_bytes().len()];
        // Argon2id, version 0x13: no other is taken.
        let argon2 = Argon2::from(params);
        argon2.hash_password_into_with_memory(password, hash.salt.as_ref()?, &mut found, &mut self.0).ok()?;
        Output::new(&found).ok()
    }
}

/// What is no hash that can be used. Nothing of it is shown but the name of its algorithm: it may be a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HashError {
    /// It does not begin as hashes do.
    #[error(
        "expected a hash of bcrypt ($2a$, $2b$, $2y$) or Argon2id ($argon2id$), found {found}; `syncline passwd` makes one"
    )]
    Algorithm {
        /// The name of the algorithm, where it has one.
        found: String,
    },
    /// It begins as hashes do.
    #[error("expected a whole {algorithm} hash, found one with {problem}; was it cut or wrapped?")]
    Malformed {
        /// Of which algorithm.
        algorithm: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Whoever guesses could keep the server busy with it.
    #[error("{what}: expected at most {max}, found {found}")]
    Costly {
        /// Which of the costs.
        what: &'static str,
        /// What it may be.
        max: u32,
        /// What it is.
        found: u32,
    },
}

/// A password could not be hashed: the system gives no random numbers, or no memory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("can't hash a password: {0}")]
pub struct HashingError(String);

impl Hash {
    /// Hashes a password: Argon2id with 19 MiB, 2 passes and 1 lane, which is what OWASP's cheat sheet asks for.
    ///
    /// # Errors
    /// [`HashingError`] where the system has no random numbers or no memory.
    pub fn make(password: &[u8]) -> Result<Self, HashingError> {
        let made = Argon2::default().hash_password(password);
        made.map(|hash: PasswordHash| Self(Algorithm::Argon2id(Box::new(hash))))
            .map_err(|e| HashingError(e.to_string()))
    }

    /// Whether this is the password. Takes as long for a wrong one as for the right one: tens of milliseconds, or what the
    /// costs of the hash say. It is not to be called where others wait for the thread.
    pub fn verify(&self, password: &[u8]) -> bool {
        self.verify_within(&mut Workspace::default(), password)
    }

    /// The same, in memory that was used before.
    pub(super) fn verify_within(&self, workspace: &mut Workspace, password: &[u8]) -> bool {
        match &self.0 {
            Algorithm::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Algorithm::Argon2id(hash) => workspace.argon2id(password, hash).is_some_and(|found| {
                // Takes the same time wherever they differ.
                hash.hash.as_ref() == Some(&found)
            }),
        }
    }

    /// The hash, as it stands in files. Whoever has it can guess the password at leisure.
    pub fn expose(&self) -> String {
        match &self.0 {
            Algorithm::Bcrypt(hash) => hash.clone(),
            Algorithm::Argon2id(hash) => hash.to_string(),
        }
    }

    fn bcrypt(text: &str) -> Result<Self, HashError> {
        let malformed = |problem: String| HashError::Malformed { algorithm: "bcrypt", problem };
        if text.len() != BCRYPT_LENGTH {
            return Err(malformed(format!("{} characters rather than {BCRYPT_LENGTH}", text.chars().count())));
        }
        let parts = bcrypt::HashParts::from_str(text).map_err(|_| malformed("characters that can't be".into()))?;
        let cost = parts.get_cost();
        if !(MIN_BCRYPT_COST..=MAX_BCRYPT_COST).contains(&cost) {
            return Err(if cost > MAX_BCRYPT_COST {
                HashError::Costly { what: "the cost of a bcrypt hash", max: MAX_BCRYPT_COST, found: cost }
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
            return Err(malformed("another version than v=19".into()));
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(malformed("no salt or no hash behind its parameters".into()));
        }
        let params = Params::try_from(&hash).map_err(|error| malformed(error.to_string()))?;
        for (what, max, found) in [
            ("the memory of an Argon2id hash in KiB (m)", MAX_MEMORY, params.m_cost()),
            ("the passes of an Argon2id hash (t)", MAX_PASSES, params.t_cost()),
        ] {
            if found > max {
                return Err(HashError::Costly { what, max, found });
            }
        }
        Ok(Self(Algorithm::Argon2id(Box::new(hash))))
    }
}

/// The characters of every bcrypt hash.
const BCRYPT_LENGTH: usize = 60;

/// The fewest rounds that bcrypt knows, as a power of two.
const MIN_BCRYPT_COST: u32 = 4;

impl FromStr for Hash {
    type Err = HashError;

    /// Takes a hash as tools print it.
    fn from_str(text: &str) -> Result<Self, HashError> {
        let name = text.strip_prefix('$').and_then(|rest| rest.split_once('$')).map(|(name, _)| name);
        match name {
            Some("2a" | "2b" | "2y") => Self::bcrypt(text),
            Some("argon2id") => Self::argon2id(text),
            Some(name) if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
                let found = format!("one of {name:.NAME_SHOWN$}");
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

    /// "U*U" with the cost 5, as the test vectors of crypt_blowfish have it.
    const BCRYPT: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    fn refused(text: &str) -> String {
        text.parse::<Hash>().unwrap_err().to_string()
    }

    #[test]
    fn hashes_of_other_tools_are_verified() {
        for name in ["2a", "2b", "2y"] {
            let hash: Hash = BCRYPT.replace("2a", name).parse().unwrap();
            assert!(hash.verify(b"U*U") && !hash.verify(b"U*V") && !hash.verify(b""), "{name}");
        }
        // Of the reference implementation's own tests: m=256, t=2, p=1.
        let hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let hash: Hash = hash.parse().unwrap();
        assert!(hash.verify(b"password") && !hash.verify(b"Password") && !hash.verify(b""));
    }

    #[test]
    fn bcrypt_knows_72_bytes_of_a_password() {
        let hash: Hash = bcrypt::hash([b'x'; 72], MIN_BCRYPT_COST).unwrap().parse().unwrap();
        assert!(hash.verify(&[b'x'; 100]) && hash.verify(&[b'x'; 72]) && !hash.verify(&[b'x'; 71]));
    }

    #[test]
    fn what_is_made_is_argon2id_as_owasp_asks_for_it_and_never_the_same() {
        let hash = Hash::make(b"secret").unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.expose());
        assert!(hash.verify(b"secret") && !hash.verify(b"secreT"));
        assert_eq!(hash.expose().parse::<Hash>().unwrap(), hash);
        assert_ne!(Hash::make(b"secret").unwrap(), hash);
    }

    #[test]
    fn no_debug_shows_a_hash() {
        assert_eq!(format!("{:?}", BCRYPT.parse::<Hash>().unwrap()), "Hash(bcrypt)");
        assert_eq!(format!("{:?}", Hash::make(b"secret").unwrap()), "Hash(Argon2id)");
    }

    #[test]
    fn other_algorithms_are_refused_by_name_and_nothing_else_is_shown() {
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
    fn half_a_hash_is_none() {
        for end in 0..BCRYPT.len() {
            assert!(BCRYPT.get(..end).unwrap().parse::<Hash>().is_err(), "{end}");
        }
        assert!(refused(BCRYPT.get(..59).unwrap()).contains("59 characters rather than 60"));
        assert!(refused(&BCRYPT.replace('E', "!")).contains("characters that can't be"));
        assert!(refused(&BCRYPT.replace("$05$", "$03$")).contains("a cost of 3"));
        let argon2id = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        for part in ["$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ", "$argon2id$v=19$m=256,t=2,p=1", "$argon2id$"] {
            assert!(refused(part).starts_with("expected a whole Argon2id hash"), "{part}");
        }
        assert!(refused(&argon2id.replace("v=19", "v=16")).contains("another version than v=19"));
        assert!(refused(&argon2id.replace("t=2", "t=0")).starts_with("expected a whole Argon2id hash"));
    }

    #[test]
    fn costs_are_bounded() {
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
