//! A production cursor, read at once or so slowly that the server feels it.

use super::load::{self, Load, PREFIXES};
use crate::Random;
use std::time::Duration;
use syncline_client::{ConnectError, Cursor, CursorError, Position, Progress};
use tokio::time::sleep;

/// Follows a prefix, until the end. Now and then it goes on where it was with another cursor.
pub(super) async fn run(mut load: Load, mut random: Random, is_slow: bool) {
    let id = load.recorder.client();
    let prefix = *random.pick(&PREFIXES).unwrap_or(&"");
    let address = match load.proxy.listen(id).await {
        Ok(address) => address,
        Err(error) => return load.recorder.find(format!("can't listen: {error}")),
    };
    let mut position: Option<Position> = None;
    while !load.is_over() {
        let mut cursor = match Cursor::open(address.clone(), prefix, position, load::options()).await {
            Ok(cursor) => cursor,
            Err(CursorError::Connect(ConnectError::NoServer { reason, .. })) => {
                return load.recorder.find(format!("cursor {id}: {reason}"));
            }
            Err(_) => {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        load.recorder.count("cursors opened", 1);
        loop {
            let moved = tokio::select! {
                moved = cursor.next() => moved,
                () = load.over() => return,
            };
            match moved {
                Ok(Progress::Step(step)) => {
                    position = Some(step.at);
                    load.recorder.count("steps that begin afresh", u64::from(step.is_reset));
                    load.recorder.step(id, prefix, &step);
                }
                Ok(Progress::Disconnected { .. }) => load.recorder.count("connections that a cursor has lost", 1),
                Ok(Progress::Reconnected) => {}
                Err(error) => return load.recorder.find(format!("cursor {id}: {error}")),
            }
            if load.is_on() && random.chance(1) {
                break;
            }
            if is_slow && load.is_on() && random.chance(10) {
                load.recorder.count("stalled readers", 1);
                tokio::select! {
                    () = sleep(Duration::from_millis(random.between(500, 4000))) => {}
                    () = load.quiet() => {}
                }
            }
        }
    }
}
