//! A connection between a client and a front: the bytes in flight, and the server's task of the connection.

use super::agenda::{Event, SECOND, Side, Time};
use super::context::{Context, half};
use super::engine::{Engine, Submission};
use super::front::Front;
use super::mangle::Mangler;
use super::pipe::Pipe;
use super::wrong::Wrong;
use crate::Random;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use syncline_core::server::{Access, Effect, Input, PageRequest, PageResult, ServerConnection, ServerParameters};
use syncline_core::{ConnId, Entry, Outcome, Transaction};
use syncline_wire::Revision;

/// The maximum number of bytes that the server reads at once.
const READ_SIZE: usize = 16 * 1024;

/// How long the server waits for a closing connection: for the client to take the remaining output, and for its last
/// input after that.
const FAREWELL: Time = 5 * SECOND;

/// A connection between a client and a front.
pub(super) struct Socket {
    pub(super) id: u64,
    pub(super) client: usize,
    pub(super) front: usize,
    pub(super) to_server: Pipe,
    pub(super) to_client: Pipe,
    /// The maximum latency of a byte.
    pub(super) latency: Time,
    /// While set, nothing arrives in either direction.
    pub(super) is_partitioned: bool,
    /// The connection has failed, and both ends know it.
    pub(super) is_reset: bool,
    /// The client has closed its end.
    pub(super) is_abandoned: bool,
    /// The server's side; `None` once it has ended.
    pub(super) task: Option<Task>,
}

/// A read of the engine.
#[derive(Debug)]
enum Read {
    Entry(Bytes),
    Page(PageRequest),
    Status,
    Done(Done),
}

/// The result of a read.
#[derive(Debug)]
enum Done {
    Entry(Result<Option<Entry>, Arc<str>>),
    Page(PageResult),
    Status,
}

/// The server's task of a connection.
pub(super) struct Task {
    pub(super) connection: ServerConnection,
    input: BytesMut,
    wanted: Input,
    turned_away: Option<Transaction>,
    outcomes: Vec<Outcome>,
    /// The number of its transactions without an outcome.
    undecided: usize,
    /// The reads in progress, in order, with the times at which they end.
    reads: VecDeque<(Time, Read)>,
    /// The page that is being read. Pages do not queue behind the other reads.
    page: Option<(Time, Read)>,
    pub(super) waits_for_log: bool,
    has_beat: bool,
    /// The client has ended its side.
    ended: bool,
    farewell: Option<Time>,
    is_abandoned: bool,
    /// When the task runs next.
    run_at: Option<Time>,
    mangler: Option<Mangler>,
}

impl Socket {
    pub(super) fn new(
        id: u64,
        client: usize,
        front: usize,
        conn: ConnId,
        parameters: ServerParameters,
        context: &Context,
    ) -> Self {
        let task = Task {
            connection: ServerConnection::new(conn, parameters, Access::open()),
            input: BytesMut::new(),
            wanted: Input::Wanted { expected: 0 },
            turned_away: None,
            outcomes: Vec::new(),
            undecided: 0,
            reads: VecDeque::new(),
            page: None,
            waits_for_log: false,
            has_beat: false,
            ended: false,
            farewell: None,
            is_abandoned: false,
            run_at: None,
            mangler: context.wrong.and_then(Mangler::new),
        };
        Self {
            id,
            client,
            front,
            to_server: Pipe::new(context.plan.window),
            to_client: Pipe::new(context.plan.window),
            latency: context.plan.latency,
            is_partitioned: false,
            is_reset: false,
            is_abandoned: false,
            task: Some(task),
        }
    }

    /// Draws the latency of the next byte.
    pub(super) fn way(&self, random: &mut Random) -> Time {
        random.between(self.latency / 4, self.latency)
    }

    /// Schedules the server's task soon.
    pub(super) fn wake(&mut self, context: &mut Context) {
        let at = context.now() + context.random.between(1, context.plan.turn);
        self.wake_at(at, context);
    }

    pub(super) fn wake_at(&mut self, at: Time, context: &mut Context) {
        if let Some(task) = &mut self.task
            && task.run_at.is_none_or(|run_at| at < run_at)
        {
            task.run_at = Some(at);
            context.agenda.at(at, Event::Serve { socket: self.id });
        }
    }

    /// Delivers the outcome of a transaction.
    pub(super) fn deliver(&mut self, outcome: Outcome, context: &mut Context) {
        if let Some(task) = &mut self.task {
            task.outcomes.push(outcome);
            self.wake(context);
        }
    }

    /// Sends as many bytes of the client's output as fit into the window.
    pub(super) fn send(&mut self, output: &mut impl Buf, context: &mut Context) -> Bytes {
        let room = self.to_server.room().min(output.remaining());
        let bytes = output.copy_to_bytes(room);
        if !bytes.is_empty() {
            let at = self.to_server.send(bytes.clone(), context.now() + self.way(&mut context.random));
            context.agenda.at(at, Event::Arrive { socket: self.id, at: Side::Server });
        }
        bytes
    }

    /// Reads at most `most` bytes for the client.
    pub(super) fn receive(&mut self, most: usize, context: &mut Context) -> BytesMut {
        let (bytes, is_awaited) = self.to_client.read(most);
        if is_awaited && !self.to_client.is_dead() {
            let at = context.now() + self.way(&mut context.random);
            self.wake_at(at, context);
        }
        bytes
    }

    /// Closes the client's end.
    pub(super) fn abandon(&mut self, context: &mut Context) {
        self.is_abandoned = true;
        if !self.is_reset {
            let at = self.to_server.send(Bytes::new(), context.now() + self.way(&mut context.random));
            context.agenda.at(at, Event::Arrive { socket: self.id, at: Side::Server });
        }
    }

    /// Runs the server's task, if it is due.
    pub(super) fn serve(&mut self, front: &mut Front, engine: &Engine, context: &mut Context) {
        let now = context.now();
        let Some(mut task) = self.task.take_if(|task| task.run_at == Some(now)) else { return };
        task.run_at = None;
        if let Some(until) = front.paused_until(now) {
            self.task = Some(task);
            return self.wake_at(until, context);
        }
        if front.is_shutting_down {
            task.connection.close("shutting down");
        }
        loop {
            task.settle(self.id, front, engine, context);
            let was_written = task.write(self, context);
            if !task.read(self) && !was_written {
                break;
            }
        }
        task.measure(front, context);
        if task.connection.is_finished() && task.mangler.as_ref().is_none_or(Mangler::is_empty) {
            let at = self.to_client.send(Bytes::new(), now + self.way(&mut context.random));
            context.agenda.at(at, Event::Arrive { socket: self.id, at: Side::Client });
            return;
        }
        if task.wanted == Input::Closed && !task.ended {
            let until = *task.farewell.get_or_insert(now + FAREWELL);
            if until <= now && task.is_abandoned {
                self.is_reset = true;
                context.agenda.after(1, Event::Arrive { socket: self.id, at: Side::Client });
                return;
            } else if until <= now {
                // The client does not take the remaining output.
                task.connection.abandon("no answer in time");
                (task.is_abandoned, task.farewell) = (true, Some(now + SECOND));
            }
        }
        let next_read = task.reads.front().map(|(at, _)| *at);
        let next_page = task.page.as_ref().map(|(at, _)| *at);
        let farewell = task.farewell;
        self.task = Some(task);
        for at in [next_read, next_page, farewell].into_iter().flatten() {
            self.wake_at(at, context);
        }
    }

    /// Handles a passed half heartbeat. Returns whether there is another one.
    pub(super) fn beat(&mut self, context: &mut Context) -> bool {
        let Some(task) = &mut self.task else { return false };
        if !context.is_wrong(Wrong::NoHeartbeat) {
            task.connection.handle_beat();
        }
        self.wake(context);
        true
    }
}

impl Task {
    /// Does all work that does not need the socket.
    fn settle(&mut self, socket: u64, front: &mut Front, engine: &Engine, context: &mut Context) {
        let now = context.now();
        let is_due = |(at, _): &mut (Time, Read)| *at <= now;
        while let Some((_, read)) = self.page.take_if(is_due).or_else(|| self.reads.pop_front_if(is_due)) {
            let done = self.perform(read, engine, context);
            self.hand(done);
        }
        for outcome in std::mem::take(&mut self.outcomes) {
            self.undecided -= 1;
            self.connection.handle_outcome(outcome);
        }
        loop {
            let before = self.input.len();
            self.wanted = self.connection.handle_input(&mut self.input);
            self.connection.handle_log(&front.log);
            let acted = self.act(socket, front, engine, context);
            if !acted && self.input.len() == before {
                break;
            }
        }
        self.waits_for_log = self.connection.waits_for_log();
        if self.connection.is_watching() && !self.has_beat {
            self.has_beat = true;
            context.agenda.after(half(context), Event::Beat { socket });
        }
    }

    fn act(&mut self, socket: u64, front: &mut Front, engine: &Engine, context: &mut Context) -> bool {
        if let Some(transaction) = self.turned_away.take() {
            self.turned_away = front.submit(Submission { socket, transaction }, context);
        }
        let mut acted = false;
        while self.turned_away.is_none()
            && let Some(effect) = self.connection.poll_effect()
        {
            acted = true;
            let read = match effect {
                Effect::Commit { transaction } => {
                    self.undecided += 1;
                    self.turned_away = front.submit(Submission { socket, transaction }, context);
                    continue;
                }
                // Only `Access::Password` requests it.
                Effect::Verify { .. } => {
                    self.connection.handle_verdict(None);
                    continue;
                }
                Effect::Get { key } => Read::Entry(key),
                Effect::Page(request) => Read::Page(request),
                Effect::Status(_) => Read::Status,
            };
            let is_page = matches!(read, Read::Page(_));
            let Some(longest) = context.plan.read else {
                let done = self.perform(read, engine, context);
                self.hand(done);
                continue;
            };
            let read = if context.plan.reads_late { read } else { Read::Done(self.perform(read, engine, context)) };
            let at = context.now() + context.random.spread(1, longest);
            if is_page {
                self.page = Some((at, read));
                continue;
            }
            let at = self.reads.back().map_or(at, |(last, _)| at.max(*last));
            self.reads.push_back((at, read));
        }
        acted
    }

    fn perform(&self, read: Read, engine: &Engine, context: &mut Context) -> Done {
        match read {
            Read::Done(done) => done,
            Read::Status => Done::Status,
            Read::Entry(key) => Done::Entry(engine.get(&key)),
            Read::Page(PageRequest::Keys { prefix, after, max_entries, max_bytes }) => {
                context.record.count("pages of keys", 1);
                let max_bytes = max_bytes.min(context.plan.page.unwrap_or(usize::MAX));
                Done::Page(PageResult::Keys(engine.list(&prefix, after.as_deref(), max_entries, max_bytes)))
            }
            Read::Page(PageRequest::Changes { prefix, since, max_bytes }) => {
                let is_catch_up = self.connection.cursor() == Some(since);
                context.record.count(if is_catch_up { "pages of catch-ups" } else { "pages of resumes" }, 1);
                let since = match since.get().checked_sub(1).filter(|_| is_catch_up) {
                    Some(earlier) if context.is_wrong(Wrong::ToldTwice) => Revision::new(earlier),
                    _ => since,
                };
                let max_bytes = max_bytes.min(context.plan.page.unwrap_or(usize::MAX));
                let mut page = engine.changed_since(since, &prefix, max_bytes);
                if let Ok(page) = &mut page {
                    if is_catch_up && context.is_wrong(Wrong::HorizonForgotten) {
                        page.head = page.through;
                    }
                    if is_catch_up && context.is_wrong(Wrong::LostAtCatchUp) && page.entries.len() > 1 {
                        page.entries.remove(0);
                    }
                    if !is_catch_up && context.is_wrong(Wrong::TombstoneSkipped) {
                        page.entries.retain(|entry| entry.value.is_some());
                    }
                } else if !is_catch_up {
                    context.record.count("resumes that begin afresh", 1);
                }
                Done::Page(PageResult::Changes(page))
            }
        }
    }

    fn hand(&mut self, done: Done) {
        match done {
            Done::Entry(entry) => self.connection.handle_entry(entry),
            Done::Page(page) => self.connection.handle_page(page),
            Done::Status => self.connection.handle_status("{}"),
        }
    }

    /// Writes as much as fits into the window. Returns whether it wrote anything.
    fn write(&mut self, socket: &mut Socket, context: &mut Context) -> bool {
        let output = self.connection.output();
        if let Some(mangler) = &mut self.mangler {
            let all = output.remaining();
            mangler.take(&output.copy_to_bytes(all), context);
        }
        let mut was_written = false;
        loop {
            let room = socket.to_client.room();
            let output = self.connection.output();
            let bytes = match &mut self.mangler {
                Some(mangler) => mangler.give(room),
                // A real socket accepts pieces of any size as well.
                None => output.copy_to_bytes(room.min(output.chunk().len())),
            };
            if bytes.is_empty() {
                return was_written;
            }
            was_written = true;
            let at = socket.to_client.send(bytes, context.now() + socket.way(&mut context.random));
            context.agenda.at(at, Event::Arrive { socket: socket.id, at: Side::Client });
        }
    }

    /// Reads some of the arrived bytes. Returns whether there were any.
    fn read(&mut self, socket: &mut Socket) -> bool {
        match self.wanted {
            Input::Wanted { expected } if !self.ended && self.turned_away.is_none() => {
                let (bytes, _) = socket.to_server.read(READ_SIZE.max(expected.saturating_sub(self.input.len())));
                self.input.extend_from_slice(&bytes);
                if socket.to_server.is_over() {
                    self.ended = true;
                    self.connection.handle_end();
                    return true;
                }
                !bytes.is_empty()
            }
            _ => false,
        }
    }

    /// Measures the bounded quantities of the connection.
    fn measure(&mut self, front: &Front, context: &mut Context) {
        const OUTPUT_ROOM: usize = 128 * 1024;
        let limits = &context.plan.limits;
        let most = OUTPUT_ROOM + limits.max_unsent + 2 * limits.max_transaction();
        context.record.gauge("unsent bytes of a connection", self.connection.output().remaining(), most);
        let most = 2 * READ_SIZE + limits.max_transaction() + 64 * 1024;
        context.record.gauge("unread bytes of a connection", self.input.len(), most);
        context.record.gauge("bytes of the recent log", front.log.bytes(), context.plan.recent_log);
    }

    /// Returns whether no read is in progress.
    fn asks_nothing(&self) -> bool {
        self.reads.is_empty() && self.page.is_none()
    }

    /// Returns by how many revisions the connection is behind although it is idle and has no unsent output.
    pub(super) fn is_owed(&mut self, head: Revision) -> u64 {
        // Pages are not requested before its own writes are decided.
        let is_idle = self.run_at.is_none() && self.asks_nothing() && self.undecided == 0 && self.waits_for_log;
        match self.connection.cursor() {
            Some(cursor) if is_idle && !self.connection.output().has_remaining() => head.get() - cursor.get(),
            _ => 0,
        }
    }

    /// Returns whether the task has nothing left to do.
    pub(super) fn is_idle(&mut self) -> bool {
        self.asks_nothing()
            && self.undecided == 0
            && self.input.is_empty()
            && self.turned_away.is_none()
            && !self.connection.output().has_remaining()
            && self.mangler.as_ref().is_none_or(Mangler::is_empty)
    }
}
