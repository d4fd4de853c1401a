//! Connections that must show who they are, from AUTH to verdict, through their driver.
//!
//! The clock stands still while anything runs, and jumps to the next thing that is due when nothing does: times are exact.

use super::rules::Rules;
use super::*;
use crate::acceptor::{Acceptor, Handle};
use crate::broadcaster::Broadcaster;
use crate::committer::CommitQueue;
use crate::connection::{Peer, Service, serve};
use crate::input_budget::InputBudget;
use crate::priority_gate::PriorityGate;
use crate::testing::{all_arriving, receive};
use bytes::BytesMut;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use syncline_core::server::{Limits, ServerParameters};
use syncline_core::{ConnId, Operation, Transaction};
use syncline_store::{MemoryStore, Store};
use syncline_wire::{Message, Tag, Version};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::Instant;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::OptionalWriter;

/// What lies between a client and the server, at the most, each way.
const PIPE: usize = 4 * 1024;

/// What a server shares, as one with TLS has it.
struct World {
    service: Arc<Service<MemoryStore>>,
    broadcaster: Arc<Broadcaster>,
    handle: Handle,
    connections: AtomicU64,
}

impl World {
    fn new(access: AccessControl) -> Self {
        Self::with(access, 1024)
    }

    fn with(access: AccessControl, max_unauthenticated: usize) -> Self {
        let store = MemoryStore::new().unwrap();
        let broadcaster = Broadcaster::follow(&store, 1024 * 1024);
        let parameters =
            ServerParameters { limits: Limits::default(), store: store.id(), heartbeat: Duration::from_secs(3600) };
        let authenticator = Authenticator::new(access, true, max_unauthenticated).unwrap();
        let (queue, authorize_within) = (CommitQueue::new(1024), Duration::from_secs(10));
        let handle = Acceptor::new(None, authorize_within, authenticator.clone(), broadcaster.clone()).handle();
        let (input_budget, started) = (InputBudget::new(2 * 1024 * 1024), Instant::now());
        let (send_gate, arrival_gate) = (PriorityGate::to_send(), PriorityGate::to_arrive());
        let service = Service {
            store,
            queue,
            input_budget,
            send_gate,
            arrival_gate,
            parameters,
            authenticator,
            authorize_within,
            started,
        };
        Self { service: Arc::new(service), broadcaster, handle, connections: AtomicU64::new(0) }
    }

    fn authenticator(&self) -> &Arc<Authenticator> {
        &self.service.authenticator
    }

    /// How many passwords were verified.
    fn verifications(&self) -> u64 {
        self.authenticator().verifications()
    }

    /// A connection from one of some addresses.
    fn connect(&self, address: u8) -> Client {
        self.try_connect(address, &[]).unwrap()
    }

    fn try_connect(&self, address: u8, certificate: &[&str]) -> Result<Client, TooManyUnauthenticated> {
        let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, address), 1234));
        let id = ConnId::new(self.connections.fetch_add(1, Ordering::Relaxed));
        let place = self.authenticator().unauthenticated.enter(peer.into())?;
        let mut peer = Peer::new(peer, Some(place), Instant::now() + self.service.authorize_within);
        let names: Vec<String> = certificate.iter().map(ToString::to_string).collect();
        if !names.is_empty()
            && let Some(grant) = self.authenticator().rules().certified(&names)
        {
            peer.grant(grant);
        }
        let (ours, theirs) = duplex(PIPE);
        let (service, registration) = (self.service.clone(), self.broadcaster.register(id));
        let task = tokio::spawn(async move { serve(&service, registration, theirs, peer).await });
        Ok(Client { stream: ours, input: BytesMut::new(), _task: task })
    }

    /// A connection that was let in by a password.
    async fn authorized(&self, password: &str) -> Client {
        let mut client = self.connect(1);
        assert_eq!(client.ask(&auth(1, password)).await, auth(1, ""));
        client
    }

    /// Writes a key, as somebody else does.
    fn write(&self, key: &'static str, version: u64) {
        let put = Operation::Put { key: key.into(), value: "value".into(), version: Version::new(version) };
        self.service.store.commit(vec![Transaction { origin: None, operations: [put].into() }]);
    }
}

struct Client {
    stream: DuplexStream,
    input: BytesMut,
    _task: JoinHandle<io::Result<()>>,
}

impl Client {
    async fn send(&mut self, message: &Message) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next message; `None` at the end.
    async fn receive(&mut self) -> Option<Message> {
        receive(&mut self.stream, &mut self.input).await
    }

    async fn ask(&mut self, message: &Message) -> Message {
        self.send(message).await;
        self.receive().await.unwrap()
    }

    async fn receive_to_end(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.receive().await {
            messages.push(message);
        }
        messages
    }

    /// Expects to be served: it is told of this key next, as it is told to everybody.
    #[track_caller]
    fn expect_served(&mut self, world: &World, key: &'static str) -> impl Future<Output = ()> {
        world.write(key, 1);
        async move {
            let told = Message::put(Tag::BROADCAST, key, "value", Version::new(1));
            assert_eq!(self.receive().await, Some(told));
        }
    }

    async fn expect_revoked(&mut self) {
        let told = "unavailable: the rights of this user have changed; connect again";
        assert_eq!(self.receive_to_end().await, [error(0, told)]);
    }
}

fn auth(tag: u16, password: &str) -> Message {
    Message::auth(Tag::new(tag), password.to_owned())
}

fn error(tag: u16, text: &str) -> Message {
    Message::error(Tag::new(tag), text.to_owned())
}

fn bad_password(tag: u16) -> Message {
    error(tag, "go away, bad password")
}

/// A hash that costs little.
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

/// Has everything happen that can without a jump of the clock or the end of a verification.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[test]
fn no_password_without_tls() {
    let users = users(&certified("a", "a", "admin = true"));
    for required in [one_password("secret"), users] {
        assert_eq!(required.check(true), Ok(()));
        assert_eq!(required.check(false).unwrap_err().to_string(), "must use TLS if authorization is required");
        let open = Authenticator::new(AccessControl::Open, false, 1).unwrap();
        assert_eq!(open.replace(required), Err(MustUseTls));
        assert!(open.rules().is_open(), "nothing has changed");
    }
    assert_eq!(AccessControl::Open.check(false), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_right_password_lets_in_and_a_wrong_one_is_told_late() {
    let world = World::new(one_password("se:cret"));
    let start = Instant::now();
    let mut client = world.connect(1);
    assert_eq!(client.ask(&Message::get(Tag::new(1), "key")).await, error(1, "go away, bad message type"));
    assert_eq!(client.ask(&auth(2, "wrong")).await, bad_password(2));
    assert_eq!(start.elapsed().as_millis(), 100);
    assert_eq!(client.ask(&auth(3, "se:cret")).await, auth(3, ""));
    assert_eq!(start.elapsed().as_millis(), 100, "a right one is not");
    assert_eq!(client.ask(&Message::get(Tag::new(4), "key")).await, error(4, "\"key\": not found"));
    client.expect_served(&world, "key").await;
}

#[tokio::test(start_paused = true)]
async fn each_wrong_password_of_an_address_is_told_later_and_the_third_ends_the_connection() {
    let world = World::new(one_password("secret"));
    let mut told = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        let mut client = world.connect(1);
        for tag in 1..=3 {
            assert_eq!(client.ask(&auth(tag, &format!("wrong {tag}"))).await, bad_password(tag));
            told.push(start.elapsed().as_millis());
        }
        assert_eq!(client.receive().await, None);
    }
    assert_eq!(told, [100, 300, 700, 800, 2400, 5600]);
    let start = Instant::now();
    let mut other = world.connect(2);
    assert_eq!(other.ask(&auth(1, "wrong")).await, bad_password(1));
    assert_eq!(start.elapsed().as_millis(), 100, "of another address");
    let start = Instant::now();
    world.authorized("secret").await;
    assert_eq!(start.elapsed().as_millis(), 0, "a right one is never held back");
}

#[tokio::test(start_paused = true)]
async fn users_have_their_rights() {
    let ann = user("ann", &hash("pass:word"), "read = [\"a/\"]");
    let world = World::new(users(&(ann + &user("root", &hash("secret"), "admin = true"))));
    let mut client = world.authorized("ann:pass:word").await;
    assert_eq!(client.ask(&Message::get(Tag::new(2), "a/b")).await, error(2, "\"a/b\": not found"));
    let refused = error(3, "not permitted: expected the right to read \"b\"");
    assert_eq!(client.ask(&Message::get(Tag::new(3), "b")).await, refused);
    world.write("b", 1);
    client.expect_served(&world, "a/b").await;
    let mut client = world.authorized("root:secret").await;
    assert_eq!(client.ask(&Message::get(Tag::new(2), "c")).await, error(2, "\"c\": not found"));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_claimed_one_password_is_verified() {
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
fn unknown_names_are_spread_over_the_hashes_and_each_keeps_its_own() {
    let (cheap, dear) = (hash("secret"), Hash::make(b"secret").unwrap().expose());
    let rules = |text| Rules::new(0, users(text));
    let rules = rules(&(user("a", &cheap, "admin = true") + &user("b", &dear, "admin = true")));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"any");
    let stand_in = |name: u32| {
        let claim = rules.claim(&syncline_wire::Password::new(format!("{name}:x")), &key).unwrap();
        assert_eq!(claim.grant, None);
        format!("{:?}", claim.hash.unwrap())
    };
    let stand_ins: Vec<_> = (0..100).map(stand_in).collect();
    let of_bcrypt = stand_ins.iter().filter(|kind| *kind == "Hash(bcrypt)").count();
    assert!((20..80).contains(&of_bcrypt), "{of_bcrypt} of 100");
    assert_eq!((0..100).map(stand_in).collect::<Vec<_>>(), stand_ins);
}

#[tokio::test(start_paused = true)]
async fn a_password_that_was_right_is_known_again_and_no_other() {
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
    assert_eq!(world.verifications(), 12, "each user's own");
    world.authorized("ann:secret").await;
    assert_eq!(world.verifications(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_that_come_at_once_with_one_password_cost_one_verification() {
    let world = World::new(one_password("secret"));
    let mut clients: Vec<Client> = (0..100).map(|_| world.connect(1)).collect();
    for client in &mut clients {
        client.send(&auth(1, "secret")).await;
    }
    for client in &mut clients {
        assert_eq!(client.receive().await, Some(auth(1, "")));
    }
    assert_eq!(world.verifications(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_too_much_at_once_is_told_and_others_come_in() {
    let world = World::new(one_password("secret"));
    let mut clients: Vec<Client> = (0..fair_queue::MAX_PER_ADDRESS + 2).map(|_| world.connect(1)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&auth(1, &format!("wrong {number}"))).await;
    }
    settle().await;
    let start = Instant::now();
    assert_eq!(world.connect(2).ask(&auth(1, "secret")).await, auth(1, ""));
    assert_eq!(start.elapsed().as_millis(), 0);
    assert_eq!(world.connect(1).ask(&auth(1, "secret")).await, auth(1, ""), "what is known takes no place");
    let told = "unavailable: too many authorizations from your address at once; try again later";
    let mut too_many = clients.split_off(fair_queue::MAX_PER_ADDRESS);
    for client in &mut too_many {
        assert_eq!(client.receive_to_end().await, [error(0, told)]);
    }
    for client in &mut clients {
        assert_eq!(client.receive().await, Some(bad_password(1)));
    }
    assert_eq!(world.connect(1).ask(&auth(1, "wrong")).await, bad_password(1), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn strangers_get_their_time_and_no_more() {
    let world = World::new(one_password("secret"));
    let told = [error(0, "unavailable: not authorized within 10s")];
    let start = Instant::now();
    let mut silent = world.connect(1);
    let mut half = world.connect(1);
    half.stream.write_all(b"\x03\x01\x00\x06\x00se").await.unwrap();
    let mut authorized = world.authorized("secret").await;
    assert_eq!(silent.receive_to_end().await, told);
    assert_eq!(half.receive_to_end().await, told);
    assert_eq!(start.elapsed().as_secs(), 10);
    drop((silent, half));
    settle().await;
    assert_eq!(world.authenticator().unauthenticated.count(), 0);
    authorized.expect_served(&world, "key").await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_turn_to_arrive_is_not_late() {
    let world = World::new(one_password("secret"));
    let taken = all_arriving(&world.service).await;
    let mut client = world.connect(1);
    client.send(&auth(1, "secret")).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    drop(taken);
    assert_eq!(client.receive().await, Some(auth(1, "")));
}

#[tokio::test(start_paused = true)]
async fn time_that_the_server_takes_is_not_the_clients() {
    let world = World::new(one_password("secret"));
    for number in 0..10 {
        world.connect(1).ask(&auth(1, &format!("wrong {number}"))).await;
    }
    let start = Instant::now();
    let mut client = world.connect(1);
    for tag in 1..=2 {
        assert_eq!(client.ask(&auth(tag, "wrong")).await, bad_password(tag));
    }
    assert_eq!(start.elapsed().as_secs(), 10);
    let mut late = world.connect(1);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(late.ask(&auth(1, "wrong")).await, bad_password(1));
    assert_eq!(start.elapsed().as_secs(), 24, "the verdict of what was shown in time is told");
    assert_eq!(late.receive_to_end().await, [error(0, "unavailable: not authorized within 10s")]);
}

#[tokio::test(start_paused = true)]
async fn strangers_have_places_of_their_own_and_an_address_a_part_of_them() {
    let world = World::with(one_password("secret"), 8);
    let first = world.connect(1);
    let mut second = world.connect(1);
    assert_eq!(world.try_connect(1, &[]).err(), Some(TooManyUnauthenticated::FromAddress));
    let _others: Vec<_> = [2, 2, 3, 3, 4, 4].map(|address| world.connect(address)).into();
    assert_eq!(world.try_connect(5, &[]).err(), Some(TooManyUnauthenticated::Everywhere));
    assert_eq!(second.ask(&auth(1, "secret")).await, auth(1, ""));
    settle().await;
    let fifth = world.connect(5);
    drop(first);
    settle().await;
    assert_eq!(world.authenticator().unauthenticated.count(), 7);
    drop(fifth);
}

#[tokio::test(start_paused = true)]
async fn certificates_stand_for_users_or_for_everything() {
    let ann = certified("ann", "ann.example.org", "read = [\"a/\"]");
    let world = World::new(users(&(ann + &user("bob", &hash("secret"), "admin = true"))));
    let mut client = world.try_connect(1, &["x", "ann.example.org"]).unwrap();
    let refused = error(1, "not permitted: expected the right to read \"b\"");
    assert_eq!(client.ask(&Message::get(Tag::new(1), "b")).await, refused);
    let mut client = world.try_connect(1, &["ann", "bob"]).unwrap();
    assert_eq!(client.ask(&Message::get(Tag::new(1), "b")).await, error(1, "go away, bad message type"));
    assert_eq!(client.ask(&auth(2, "bob:secret")).await, auth(2, ""), "a certificate of nobody hinders nobody");
    let world = World::new(one_password("secret"));
    let mut client = world.try_connect(1, &["whoever"]).unwrap();
    assert_eq!(client.ask(&Message::get(Tag::new(1), "b")).await, error(1, "\"b\": not found"));
    assert_eq!(world.authenticator().unauthenticated.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_those_whose_user_is_gone_or_another_and_nobody_else() {
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
    let mut stranger = world.connect(1);
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
    assert_eq!(stranger.ask(&auth(1, "gone:secret")).await, bad_password(1));
    assert_eq!(stranger.ask(&auth(2, "added:secret")).await, auth(2, ""));
    world.authorized("password:other").await;
    assert_eq!(world.connect(2).ask(&auth(1, "password:secret")).await, bad_password(1), "what was known is forgotten");

    // The same once more changes nothing for anybody.
    world.handle.set_access(users(&after)).unwrap();
    same.expect_served(&world, "again").await;
}

#[tokio::test(start_paused = true)]
async fn another_hash_file_ends_those_who_came_by_the_old_password() {
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
    assert_eq!(certified.receive().await, Some(later), "no password was asked of it");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_under_way_at_a_reload_is_not_told() {
    let world = World::new(one_password("secret"));
    let mut client = world.authorized("secret").await;
    settle().await;
    // Both are there when the connection looks next.
    client.send(&Message::get(Tag::new(2), "key")).await;
    world.handle.set_access(one_password("another")).unwrap();
    client.expect_revoked().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_by_access_control_of_before_a_reload() {
    let world = World::new(one_password("old"));
    let (mut by_old, mut by_new) = (world.connect(1), world.connect(2));
    by_old.send(&auth(1, "old")).await;
    by_new.send(&auth(1, "new")).await;
    while world.verifications() == 0 {
        yield_now().await;
    }
    world.handle.set_access(one_password("new")).unwrap();
    match by_old.receive().await {
        // Its verification had ended before the reload.
        Some(message) if message == auth(1, "") => by_old.expect_revoked().await,
        message => assert_eq!(message, Some(bad_password(1))),
    }
    assert_eq!(by_new.receive().await, Some(auth(1, "")));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_no_password() {
    let world = World::new(one_password("secret"));
    let mut client = world.connect(1);
    client.send(&auth(1, "wrong")).await;
    while world.verifications() == 0 {
        yield_now().await;
    }
    let start = Instant::now();
    world.broadcaster.shut_down();
    assert_eq!(client.receive_to_end().await, [error(0, "unavailable: shutting down")]);
    assert_eq!(start.elapsed().as_millis(), 0);
}

/// What a subscriber has written.
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

/// Where each thread's log goes. There is one subscriber for all of them: tracing remembers of each place whether anybody listens,
/// and where subscribers come and go in several threads at once, that may be wrong.
struct Logs;

thread_local! {
    static LOG: RefCell<Option<(Level, Log)>> = const { RefCell::new(None) };
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = OptionalWriter<Log>;

    fn make_writer(&'a self) -> Self::Writer {
        OptionalWriter::none()
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Self::Writer {
        LOG.with_borrow(|log| match log {
            Some((level, log)) if of.level() <= level => OptionalWriter::some(log.clone()),
            Some(_) | None => OptionalWriter::none(),
        })
    }
}

impl Log {
    /// Has all that this thread logs from now on, down to a level, written into one.
    fn of_this_thread(level: Level) -> Self {
        static LISTENS: Once = Once::new();
        LISTENS.call_once(|| {
            let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false).with_writer(Logs);
            tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
        });
        let log = Self::default();
        LOG.set(Some((level, log.clone())));
        log
    }

    fn lines(&self, of: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().clone()).unwrap();
        text.lines().filter(|line| line.contains(of)).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_names_users_and_addresses_and_shows_no_password() {
    let log = Log::of_this_thread(Level::TRACE);
    let of_ann = hash("s3cr3t");
    let world = World::new(users(&user("ann", &of_ann, "read = [\"\"]")));
    let _in = world.authorized("ann:s3cr3t").await;
    for claim in ["ann:hunter2", "hunter2", "hunter2:hunter3", "hunter2:"] {
        world.connect(2).ask(&auth(1, claim)).await;
    }
    assert_eq!(log.lines("authorized").len(), 1);
    let told = &log.lines("authorized")[0];
    assert!(told.contains("peer=192.0.2.1:1234") && told.contains("user=\"ann\""), "{told}");
    let failures = log.lines("wrong password");
    assert_eq!(failures.len(), 4);
    assert!(failures.iter().all(|line| line.contains("peer=192.0.2.2:1234")));
    assert!(failures[0].contains("user ann ") && failures[1..].iter().all(|line| line.contains("user unknown ")));
    for secret in ["s3cr3t", "hunter", of_ann.get(7..).unwrap()] {
        assert_eq!(log.lines(secret), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_wrong_passwords_does_not_fill_the_log() {
    let log = Log::of_this_thread(Level::INFO);
    let world = World::new(one_password("secret"));
    for address in 0..100 {
        world.connect(address).send(&auth(1, "wrong")).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.connect(200).ask(&auth(1, "wrong")).await, bad_password(1));
    let lines = log.lines("wrong password");
    assert_eq!(lines.len(), 11);
    assert!(lines[10].contains("left_out=90"), "{}", lines[10]);
}

#[test]
fn a_stranger_costs_a_few_kib() {
    const STRANGERS: u8 = 200;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let world = runtime.block_on(async { World::new(one_password("secret")) });
    // Half an AUTH; requests whose answers are not read; half of what is passed over.
    let half_auth = [&b"\x03\x01\x00\x00\x04"[..], &[b'x'; 1000]].concat();
    let requests = b"\x00\x01\x00\x00\x00".repeat(10_000);
    let half_put = [&b"\x01\x01\x00\xff\xff"[..], &[b'x'; 60_000]].concat();
    for (name, sent) in [("half an AUTH", half_auth), ("never reads", requests), ("half a PUT", half_put)] {
        let mut clients = Vec::with_capacity(STRANGERS.into());
        let cost = allocation_counter::measure(|| {
            runtime.block_on(async {
                for address in 0..STRANGERS {
                    let mut client = world.connect(address);
                    // As much as it takes: it is not read from for ever.
                    let sending = client.stream.write_all(&sent);
                    let _ = tokio::time::timeout(Duration::from_millis(1), sending).await;
                    clients.push(client);
                }
                settle().await;
            });
        });
        let each = usize::try_from(cost.bytes_current).unwrap() / usize::from(STRANGERS);
        println!("{name}: {each} bytes");
        // Both ends of the pipe are in it.
        assert!(each < 12 * 1024 + 2 * PIPE, "{name}: {each} bytes each");
        runtime.block_on(async {
            drop(clients);
            settle().await;
        });
        assert_eq!(world.authenticator().unauthenticated.count(), 0, "{name}");
    }
}
