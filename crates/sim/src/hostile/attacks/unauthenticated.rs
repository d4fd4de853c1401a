//! Those whom nobody knows, before a server that has users. Each comes from one of a few addresses.

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

/// How many addresses attack, and on how many connections each: fewer than the quarter of all places that it gets.
const ADDRESSES: u8 = 3;
const PER_ATTACKING_ADDRESS: usize = 64;

/// The places for strangers by default (`--max-unauthenticated`), and those of one address.
const UNAUTHENTICATED: usize = 1024;
const PER_ADDRESS: usize = UNAUTHENTICATED / 4;

/// What a stranger may hold: what everybody does, 4 KiB of requests, 2 KiB of answers, and what TLS holds of a handshake.
const UNAUTHENTICATED_MEMORY: usize = IDLE + 6 * 1024 + 16 * 1024;

/// A password is verified by at most half of the processors at a time, in 19 MiB each, which are kept for the next
/// (`docs/access.md`).
const VERIFICATION: usize = 19 * 1024 * 1024;

/// What the known user comes in with, one after the other.
const PAUSE: Duration = Duration::from_millis(50);

fn at_once() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

pub(super) const GUESSES: Attack = Attack {
    name: "guesses",
    description: "hundreds of connections from three addresses guess passwords; who knows one comes in meanwhile, from another address and from one of those",
    requires: SecurityMode::Users,
    bound: |_| {
        let name = "max-unauthenticated; a verification for every second processor";
        Bound::new(name, "1,024; 19 MiB each", usize::from(ADDRESSES) * PER_ATTACKING_ADDRESS, UNAUTHENTICATED_MEMORY)
            .plus(at_once() * VERIFICATION)
    },
    run: |context| Box::pin(guesses(context)),
    ..DEFAULTS
};

async fn guesses(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let (told, busy) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (told.clone(), busy.clone());
    let least = context.scale.of(20, 3);
    let guessing = context.run_concurrently(usize::from(ADDRESSES) * PER_ATTACKING_ADDRESS, move |context, number| {
        let (told, busy) = counts.clone();
        async move {
            let target = unauthenticated_target(&context, number);
            let work = async {
                let mut guess = 0;
                loop {
                    // It may be turned away before it is asked for a password.
                    let Ok(mut connection) = target.connect().await else { continue };
                    while let Some(answer) = try_guess(&mut connection, number, &mut guess).await? {
                        let of = if is_bad_password(&answer) { &told } else { &busy };
                        of.fetch_add(1, Ordering::Relaxed);
                    }
                    sleep(PAUSE).await;
                }
            };
            context.run_until_stopped::<(), AttackError>(work).await
        }
    });
    let coming = async {
        let mut came = [0; 2];
        while !context.is_stopped() {
            // Of another address, and of one that guesses.
            let ways = [context.target.clone(), context.target.clone().from_address(1)];
            for (target, came) in ways.iter().zip(&mut came) {
                let mut connection = target.connect_with_hello().await?;
                expect_error(
                    &connection.request(&Message::get(tag(1), "absent")).await?,
                    tag(1),
                    "\"absent\": not found",
                )?;
                *came += 1;
            }
            if came.iter().all(|came| *came >= least) {
                context.report_complete();
            }
            sleep(PAUSE).await;
        }
        let [other, same] = came;
        context.note(format!(
            "who knows a password came in {other} times from another address, {same} times from one that guesses"
        ));
        Ok(())
    };
    tokio::try_join!(guessing, coming)?;
    let (told, busy) = (told.load(Ordering::Relaxed), busy.load(Ordering::Relaxed));
    context.note(format!("{told} guesses were told to be wrong, {busy} were refused unseen"));
    Ok(())
}

/// The target of a stranger from one of the addresses.
fn unauthenticated_target(context: &AttackContext, number: usize) -> Target {
    let address = number % usize::from(ADDRESSES) + 1;
    context.target.unauthenticated(u8::try_from(address).unwrap_or(1))
}

/// Shows a password that is wrong; answers what is told of it, or nothing where the connection has ended.
async fn try_guess(
    connection: &mut Connection,
    number: usize,
    guess: &mut usize,
) -> Result<Option<Message>, AttackError> {
    *guess += 1;
    match connection.request(&Message::auth(tag(1), format!("inside:{number}-{guess}"))).await {
        Ok(told @ Message::Error(_)) => Ok(Some(told)),
        Ok(other) => Err(AttackError::unexpected("a refusal of a wrong password", other.redacted())),
        // Ended, or still held back.
        Err(_) => Ok(None),
    }
}

fn is_bad_password(answer: &Message) -> bool {
    matches!(answer, Message::Error(error) if error.text.starts_with(b"go away, bad password"))
}

const fn crowd(scale: Scale) -> usize {
    scale.of(600, 60)
}

pub(super) const CROWD: Attack = Attack {
    name: "crowd",
    description: "more connections than there are places for strangers of three addresses say nothing, and come again when they are ended; who knows a password comes in meanwhile",
    requires: SecurityMode::Users,
    flags: &["--authorize-within", "2s"],
    bound: |_| {
        let name = "max-unauthenticated, of which a quarter for each address";
        let all = usize::from(ADDRESSES) * PER_ADDRESS;
        // Those who are told that there is no place, and the user who comes in.
        Bound::new(name, "1,024", all, UNAUTHENTICATED_MEMORY).plus(VERIFICATION).files(all + 64 + 16)
    },
    run: |context| Box::pin(silent(context)),
    ..DEFAULTS
};

async fn silent(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let let_in = Arc::new(AtomicUsize::new(0));
    let count = let_in.clone();
    let coming = async {
        let (mut came, least) = (0, context.scale.of(40, 5));
        while !context.is_stopped() {
            let mut connection = context.target.connect_with_hello().await?;
            expect_error(&connection.request(&Message::get(tag(1), "absent")).await?, tag(1), "\"absent\": not found")?;
            came += 1;
            if came == least {
                context.report_complete();
            }
            sleep(PAUSE).await;
        }
        context.note(format!("who knows a password came in {came} times"));
        Ok(())
    };
    let crowding = context.run_concurrently(usize::from(ADDRESSES) * crowd(context.scale), move |context, number| {
        let let_in = count.clone();
        async move {
            let target = unauthenticated_target(&context, number);
            let work = async {
                loop {
                    if let Ok(mut connection) = target.connect().await {
                        let_in.fetch_add(1, Ordering::Relaxed);
                        // Until the server ends it.
                        connection.drain(usize::MAX).await;
                    }
                    sleep(PAUSE).await;
                }
            };
            context.run_until_stopped::<(), AttackError>(work).await
        }
    });
    tokio::try_join!(coming, crowding)?;
    context.note(format!("{} strangers shook hands", let_in.load(Ordering::Relaxed)));
    Ok(())
}
