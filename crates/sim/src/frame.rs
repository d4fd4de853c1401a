//! Frames of the wire, as histories have them.

use crate::history::{Frame, Key, Stamp, State, Write};
use bytes::Bytes;
use syncline_core::StoreId;
use syncline_wire::{Message, Operation, ServerHello, Version};

/// A key, as histories have it.
pub(crate) fn key(key: &[u8]) -> Key {
    String::from_utf8_lossy(key).into()
}

/// The state of a key, as histories have it.
pub(crate) fn write(of: &[u8], value: Option<&Bytes>, version: Version) -> Write {
    Write { key: key(of), state: State { version: version.get(), value: value.map(|value| Stamp::of(value)) } }
}

impl From<&Message> for Frame {
    fn from(message: &Message) -> Self {
        let tag = message.tag().get();
        match message {
            Message::Get(get) => Self::Get { tag, key: key(&get.key) },
            // What holds nothing was deleted: so base connections are told. No value of a run is empty.
            Message::Put(put) => {
                let value = Some(&put.value).filter(|value| !value.is_empty());
                Self::Write { tag, write: write(&put.key, value, put.version) }
            }
            Message::PutLarge(put) => Self::Write { tag, write: write(&put.key, Some(&put.value), put.version) },
            Message::Delete(delete) => Self::Write { tag, write: write(&delete.key, None, delete.version) },
            Message::Error(error) => Self::Error { tag, text: String::from_utf8_lossy(&error.text).into_owned() },
            Message::Hello(hello) => {
                let told = |greeting: ServerHello| (StoreId::new(greeting.store_id).to_string(), greeting.head.get());
                Self::Hello { tag, server: ServerHello::decode(&hello.body).ok().map(told) }
            }
            Message::Watch(watch) => Self::Watch { tag, prefix: key(&watch.prefix), since: watch.since.get() },
            Message::Mark(mark) => Self::Mark { tag, revision: mark.revision.get() },
            Message::List(list) => {
                Self::List { tag, prefix: key(&list.prefix), after: key(&list.after), limit: list.limit }
            }
            Message::Txn(txn) => {
                let (mut checks, mut writes) = (Vec::new(), Vec::new());
                for operation in &txn.operations {
                    match operation {
                        Operation::Check { key: of, version } => checks.push((key(of), version.get())),
                        Operation::Put { key, value, version } => writes.push(write(key, Some(value), *version)),
                        Operation::Delete { key, version } => writes.push(write(key, None, *version)),
                    }
                }
                Self::Txn { tag, checks, writes }
            }
            Message::Auth(_) | Message::Status(_) => Self::Other { tag, kind: message.kind().to_string() },
        }
    }
}
