//! A connection of the load generator: as little as possible between the wire and the clock.

use crate::failure::Failure;
use bytes::{Buf, BytesMut};
use syncline_wire::{Decoded, Message, Tag, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How much is read at once, at the least.
const READ_SIZE: usize = 64 * 1024;

/// A connection, with what it is to write and what it has read.
pub(crate) struct Link {
    stream: TcpStream,
    output: BytesMut,
    input: BytesMut,
}

/// The tag of what is asked before the measurement.
pub(crate) const FIRST: Tag = Tag::new(1);

impl Link {
    /// Connects, and says HELLO, unless `base` asks for a connection as old programs make it.
    pub(crate) async fn open(addr: &str, base: bool) -> Result<Self, Failure> {
        let mut link = Self::connect(addr).await?;
        if !base {
            link.send(&Message::hello(FIRST, ""))?;
            let said = link.answer().await?;
            if !matches!(said, Message::Hello(_)) {
                return Err(Failure::Unavailable(format!("expected the answer to HELLO, found {said}; try --base")));
            }
        }
        Ok(link)
    }

    async fn connect(addr: &str) -> Result<Self, Failure> {
        let failed = |error| Failure::Unavailable(format!("can't connect to {addr}: {error}"));
        let stream = TcpStream::connect(addr).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self { stream, output: BytesMut::new(), input: BytesMut::new() })
    }

    /// Adds a request to what is to be written.
    pub(crate) fn send(&mut self, request: &Message) -> Result<(), Failure> {
        request.encode(&mut self.output).map_err(|error| Failure::Usage(error.to_string()))
    }

    /// The next message, where one has been read already.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Failure> {
        match decode(&mut self.input) {
            Ok(Decoded::Frame(message)) => Ok(Some(message)),
            Ok(Decoded::Incomplete { .. }) => Ok(None),
            Ok(Decoded::TooLarge { kind, excess, .. }) => {
                Err(Failure::Unavailable(format!("the server does not keep to the protocol: a {kind} of {excess}")))
            }
            Err(error) => Err(Failure::Unavailable(format!("the server does not keep to the protocol: {error}"))),
        }
    }

    /// Writes and reads, whichever can be done first. May be cancelled.
    pub(crate) async fn turn(&mut self) -> Result<(), Failure> {
        let lost = |error| Failure::Unavailable(format!("the connection was lost: {error}"));
        self.input.reserve(READ_SIZE);
        let has_output = self.output.has_remaining();
        let (mut reader, mut writer) = self.stream.split();
        tokio::select! {
            read = reader.read_buf(&mut self.input) => match read.map_err(lost)? {
                0 => Err(Failure::Unavailable("the server has closed the connection".into())),
                _ => Ok(()),
            },
            written = writer.write_buf(&mut self.output), if has_output => written.map(|_| ()).map_err(lost),
        }
    }

    /// Waits for the next message.
    pub(crate) async fn receive(&mut self) -> Result<Message, Failure> {
        loop {
            match self.next()? {
                Some(message) => return Ok(message),
                None => self.turn().await?,
            }
        }
    }

    /// Waits for the next message that answers something.
    pub(crate) async fn answer(&mut self) -> Result<Message, Failure> {
        loop {
            let message = self.receive().await?;
            if message.tag() != Tag::BROADCAST {
                return Ok(message);
            }
        }
    }
}
