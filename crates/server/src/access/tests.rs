//! Authentication, from AUTH to its response, through the driver of a connection.
//!
//! The clock is paused: it stands still while any task can run, and otherwise jumps to the next timer. So times are exact.

use super::policy::Policy;
use super::*;
use crate::acceptor::{Acceptor, Handle};
use crate::connection::Peer;
use crate::testing::{self, Client, PIPE, acquire_all_arrivals, encoded, error, settle};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::{Arc, Once};
use std::time::Duration;
use syncline_core::{Operation, Transaction};
use syncline_store::{MemoryStore, Store};
use syncline_wire::{Message, Tag, Version};
use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;
use tokio::time::Instant;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::OptionalWriter;

/// A server with access control, and its handle.
struct World {
    world: testing::World,
    handle: Handle,
}

impl Deref for World {
    type Target = testing::World;

    fn deref(&self) -> &testing::World {
        &self.world
    }
}

impl World {
    fn new(access: AccessControl) -> Self {
        Self::with(access, 1024)
    }

    fn with(access: AccessControl, max_unauthenticated: usize) -> Self {
        let authenticator = Authenticator::new(access, true, max_unauthenticated).unwrap();
        let world = testing::World::new(MemoryStore::new().unwrap(), authenticator.clone(), 2 * 1024 * 1024);
        let authorize_within = world.service.authorize_within;
        let handle = Acceptor::new(None, authorize_within, authenticator, world.broadcaster.clone()).handle();
        Self { world, handle }
    }

    fn authenticator(&self) -> &Arc<Authenticator> {
        &self.service.authenticator
    }

    /// Returns the number of passwords that were verified.
    fn verifications(&self) -> u64 {
        self.authenticator().verifications()
    }

    /// Opens a connection from the address with this number.
    fn connect(&self, address: u8) -> Client {
        self.try_connect(address, &[]).unwrap()
    }

    /// Opens a connection that has sent a request, so that it is not silent.
    async fn connect_speaking(&self, address: u8) -> Client {
        let mut client = self.connect(address);
        let refused = error(7, "go away, bad message type");
        assert_eq!(client.ask(&Message::get(Tag::new(7), "k")).await, refused);
        client
    }

    /// Opens a connection that presents a certificate with these names, if there are any.
    fn try_connect(&self, address: u8, certificate: &[&str]) -> Result<Client, TooManyUnauthenticated> {
        let addr = SocketAddr::from((Ipv4Addr::new(192, 0, 2, address), 1234));
        let permit = self.authenticator().unauthenticated.acquire(addr.into())?;
        let mut peer = Peer::new(addr, Some(permit), Instant::now() + self.service.authorize_within);
        let names: Vec<String> = certificate.iter().map(ToString::to_string).collect();
        if !names.is_empty()
            && let Some(grant) = self.authenticator().policy().grant_for_certificate(&names)
        {
            peer.grant(grant);
        }
        Ok(self.serve(peer))
    }

    /// Opens a connection, and authenticates with a password.
    async fn authorized(&self, password: &str) -> Client {
        let mut client = self.connect(1);
        assert_eq!(client.ask(&auth(1, password)).await, auth(1, ""));
        client
    }

    /// Writes a key, as another process does.
    fn write(&self, key: &'static str, version: u64) {
        let put = Operation::Put { key: key.into(), value: "value".into(), version: Version::new(version) };
        self.service.store.commit(vec![Transaction { origin: None, operations: [put].into() }]);
    }
}

impl Client {
    async fn ask(&mut self, message: &Message) -> Message {
        self.send(&encoded(message)).await;
        self.receive().await.unwrap()
    }

    async fn receive_to_end(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.receive().await {
            messages.push(message);
        }
        messages
    }

    /// Writes a key, and expects its broadcast next.
    #[track_caller]
    fn expect_broadcast(&mut self, world: &World, key: &'static str) -> impl Future<Output = ()> {
        world.write(key, 1);
        async move {
            let broadcast = Message::put(Tag::BROADCAST, key, "value", Version::new(1));
            assert_eq!(self.receive().await, Some(broadcast));
        }
    }

    async fn expect_revoked(&mut self) {
        self.expect_end("the rights of this user have changed; connect again").await;
    }
}

fn auth(tag: u16, password: &str) -> Message {
    Message::auth(Tag::new(tag), password.to_owned())
}

fn bad_password(tag: u16) -> Message {
    error(tag, "go away, bad password")
}

/// Returns a hash with a low cost.
fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

fn one_password(password: &str) -> AccessControl {
    AccessControl::Password(Arc::new(hash(password).parse().unwrap()))
}

fn users(text: &str) -> AccessControl {
    AccessControl::Users(Users::parse(text).unwrap())
}

fn user(name: &str, hash: &str, rights: &str) -> String {
    format!("[[user]]\nname = {name:?}\nhash = {hash:?}\n{rights}\n")
}

fn certified(name: &str, certificate: &str, rights: &str) -> String {
    format!("[[user]]\nname = {name:?}\ncertificate = {certificate:?}\n{rights}\n")
}

#[test]
fn access_control_with_passwords_requires_tls() {
    let users = users(&certified("a", "a", "admin = true"));
    for required in [one_password("secret"), users] {
        assert_eq!(required.check(true), Ok(()));
        assert_eq!(required.check(false).unwrap_err().to_string(), "must use TLS if authorization is required");
        let open = Authenticator::new(AccessControl::Open, false, 1).unwrap();
        assert_eq!(open.replace(required), Err(MustUseTls));
        assert!(open.policy().is_open(), "nothing has changed");
    }
    assert_eq!(AccessControl::Open.check(false), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_response_to_a_wrong_password_is_delayed() {
    let world = World::new(one_password("se:cret"));
    let start = Instant::now();
    let mut client = world.connect(1);
    assert_eq!(client.ask(&Message::get(Tag::new(1), "key")).await, error(1, "go away, bad message type"));
    assert_eq!(client.ask(&auth(2, "wrong")).await, bad_password(2));
    assert_eq!(start.elapsed().as_millis(), 100);
    assert_eq!(client.ask(&auth(3, "se:cret")).await, auth(3, ""));
    assert_eq!(start.elapsed().as_millis(), 100, "the response to the right password is not delayed");
    assert_eq!(client.ask(&Message::get(Tag::new(4), "key")).await, error(4, "\"key\": not found"));
    client.expect_broadcast(&world, "key").await;
}

#[tokio::test(start_paused = true)]
async fn wrong_passwords_are_delayed_per_address_and_the_third_closes() {
    let world = World::new(one_password("secret"));
    let mut times = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        let mut client = world.connect(1);
        for tag in 1..=3 {
            assert_eq!(client.ask(&auth(tag, &format!("wrong {tag}"))).await, bad_password(tag));
            times.push(start.elapsed().as_millis());
        }
        assert_eq!(client.receive().await, None);
    }
    assert_eq!(times, [100, 300, 700, 800, 2400, 4400]);
    let start = Instant::now();
    let mut other = world.connect(2);
    assert_eq!(other.ask(&auth(1, "wrong")).await, bad_password(1));
    assert_eq!(start.elapsed().as_millis(), 100, "another address");
    let start = Instant::now();
    world.authorized("secret").await;
    assert_eq!(start.elapsed().as_millis(), 0, "the right password is never delayed");
}

#[tokio::test(start_paused = true)]
async fn no_response_takes_longer_than_two_seconds_however_many_failed() {
    let world = World::new(one_password("secret"));
    for attempt in 0..20 {
        let start = Instant::now();
        assert_eq!(world.connect(1).ask(&auth(1, &format!("wrong {attempt}"))).await, bad_password(1));
        assert!(start.elapsed() <= Duration::from_secs(2), "attempt {attempt}: {:?}", start.elapsed());
    }
    let start = Instant::now();
    assert_eq!(world.connect(1).ask(&auth(1, "wrong")).await, bad_password(1));
    assert_eq!(start.elapsed().as_millis(), 2000);
}

/// Lets every verification wait until the permits are dropped.
async fn occupy_verifications(world: &World) -> Vec<fair_queue::RunPermit> {
    let queue = &world.authenticator().queue;
    let mut permits = Vec::new();
    for _ in 0..queue.max_running {
        let slot = queue.enter(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 99), 1)).into()).unwrap();
        permits.push(slot.run_permit().await);
    }
    permits
}

#[tokio::test(start_paused = true)]
async fn a_password_that_waits_too_long_is_refused_with_the_reason() {
    let world = World::new(one_password("secret"));
    let occupied = occupy_verifications(&world).await;
    let start = Instant::now();
    let mut clients = [world.connect(1), world.connect(1), world.connect(2)];
    for (client, password) in clients.iter_mut().zip(["secret", "wrong", "secret"]) {
        client.send(&encoded(&auth(1, password))).await;
    }
    let text = "unavailable: the password could not be verified within 2s; try again later";
    for client in &mut clients {
        assert_eq!(client.receive_to_end().await, [error(0, text)]);
    }
    assert_eq!(start.elapsed().as_millis(), 2000);
    drop(occupied);
    world.authorized("secret").await;
}

#[tokio::test(start_paused = true)]
async fn waiting_and_delay_together_take_at_most_two_seconds() {
    let world = World::new(one_password("secret"));
    for attempt in 0..6 {
        world.connect(1).ask(&auth(1, &format!("wrong {attempt}"))).await;
    }
    let occupied = occupy_verifications(&world).await;
    let start = Instant::now();
    let mut client = world.connect(1);
    client.send(&encoded(&auth(1, "wrong"))).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    drop(occupied);
    assert_eq!(client.receive().await, Some(bad_password(1)));
    assert_eq!(start.elapsed().as_millis(), 2000);
}

#[tokio::test(start_paused = true)]
async fn users_have_their_own_rights() {
    let ann = user("ann", &hash("pass:word"), "read = [\"a/\"]");
    let world = World::new(users(&(ann + &user("root", &hash("secret"), "admin = true"))));
    let mut client = world.authorized("ann:pass:word").await;
    assert_eq!(client.ask(&Message::get(Tag::new(2), "a/b")).await, error(2, "\"a/b\": not found"));
    let refused = error(3, "not permitted: expected the right to read \"b\"");
    assert_eq!(client.ask(&Message::get(Tag::new(3), "b")).await, refused);
    world.write("b", 1);
    client.expect_broadcast(&world, "a/b").await;
    let mut client = world.authorized("root:secret").await;
    assert_eq!(client.ask(&Message::get(Tag::new(2), "c")).await, error(2, "\"c\": not found"));
}

#[tokio::test(start_paused = true)]
async fn every_wrong_claim_costs_one_verification() {
    let ann = user("ann", &hash("secret"), "read = [\"\"]");
    let bob = user("bob", &Hash::make(b"other").unwrap().expose(), "read = [\"\"]");
    let world = World::new(users(&(ann + &bob + &certified("eve", "eve", "admin = true"))));
    for (address, claim) in
        (1..).zip(["ann:wrong", "bob:secret", "nobody:secret", "secret", "ann", "", ":", "eve:", "eve:secret", "\0:x"])
    {
        let before = world.verifications();
        assert_eq!(world.connect(address).ask(&auth(1, claim)).await, bad_password(1), "{claim:?}");
        assert_eq!(world.verifications(), before + 1, "{claim:?}");
    }
}

#[test]
fn each_unknown_name_is_verified_against_a_fixed_hash() {
    let (cheap, costly) = (hash("secret"), Hash::make(b"secret").unwrap().expose());
    let policy = Policy::new(0, users(&(user("a", &cheap, "admin = true") + &user("b", &costly, "admin = true"))));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"any");
    let hash_for = |name: u32| {
        let claim = policy.claim(&syncline_wire::Password::new(format!("{name}:x")), &key).unwrap();
        assert_eq!(claim.grant, None);
        format!("{:?}", claim.hash.unwrap())
    };
    let hashes: Vec<_> = (0..100).map(hash_for).collect();
    let bcrypt = hashes.iter().filter(|kind| *kind == "Hash(bcrypt)").count();
    assert!((20..80).contains(&bcrypt), "{bcrypt} of 100");
    assert_eq!((0..100).map(hash_for).collect::<Vec<_>>(), hashes);
}

#[tokio::test(start_paused = true)]
async fn a_verified_password_is_remembered_and_no_other() {
    let ann = user("ann", &hash("secret"), "read = [\"\"]");
    let world = World::new(users(&(ann + &user("bob", &hash("secret"), "read = [\"\"]"))));
    for _ in 0..100 {
        world.authorized("ann:secret").await;
    }
    assert_eq!(world.verifications(), 1);
    for (address, wrong) in (2..).zip(["ann:Secret", "ann:", "ann:secret ", "Ann:secret", "bob:ann:secret"]) {
        assert_eq!(world.connect(address).ask(&auth(1, wrong)).await, bad_password(1), "{wrong}");
        assert_eq!(world.connect(address).ask(&auth(1, wrong)).await, bad_password(1), "{wrong}");
    }
    assert_eq!(world.verifications(), 11);
    world.authorized("bob:secret").await;
    assert_eq!(world.verifications(), 12, "each user has a password of its own");
    world.authorized("ann:secret").await;
    assert_eq!(world.verifications(), 12);
}

#[tokio::test(start_paused = true)]
async fn concurrent_connections_with_one_password_share_a_verification() {
    let world = World::new(one_password("secret"));
    let mut clients: Vec<Client> = (0..100).map(|_| world.connect(1)).collect();
    for client in &mut clients {
        client.send(&encoded(&auth(1, "secret"))).await;
    }
    for client in &mut clients {
        assert_eq!(client.receive().await, Some(auth(1, "")));
    }
    assert_eq!(world.verifications(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_address_over_its_limit_is_refused_and_others_are_served() {
    let world = World::new(one_password("secret"));
    let mut clients: Vec<Client> = (0..fair_queue::MAX_PER_ADDRESS + 2).map(|_| world.connect(1)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&encoded(&auth(1, &format!("wrong {number}")))).await;
    }
    settle().await;
    let start = Instant::now();
    assert_eq!(world.connect(2).ask(&auth(1, "secret")).await, auth(1, ""));
    assert_eq!(start.elapsed().as_millis(), 0);
    assert_eq!(world.connect(1).ask(&auth(1, "secret")).await, auth(1, ""), "a remembered password needs no slot");
    let text = "unavailable: too many authorizations from your address at once; try again later";
    let mut too_many = clients.split_off(fair_queue::MAX_PER_ADDRESS);
    for client in &mut too_many {
        assert_eq!(client.receive_to_end().await, [error(0, text)]);
    }
    for client in &mut clients {
        assert_eq!(client.receive().await, Some(bad_password(1)));
    }
    assert_eq!(world.connect(1).ask(&auth(1, "wrong")).await, bad_password(1), "slots are free again");
}

#[tokio::test(start_paused = true)]
async fn an_unauthenticated_connection_ends_at_its_deadline() {
    let world = World::new(one_password("secret"));
    let expected = [error(0, "unavailable: not authorized within 10s")];
    let start = Instant::now();
    let mut silent = world.connect(1);
    let mut half = world.connect(1);
    half.stream.write_all(b"\x03\x01\x00\x06\x00se").await.unwrap();
    let mut authorized = world.authorized("secret").await;
    assert_eq!(silent.receive_to_end().await, expected);
    assert_eq!(half.receive_to_end().await, expected);
    assert_eq!(start.elapsed().as_secs(), 10);
    drop((silent, half));
    settle().await;
    assert_eq!(world.authenticator().unauthenticated.count(), 0);
    authorized.expect_broadcast(&world, "key").await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_an_arrival_permit_does_not_count_against_the_deadline() {
    let world = World::new(one_password("secret"));
    let held = acquire_all_arrivals(&world.service).await;
    let mut client = world.connect(1);
    client.send(&encoded(&auth(1, "secret"))).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    drop(held);
    assert_eq!(client.receive().await, Some(auth(1, "")));
}

#[tokio::test(start_paused = true)]
async fn the_delay_of_a_response_does_not_count_against_the_deadline() {
    let world = World::new(one_password("secret"));
    for number in 0..10 {
        world.connect(1).ask(&auth(1, &format!("wrong {number}"))).await;
    }
    let start = Instant::now();
    let mut client = world.connect(1);
    for tag in 1..=2 {
        assert_eq!(client.ask(&auth(tag, "wrong")).await, bad_password(tag));
    }
    assert_eq!(start.elapsed().as_secs(), 4);
    let mut late = world.connect(1);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(late.ask(&auth(1, "wrong")).await, bad_password(1));
    assert_eq!(start.elapsed().as_secs(), 15, "a password that arrived in time gets its response");
    assert_eq!(late.receive_to_end().await, [error(0, "unavailable: not authorized within 10s")]);
}

#[tokio::test(start_paused = true)]
async fn unauthenticated_connections_are_limited_in_total_and_per_address() {
    let world = World::with(one_password("secret"), 8);
    let first = world.connect_speaking(1).await;
    let mut second = world.connect_speaking(1).await;
    assert_eq!(world.try_connect(1, &[]).err(), Some(TooManyUnauthenticated::PerAddress));
    let mut others = Vec::new();
    for address in [2, 2, 3, 3, 4, 4] {
        others.push(world.connect_speaking(address).await);
    }
    assert_eq!(world.try_connect(5, &[]).err(), Some(TooManyUnauthenticated::Total));
    assert_eq!(second.ask(&auth(1, "secret")).await, auth(1, ""));
    settle().await;
    let fifth = world.connect(5);
    drop(first);
    settle().await;
    assert_eq!(world.authenticator().unauthenticated.count(), 7);
    drop(fifth);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_sent_the_reason_when_it_makes_room() {
    let world = World::with(one_password("secret"), 8);
    let mut speaking = world.connect_speaking(1).await;
    let mut silent = world.connect(1);
    settle().await;
    let mut next = world.connect(1);
    let reason = "unavailable: this connection had sent nothing, and made room for a new one";
    assert_eq!(silent.receive_to_end().await, [error(0, reason)]);
    assert_eq!(world.authenticator().unauthenticated.count(), 2);
    assert_eq!(next.ask(&auth(1, "secret")).await, auth(1, ""));
    assert_eq!(speaking.ask(&auth(1, "secret")).await, auth(1, ""));
    settle().await;
    assert_eq!(world.authenticator().unauthenticated.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_password_is_being_verified_does_not_make_room() {
    let world = World::with(one_password("secret"), 4);
    let occupied = occupy_verifications(&world).await;
    let mut client = world.connect(1);
    client.send(&encoded(&auth(1, "secret"))).await;
    settle().await;
    assert_eq!(world.try_connect(1, &[]).err(), Some(TooManyUnauthenticated::PerAddress));
    drop(occupied);
    assert_eq!(client.receive().await, Some(auth(1, "")));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_grants_the_rights_of_its_user_or_all_rights() {
    let ann = certified("ann", "ann.example.org", "read = [\"a/\"]");
    let world = World::new(users(&(ann + &user("bob", &hash("secret"), "admin = true"))));
    let mut client = world.try_connect(1, &["x", "ann.example.org"]).unwrap();
    let refused = error(1, "not permitted: expected the right to read \"b\"");
    assert_eq!(client.ask(&Message::get(Tag::new(1), "b")).await, refused);
    let mut client = world.try_connect(1, &["ann", "bob"]).unwrap();
    assert_eq!(client.ask(&Message::get(Tag::new(1), "b")).await, error(1, "go away, bad message type"));
    assert_eq!(
        client.ask(&auth(2, "bob:secret")).await,
        auth(2, ""),
        "a certificate without a user does not prevent AUTH"
    );
    let world = World::new(one_password("secret"));
    let mut client = world.try_connect(1, &["whoever"]).unwrap();
    assert_eq!(client.ask(&Message::get(Tag::new(1), "b")).await, error(1, "\"b\": not found"));
    assert_eq!(world.authenticator().unauthenticated.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_only_connections_whose_user_has_changed() {
    let (secret, other) = (hash("secret"), hash("other"));
    let all = "read = [\"\"]";
    let before = ["same", "gone", "password", "narrowed"].map(|name| user(name, &secret, all)).concat()
        + &certified("certified", "old", all)
        + &certified("still", "still", all);
    let after = user("same", &secret, all)
        + &user("password", &other, all)
        + &user("narrowed", &secret, "read = [\"a/\"]")
        + &certified("certified", "new", all)
        + &certified("still", "still", all)
        + &user("added", &secret, all);
    let world = World::new(users(&before));
    let mut same = world.authorized("same:secret").await;
    let mut still = world.try_connect(1, &["still"]).unwrap();
    let mut unauthenticated = world.connect(1);
    let mut lost = vec![world.try_connect(1, &["old"]).unwrap()];
    for name in ["gone", "password", "narrowed"] {
        lost.push(world.authorized(&format!("{name}:secret")).await);
    }
    settle().await;

    world.handle.set_access(users(&after)).unwrap();
    world.write("later", 1);
    for client in &mut lost {
        client.expect_revoked().await;
    }
    let later = Some(Message::put(Tag::BROADCAST, "later", "value", Version::new(1)));
    assert_eq!(same.receive().await, later);
    assert_eq!(still.receive().await, later);
    assert_eq!(unauthenticated.ask(&auth(1, "gone:secret")).await, bad_password(1));
    assert_eq!(unauthenticated.ask(&auth(2, "added:secret")).await, auth(2, ""));
    world.authorized("password:other").await;
    assert_eq!(
        world.connect(2).ask(&auth(1, "password:secret")).await,
        bad_password(1),
        "the old password is no longer remembered"
    );

    // Reloading the same users changes nothing.
    world.handle.set_access(users(&after)).unwrap();
    same.expect_broadcast(&world, "again").await;
}

#[tokio::test(start_paused = true)]
async fn a_new_password_ends_connections_that_used_the_old_one() {
    let world = World::new(one_password("secret"));
    let mut client = world.authorized("secret").await;
    let mut certified = world.try_connect(1, &["whoever"]).unwrap();
    settle().await;
    world.handle.set_access(one_password("another")).unwrap();
    world.write("later", 1);
    client.expect_revoked().await;
    assert_eq!(world.connect(1).ask(&auth(1, "secret")).await, bad_password(1));
    world.authorized("another").await;
    let later = Message::put(Tag::BROADCAST, "later", "value", Version::new(1));
    assert_eq!(certified.receive().await, Some(later), "a connection with a certificate stays");
}

#[tokio::test(start_paused = true)]
async fn a_read_in_progress_at_a_reload_gets_no_response() {
    let world = World::new(one_password("secret"));
    let mut client = world.authorized("secret").await;
    settle().await;
    // The connection sees both at its next poll.
    client.send(&encoded(&Message::get(Tag::new(2), "key"))).await;
    world.handle.set_access(one_password("another")).unwrap();
    client.expect_revoked().await;
}

#[tokio::test(start_paused = true)]
async fn a_password_from_before_a_reload_is_not_accepted_after_it() {
    let world = World::new(one_password("old"));
    let (mut by_old, mut by_new) = (world.connect(1), world.connect(2));
    by_old.send(&encoded(&auth(1, "old"))).await;
    by_new.send(&encoded(&auth(1, "new"))).await;
    while world.verifications() == 0 {
        yield_now().await;
    }
    world.handle.set_access(one_password("new")).unwrap();
    match by_old.receive().await {
        // The verification ended before the reload.
        Some(message) if message == auth(1, "") => by_old.expect_revoked().await,
        message => assert_eq!(message, Some(bad_password(1))),
    }
    assert_eq!(by_new.receive().await, Some(auth(1, "")));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_verifications() {
    let world = World::new(one_password("secret"));
    let mut client = world.connect(1);
    client.send(&encoded(&auth(1, "wrong"))).await;
    while world.verifications() == 0 {
        yield_now().await;
    }
    let start = Instant::now();
    world.broadcaster.shut_down();
    assert_eq!(client.receive_to_end().await, [error(0, "unavailable: shutting down")]);
    assert_eq!(start.elapsed().as_millis(), 0);
}

/// The output of a subscriber.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the log lines of each thread to the log of that thread.
///
/// One subscriber serves all threads: tracing caches for each call site whether a subscriber is interested, and that cache
/// can be wrong if several threads register and remove subscribers at the same time.
struct Logs;

thread_local! {
    static LOG: RefCell<Option<(Level, Log)>> = const { RefCell::new(None) };
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = OptionalWriter<Log>;

    fn make_writer(&'a self) -> Self::Writer {
        OptionalWriter::none()
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        LOG.with_borrow(|log| match log {
            Some((level, log)) if metadata.level() <= level => OptionalWriter::some(log.clone()),
            Some(_) | None => OptionalWriter::none(),
        })
    }
}

impl Log {
    /// Records the log lines of this thread from now on, down to this level.
    fn of_this_thread(level: Level) -> Self {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false).with_writer(Logs);
            tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
        });
        let log = Self::default();
        LOG.set(Some((level, log.clone())));
        log
    }

    /// Returns the lines that contain this text.
    fn lines(&self, text: &str) -> Vec<String> {
        let all = String::from_utf8(self.0.lock().clone()).unwrap();
        all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_names_users_and_addresses_and_shows_no_password() {
    let log = Log::of_this_thread(Level::TRACE);
    let ann_hash = hash("s3cr3t");
    let world = World::new(users(&user("ann", &ann_hash, "read = [\"\"]")));
    let _authorized = world.authorized("ann:s3cr3t").await;
    for claim in ["ann:hunter2", "hunter2", "hunter2:hunter3", "hunter2:"] {
        world.connect(2).ask(&auth(1, claim)).await;
    }
    assert_eq!(log.lines("authorized").len(), 1);
    let line = &log.lines("authorized")[0];
    assert!(line.contains("peer=192.0.2.1:1234") && line.contains("user=\"ann\""), "{line}");
    let failures = log.lines("wrong password");
    assert_eq!(failures.len(), 4);
    assert!(failures.iter().all(|line| line.contains("peer=192.0.2.2:1234")));
    assert!(failures[0].contains("user ann ") && failures[1..].iter().all(|line| line.contains("user unknown ")));
    for secret in ["s3cr3t", "hunter", ann_hash.get(7..).unwrap()] {
        assert_eq!(log.lines(secret), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_wrong_passwords_does_not_fill_the_log() {
    let log = Log::of_this_thread(Level::INFO);
    let world = World::new(one_password("secret"));
    for address in 0..100 {
        world.connect(address).send(&encoded(&auth(1, "wrong"))).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.connect(200).ask(&auth(1, "wrong")).await, bad_password(1));
    let lines = log.lines("wrong password");
    assert_eq!(lines.len(), 11);
    assert!(lines[10].contains("suppressed=90"), "{}", lines[10]);
}

#[test]
fn an_unauthenticated_connection_takes_little_memory() {
    const CONNECTIONS: u8 = 200;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let world = runtime.block_on(async { World::new(one_password("secret")) });
    // Half an AUTH; requests whose responses are never read; half of a frame that is skipped.
    let half_auth = [&b"\x03\x01\x00\x00\x04"[..], &[b'x'; 1000]].concat();
    let requests = b"\x00\x01\x00\x00\x00".repeat(10_000);
    let half_put = [&b"\x01\x01\x00\xff\xff"[..], &[b'x'; 60_000]].concat();
    for (name, sent) in [("half an AUTH", half_auth), ("never reads", requests), ("half a PUT", half_put)] {
        let mut clients = Vec::with_capacity(CONNECTIONS.into());
        let cost = allocation_counter::measure(|| {
            runtime.block_on(async {
                for address in 0..CONNECTIONS {
                    let mut client = world.connect(address);
                    // As much as the server accepts: at some point it stops reading.
                    let sending = client.stream.write_all(&sent);
                    let _ = tokio::time::timeout(Duration::from_millis(1), sending).await;
                    clients.push(client);
                }
                settle().await;
            });
        });
        let each = usize::try_from(cost.bytes_current).unwrap() / usize::from(CONNECTIONS);
        println!("{name}: {each} bytes");
        // The pipe counts twice, once for each direction.
        assert!(each < 12 * 1024 + 2 * PIPE, "{name}: {each} bytes each");
        runtime.block_on(async {
            drop(clients);
            settle().await;
        });
        assert_eq!(world.authenticator().unauthenticated.count(), 0, "{name}");
    }
}
