//! A production cursor that is read at once, or so slowly that the server has to wait.

use super::context::{self, ClientContext, PREFIXES};
use crate::Random;
use std::time::Duration;
use syncline_client::{ConnectError, Cursor, CursorError, Position, Progress};
use tokio::time::sleep;

/// Follows a prefix until the round is done. Now and then a new cursor resumes at the position of the old one.
pub(super) async fn run(mut context: ClientContext, mut random: Random, is_slow: bool) {
    let id = context.recorder.next_client();
    let prefix = *random.pick(&PREFIXES).unwrap_or(&"");
    let address = match context.proxy.listen(id).await {
        Ok(address) => address,
        Err(error) => return context.recorder.add_finding(format!("can't listen: {error}")),
    };
    let mut position: Option<Position> = None;
    while !context.is_done() {
        let mut cursor = match Cursor::open(address.clone(), prefix, position, context::client_options()).await {
            Ok(cursor) => cursor,
            Err(CursorError::Connect(ConnectError::NoServer { reason, .. })) => {
                return context.recorder.add_finding(format!("cursor {id}: {reason}"));
            }
            Err(_) => {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        context.recorder.count("cursors opened", 1);
        loop {
            let moved = tokio::select! {
                moved = cursor.next() => moved,
                () = context.wait_until_done() => return,
            };
            match moved {
                Ok(Progress::Step(step)) => {
                    position = Some(step.at);
                    context.recorder.count("cursor resets", u64::from(step.is_reset));
                    context.recorder.record_step(id, prefix, &step);
                }
                Ok(Progress::Disconnected { .. }) => context.recorder.count("connections lost by cursors", 1),
                Ok(Progress::Reconnected) => {}
                Err(error) => return context.recorder.add_finding(format!("cursor {id}: {error}")),
            }
            if context.is_loading() && random.chance(1) {
                break;
            }
            if is_slow && context.is_loading() && random.chance(10) {
                context.recorder.count("stalled readers", 1);
                tokio::select! {
                    () = sleep(Duration::from_millis(random.between(500, 4000))) => {}
                    () = context.wait_until_quiet() => {}
                }
            }
        }
    }
}
