//! Turns, alone and through the driver of a connection. The runtime has one thread, so one has its turn to send at a time.

use super::*;
use crate::connection::{FIRST_BUDGET, LARGE_OUTPUT};
use crate::testing::{Client, World, all_arriving, encoded, error, take};
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;
use syncline_core::{Entry, KeyPage, Operation, Outcome, Page, StoreId, Transaction};
use syncline_store::{ChangedError, Feed, MemoryStore, Stats, Store, Unavailable};
use syncline_wire::{List, Message, Revision, Tag, Version};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

const ROOM: usize = 2 * 1024 * 1024;

/// How long a test waits for what must come: only a broken server makes it wait so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store that holds this, each at version 1.
fn holding<'a>(keys: impl IntoIterator<Item = &'a str>, value: &[u8]) -> MemoryStore {
    let store = MemoryStore::new().unwrap();
    let put = |key: &str| Operation::Put {
        key: key.to_owned().into(),
        value: value.to_vec().into(),
        version: Version::new(1),
    };
    let operations = keys.into_iter().map(put).collect();
    let outcomes = store.commit(vec![Transaction { origin: None, operations }]);
    assert!(matches!(outcomes[..], [Outcome::Accepted { .. }]), "{outcomes:?}");
    store
}

fn list(tag: u16) -> Message {
    Message::List(List { tag: Tag::new(tag), prefix: "".into(), after: "".into(), limit: 10 })
}

/// One is sent nothing, while the other is served.
async fn expect_nothing(reader: &mut Client, bystander: &mut Client) {
    for _ in 0..10 {
        tokio::select! {
            biased;
            sent = reader.receive() => panic!("it was sent {sent:?}"),
            () = bystander.expect_served() => {}
        }
    }
}

#[tokio::test]
async fn who_waits_longest_is_next_and_who_has_gone_is_not() {
    let line = PriorityGate::to_send();
    let context = &mut Context::from_waker(Waker::noop());
    let [mut first, mut second, mut third, mut fourth] = [const { GatePermit::None }; 4];
    take(&mut first, &line).await;
    for turn in [&mut second, &mut third, &mut fourth] {
        assert!(turn.poll(&line, context).is_pending() && turn.waits() && !turn.is_taken());
    }
    second = GatePermit::None;
    first.give_back();
    assert!(fourth.poll(&line, context).is_pending(), "it is the turn of somebody else");
    take(&mut third, &line).await;
    assert!(fourth.poll(&line, context).is_pending(), "it is still");
    third.give_back();
    take(&mut fourth, &line).await;
    assert!(!second.waits());
}

#[tokio::test]
async fn whose_turn_it_is_comes_after_those_that_are_ready() {
    let line = PriorityGate::to_send();
    for _ in 0..10 {
        let served = Arc::new(AtomicBool::new(false));
        let ready = served.clone();
        tokio::spawn(async move { ready.store(true, Ordering::Relaxed) });
        let mut turn = GatePermit::None;
        poll_fn(|context| {
            for _ in 0..3 {
                assert!(turn.poll(&line, context).is_pending(), "it may ask as often as it likes");
            }
            Poll::Ready(())
        })
        .await;
        take(&mut turn, &line).await;
        assert!(served.load(Ordering::Relaxed), "nobody stood in the line, but somebody was ready");
    }
}

#[tokio::test]
async fn the_first_request_of_a_connection_waits_for_its_turn_and_later_ones_do_not() {
    let world = World::with_room(holding([], b""), ROOM);
    let mut bystander = world.connect().await;
    let taken = all_arriving(&world.service).await;
    let (mut newcomer, mut silent) = (world.open(), world.open());
    newcomer.send(&encoded(&Message::get(Tag::new(2), "no key"))).await;
    expect_nothing(&mut newcomer, &mut bystander).await;
    drop(taken);
    let answer = Some(error(2, "\"no key\": not found"));
    assert_eq!(newcomer.receive().await, answer);
    let taken = all_arriving(&world.service).await;
    newcomer.expect_served().await;
    silent.send(&encoded(&Message::get(Tag::new(2), "no key"))).await;
    expect_nothing(&mut silent, &mut bystander).await;
    drop(taken);
    assert_eq!(silent.receive().await, answer, "it had no turn before it asked");
}

#[tokio::test]
async fn who_asks_much_or_ends_while_it_waits_to_arrive_is_answered_all() {
    let world = World::with_room(holding([], b""), ROOM);
    let mut bystander = world.connect().await;
    let taken = all_arriving(&world.service).await;
    let mut newcomer = world.open();
    let request = encoded(&Message::get(Tag::new(2), "no key"));
    // What the pipe takes, so that some of it comes when it has arrived.
    let times = 2000 / request.len();
    newcomer.send(&request.repeat(times)).await;
    newcomer.stream.shutdown().await.unwrap();
    expect_nothing(&mut newcomer, &mut bystander).await;
    drop(taken);
    for _ in 0..times {
        assert_eq!(newcomer.receive().await, Some(error(2, "\"no key\": not found")));
    }
    assert_eq!(newcomer.receive().await, None);
}

#[tokio::test]
async fn a_page_waits_for_its_turn_and_small_answers_do_not() {
    let world = World::with_room(holding(["key"], b"value"), ROOM);
    let mut taken = GatePermit::None;
    take(&mut taken, &world.service.send_gate).await;
    let (mut reader, mut bystander) = (world.connect().await, world.connect().await);
    reader.send(&encoded(&list(7))).await;
    reader.expect_served().await;
    expect_nothing(&mut reader, &mut bystander).await;
    taken.give_back();
    assert_eq!(reader.receive().await, Some(Message::put(Tag::new(7), "key", "value", Version::new(1))));
    assert!(matches!(reader.receive().await, Some(Message::Mark(mark)) if mark.tag == Tag::new(7)));
}

#[tokio::test]
async fn much_that_is_unsent_waits_for_its_turn() {
    let large = vec![b'v'; LARGE_OUTPUT - 1024];
    let world = World::with_room(holding(["a", "b"], &large), ROOM);
    let mut taken = GatePermit::None;
    take(&mut taken, &world.service.send_gate).await;
    let (mut reader, mut bystander) = (world.connect().await, world.connect().await);
    let [one, other] = [("a", 3), ("b", 4)].map(|(key, tag)| Message::get(Tag::new(tag), key));
    reader.send(&encoded(&one)).await;
    // Not more than may be sent at any time.
    assert_eq!(reader.receive().await, Some(Message::put(Tag::new(3), "a", large.clone(), Version::new(1))));
    reader.send(&[encoded(&one), encoded(&other)].concat()).await;
    bystander.expect_served().await;
    expect_nothing(&mut reader, &mut bystander).await;
    taken.give_back();
    for (key, tag) in [("a", 3), ("b", 4)] {
        let expected = Message::put(Tag::new(tag), key, large.clone(), Version::new(1));
        assert_eq!(reader.receive().await, Some(expected));
    }
}

/// Who never tells which keys there are, nor what one of them holds.
struct Hanging(MemoryStore);

impl Store for Hanging {
    fn id(&self) -> StoreId {
        self.0.id()
    }

    fn head(&self) -> Revision {
        self.0.head()
    }

    fn follow(&self, feed: Feed) -> Revision {
        self.0.follow(feed)
    }

    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        self.0.commit(batch)
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Unavailable> {
        if key == b"hangs" {
            std::future::pending::<()>().await;
        }
        self.0.get(key).await
    }

    async fn changed_since(&self, since: Revision, prefix: &[u8], max_bytes: usize) -> Result<Page, ChangedError> {
        self.0.changed_since(since, prefix, max_bytes).await
    }

    async fn list(&self, _: &[u8], _: Option<&[u8]>, _: NonZeroUsize, _: usize) -> Result<KeyPage, Unavailable> {
        std::future::pending().await
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

#[tokio::test]
async fn a_store_that_takes_its_time_does_not_keep_the_turn() {
    let world = World::with_room(Hanging(holding(["key"], b"value")), ROOM);
    let (mut reader, mut bystander) = (world.connect().await, world.connect().await);
    reader.send(&encoded(&list(7))).await;
    bystander.expect_served().await;
    let mut turn = GatePermit::None;
    take(&mut turn, &world.service.send_gate).await;
}

#[tokio::test]
async fn what_was_done_is_sent_before_much_more_is_done() {
    let world = World::with_room(Hanging(holding(["key"], b"value")), ROOM);
    let mut reader = world.connect().await;
    let keys = std::iter::repeat_n("key", FIRST_BUDGET).chain(["hangs"]);
    let requests: Vec<_> = keys.flat_map(|key| encoded(&Message::get(Tag::new(3), key))).collect();
    reader.send(&requests).await;
    let answer = Message::put(Tag::new(3), "key", "value", Version::new(1));
    for _ in 0..FIRST_BUDGET {
        let received = timeout(PATIENCE, reader.receive()).await;
        assert_eq!(received.expect("it waits for the last one"), Some(answer.clone()));
    }
}
