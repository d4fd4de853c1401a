//! Builds the transcript of a connection from the bytes that the proxy relays.

use super::recorder::Recorder;
use crate::history::{Direction, Frame, Moment, Transcript, Write};
use bytes::BytesMut;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use syncline_wire::{Decoded, decode};

/// The number of frames, from the end, among which the last write of a round is searched.
const LAST_WRITE_WINDOW: usize = 1000;

/// Builds the transcript of a connection from the bytes that the proxy relays.
#[derive(Debug)]
pub(super) struct TranscriptBuilder(Mutex<State>);

#[derive(Debug)]
struct State {
    transcript: Transcript,
    sent: BytesMut,
    received: BytesMut,
    /// Whether the bytes were no valid frame. Nothing after that can be decoded.
    is_broken: bool,
    opened: Moment,
    /// The highest revision of a MARK that was received.
    marked: u64,
    /// The tags of pending WATCHes, and whether they start at revision 0.
    watches: BTreeMap<u16, bool>,
}

impl TranscriptBuilder {
    pub(super) fn new(connection: u64, client: u64, store: usize, opened: Moment) -> Self {
        let transcript = Transcript { connection, client, store, frames: Vec::new(), is_drained: false };
        let (sent, received) = (BytesMut::new(), BytesMut::new());
        let watches = BTreeMap::new();
        Self(Mutex::new(State { transcript, sent, received, is_broken: false, opened, marked: 0, watches }))
    }

    /// Records bytes that the client has sent.
    pub(super) fn sent(&self, bytes: &[u8], recorder: &Recorder) {
        let at = recorder.now();
        let state = &mut *self.0.lock();
        state.sent.extend_from_slice(bytes);
        let before = state.transcript.frames.len();
        let found = decode_frames(&mut state.sent, at, Direction::Sent, &mut state.transcript.frames);
        for (.., frame) in state.transcript.frames.iter().skip(before) {
            if let Frame::Watch { tag, since, .. } = frame {
                state.watches.insert(*tag, *since == 0);
            }
        }
        state.report(found, recorder);
    }

    /// Records bytes that were delivered to the client.
    pub(super) fn received(&self, at: Moment, bytes: &[u8], recorder: &Recorder) {
        let state = &mut *self.0.lock();
        state.received.extend_from_slice(bytes);
        let before = state.transcript.frames.len();
        let found = decode_frames(&mut state.received, at, Direction::Received, &mut state.transcript.frames);
        for (.., frame) in state.transcript.frames.iter().skip(before) {
            if let Frame::Mark { tag, revision } = frame {
                state.marked = state.marked.max(*revision);
                // A MARK of revision 0 may tell a resuming client to discard its data. The response follows later.
                if *revision > 0 || state.watches.get(tag).is_some_and(|is_all| *is_all) {
                    state.watches.remove(tag);
                }
            }
        }
        state.report(found, recorder);
    }

    /// Returns whether a part of a frame was delivered to the client.
    pub(super) fn has_partial_frame(&self) -> bool {
        !self.0.lock().received.is_empty()
    }

    /// Returns whether the client has received everything up to the last write, which has this revision and was
    /// accepted at this moment. Sets `is_drained` of the transcript accordingly.
    pub(super) fn check_drained(&self, revision: u64, last: &Write, accepted: Moment) -> bool {
        let state = &mut *self.0.lock();
        let has_last = |(_, direction, frame): &(Moment, Direction, Frame)| {
            let write = if let Frame::Write { write, .. } = frame { Some(write) } else { None };
            *direction == Direction::Received && write == Some(last)
        };
        let has_received = state.marked >= revision
            || state.transcript.frames.iter().rev().take(LAST_WRITE_WINDOW).any(has_last)
            // A base connection receives only writes after it was opened.
            || (state.opened > accepted && state.transcript.frames.is_empty());
        let is_drained = has_received && state.watches.is_empty();
        state.transcript.is_drained = is_drained;
        is_drained
    }

    /// Describes what the client has received so far.
    pub(super) fn progress(&self) -> String {
        let state = self.0.lock();
        let frames = state.transcript.frames.len();
        format!("{frames} frames, the last MARK at {}, {} WATCHes pending", state.marked, state.watches.len())
    }

    /// Takes the transcript.
    pub(super) fn take(&self) -> Transcript {
        let state = &mut *self.0.lock();
        let frames = std::mem::take(&mut state.transcript.frames);
        Transcript { frames, ..state.transcript.clone() }
    }
}

impl State {
    /// Records bytes that are no valid frame as a finding, once.
    fn report(&mut self, found: Result<(), String>, recorder: &Recorder) {
        if let Err(found) = found
            && !std::mem::replace(&mut self.is_broken, true)
        {
            let connection = self.transcript.connection;
            recorder.add_finding(format!("connection {connection}: expected frames, found {found}"));
        }
    }
}

fn decode_frames(
    buffer: &mut BytesMut,
    at: Moment,
    direction: Direction,
    frames: &mut Vec<(Moment, Direction, Frame)>,
) -> Result<(), String> {
    loop {
        match decode(buffer) {
            Ok(Decoded::Frame(message)) => frames.push((at, direction, Frame::from(&message))),
            Ok(Decoded::Incomplete { .. }) => return Ok(()),
            Ok(Decoded::TooLarge { kind, excess, .. }) => return Err(format!("a {kind} of {excess}")),
            Err(malformed) => return Err(malformed.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Stamp, State};
    use bytes::Bytes;
    use syncline_wire::{Message, Revision, Tag, Version};

    fn frame(message: &Message) -> Bytes {
        let mut frame = BytesMut::new();
        message.encode(&mut frame).unwrap();
        frame.freeze()
    }

    fn last() -> Write {
        Write { key: "last".into(), state: State { version: 1, value: Some(Stamp(7)) } }
    }

    #[test]
    fn a_frame_is_received_with_its_last_byte() {
        let recorder = Recorder::new();
        let transcript = TranscriptBuilder::new(1, 1, 0, recorder.now());
        let bytes = frame(&Message::mark(Tag::BROADCAST, Revision::new(9)));
        let (front, rest) = bytes.split_at(4);
        transcript.received(recorder.now(), front, &recorder);
        assert!(transcript.has_partial_frame() && !transcript.check_drained(9, &last(), recorder.now()));
        let at = recorder.now();
        transcript.received(at, rest, &recorder);
        assert!(!transcript.has_partial_frame() && transcript.check_drained(9, &last(), recorder.now()));
        assert!(!transcript.check_drained(10, &last(), recorder.now()));
        assert_eq!(transcript.take().frames, [(at, Direction::Received, Frame::Mark { tag: 0, revision: 9 })]);
        assert_eq!(recorder.findings(), Vec::<String>::new());
    }

    #[test]
    fn a_connection_with_a_pending_watch_is_not_drained() {
        let recorder = Recorder::new();
        let transcript = TranscriptBuilder::new(1, 1, 0, recorder.now());
        let accepted = recorder.now();
        let mark = |tag, revision| {
            transcript.received(
                recorder.now(),
                &frame(&Message::mark(Tag::new(tag), Revision::new(revision))),
                &recorder,
            );
            transcript.check_drained(9, &last(), accepted)
        };
        transcript.sent(&frame(&Message::watch(Tag::new(1), "", Revision::new(3))), &recorder);
        assert!(!mark(0, 9), "the WATCH is pending");
        assert!(!mark(1, 0), "revision 0 only discards");
        assert!(mark(1, 9));
    }

    #[test]
    fn a_base_connection_is_drained_by_the_last_write_or_if_opened_later() {
        let recorder = Recorder::new();
        let early = TranscriptBuilder::new(1, 1, 0, recorder.now());
        let accepted = recorder.now();
        let late = TranscriptBuilder::new(2, 2, 0, recorder.now());
        assert!(late.check_drained(9, &last(), accepted) && !early.check_drained(9, &last(), accepted));
        let write = |version| Message::put(Tag::BROADCAST, "last", Stamp(7).value(20), Version::new(version));
        early.received(recorder.now(), &frame(&write(2)), &recorder);
        assert!(!early.check_drained(9, &last(), accepted), "it is another version");
        early.received(recorder.now(), &frame(&write(1)), &recorder);
        assert!(early.check_drained(9, &last(), accepted));
    }

    #[test]
    fn an_invalid_frame_is_reported_once() {
        let recorder = Recorder::new();
        let transcript = TranscriptBuilder::new(3, 1, 0, recorder.now());
        for _ in 0..2 {
            transcript.received(recorder.now(), &[255, 0, 0], &recorder);
        }
        let findings = recorder.findings();
        assert!(findings.len() == 1 && findings[0].starts_with("connection 3: expected frames"), "{findings:?}");
    }
}
