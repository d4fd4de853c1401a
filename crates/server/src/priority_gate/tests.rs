//! Gates, alone and through the driver of a connection. The runtime has one thread, so the send gate has one permit.

use super::*;
use crate::connection::{FIRST_BUDGET, LARGE_OUTPUT};
use crate::testing::{Client, World, acquire, acquire_all_arrivals, encoded, error};
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

/// The input budget of the servers.
const INPUT: usize = 2 * 1024 * 1024;

/// The timeout of tests. Only a broken server reaches it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a store that holds these keys with this value, each at version 1.
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

/// Expects that `reader` receives nothing while `bystander` is served.
async fn expect_nothing(reader: &mut Client, bystander: &mut Client) {
    for _ in 0..10 {
        tokio::select! {
            biased;
            sent = reader.receive() => panic!("received {sent:?}"),
            () = bystander.expect_served() => {}
        }
    }
}

#[tokio::test]
async fn permits_are_granted_in_order_and_cancelled_requests_are_skipped() {
    let gate = PriorityGate::for_sends();
    let context = &mut Context::from_waker(Waker::noop());
    let [mut first, mut second, mut third, mut fourth] = [const { GatePermit::None }; 4];
    acquire(&mut first, &gate).await;
    for permit in [&mut second, &mut third, &mut fourth] {
        assert!(permit.poll_acquire(&gate, context).is_pending() && permit.is_waiting() && !permit.is_taken());
    }
    second = GatePermit::None;
    first.release();
    assert!(fourth.poll_acquire(&gate, context).is_pending(), "the third comes first");
    acquire(&mut third, &gate).await;
    assert!(fourth.poll_acquire(&gate, context).is_pending(), "the third holds the permit");
    third.release();
    acquire(&mut fourth, &gate).await;
    assert!(!second.is_waiting());
}

#[tokio::test]
async fn a_permit_is_granted_after_the_ready_tasks_have_run() {
    let gate = PriorityGate::for_sends();
    for _ in 0..10 {
        let has_run = Arc::new(AtomicBool::new(false));
        let ready = has_run.clone();
        tokio::spawn(async move { ready.store(true, Ordering::Relaxed) });
        let mut permit = GatePermit::None;
        poll_fn(|context| {
            for _ in 0..3 {
                assert!(permit.poll_acquire(&gate, context).is_pending(), "polling it more often changes nothing");
            }
            Poll::Ready(())
        })
        .await;
        acquire(&mut permit, &gate).await;
        assert!(has_run.load(Ordering::Relaxed), "the permit was free, but a task was ready");
    }
}

#[tokio::test]
async fn only_the_first_request_of_a_connection_needs_a_permit() {
    let world = World::open(holding([], b""), INPUT);
    let mut bystander = world.connect().await;
    let held = acquire_all_arrivals(&world.service).await;
    let (mut newcomer, mut silent) = (world.connect_silently(), world.connect_silently());
    newcomer.send(&encoded(&Message::get(Tag::new(2), "no key"))).await;
    expect_nothing(&mut newcomer, &mut bystander).await;
    drop(held);
    let response = Some(error(2, "\"no key\": not found"));
    assert_eq!(newcomer.receive().await, response);
    let held = acquire_all_arrivals(&world.service).await;
    newcomer.expect_served().await;
    silent.send(&encoded(&Message::get(Tag::new(2), "no key"))).await;
    expect_nothing(&mut silent, &mut bystander).await;
    drop(held);
    assert_eq!(silent.receive().await, response, "it had no permit before it asked");
}

#[tokio::test]
async fn a_new_connection_that_half_closes_while_it_waits_gets_every_response() {
    let world = World::open(holding([], b""), INPUT);
    let mut bystander = world.connect().await;
    let held = acquire_all_arrivals(&world.service).await;
    let mut newcomer = world.connect_silently();
    let request = encoded(&Message::get(Tag::new(2), "no key"));
    // As many as the pipe holds, so that the server reads some of them only after the permit is granted.
    let times = 2000 / request.len();
    newcomer.send(&request.repeat(times)).await;
    newcomer.stream.shutdown().await.unwrap();
    expect_nothing(&mut newcomer, &mut bystander).await;
    drop(held);
    for _ in 0..times {
        assert_eq!(newcomer.receive().await, Some(error(2, "\"no key\": not found")));
    }
    assert_eq!(newcomer.receive().await, None);
}

#[tokio::test]
async fn a_page_needs_a_permit_and_small_responses_do_not() {
    let world = World::open(holding(["key"], b"value"), INPUT);
    let mut held = GatePermit::None;
    acquire(&mut held, &world.service.send_gate).await;
    let (mut reader, mut bystander) = (world.connect().await, world.connect().await);
    reader.send(&encoded(&list(7))).await;
    reader.expect_served().await;
    expect_nothing(&mut reader, &mut bystander).await;
    held.release();
    assert_eq!(reader.receive().await, Some(Message::put(Tag::new(7), "key", "value", Version::new(1))));
    assert!(matches!(reader.receive().await, Some(Message::Mark(mark)) if mark.tag == Tag::new(7)));
}

#[tokio::test]
async fn a_large_backlog_needs_a_permit() {
    let large = vec![b'v'; LARGE_OUTPUT - 1024];
    let world = World::open(holding(["a", "b"], &large), INPUT);
    let mut held = GatePermit::None;
    acquire(&mut held, &world.service.send_gate).await;
    let (mut reader, mut bystander) = (world.connect().await, world.connect().await);
    let [one, other] = [("a", 3), ("b", 4)].map(|(key, tag)| Message::get(Tag::new(tag), key));
    reader.send(&encoded(&one)).await;
    // One value is not a large backlog.
    assert_eq!(reader.receive().await, Some(Message::put(Tag::new(3), "a", large.clone(), Version::new(1))));
    reader.send(&[encoded(&one), encoded(&other)].concat()).await;
    bystander.expect_served().await;
    expect_nothing(&mut reader, &mut bystander).await;
    held.release();
    for (key, tag) in [("a", 3), ("b", 4)] {
        let expected = Message::put(Tag::new(tag), key, large.clone(), Version::new(1));
        assert_eq!(reader.receive().await, Some(expected));
    }
}

/// A store that never responds to `list`, nor to `get` of the key "hangs".
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

    fn accepts_writes(&self) -> Result<(), Unavailable> {
        self.0.accepts_writes()
    }
}

#[tokio::test]
async fn a_slow_store_does_not_hold_the_permit() {
    let world = World::open(Hanging(holding(["key"], b"value")), INPUT);
    let (mut reader, mut bystander) = (world.connect().await, world.connect().await);
    reader.send(&encoded(&list(7))).await;
    bystander.expect_served().await;
    let mut permit = GatePermit::None;
    acquire(&mut permit, &world.service.send_gate).await;
}

#[tokio::test]
async fn responses_are_sent_before_many_more_requests_are_handled() {
    let world = World::open(Hanging(holding(["key"], b"value")), INPUT);
    let mut reader = world.connect().await;
    let keys = std::iter::repeat_n("key", FIRST_BUDGET).chain(["hangs"]);
    let requests: Vec<_> = keys.flat_map(|key| encoded(&Message::get(Tag::new(3), key))).collect();
    reader.send(&requests).await;
    let response = Message::put(Tag::new(3), "key", "value", Version::new(1));
    for _ in 0..FIRST_BUDGET {
        let received = timeout(TIMEOUT, reader.receive()).await;
        assert_eq!(received.expect("the responses wait for the last request"), Some(response.clone()));
    }
}
