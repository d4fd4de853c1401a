//! The measuring loop: keeps a number of requests in flight, and checks and measures each response. The same loop for
//! every server.

use crate::{Error, Event, Link, Measured, Request, Response, Slot};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// How fast a connection sends requests, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The most requests in flight.
    pub depth: u16,
    /// The time between two requests. Each is measured from when it was due: a request that has to wait for a late
    /// response is late too.
    pub pause: Option<Duration>,
    /// The time after which no request is sent.
    pub until: Instant,
}

/// The requests that a connection sends, and the responses that it expects.
pub trait Work {
    /// Returns the next request, and the number of its key, or `None` at the end of the work.
    fn next(&mut self) -> Option<(usize, Request)>;

    /// Checks the response to a request about a key.
    ///
    /// # Errors
    /// [`Error`] if the response is wrong.
    fn check(&mut self, key: usize, answer: &Response) -> Result<(), Error>;
}

/// The requests in flight: when each was sent, and the number of its key.
struct InFlight {
    sent: Vec<Option<(Instant, usize)>>,
    free: Vec<Slot>,
}

impl InFlight {
    fn new(depth: u16) -> Self {
        let depth = depth.max(1);
        Self { sent: vec![None; depth.into()], free: (0..depth).rev().map(Slot).collect() }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.sent.len()
    }

    fn begin(&mut self, now: Instant, key: usize) -> Option<Slot> {
        let slot = self.free.pop()?;
        *self.sent.get_mut(usize::from(slot.0))? = Some((now, key));
        Some(slot)
    }

    fn end(&mut self, slot: Slot) -> Result<(Instant, usize), Error> {
        match self.sent.get_mut(usize::from(slot.0)).and_then(Option::take) {
            Some(sent) => {
                self.free.push(slot);
                Ok(sent)
            }
            None => Err(Error::unexpected("the answer to a request", format!("one to what was not asked: {slot:?}"))),
        }
    }
}

/// Keeps requests in flight until [`Pace::until`] or the end of the work. Then waits for the last responses.
///
/// # Errors
/// [`Error`] if the connection ends, or a response is wrong.
pub async fn closed_loop(link: &mut Link, pace: Pace, work: &mut impl Work) -> Result<Measured, Error> {
    let mut measured = Measured::new()?;
    let mut in_flight = InFlight::new(pace.depth);
    let mut now = Instant::now();
    let mut due = now;
    let mut is_over = false;
    loop {
        while !is_over && now >= due && !in_flight.free.is_empty() {
            let Some((key, request)) = (now < pace.until).then(|| work.next()).flatten() else {
                is_over = true;
                break;
            };
            let since = if pace.pause.is_some() { due } else { now };
            let Some(slot) = in_flight.begin(since, key) else { break };
            link.send(slot, &request)?;
            if let Some(pause) = pace.pause {
                due += pause;
            }
        }
        if is_over && in_flight.is_empty() {
            return Ok(measured);
        }
        if due > now && !is_over {
            // Ends early when the next request is due.
            timeout_at(due.into(), link.turn()).await.unwrap_or(Ok(()))?;
        } else {
            link.turn().await?;
        }
        // One clock reading for everything that arrived together.
        now = Instant::now();
        while let Some(event) = link.next_event()? {
            match event {
                Event::Response(slot, answer) => {
                    let (sent, key) = in_flight.end(slot)?;
                    measured.record(now.duration_since(sent));
                    work.check(key, &answer)?;
                }
                Event::Change { .. } => measured.broadcasts += 1,
                Event::Ready | Event::Nothing => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;
    use bytes::{Buf, BufMut, BytesMut};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// A slot and a version, in three bytes. The other side responds with the same, or with another slot.
    struct Echo;

    impl Protocol for Echo {
        fn greet(&mut self, _output: &mut BytesMut) -> Result<(), Error> {
            Ok(())
        }

        fn encode(&mut self, slot: Slot, request: &Request, output: &mut BytesMut) -> Result<(), Error> {
            let Request::Put { replaces, .. } = request else { panic!("{request:?}") };
            output.put_u16(slot.0);
            output.put_u8(u8::try_from(*replaces).unwrap());
            Ok(())
        }

        fn decode(&mut self, input: &mut BytesMut, _output: &mut BytesMut) -> Result<Option<Event>, Error> {
            if input.len() < 3 {
                return Ok(None);
            }
            let slot = Slot(input.get_u16());
            Ok(Some(Event::Response(slot, Response::Written { version: input.get_u8().into() })))
        }
    }

    /// Sends numbers, and expects each of them back.
    struct Count {
        asked: u8,
        answered: Vec<u64>,
    }

    impl Work for Count {
        fn next(&mut self) -> Option<(usize, Request)> {
            self.asked += 1;
            let put = Request::Put { key: "k".into(), value: "v".into(), replaces: self.asked.into() };
            (self.asked <= 10).then_some((self.asked.into(), put))
        }

        fn check(&mut self, key: usize, answer: &Response) -> Result<(), Error> {
            let Response::Written { version } = answer else { panic!("{answer:?}") };
            if *version != key as u64 {
                return Err(Error::unexpected(key.to_string(), version.to_string()));
            }
            self.answered.push(*version);
            Ok(())
        }
    }

    async fn run(depth: u16, server: impl AsyncFnOnce(DuplexStream)) -> (Result<Measured, Error>, Count) {
        let (ours, theirs) = duplex(1024);
        let mut link = Link::new(ours, Echo, BytesMut::new());
        let mut work = Count { asked: 0, answered: Vec::new() };
        let pace = Pace { depth, pause: None, until: Instant::now() + Duration::from_secs(60) };
        let (measured, ()) = tokio::join!(closed_loop(&mut link, pace, &mut work), server(theirs));
        (measured, work)
    }

    #[tokio::test]
    async fn responses_in_any_order_belong_to_their_requests() {
        let (measured, work) = run(4, async |mut stream| {
            // Four requests arrive at once, and are answered from the last to the first. Then one more arrives per response.
            let mut requests = [[0; 3]; 4];
            for request in &mut requests {
                stream.read_exact(request).await.unwrap();
            }
            for request in requests.iter().rev() {
                stream.write_all(request).await.unwrap();
            }
            for _ in 4..10 {
                let mut request = [0; 3];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(&request).await.unwrap();
            }
        })
        .await;
        assert_eq!(measured.unwrap().count(), 10);
        assert_eq!(work.answered.get(..4), Some(&[4, 3, 2, 1][..]));
        assert_eq!(work.answered.len(), 10);
    }

    #[tokio::test]
    async fn a_wrong_response_ends_the_measurement() {
        let (measured, _) = run(1, async |mut stream| {
            let mut request = [0; 3];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(&[0, 0, 7]).await.unwrap();
        })
        .await;
        assert_eq!(measured.unwrap_err().to_string(), "expected 1, found 7");
    }

    #[tokio::test]
    async fn a_response_to_no_request_ends_the_measurement() {
        let (measured, _) = run(1, async |mut stream| {
            let mut request = [0; 3];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(&[request, request].concat()).await.unwrap();
            stream.write_all(&[0, 9, 1]).await.unwrap();
        })
        .await;
        let error = measured.unwrap_err().to_string();
        assert!(error.starts_with("expected "), "{error}");
    }

    #[tokio::test]
    async fn the_end_of_the_connection_is_an_error() {
        let (measured, _) = run(1, async |stream| drop(stream)).await;
        assert!(matches!(measured, Err(Error::Closed | Error::Lost(_))), "{measured:?}");
    }
}
