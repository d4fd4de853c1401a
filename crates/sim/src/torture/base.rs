//! A client that has never heard of HELLO: it is sent every write, and proves with each of its own that it has seen the
//! latest. It is made of the production state machine over a socket of its own.

use super::load::{self, Load, Writing};
use super::recorder::Question;
use crate::Random;
use crate::history::{Asked, Outcome, Stamp, State, Write};
use bytes::{Buf, BytesMut};
use std::io::{self, ErrorKind};
use std::time::Duration;
use syncline_core::client::{ClientConnection, Event, Replicas, Request, Response};
use syncline_wire::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How long a request may take; then the connection is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much is read at once, at the least.
const READ_SIZE: usize = 16 * 1024;

/// Asks, writes and reads until it is quiet, and reads on until the end. A slow one stops reading now and then.
pub(super) async fn run(load: Load, writing: Writing, mut random: Random, is_slow: bool) {
    let id = load.recorder.client();
    let address = match load.proxy.listen(id).await {
        Ok(address) => address,
        Err(error) => return load.recorder.find(format!("can't listen: {error}")),
    };
    let mut writing = Some(writing);
    while !load.is_over() {
        if let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(&address)).await {
            let connection = ClientConnection::base(Replicas::new(), Vec::new());
            let mut client = Base { id, load: load.clone(), connection, asked: None, learned: None, is_slow };
            if let Err(error) = client.serve(stream, &mut random, &mut writing).await
                && error.kind() == ErrorKind::InvalidData
            {
                load.recorder.find(format!("base client {id}: {error}"));
            }
        }
        sleep(Duration::from_millis(random.between(10, 200))).await;
    }
}

/// A request that is in flight.
struct InFlight {
    question: Question,
    key: String,
    /// Whether the key is written then.
    is_to_be_written: bool,
    deadline: Instant,
}

/// One connection.
struct Base {
    id: u64,
    load: Load,
    connection: ClientConnection<()>,
    asked: Option<InFlight>,
    /// A key that is to be written, and its version as far as it is known.
    learned: Option<(String, Option<u64>)>,
    is_slow: bool,
}

impl Base {
    async fn serve(
        &mut self,
        mut stream: TcpStream,
        random: &mut Random,
        writing: &mut Option<Writing>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.split();
        let (mut input, mut next) = (BytesMut::new(), Instant::now());
        let mut phase = self.load.phase.clone();
        loop {
            if !self.load.is_on() && self.asked.is_none() {
                *writing = None;
            }
            if self.load.is_over() {
                return Ok(());
            }
            let deadline = self.asked.as_ref().map_or(next, |asked| asked.deadline);
            let may_ask = self.asked.is_none() && self.load.is_on();
            let has_output = self.connection.output().has_remaining();
            input.reserve(READ_SIZE);
            tokio::select! {
                read = reader.read_buf(&mut input) => {
                    if read? == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    self.take_in(&mut input)?;
                    if self.is_slow && self.load.is_on() && random.chance(1) {
                        self.load.recorder.count("stalled readers", 1);
                        sleep(Duration::from_millis(random.between(500, 3000))).await;
                    }
                }
                written = writer.write_buf(self.connection.output()), if has_output => {
                    written?;
                }
                () = sleep_until(deadline), if self.asked.is_some() || may_ask => {
                    if self.asked.is_some() {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    self.ask(random);
                    next = Instant::now() + load::pause(random);
                }
                _ = phase.changed() => {}
            }
        }
    }

    fn ask(&mut self, random: &mut Random) {
        let (asked, request, key, is_to_be_written) = if let Some((key, known)) = self.learned.take() {
            let (version, stamp) = (self.load.recorder.next_version(&key, known), self.load.recorder.stamp());
            let write = Write { key: key.as_str().into(), state: State { version, value: Some(stamp) } };
            let (of, value) = (key.clone().into(), stamp.value(load::length(random)));
            (Asked::Write(write), Request::Put { key: of, value, version: Version::new(version) }, key, false)
        } else {
            let key = load::key(random);
            let asked = Asked::Get { key: key.as_str().into() };
            (asked, Request::Get { key: key.clone().into() }, key, random.chance(60))
        };
        let question = self.load.recorder.ask(self.id, asked);
        if self.connection.request(request, ()).is_err() {
            // It was not sent.
            return question.ends(Outcome::Refused);
        }
        self.asked = Some(InFlight { question, key, is_to_be_written, deadline: Instant::now() + PATIENCE });
    }

    fn take_in(&mut self, input: &mut BytesMut) -> io::Result<()> {
        loop {
            let event = self.connection.handle_input(input);
            match event.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))? {
                Event::Response { response, .. } => self.answered(response)?,
                Event::Incomplete { .. } => return Ok(()),
                Event::Change { .. } | Event::Marked { .. } | Event::Notice { .. } => {}
            }
        }
    }

    fn answered(&mut self, answer: Response) -> io::Result<()> {
        let Some(InFlight { question, key, is_to_be_written, .. }) = self.asked.take() else { return Ok(()) };
        let mut learned = None;
        let outcome = match answer {
            Response::Value(found) => {
                let version = found.version.get();
                learned = Some(Some(version));
                Outcome::Found(State { version, value: Some(Stamp::of(&found.value)) })
            }
            Response::NotFound { deleted_at } => {
                let deleted_at = deleted_at.map(Version::get);
                learned = Some(deleted_at);
                Outcome::NotFound { deleted_at }
            }
            Response::Written => Outcome::Written,
            Response::Stale => Outcome::Stale { key: key.as_str().into() },
            Response::Unavailable { .. } => Outcome::Refused,
            other => {
                return Err(io::Error::new(ErrorKind::InvalidData, format!("expected an answer, found {other:?}")));
            }
        };
        self.learned = learned.filter(|_| is_to_be_written).map(|known| (key, known));
        question.ends(outcome);
        Ok(())
    }
}
