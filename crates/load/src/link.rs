//! A connection of the load generator: as little as possible between the wire and the clock.

use crate::{Answer, Error, Event, Protocol, Request, Slot};
use bytes::{Buf, BytesMut};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs};

/// How much is read at once: more where there is more, so that ten thousand connections that are sent little take little.
const FIRST_READ: usize = 4 * 1024;
const MOST_READ: usize = 64 * 1024;

/// The slot of what is asked one at a time.
const ALONE: Slot = Slot(0);

/// A stream of bytes, plain or within TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, with what it is to write and what it has read.
pub struct Link {
    stream: Box<dyn Stream>,
    protocol: Box<dyn Protocol>,
    output: BytesMut,
    /// Whether all that was written has left: bytes may wait within TLS.
    is_flushed: bool,
    input: BytesMut,
    read_size: usize,
}

impl Link {
    /// A connection over a stream, of which `input` was read already.
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

    /// Connects, and waits until the protocol is ready.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub async fn open(address: impl ToSocketAddrs, protocol: impl Protocol + 'static) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut link = Self::new(stream, protocol, BytesMut::new());
        link.protocol.greet(&mut link.output)?;
        while link.receive().await? != Event::Ready {}
        Ok(link)
    }

    /// Adds a request to what is to be written.
    ///
    /// # Errors
    /// Where it can't be.
    pub fn send(&mut self, slot: Slot, request: &Request) -> Result<(), Error> {
        self.protocol.encode(slot, request, &mut self.output)
    }

    /// The next event, where one has been read already.
    ///
    /// # Errors
    /// Where what was read is none.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        self.protocol.decode(&mut self.input, &mut self.output)
    }

    /// Writes what is to be written, and waits until something was read. May be cancelled.
    ///
    /// # Errors
    /// Where the connection is over.
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
            read if read >= self.read_size => self.read_size = (2 * self.read_size).min(MOST_READ),
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
    /// Where the connection is over.
    pub async fn receive(&mut self) -> Result<Event, Error> {
        loop {
            match self.next_event()? {
                Some(event) => return Ok(event),
                None => self.turn().await?,
            }
        }
    }

    /// Asks something while nothing else is in flight, and waits for the answer; answers how many changes came before it.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn ask(&mut self, request: &Request) -> Result<(Answer, u64), Error> {
        self.send(ALONE, request)?;
        let mut changes = 0;
        loop {
            match self.receive().await? {
                Event::Answer(ALONE, answer) => return Ok((answer, changes)),
                Event::Change { .. } => changes += 1,
                Event::Answer(..) | Event::Ready | Event::Nothing => {}
            }
        }
    }

    /// Writes what is to be written, and reads nothing.
    ///
    /// # Errors
    /// Where the connection is over.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|context| self.poll_write(context)).await
    }
}
