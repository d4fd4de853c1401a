//! A connection of the load generator, with as little as possible between the wire and the clock.

use crate::{Error, Event, Protocol, Request, Response, Slot};
use bytes::{Buf, BytesMut};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs};

/// How many bytes are read at once. The size doubles while reads fill it, up to [`MAX_READ`]: ten thousand connections
/// that receive little need little memory.
const FIRST_READ: usize = 4 * 1024;
/// The largest size of a read.
const MAX_READ: usize = 64 * 1024;

/// The slot of requests that are sent one at a time.
const ALONE: Slot = Slot(0);

/// A stream of bytes, plain or within TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, with the bytes to write and the bytes that were read.
pub struct Link {
    stream: Box<dyn Stream>,
    protocol: Box<dyn Protocol>,
    output: BytesMut,
    /// Whether everything that was written has been sent. TLS may hold bytes back.
    is_flushed: bool,
    input: BytesMut,
    read_size: usize,
}

impl Link {
    /// Returns a connection over a stream, from which `input` has been read already.
    pub fn new(stream: impl Stream + 'static, protocol: impl Protocol + 'static, input: BytesMut) -> Self {
        Self {
            stream: Box::new(stream),
            protocol: Box::new(protocol),
            output: BytesMut::new(),
            is_flushed: true,
            input,
            read_size: FIRST_READ,
        }
    }

    /// Connects, and waits until the connection is ready for requests.
    ///
    /// # Errors
    /// [`Error`] if the connection does not become ready.
    pub async fn open(address: impl ToSocketAddrs, protocol: impl Protocol + 'static) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut link = Self::new(stream, protocol, BytesMut::new());
        link.protocol.greet(&mut link.output)?;
        while link.receive().await? != Event::Ready {}
        Ok(link)
    }

    /// Appends a request to the bytes to write.
    ///
    /// # Errors
    /// [`Error`] if the request cannot be encoded.
    pub fn send(&mut self, slot: Slot, request: &Request) -> Result<(), Error> {
        self.protocol.encode(slot, request, &mut self.output)
    }

    /// Returns the next event, if it has been read already.
    ///
    /// # Errors
    /// [`Error`] if the bytes that were read are not an event.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        self.protocol.decode(&mut self.input, &mut self.output)
    }

    /// Writes the pending bytes, and waits until something was read. Can be cancelled.
    ///
    /// # Errors
    /// [`Error`] if the connection ends.
    pub async fn turn(&mut self) -> Result<(), Error> {
        poll_fn(|context| self.poll_turn(context)).await
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Poll::Ready(written) = self.poll_write(context) {
            written?;
        }
        self.input.reserve(self.read_size);
        match ready!(pin!(self.stream.read_buf(&mut self.input)).poll(context))? {
            0 => return Poll::Ready(Err(Error::Closed)),
            read if read >= self.read_size => self.read_size = (2 * self.read_size).min(MAX_READ),
            _ => {}
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.output.has_remaining() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.output))? {
                0 => return Poll::Ready(Err(Error::Closed)),
                written => self.output.advance(written),
            }
            self.is_flushed = false;
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// [`Error`] if the connection ends.
    pub async fn receive(&mut self) -> Result<Event, Error> {
        loop {
            match self.next_event()? {
                Some(event) => return Ok(event),
                None => self.turn().await?,
            }
        }
    }

    /// Sends a request while no other is in flight, and waits for the response. Returns it, and how many changes arrived
    /// before it.
    ///
    /// # Errors
    /// [`Error`] if there is no response.
    pub async fn ask(&mut self, request: &Request) -> Result<(Response, u64), Error> {
        self.send(ALONE, request)?;
        let mut changes = 0;
        loop {
            match self.receive().await? {
                Event::Response(ALONE, answer) => return Ok((answer, changes)),
                Event::Change { .. } => changes += 1,
                Event::Response(..) | Event::Ready | Event::Nothing => {}
            }
        }
    }

    /// Writes the pending bytes, and reads nothing.
    ///
    /// # Errors
    /// [`Error`] if the connection ends.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|context| self.poll_write(context)).await
    }
}
