//! Converts frames of the wire protocol into those of histories.

use crate::history::{Frame, Key, Stamp, State, Write};
use bytes::Bytes;
use syncline_core::StoreId;
use syncline_wire::{Message, Operation, ServerHello, Version};

/// Returns a key in the form that histories use.
pub(crate) fn key(key: &[u8]) -> Key {
    String::from_utf8_lossy(key).into()
}

/// Returns a state of a key in the form that histories use.
pub(crate) fn write(of: &[u8], value: Option<&Bytes>, version: Version) -> Write {
    Write { key: key(of), state: State { version: version.get(), value: value.map(|value| Stamp::of(value)) } }
}

impl From<&Message> for Frame {
    fn from(message: &Message) -> Self {
        let tag = message.tag().get();
        match message {
            Message::Get(get) => Self::Get { tag, key: key(&get.key) },
            // An empty value means a deletion, as base connections receive it. No client of a run writes an empty
            // value.
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
