//! A thousand watchers on one server receive every change of their prefixes, in order.

use crate::support::prelude::*;

const WATCHERS: usize = 1_000;
const PREFIXES: usize = 20;
const PUTS: usize = 600;

/// Returns the write with this number. The writes go to all prefixes in rotation, and some are deletions.
fn write(tag: u16, number: usize) -> Message {
    let key = format!("{}/{}", number % PREFIXES, number / PREFIXES % 7);
    let version = (number / PREFIXES / 7 + 1) as u64;
    if number / PREFIXES % 5 == 4 { delete(tag, &key, version) } else { put(tag, &key, &number.to_string(), version) }
}

#[test]
fn a_thousand_watchers_receive_all_changes_of_their_prefix_in_order() {
    on_each_engine(|lab| {
        let mut watchers: Vec<Client> = (0..WATCHERS)
            .map(|number| {
                let mut client = lab.server.extended();
                client.expect(&watch(1, &format!("{}/", number % PREFIXES), 0), &mark(1, 0));
                client
            })
            .collect();
        let mut writer = lab.server.extended();
        for number in 0..PUTS {
            writer.expect_echo(&write(1, number));
        }
        for (number, client) in watchers.iter_mut().enumerate() {
            let mut marked = Revision::ZERO;
            for change in (number % PREFIXES..PUTS).step_by(PREFIXES) {
                let received = loop {
                    match client.receive() {
                        Message::Mark(mark) => {
                            // It covers everything received before it, and nothing else.
                            assert!(marked < mark.revision && mark.revision.get() <= change as u64, "watcher {number}");
                            marked = mark.revision;
                        }
                        received => break received,
                    }
                };
                assert_eq!(received, write(0, change), "watcher {number}");
            }
            client.send(&mark(2, 0));
            while client.receive() != mark(2, PUTS as u64) {}
            client.expect_silence();
        }
    });
}

#[test]
fn a_thousand_watchers_of_everything_agree_with_the_store_at_marks() {
    const ROUNDS: u64 = 5;
    on_each_engine(|lab| {
        let mut watchers: Vec<Watcher> =
            (0..WATCHERS).map(|_| Watcher::of(lab.server.addr, lab.history(), "")).collect();
        let mut writer = lab.server.extended();
        for version in 1..=ROUNDS {
            writer.expect_echo(&put(1, "k", "v", version));
        }
        for watcher in &mut watchers {
            watcher.until_marked(ROUNDS);
            assert_eq!(watcher.changes as u64, ROUNDS);
        }
    });
}
