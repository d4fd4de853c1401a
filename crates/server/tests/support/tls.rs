//! Certificates for tests, a client that speaks frames within TLS, and a relay by which all other clients do.

use super::{PATIENCE, encoded};
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

/// A CA of tests.
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

    /// A certificate for a server or client of this name; `change` says what else is in it.
    pub fn identity(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: Pem::bytes(certificate.pem()), key: Pem::bytes(key.serialize_pem()) }
    }

    /// What a server needs that is `localhost`.
    pub fn server(&self, clients: ClientCertificates) -> Tls {
        Tls::load(&TlsFiles { identity: self.identity("localhost", |_| {}), clients }).unwrap()
    }

    /// How clients speak that trust this CA.
    pub fn trusting(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Identity>,
    ) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(Pem::bytes(&self.pem).roots().unwrap());
        Arc::new(match shown {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity.load().unwrap()))),
        })
    }
}

/// A client that knows frames and TLS.
pub struct TlsClient {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    input: BytesMut,
}

impl TlsClient {
    /// Connects, and does the handshake.
    pub fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
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

    /// The next message; `None`: the end of the stream, as TLS tells it.
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

    /// Sends a message, and answers what comes for it; broadcasts before that are passed over.
    #[track_caller]
    pub fn ask(&mut self, request: &Message) -> Message {
        self.send(request);
        loop {
            let message = self.receive();
            if message.tag() != Tag::BROADCAST {
                return message;
            }
        }
    }
}

/// Whether all tests are to speak TLS to their servers: clients that speak none do so over a relay. Set by `./test`.
pub fn is_wanted_by_all() -> bool {
    std::env::var_os("SYNCLINE_TEST_TLS").is_some()
}

static CA: LazyLock<Ca> = LazyLock::new(Ca::new);

/// What servers speak that are reached by a [`Relay`].
pub fn of_relays() -> Tls {
    CA.server(ClientCertificates::None)
}

/// Takes in clients that speak no TLS, and speaks it for them.
pub struct Relay {
    pub addr: SocketAddr,
    listener: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// To a server with the certificate [`of_relays`].
    pub async fn to(server: SocketAddr) -> Self {
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

    /// Takes in nobody any more.
    pub async fn close(self) {
        self.listener.abort();
        let _ = self.listener.await;
    }
}
