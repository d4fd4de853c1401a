//! Cursors against a real server: connecting, reconnecting, and notices. The steps are tested in `syncline-core`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use std::time::Duration;
use support::{Proxy, TestServer};
use syncline_client::{Cursor, CursorError, Options, Progress, RequestError, Step, Version};

async fn open(addr: impl ToString, prefix: impl Into<Bytes>) -> Result<Cursor, CursorError> {
    let pause = Duration::from_millis(5);
    let mut options = Options::default();
    (options.min_pause, options.max_pause) = (pause, pause);
    Cursor::open(addr.to_string(), prefix, None, options).await
}

async fn step(cursor: &mut Cursor) -> Step {
    match cursor.next().await.unwrap() {
        Progress::Step(step) => step,
        other => panic!("expected a step, found {other:?}"),
    }
}

fn keys(step: &Step) -> Vec<&[u8]> {
    step.changes.iter().map(|change| change.key.as_ref()).collect()
}

#[tokio::test]
async fn a_cursor_resumes_on_another_connection() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.addr).await;
    let writer = server.client().await;
    writer.put("a", "1", Version::new(1)).await.unwrap();
    let mut cursor = open(proxy.addr, "").await.unwrap();
    let first = step(&mut cursor).await;
    assert_eq!((keys(&first), first.is_reset), (vec![&b"a"[..]], false));

    proxy.redirect(None);
    let Progress::Disconnected { reason } = cursor.next().await.unwrap() else { panic!("expected a disconnect") };
    assert!(!reason.is_empty());
    writer.put("b", "1", Version::new(1)).await.unwrap();
    proxy.redirect(Some(server.addr));
    assert_eq!(cursor.next().await.unwrap(), Progress::Reconnected);
    let missed = step(&mut cursor).await;
    assert_eq!((keys(&missed), missed.is_reset), (vec![&b"b"[..]], false));
    assert!(missed.at.revision > first.at.revision && missed.at.store == first.at.store);
}

#[tokio::test]
async fn the_last_notice_of_the_server_is_the_reason() {
    let server = TestServer::start().await;
    let mut cursor = open(server.addr, "").await.unwrap();
    assert_eq!(keys(&step(&mut cursor).await), [b""; 0]);
    let ((), lost) = tokio::join!(server.shut_down(), cursor.next());
    let reason = "the server says: unavailable: shutting down".into();
    assert_eq!(lost.unwrap(), Progress::Disconnected { reason });
}

#[tokio::test]
async fn a_prefix_that_is_too_long_is_refused() {
    let server = TestServer::start().await;
    let refused = |error| match error {
        CursorError::Request(RequestError::TooLarge { text }) => text,
        other => panic!("expected a limit, found {other:?}"),
    };
    let no_frame = refused(open(server.addr, vec![0; 65_536]).await.unwrap_err());
    assert_eq!(no_frame, "bad message: expected a prefix of at most 65535 bytes, found 65536");
    let no_key = refused(open(server.addr, vec![0; 5000]).await.unwrap().next().await.unwrap_err());
    assert_eq!(no_key, "too large: key of 5000 bytes, expected at most 4096");
}
