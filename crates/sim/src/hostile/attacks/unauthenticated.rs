//! Attacks by unauthenticated connections on a server with users. They come from a few local addresses.

use super::common::{IDLE, expect_error, tag};
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::connection::{Connection, Target};
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use crate::hostile::options::SecurityMode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use syncline_wire::Message;
use tokio::time::sleep;

/// The number of attacking addresses, and of connections from each: less than the quarter of the limit that one address
/// gets.
const ADDRESSES: u8 = 3;
const PER_ATTACKING_ADDRESS: usize = 64;

/// The limit for unauthenticated connections by default (`--max-unauthenticated`), and the part that one address gets.
const UNAUTHENTICATED: usize = 1024;
const PER_ADDRESS: usize = UNAUTHENTICATED / 4;

/// The memory of an unauthenticated connection: an idle connection, 4 KiB of requests, 2 KiB of responses, and the
/// state of a TLS handshake.
const UNAUTHENTICATED_MEMORY: usize = IDLE + 6 * 1024 + 16 * 1024;

/// The memory of a password verification. At most half of the processors verify at a time, and each keeps its memory
/// for the next verification (`docs/access.md`).
const VERIFICATION: usize = 19 * 1024 * 1024;

/// The pause between two connections of the legitimate user, and before an attacker reconnects.
const PAUSE: Duration = Duration::from_millis(50);

/// Returns the number of concurrent password verifications.
fn max_verifications() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

pub(super) const GUESSES: Attack = Attack {
    name: "guesses",
    description: "guesses passwords on hundreds of connections from three addresses; a legitimate user still authenticates, from another address and from one of these",
    requires: SecurityMode::Users,
    bound: |_| {
        let name = "max-unauthenticated; a verification for every second processor";
        Bound::new(name, "1,024; 19 MiB each", usize::from(ADDRESSES) * PER_ATTACKING_ADDRESS, UNAUTHENTICATED_MEMORY)
            .plus(max_verifications() * VERIFICATION)
    },
    run: |context| Box::pin(guesses(context)),
    ..DEFAULTS
};

async fn guesses(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let (wrong, busy) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (wrong.clone(), busy.clone());
    let least = context.scale.of(20, 3);
    let guessing = context.run_concurrently(usize::from(ADDRESSES) * PER_ATTACKING_ADDRESS, move |context, number| {
        let (wrong, busy) = counts.clone();
        async move {
            let target = unauthenticated_target(&context, number);
            let work = async {
                let mut guess = 0;
                loop {
                    // The server may refuse the connection before authentication.
                    let Ok(mut connection) = target.connect().await else { continue };
                    while let Some(response) = try_guess(&mut connection, number, &mut guess).await? {
                        let count = if is_bad_password(&response) { &wrong } else { &busy };
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    sleep(PAUSE).await;
                }
            };
            context.run_until_stopped::<(), AttackError>(work).await
        }
    });
    let legitimate = async {
        let mut counts = [0; 2];
        while !context.is_stopped() {
            // From another address, and from an address that also guesses.
            let targets = [context.target.clone(), context.target.clone().with_local_address(1)];
            for (target, count) in targets.iter().zip(&mut counts) {
                let mut connection = target.connect_with_hello().await?;
                expect_error(
                    &connection.request(&Message::get(tag(1), "absent")).await?,
                    tag(1),
                    "\"absent\": not found",
                )?;
                *count += 1;
            }
            if counts.iter().all(|count| *count >= least) {
                context.report_complete();
            }
            sleep(PAUSE).await;
        }
        let [other, same] = counts;
        context.note(format!(
            "the legitimate user authenticated {other} times from another address, {same} times from one that guesses"
        ));
        Ok(())
    };
    tokio::try_join!(guessing, legitimate)?;
    let (wrong, busy) = (wrong.load(Ordering::Relaxed), busy.load(Ordering::Relaxed));
    context.note(format!("{wrong} guesses were verified and rejected, {busy} were refused without verification"));
    Ok(())
}

/// Returns the target of an unauthenticated connection from one of the attacking addresses.
fn unauthenticated_target(context: &AttackContext, number: usize) -> Target {
    let address = number % usize::from(ADDRESSES) + 1;
    context.target.unauthenticated(u8::try_from(address).unwrap_or(1))
}

/// Sends a wrong password, and returns the ERROR for it, or `None` if the connection was closed.
async fn try_guess(
    connection: &mut Connection,
    number: usize,
    guess: &mut usize,
) -> Result<Option<Message>, AttackError> {
    *guess += 1;
    match connection.request(&Message::auth(tag(1), format!("inside:{number}-{guess}"))).await {
        Ok(error @ Message::Error(_)) => Ok(Some(error)),
        Ok(other) => Err(AttackError::unexpected("an ERROR for a wrong password", other.redacted())),
        // The connection was closed, or the server delays its response.
        Err(_) => Ok(None),
    }
}

fn is_bad_password(response: &Message) -> bool {
    matches!(response, Message::Error(error) if error.text.starts_with(b"go away, bad password"))
}

const fn crowd(scale: Scale) -> usize {
    scale.of(600, 60)
}

pub(super) const CROWD: Attack = Attack {
    name: "crowd",
    description: "opens silent connections from three addresses beyond the limit for unauthenticated ones, and reopens those that the server closes; a legitimate user still authenticates",
    requires: SecurityMode::Users,
    flags: &["--authorize-within", "2s"],
    bound: |_| {
        let name = "max-unauthenticated, of which a quarter for each address";
        let all = usize::from(ADDRESSES) * PER_ADDRESS;
        // Including connections that are being refused, and those of the legitimate user.
        Bound::new(name, "1,024", all, UNAUTHENTICATED_MEMORY).plus(VERIFICATION).files(all + 64 + 16)
    },
    run: |context| Box::pin(silent(context)),
    ..DEFAULTS
};

async fn silent(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let connected = Arc::new(AtomicUsize::new(0));
    let count = connected.clone();
    let legitimate = async {
        let (mut count, least) = (0, context.scale.of(40, 5));
        while !context.is_stopped() {
            let mut connection = context.target.connect_with_hello().await?;
            expect_error(&connection.request(&Message::get(tag(1), "absent")).await?, tag(1), "\"absent\": not found")?;
            count += 1;
            if count == least {
                context.report_complete();
            }
            sleep(PAUSE).await;
        }
        context.note(format!("the legitimate user authenticated {count} times"));
        Ok(())
    };
    let crowding = context.run_concurrently(usize::from(ADDRESSES) * crowd(context.scale), move |context, number| {
        let connected = count.clone();
        async move {
            let target = unauthenticated_target(&context, number);
            let work = async {
                loop {
                    if let Ok(mut connection) = target.connect().await {
                        connected.fetch_add(1, Ordering::Relaxed);
                        // Until the server closes the connection.
                        connection.drain(usize::MAX).await;
                    }
                    sleep(PAUSE).await;
                }
            };
            context.run_until_stopped::<(), AttackError>(work).await
        }
    });
    tokio::try_join!(legitimate, crowding)?;
    context.note(format!("{} unauthenticated connections were opened", connected.load(Ordering::Relaxed)));
    Ok(())
}
