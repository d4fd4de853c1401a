//! The recipes: each test checks a documented guarantee.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::TestServer;
use syncline_client::{Counter, CounterError, Election, ElectionError, PutError, Version};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_counts_everything_once() {
    let server = TestServer::start().await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let counter = Counter::new(server.client().await, "counter");
        tasks.push(tokio::spawn(async move {
            let mut sums = Vec::new();
            for _ in 0..25 {
                sums.push(counter.add(2).await.unwrap());
            }
            sums
        }));
    }
    let mut sums = Vec::new();
    for task in tasks {
        sums.extend(task.await.unwrap());
    }
    sums.sort_unstable();
    assert_eq!(
        sums,
        (1..=200).map(|count| 2 * count).collect::<Vec<_>>(),
        "no two additions start from the same number"
    );
    assert_eq!(Counter::new(server.client().await, "counter").get().await, Ok(400));
}

#[tokio::test]
async fn a_counter_that_cannot_be_changed_stays_as_it_is() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let counter = Counter::new(client.clone(), "counter");
    assert_eq!(counter.get().await, Ok(0));
    assert_eq!(counter.add(i64::MAX).await, Ok(i64::MAX));
    assert_eq!(counter.add(1).await, Err(CounterError::Overflow { found: i64::MAX, added: 1 }));
    client.put("counter", "many", Version::new(2)).await.unwrap();
    let not_a_number = CounterError::NotANumber { found: 4 };
    assert_eq!((counter.add(1).await, counter.get().await), (Err(not_a_number.clone()), Err(not_a_number)));
    assert_eq!(client.get("counter").await.unwrap().value, "many");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_one_candidate_leads_and_tokens_grow() {
    let server = TestServer::start().await;
    let (leader, history) =
        (std::sync::Arc::new(parking_lot::Mutex::new(None)), std::sync::Arc::new(parking_lot::Mutex::new(Vec::new())));
    let mut tasks = Vec::new();
    for number in 0..4 {
        let (client, leader, history) = (server.client().await, leader.clone(), history.clone());
        tasks.push(tokio::spawn(async move {
            let mut election = Election::new(&client, "leader").await.unwrap();
            for _ in 0..10 {
                let leadership = election.campaign(format!("candidate {number}")).await.unwrap();
                assert_eq!(leader.lock().replace(number), None, "two candidates lead");
                history.lock().push(leadership.token());
                tokio::task::yield_now().await;
                assert!(leadership.is_held());
                assert_eq!(leader.lock().take(), Some(number));
                leadership.resign().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let tokens = history.lock().clone();
    assert_eq!(tokens.len(), 40);
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[tokio::test]
async fn a_deposed_leader_notices_and_its_name_can_lead_again() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let mut election = Election::new(&client, "leader").await.unwrap();
    assert_eq!(election.leader(), None);
    let mut first = election.campaign("me").await.unwrap();
    assert_eq!(election.leader(), Some("me".into()));
    // A candidate that restarts under the same name does not wait for itself.
    let mut election = Election::new(&other, "leader").await.unwrap();
    let second = election.campaign("me").await.unwrap();
    assert!(second.token() > first.token());
    first.lost().await;
    assert!(!first.is_held() && second.is_held());
    assert_eq!(first.resign().await, Err(ElectionError::Resign(PutError::StalePut)));
    second.resign().await.unwrap();
}
