//! A client on a base connection, without HELLO. It receives every write, and each write of its own names the latest
//! version that it knows. It runs the production state machine over a socket of its own.

use super::context::{self, ClientContext, WaitToken};
use super::recorder::PendingOperation;
use crate::Random;
use crate::history::{Invocation, Outcome, Stamp, State, Write};
use bytes::{Buf, BytesMut};
use std::io::{self, ErrorKind};
use std::time::Duration;
use syncline_core::client::{ClientConnection, Event, Replicas, Request, Response};
use syncline_wire::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The longest time for a request. After that, the client closes the connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// The minimum capacity of a read.
const READ_SIZE: usize = 16 * 1024;

/// Runs a client that sends requests during the load, and receives until the round is done. A slow client stops reading
/// now and then.
pub(super) async fn run(context: ClientContext, writing: WaitToken, mut random: Random, is_slow: bool) {
    let id = context.recorder.next_client();
    let address = match context.proxy.listen(id).await {
        Ok(address) => address,
        Err(error) => return context.recorder.add_finding(format!("can't listen: {error}")),
    };
    let mut writing = Some(writing);
    while !context.is_done() {
        if let Ok(Ok(stream)) = timeout(REQUEST_TIMEOUT, TcpStream::connect(&address)).await {
            let connection = ClientConnection::base(Replicas::new(), Vec::new());
            let mut client =
                BaseClient { id, context: context.clone(), connection, in_flight: None, known_version: None, is_slow };
            if let Err(error) = client.drive(stream, &mut random, &mut writing).await
                && error.kind() == ErrorKind::InvalidData
            {
                context.recorder.add_finding(format!("base client {id}: {error}"));
            }
        }
        sleep(Duration::from_millis(random.between(10, 200))).await;
    }
}

/// A request that is in flight.
struct InFlight {
    operation: PendingOperation,
    key: String,
    /// Whether the client writes the key after this read.
    writes_next: bool,
    deadline: Instant,
}

/// The client's side of one connection.
struct BaseClient {
    id: u64,
    context: ClientContext,
    connection: ClientConnection<()>,
    in_flight: Option<InFlight>,
    /// The key to write next, and its version if it is known.
    known_version: Option<(String, Option<u64>)>,
    is_slow: bool,
}

impl BaseClient {
    /// Drives the connection until the round is done or the connection fails.
    async fn drive(
        &mut self,
        mut stream: TcpStream,
        random: &mut Random,
        writing: &mut Option<WaitToken>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.split();
        let (mut input, mut next) = (BytesMut::new(), Instant::now());
        let mut phase = self.context.phase.clone();
        loop {
            if !self.context.is_loading() && self.in_flight.is_none() {
                *writing = None;
            }
            if self.context.is_done() {
                return Ok(());
            }
            let deadline = self.in_flight.as_ref().map_or(next, |in_flight| in_flight.deadline);
            let may_send = self.in_flight.is_none() && self.context.is_loading();
            let has_output = self.connection.output().has_remaining();
            input.reserve(READ_SIZE);
            tokio::select! {
                read = reader.read_buf(&mut input) => {
                    if read? == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    self.handle_input(&mut input)?;
                    if self.is_slow && self.context.is_loading() && random.chance(1) {
                        self.context.recorder.count("stalled readers", 1);
                        sleep(Duration::from_millis(random.between(500, 3000))).await;
                    }
                }
                written = writer.write_buf(self.connection.output()), if has_output => {
                    written?;
                }
                () = sleep_until(deadline), if self.in_flight.is_some() || may_send => {
                    if self.in_flight.is_some() {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    self.send_request(random);
                    next = Instant::now() + context::random_pause(random);
                }
                _ = phase.changed() => {}
            }
        }
    }

    fn send_request(&mut self, random: &mut Random) {
        let (record, request, key, writes_next) = if let Some((key, known)) = self.known_version.take() {
            let (version, stamp) =
                (self.context.recorder.next_version(&key, known), self.context.recorder.next_stamp());
            let write = Write { key: key.as_str().into(), state: State { version, value: Some(stamp) } };
            let (of, value) = (key.clone().into(), stamp.value(context::random_length(random)));
            (Invocation::Write(write), Request::Put { key: of, value, version: Version::new(version) }, key, false)
        } else {
            let key = context::random_key(random);
            let record = Invocation::Get { key: key.as_str().into() };
            (record, Request::Get { key: key.clone().into() }, key, random.chance(60))
        };
        let operation = self.context.recorder.begin(self.id, record);
        if self.connection.request(request, ()).is_err() {
            // The request was not sent.
            return operation.finish(Outcome::Refused);
        }
        self.in_flight = Some(InFlight { operation, key, writes_next, deadline: Instant::now() + REQUEST_TIMEOUT });
    }

    fn handle_input(&mut self, input: &mut BytesMut) -> io::Result<()> {
        loop {
            let event = self.connection.handle_input(input);
            match event.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))? {
                Event::Response { response, .. } => self.handle_response(response)?,
                Event::Incomplete { .. } => return Ok(()),
                Event::Change { .. } | Event::Marked { .. } | Event::Notice { .. } => {}
            }
        }
    }

    fn handle_response(&mut self, response: Response) -> io::Result<()> {
        let Some(InFlight { operation, key, writes_next, .. }) = self.in_flight.take() else { return Ok(()) };
        let mut known = None;
        let outcome = match response {
            Response::Value(found) => {
                let version = found.version.get();
                known = Some(Some(version));
                Outcome::Found(State { version, value: Some(Stamp::of(&found.value)) })
            }
            Response::NotFound { deleted_at } => {
                let deleted_at = deleted_at.map(Version::get);
                known = Some(deleted_at);
                Outcome::NotFound { deleted_at }
            }
            Response::Written => Outcome::Written,
            Response::Stale => Outcome::Stale { key: key.as_str().into() },
            Response::Unavailable { .. } => Outcome::Refused,
            other => {
                return Err(io::Error::new(ErrorKind::InvalidData, format!("expected a response, found {other:?}")));
            }
        };
        self.known_version = known.filter(|_| writes_next).map(|known| (key, known));
        operation.finish(outcome);
        Ok(())
    }
}
