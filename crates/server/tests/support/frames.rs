//! Short constructors for frames and operations.

use bytes::Bytes;
use syncline_wire::{Message, Operation, Revision, Tag, Version};

pub fn get(tag: u16, key: &str) -> Message {
    Message::get(Tag::new(tag), key.to_owned())
}

pub fn put(tag: u16, key: &str, value: &str, version: u64) -> Message {
    Message::put(Tag::new(tag), key.to_owned(), value.to_owned(), Version::new(version))
}

pub fn error(tag: u16, text: &str) -> Message {
    Message::error(Tag::new(tag), text.to_owned())
}

pub fn auth(tag: u16, password: &str) -> Message {
    Message::auth(Tag::new(tag), password.to_owned())
}

pub fn hello(tag: u16) -> Message {
    Message::hello(Tag::new(tag), "")
}

pub fn delete(tag: u16, key: &str, version: u64) -> Message {
    Message::delete(Tag::new(tag), key.to_owned(), Version::new(version))
}

pub fn watch(tag: u16, prefix: &str, since: u64) -> Message {
    Message::watch(Tag::new(tag), prefix.to_owned(), Revision::new(since))
}

pub const fn mark(tag: u16, revision: u64) -> Message {
    Message::mark(Tag::new(tag), Revision::new(revision))
}

pub fn list(tag: u16, prefix: &str, after: &str, limit: u32) -> Message {
    Message::list(Tag::new(tag), prefix.to_owned(), after.to_owned(), limit)
}

pub fn status(tag: u16) -> Message {
    Message::status(Tag::new(tag), "")
}

pub fn put_large(tag: u16, key: &str, value: &str, version: u64) -> Message {
    Message::put_large(Tag::new(tag), key.to_owned(), value.to_owned(), Version::new(version))
}

pub fn txn(tag: u16, operations: impl IntoIterator<Item = Operation>) -> Message {
    Message::txn(Tag::new(tag), operations.into_iter().collect())
}

pub fn checks(key: &str, version: u64) -> Operation {
    Operation::Check { key: key.to_owned().into(), version: Version::new(version) }
}

pub fn puts(key: &str, value: &str, version: u64) -> Operation {
    Operation::Put { key: key.to_owned().into(), value: value.to_owned().into(), version: Version::new(version) }
}

pub fn deletes(key: &str, version: u64) -> Operation {
    Operation::Delete { key: key.to_owned().into(), version: Version::new(version) }
}

/// Returns the key, the value and the version that a frame carries. The value is `None` for a deletion.
pub fn change_of(message: &Message) -> Option<(Bytes, Option<Bytes>, u64)> {
    match message {
        Message::Put(put) => Some((put.key.clone(), Some(put.value.clone()), put.version.get())),
        Message::PutLarge(put) => Some((put.key.clone(), Some(put.value.clone()), put.version.get())),
        Message::Delete(delete) => Some((delete.key.clone(), None, delete.version.get())),
        _ => None,
    }
}
