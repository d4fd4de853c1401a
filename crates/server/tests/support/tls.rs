//! Certificates for tests, a client that sends frames over TLS, and a relay that adds TLS to plain clients.

use super::{TIMEOUT, encoded};
use bytes::BytesMut;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use syncline_server::{ClientCertificates, Identity, Pem, Tls, TlsFiles};
use syncline_tls::provider;
use syncline_wire::{Decoded, Message, Tag, decode};
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

/// A CA for tests.
pub struct Ca {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        let key = KeyPair::generate().unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("a CA of tests {:?}", key.public_key_raw()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Creates a certificate for a server or client with this name.
    pub fn identity(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: Pem::bytes(certificate.pem()), key: Pem::bytes(key.serialize_pem()) }
    }

    /// Returns the TLS configuration of a server with the name `localhost`.
    pub fn server(&self, clients: ClientCertificates) -> Tls {
        Tls::load(&TlsFiles { identity: self.identity("localhost", |_| {}), clients }).unwrap()
    }

    /// Returns the TLS configuration of clients that trust this CA, and present a certificate if one is given.
    pub fn trusting(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<&Identity>,
    ) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(Pem::bytes(&self.pem).roots().unwrap());
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity.load().unwrap()))),
        })
    }
}

/// A client that sends and receives frames over TLS.
pub struct TlsClient {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    input: BytesMut,
}

impl TlsClient {
    /// Connects, and performs the handshake.
    pub fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream, input: BytesMut::new() })
    }

    pub fn send(&mut self, message: &Message) {
        self.stream.write_all(&encoded(message)).unwrap();
    }

    /// Receives the next message, or `None` at a close_notify alert.
    pub fn try_receive(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Decoded::Frame(message) = decode(&mut self.input).unwrap() {
                return Ok(Some(message));
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes)? {
                0 => return Ok(None),
                read => self.input.extend_from_slice(&bytes[..read]),
            }
        }
    }

    #[track_caller]
    pub fn receive(&mut self) -> Message {
        self.try_receive().unwrap().expect("a message, not the end of the stream")
    }

    /// Sends a request, and returns its response. Skips broadcasts before it.
    #[track_caller]
    pub fn ask(&mut self, request: &Message) -> Message {
        self.send(request);
        self.receive_response()
    }

    /// Receives the next response. Skips broadcasts before it.
    #[track_caller]
    pub fn receive_response(&mut self) -> Message {
        loop {
            let message = self.receive();
            if message.tag() != Tag::BROADCAST {
                return message;
            }
        }
    }
}

/// Returns whether all tests use TLS: plain clients then connect through a relay. `./test` sets the variable.
pub fn is_enabled() -> bool {
    std::env::var_os("SYNCLINE_TEST_TLS").is_some()
}

static CA: LazyLock<Ca> = LazyLock::new(Ca::new);

/// Returns the TLS configuration of servers behind a [`Relay`].
pub fn relay_server_config() -> Tls {
    CA.server(ClientCertificates::None)
}

/// Accepts plain connections, and forwards them over TLS.
pub struct Relay {
    pub addr: SocketAddr,
    listener: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// Starts a relay to a server with the configuration [`relay_server_config`].
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connector = TlsConnector::from(CA.trusting(rustls::ALL_VERSIONS, None));
        let listener = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let connector = connector.clone();
                tokio::spawn(async move {
                    let Ok(far) = tokio::net::TcpStream::connect(server).await else { return };
                    near.set_nodelay(true).unwrap();
                    far.set_nodelay(true).unwrap();
                    let name = ServerName::try_from("localhost").unwrap();
                    if let Ok(mut far) = connector.connect(name, far).await {
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { addr, listener }
    }

    /// Stops accepting connections.
    pub async fn close(self) {
        self.listener.abort();
        let _ = self.listener.await;
    }
}
