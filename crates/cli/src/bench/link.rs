//! A connection of the load generator: as little as possible between the wire and the clock.

use crate::failure::Failure;
use bytes::{Buf, BytesMut};
use syncline_client::{ConnectError, Dialer, Greeted, Socket};
use syncline_wire::{Decoded, Message, Tag, decode};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

/// How much is read at once, at the least.
const READ_SIZE: usize = 64 * 1024;

/// A connection, with what it is to write and what it has read.
pub(crate) struct Link {
    reader: ReadHalf<Socket>,
    writer: WriteHalf<Socket>,
    output: BytesMut,
    /// Whether all that was written has left: bytes may wait within TLS.
    is_flushed: bool,
    input: BytesMut,
}

/// The tag of what is asked before the measurement.
pub(crate) const FIRST: Tag = Tag::new(1);

impl Link {
    /// Connects, and says HELLO, unless `base` asks for a connection as old programs make it.
    pub(crate) async fn open(dialer: &Dialer, base: bool) -> Result<Self, Failure> {
        let endpoint = dialer.endpoints().first().ok_or(ConnectError::NoEndpoint)?;
        let Greeted { socket, input, greeting } = dialer.greet(endpoint, base).await?;
        if !base && greeting.is_none() {
            let text = format!("expected a server that knows HELLO, found at {endpoint} one that does not; try --base");
            return Err(Failure::Unavailable(text));
        }
        let (reader, writer) = split(socket);
        Ok(Self { reader, writer, output: BytesMut::new(), is_flushed: true, input })
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
        let has_output = self.output.has_remaining() || !self.is_flushed;
        tokio::select! {
            read = self.reader.read_buf(&mut self.input) => match read.map_err(lost)? {
                0 => Err(Failure::Unavailable("the server has closed the connection".into())),
                _ => Ok(()),
            },
            written = write_on(&mut self.writer, &mut self.output, &mut self.is_flushed), if has_output => {
                written.map_err(lost)
            }
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

/// Writes some, and flushes it where that was all. May be cancelled.
async fn write_on(
    writer: &mut (impl AsyncWrite + Unpin),
    output: &mut BytesMut,
    is_flushed: &mut bool,
) -> std::io::Result<()> {
    if output.has_remaining() {
        writer.write_buf(output).await?;
        *is_flushed = false;
    }
    if !output.has_remaining() {
        writer.flush().await?;
        *is_flushed = true;
    }
    Ok(())
}
