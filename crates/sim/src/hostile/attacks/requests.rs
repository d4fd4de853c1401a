//! Floods of cheap requests, each of which gets a response.

use super::common::{UNSENT, expect_error, tag};
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::connection::encode_all;
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use std::sync::Arc;
use syncline_wire::{Message, Revision, Tag};

/// The number of flooding connections.
const fn concurrency(scale: Scale) -> usize {
    scale.of(32, 4)
}

/// The number of idle connections while the status is requested. The status contains all of them.
const fn silent(scale: Scale) -> usize {
    scale.of(1000, 50)
}

/// The tag of all requests that share one.
const SAME: Tag = Tag::new(7);

/// More requests than there are tags.
const AROUND: usize = 70_000;

/// The longest password.
const PASSWORD: usize = 65_535;

/// Returns the bound of a flood.
fn bound(scale: Scale) -> Bound {
    Bound::new("max-requests, max-unsent, per connection", "4,096; 1 MiB", concurrency(scale), UNSENT)
}

/// A flood of requests, and the check of each response.
#[derive(Clone, Copy)]
struct Flood {
    /// The number of requests in a batch.
    batch: usize,
    /// The minimum of requests on each connection.
    least: usize,
    request: fn(usize) -> Message,
    check: fn(usize, &Message) -> Result<(), AttackError>,
}

async fn flood(context: Arc<AttackContext>, of: Flood) -> Result<(), AttackError> {
    context
        .run_concurrently(concurrency(context.scale), move |context, _| async move {
            let mut connection = context.target.connect_with_hello().await?;
            for number in context.repeat(of.least.div_ceil(of.batch)) {
                let batch = number * of.batch..(number + 1) * of.batch;
                connection.send(&encode_all(batch.clone().map(of.request)), of.batch).await?;
                for number in batch {
                    (of.check)(number, &connection.response().await?)?;
                }
            }
            Ok(())
        })
        .await
}

pub(super) const TAGS: Attack = Attack {
    name: "tags",
    description: "uses every tag from 1 to 65,535 on each connection, and then again; each response has its own tag",
    bound,
    run: |context| {
        let least = context.scale.of(AROUND, AROUND);
        Box::pin(flood(context, Flood { batch: 512, least, request: absent, check: is_absent }))
    },
    ..DEFAULTS
};

fn absent(number: usize) -> Message {
    Message::get(tag(number), format!("absent/{number}"))
}

fn is_absent(number: usize, response: &Message) -> Result<(), AttackError> {
    expect_error(response, tag(number), &format!("\"absent/{number}\": not found"))
}

pub(super) const SAME_TAG: Attack = Attack {
    name: "same-tag",
    description: "sends thousands of requests with the same tag at once; the responses arrive in order",
    bound,
    run: |context| {
        let request = |number| Message::get(SAME, format!("absent/{number}"));
        let check =
            |number, response: &Message| expect_error(response, SAME, &format!("\"absent/{number}\": not found"));
        Box::pin(flood(context, Flood { batch: 4000, least: 8000, request, check }))
    },
    ..DEFAULTS
};

pub(super) const AUTHS: Attack = Attack {
    name: "auths",
    description: "sends the longest passwords to a server without users",
    bound,
    run: |context| {
        let request = |number| Message::auth(tag(number), vec![b'p'; PASSWORD]);
        let check =
            |number, response: &Message| expect_error(response, tag(number), "messages of kind AUTH cannot be applied");
        let least = context.scale.of(256, 16);
        Box::pin(flood(context, Flood { batch: 16, least, request, check }))
    },
    ..DEFAULTS
};

pub(super) const HELLOS: Attack = Attack {
    name: "hellos",
    description: "sends HELLO thousands of times per connection; all except the first are refused",
    bound,
    run: |context| {
        let request = |number| Message::hello(tag(number), "");
        let check = |number, response: &Message| {
            expect_error(response, tag(number), "messages of kind HELLO cannot be applied")
        };
        Box::pin(flood(context, Flood { batch: 500, least: 5000, request, check }))
    },
    ..DEFAULTS
};

pub(super) const BARRIERS: Attack = Attack {
    name: "barriers",
    description: "sends hundreds of MARKs at once",
    bound,
    run: |context| {
        let request = |number| Message::mark(tag(number), Revision::ZERO);
        let check = |number, response: &Message| match response {
            Message::Mark(mark) if mark.tag == tag(number) => Ok(()),
            other => Err(AttackError::unexpected(format_args!("MARK for tag {}", tag(number)), other.redacted())),
        };
        Box::pin(flood(context, Flood { batch: 500, least: 2000, request, check }))
    },
    ..DEFAULTS
};

pub(super) const ERRORS: Attack = Attack {
    name: "errors",
    description: "sends ERRORs, which only servers may send",
    bound,
    run: |context| {
        let request = |number| Message::error(tag(number), "stale put");
        let check = |number, response: &Message| {
            expect_error(response, tag(number), "messages of kind ERROR cannot be applied")
        };
        Box::pin(flood(context, Flood { batch: 500, least: 2000, request, check }))
    },
    ..DEFAULTS
};

pub(super) const STATUSES: Attack = Attack {
    name: "statuses",
    description: "requests the status a hundred times at once, while a thousand other connections are idle",
    bound: |scale| bound(scale).plus(silent(scale) * super::common::IDLE),
    run: |context| Box::pin(statuses(context)),
    ..DEFAULTS
};

async fn statuses(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let silent = context.connect_many(silent(context.scale)).await?;
    let request = |number| Message::status(tag(number), "");
    let check = |number, response: &Message| match response {
        Message::Status(status) if status.tag == tag(number) && status.text.starts_with(b"{") => Ok(()),
        other => Err(AttackError::unexpected(format_args!("STATUS for tag {}", tag(number)), other.redacted())),
    };
    flood(context, Flood { batch: 100, least: 400, request, check }).await?;
    drop(silent);
    Ok(())
}
