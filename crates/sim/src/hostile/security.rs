//! The security settings of an attacked server: TLS and users.

use super::connection::Target;
use super::error::AttackError;
use super::options::SecurityMode;
use crate::RunError;
use crate::process::Launcher;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use syncline_tls::Pem;
use syncline_wire::Password;

/// The only user, which has all rights, and its password.
const USER: &str = "inside";
const PASSWORD: &str = "only for this run";

/// The flags of a server, and the credentials for it.
#[derive(Debug)]
pub(super) struct Security {
    pub(super) flags: Vec<String>,
    ca: Option<Pem>,
    password: Option<Password>,
}

impl Security {
    /// Creates certificates and users with the commands for operators.
    pub(super) async fn set_up(mode: SecurityMode, launcher: &Launcher, directory: &Path) -> Result<Self, AttackError> {
        let mut security = Self { flags: Vec::new(), ca: None, password: None };
        if mode >= SecurityMode::Tls {
            let certs = directory.join("certs");
            let args = ["cert", "--host", "localhost", "--dir"].map(OsStr::new);
            launcher.run(&[&args[..], &[certs.as_os_str()]].concat()).await?;
            security.flag("--tls-cert", &certs.join("server.pem"));
            security.flag("--tls-key", &certs.join("server-key.pem"));
            security.ca = Some(Pem::file(certs.join("ca.pem")));
        }
        if mode >= SecurityMode::Users {
            let hash = launcher.run_with(&[OsStr::new("passwd")], format!("{PASSWORD}\n").as_bytes()).await?;
            let users = directory.join("users.toml");
            write_secret(&users, &format!("[[user]]\nname = \"{USER}\"\nhash = \"{hash}\"\nadmin = true\n"))?;
            security.flag("--users", &users);
            security.password = Some(Password::new(format!("{USER}:{PASSWORD}")));
        }
        Ok(security)
    }

    /// Returns the target for clients with these credentials.
    pub(super) fn target(&self, address: SocketAddr) -> Result<Target, AttackError> {
        Target::new(address, self.ca.as_ref(), self.password.clone())
    }

    fn flag(&mut self, name: &str, file: &Path) {
        self.flags.extend([name.to_owned(), file.to_string_lossy().into_owned()]);
    }
}

fn write_secret(path: &PathBuf, text: &str) -> Result<(), RunError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())
    };
    write().map_err(RunError::because("write", path))
}
