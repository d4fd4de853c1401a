//! Attacks on TLS itself.

use super::common::{expect_error, tag};
use crate::Random;
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use crate::hostile::options::SecurityMode;
use std::sync::Arc;
use std::time::Duration;
use syncline_wire::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The number of concurrent connections.
const CONCURRENCY: usize = 8;

/// The memory of an incomplete TLS handshake.
const HANDSHAKE: usize = 64 * 1024;

/// The longest time for the server to close a connection with an incomplete handshake: more than `--authorize-within`.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) const NO_TLS: Attack = Attack {
    name: "no-tls",
    description: "sends random bytes, some of which begin like TLS, to a server that expects TLS",
    requires: SecurityMode::Tls,
    bound: |_| Bound::new("a handshake, for open connections and those being refused", "64 KiB", 512, HANDSHAKE),
    run: |context| Box::pin(no_tls(context)),
    ..DEFAULTS
};

async fn no_tls(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let each = context.scale.of(500, 20);
    context
        .run_concurrently(CONCURRENCY, move |context, worker| async move {
            let mut random = Random::new(u64::try_from(worker).unwrap_or(0));
            for number in context.repeat(each) {
                let mut bytes: Vec<u8> =
                    (0..random.below(600)).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect();
                if number % 2 == 0 {
                    bytes.splice(0..0, beginning(number));
                }
                let mut tcp = context.target.connect_tcp().await?;
                let _ = tcp.write_all(&bytes).await;
                let _ = tcp.shutdown().await;
                wait_for_close(&mut tcp).await?;
            }
            Ok(())
        })
        .await
}

/// Returns the header of a TLS record of some type and length. Some lengths exceed the maximum.
fn beginning(number: usize) -> Vec<u8> {
    let (kind, length) = match number % 8 {
        0 => (0x16, 0x0200),
        2 => (0x16, 0x4000),
        4 => (0x17, 0x0100),
        _ => (0x16, 0xffff_u16),
    };
    [&[kind, 3, 1][..], &length.to_be_bytes()].concat()
}

/// Waits until the server has closed the connection.
async fn wait_for_close(tcp: &mut TcpStream) -> Result<(), AttackError> {
    let mut received = Vec::new();
    let end = timeout(CLOSE_TIMEOUT, tcp.read_to_end(&mut received)).await;
    // The connection may be closed or reset.
    end.map(drop)
        .map_err(|_| AttackError::unexpected("the end of a connection", format_args!("none within {CLOSE_TIMEOUT:?}")))
}

const fn half(scale: Scale) -> usize {
    scale.of(2000, 50)
}

pub(super) const HALF: Attack = Attack {
    name: "half-handshakes",
    description: "opens thousands of connections that begin a handshake and then wait; the server closes them",
    requires: SecurityMode::Tls,
    flags: &["--authorize-within", "2s"],
    bound: |scale| {
        Bound::new("authorize-within; the memory of a handshake, per connection", "2 s; 64 KiB", half(scale), HANDSHAKE)
    },
    run: |context| Box::pin(half_handshakes(context)),
    ..DEFAULTS
};

async fn half_handshakes(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let mut held = Vec::new();
    for number in 0..half(context.scale) {
        let mut tcp = context.target.connect_tcp().await?;
        // A part of a record of 16 KiB: the beginning of its header, or all except its end.
        let length = if number % 2 == 0 { 3 } else { 16_000 };
        // A ClientHello of 16,380 bytes.
        let mut record = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc];
        record.resize(length, 0);
        // The server may have closed the connection already.
        let _ = tcp.write_all(&record).await;
        held.push(tcp);
    }
    context.report_complete();
    for tcp in &mut held {
        wait_for_close(tcp).await?;
    }
    context.stopped().await;
    Ok(())
}

/// The number of key updates between two requests: as many as TLS allows without data between them.
const KEY_UPDATES: usize = 8;

pub(super) const RENEGOTIATION: Attack = Attack {
    name: "key-updates",
    description: "opens connections that update the keys of TLS 1.3 over and over (TLS 1.3 and rustls have no renegotiation)",
    requires: SecurityMode::Tls,
    bound: |scale| {
        Bound::new("a connection", "1 MiB and what is being written", updating(scale), super::common::UNSENT)
    },
    run: |context| Box::pin(key_updates(context)),
    ..DEFAULTS
};

const fn updating(scale: Scale) -> usize {
    scale.of(16, 4)
}

async fn key_updates(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let least = context.scale.of(500, 50);
    context
        .run_concurrently(updating(context.scale), move |context, _| async move {
            let mut connection = context.target.connect_with_hello().await?;
            for number in context.repeat(least) {
                for _ in 0..KEY_UPDATES {
                    connection.update_keys()?;
                }
                let absent = Message::get(tag(number), "absent");
                expect_error(&connection.request(&absent).await?, tag(number), "\"absent\": not found")?;
            }
            Ok(())
        })
        .await
}
