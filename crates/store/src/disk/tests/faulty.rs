//! A file layer in memory that fails on request, and that knows what a power cut leaves of it.
//!
//! ```text
//!   what processes see     bytes ──────────────┐             names ─────────────┐
//!   what was only done     unsynced sectors    │ sync        pending changes    │ sync_names
//!   what is on disk        durable bytes  ◄────┘             durable names  ◄───┘
//! ```
//!
//! [`Disk::power_cut`] keeps what is on disk, and whatever a seed chooses of the rest: each sector of 512 bytes may
//! have any content since the last sync, and each change of names may be made or not. [`Faulty::kill`] keeps what
//! processes see. A failed sync makes some sectors durable, keeps some unsynced, and loses others: those are still
//! visible, but never reach the disk unless they are written again.
//!
//! Everything is determined by seeds: there is no clock, no thread and no other source of randomness.

use super::Random;
use crate::disk::boot::Boot;
use crate::disk::files::{FileHandle, FileSystem};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The size that a disk writes atomically.
const SECTOR: usize = 512;

pub(super) const EIO: i32 = 5;
pub(super) const ENOSPC: i32 = 28;

/// The kinds of operations. All except reads change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Read,
    Create,
    Write,
    Sync,
    Rename,
    Remove,
    SyncNames,
}

/// One thing that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    pub(super) name: String,
}

/// Operations that fail.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Which of those that are counted from now on.
    pub(super) operations: Range<u64>,
    pub(super) kinds: &'static [Kind],
    /// With which error of the system.
    pub(super) error: i32,
    /// How much of a write is made before it fails, and what becomes of a sync that does.
    pub(super) seed: u64,
}

/// Called after each change, with the disk as it is then.
pub(super) type Hook = Arc<dyn Fn(&Disk, &Operation) + Send + Sync>;

/// What is on a disk, and what the system holds of it.
#[derive(Clone, Default)]
pub(super) struct Disk {
    nodes: BTreeMap<u64, Arc<Node>>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// In the order in which they were made.
    pending: Vec<Change>,
    next_node: u64,
    /// How often the power was cut.
    cuts: u128,
    /// How many bytes all files may have together; unlimited if `None`.
    capacity: Option<usize>,
}

#[derive(Clone, Default)]
struct Node {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What each sector held since it was synced, oldest first.
    unsynced: BTreeMap<usize, Vec<Vec<u8>>>,
}

/// A change of names: the name leads nowhere any more, or to another file.
#[derive(Clone)]
enum Change {
    Set { name: String, node: u64 },
    Move { from: String, to: String, node: u64 },
    Unset { name: String, node: u64 },
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set { name, node } => drop(names.insert(name.clone(), *node)),
            Self::Move { from, to, node } => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
            Self::Unset { name, node } => {
                if names.get(name) == Some(node) {
                    names.remove(name);
                }
            }
        }
    }
}

impl Node {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        let first = offset.min(self.bytes.len()) / SECTOR;
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[offset..end].copy_from_slice(bytes);
        for sector in first..end.div_ceil(SECTOR) {
            let held = self.bytes[sector * SECTOR..self.bytes.len().min((sector + 1) * SECTOR)].to_vec();
            self.unsynced.entry(sector).or_default().push(held);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.bytes.len(), 0);
        for (sector, mut held) in std::mem::take(&mut self.unsynced) {
            put(&mut self.durable, sector, &held.pop().unwrap());
        }
    }

    /// What a sync does that fails.
    fn fail_to_sync(&mut self, random: &mut Random) {
        for (sector, held) in std::mem::take(&mut self.unsynced) {
            match random.below(3) {
                0 => put(&mut self.durable, sector, held.last().unwrap()),
                1 => drop(self.unsynced.insert(sector, held)),
                _ => {}
            }
        }
    }

    /// What a power cut leaves; of what was not synced, about so many percent.
    fn cut(&self, random: &mut Random, percent: usize) -> Self {
        let mut durable = self.durable.clone();
        for (sector, held) in &self.unsynced {
            let chosen = if percent == 100 { held.len() - 1 } else { random.below(held.len()) };
            if random.percent(percent) {
                put(&mut durable, *sector, &held[chosen]);
            }
        }
        // The length may be there before what lies within it.
        if durable.len() < self.bytes.len() && random.percent(percent) {
            durable.resize(self.bytes.len(), 0);
        }
        Self { bytes: durable.clone(), durable, unsynced: BTreeMap::new() }
    }

    /// The system drops from its memory what a failed sync has lost.
    fn evict(&mut self) {
        let mut bytes = self.durable.clone();
        self.unsynced.iter().for_each(|(sector, held)| put(&mut bytes, *sector, held.last().unwrap()));
        self.bytes = bytes;
    }
}

fn put(bytes: &mut Vec<u8>, sector: usize, held: &[u8]) {
    let start = sector * SECTOR;
    bytes.resize(bytes.len().max(start + held.len()), 0);
    bytes[start..start + held.len()].copy_from_slice(held);
}

impl Disk {
    /// What a power cut leaves. Seed 0 keeps nothing that was not synced, seed 1 everything
    /// that no failed sync has lost.
    pub(super) fn power_cut(&self, seed: u64) -> Faulty {
        let mut random = Random::new(seed);
        let percent = match seed {
            0 => 0,
            1 => 100,
            _ => [10, 50, 90][random.below(3)],
        };
        let mut names = self.durable_names.clone();
        self.pending.iter().filter(|_| random.percent(percent)).for_each(|change| change.apply(&mut names));
        let mut nodes = BTreeMap::new();
        for number in names.values() {
            nodes.insert(*number, Arc::new(self.nodes[number].cut(&mut random, percent)));
        }
        let (next_node, cuts, capacity) = (self.next_node, self.cuts + 1, self.capacity);
        Faulty::over(Self {
            nodes,
            durable_names: names.clone(),
            names,
            pending: Vec::new(),
            next_node,
            cuts,
            capacity,
        })
    }

    /// Returns how many more bytes there is room for.
    fn room(&self) -> usize {
        let used: usize = self.names.values().map(|node| self.nodes[node].bytes.len()).sum();
        self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used))
    }

    /// What a killed process leaves.
    pub(super) fn kill(&self) -> Faulty {
        Faulty::over(self.clone())
    }

    /// What a killed process leaves, when the system has dropped from its memory some of what failed syncs have lost.
    pub(super) fn evict(&self, seed: u64) -> Faulty {
        let mut random = Random::new(seed);
        let mut disk = self.clone();
        disk.nodes.values_mut().filter(|_| random.percent(70)).for_each(|node| Arc::make_mut(node).evict());
        Faulty::over(disk)
    }
}

struct State {
    disk: Disk,
    /// Whether the process that uses it lives.
    on: bool,
    done: u64,
    failed: u64,
    /// The size of the largest read.
    largest_read: usize,
    log: Vec<Operation>,
    faults: Vec<Fault>,
    hook: Option<Hook>,
}

/// A directory in memory. Clones share it.
#[derive(Clone)]
pub(super) struct Faulty(Arc<Mutex<State>>);

impl Faulty {
    /// An empty directory.
    pub(super) fn new() -> Self {
        Self::over(Disk::default())
    }

    fn over(disk: Disk) -> Self {
        let state = State {
            disk,
            on: true,
            done: 0,
            failed: 0,
            largest_read: 0,
            log: Vec::new(),
            faults: Vec::new(),
            hook: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// A directory that holds these files, all durable.
    pub(super) fn holding(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut disk = Disk::default();
        for (name, bytes) in files {
            let node = Node { bytes: bytes.clone(), durable: bytes, unsynced: BTreeMap::new() };
            disk.nodes.insert(disk.next_node, Arc::new(node));
            disk.names.insert(name, disk.next_node);
            disk.next_node += 1;
        }
        disk.durable_names = disk.names.clone();
        Self::over(disk)
    }

    /// Every file, as processes see it.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.lock();
        state.disk.names.iter().map(|(name, node)| (name.clone(), state.disk.nodes[node].bytes.clone())).collect()
    }

    /// The start of its machine: another after each power cut.
    pub(super) fn boot(&self) -> Boot {
        Boot::new(self.0.lock().disk.cuts)
    }

    /// How much was asked of it so far.
    pub(super) fn done(&self) -> u64 {
        self.0.lock().done
    }

    /// How much of that has failed.
    pub(super) fn failed(&self) -> u64 {
        self.0.lock().failed
    }

    /// The most that was ever read at once: at least so much memory was taken.
    pub(super) fn largest_read(&self) -> usize {
        self.0.lock().largest_read
    }

    /// What was asked of it so far, in order.
    pub(super) fn log(&self) -> Vec<Operation> {
        self.0.lock().log.clone()
    }

    /// Has operations fail, of those that are still to come. Replaces earlier faults.
    pub(super) fn fail(&self, faults: impl Into<Vec<Fault>>) {
        self.0.lock().faults = faults.into();
    }

    /// Limits how many bytes all files may have together. Beyond that, writes fail with ENOSPC.
    pub(super) fn limit(&self, capacity: usize) {
        self.0.lock().disk.capacity = Some(capacity);
    }

    /// Creates a file of another program, which takes all the room that is left.
    pub(super) fn fill(&self, name: &str) {
        let room = self.0.lock().disk.room();
        self.create(name).unwrap().write_at(&vec![1; room], 0).unwrap();
    }

    /// Calls something after each change.
    pub(super) fn after_each_change(&self, hook: Hook) {
        self.0.lock().hook = Some(hook);
    }

    /// The disk as it is.
    pub(super) fn disk(&self) -> Disk {
        self.0.lock().disk.clone()
    }

    /// Kills the process: nothing more is done for it. Answers what is left; the faults go on.
    pub(super) fn kill(&self) -> Self {
        let mut state = self.0.lock();
        state.on = false;
        let left = state.disk.kill();
        let mut next = left.0.lock();
        (next.done, next.failed, next.faults) = (state.done, state.failed, state.faults.clone());
        next.log = state.log.clone();
        drop(next);
        left
    }

    fn ask<T>(
        &self,
        kind: Kind,
        name: &str,
        act: impl FnOnce(&mut Disk) -> io::Result<T>,
        fail: impl FnOnce(&mut Disk, &mut Random),
    ) -> io::Result<T> {
        let mut state = self.0.lock();
        if !state.on {
            return Err(io::Error::other("the process is no more"));
        }
        let number = state.done;
        state.done += 1;
        let operation = Operation { kind, name: name.to_owned() };
        let fault = state.faults.iter().find(|f| f.operations.contains(&number) && f.kinds.contains(&kind)).cloned();
        let answer = match fault {
            Some(fault) => {
                state.failed += 1;
                fail(&mut state.disk, &mut Random::new(fault.seed ^ number));
                Err(io::Error::from_raw_os_error(fault.error))
            }
            None => act(&mut state.disk),
        };
        state.log.push(operation.clone());
        if kind != Kind::Read
            && let Some(hook) = state.hook.clone()
        {
            let disk = state.disk.clone();
            // It may ask for more itself.
            drop(state);
            hook(&disk, &operation);
        }
        answer
    }

    fn handle(&self, name: &str, node: u64) -> FaultyHandle {
        FaultyHandle { files: self.clone(), name: name.to_owned(), node }
    }
}

impl FileSystem for Faulty {
    type Handle = FaultyHandle;

    fn list(&self) -> io::Result<Vec<String>> {
        self.ask(Kind::Read, "", |disk| Ok(disk.names.keys().cloned().collect()), |_, _| {})
    }

    fn open(&self, name: &str) -> io::Result<FaultyHandle> {
        let node = self.ask(Kind::Read, name, |disk| find(disk, name), |_, _| {})?;
        Ok(self.handle(name, node))
    }

    fn create(&self, name: &str) -> io::Result<FaultyHandle> {
        let create = |disk: &mut Disk| {
            let node = disk.next_node;
            disk.next_node += 1;
            disk.nodes.insert(node, Arc::default());
            change(disk, Change::Set { name: name.to_owned(), node });
            Ok(node)
        };
        let node = self.ask(Kind::Create, name, create, |_, _| {})?;
        Ok(self.handle(name, node))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let rename = |disk: &mut Disk| {
            let node = find(disk, from)?;
            change(disk, Change::Move { from: from.to_owned(), to: to.to_owned(), node });
            Ok(())
        };
        self.ask(Kind::Rename, to, rename, |_, _| {})
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let remove = |disk: &mut Disk| {
            let node = find(disk, name)?;
            change(disk, Change::Unset { name: name.to_owned(), node });
            Ok(())
        };
        self.ask(Kind::Remove, name, remove, |_, _| {})
    }

    fn sync_names(&self) -> io::Result<()> {
        let sync = |disk: &mut Disk| {
            disk.pending.clear();
            disk.durable_names = disk.names.clone();
            Ok(())
        };
        // A journal ends somewhere: what comes first is made first.
        let fail = |disk: &mut Disk, random: &mut Random| {
            let made = random.below(disk.pending.len() + 1);
            let made: Vec<_> = disk.pending.drain(..made).collect();
            made.iter().for_each(|change| change.apply(&mut disk.durable_names));
        };
        self.ask(Kind::SyncNames, "", sync, fail)
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new("data").join(name)
    }
}

fn find(disk: &Disk, name: &str) -> io::Result<u64> {
    disk.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn change(disk: &mut Disk, change: Change) {
    change.apply(&mut disk.names);
    disk.pending.push(change);
}

/// An open file. It stays one when its name goes.
pub(super) struct FaultyHandle {
    files: Faulty,
    name: String,
    node: u64,
}

impl FaultyHandle {
    /// Its name as it is now; as it was when it was opened where it has none.
    fn name(&self) -> String {
        let state = self.files.0.lock();
        let name = state.disk.names.iter().find(|(_, node)| **node == self.node).map(|(name, _)| name.clone());
        name.unwrap_or_else(|| self.name.clone())
    }

    fn node<'a>(&self, disk: &'a mut Disk) -> &'a mut Node {
        Arc::make_mut(disk.nodes.get_mut(&self.node).unwrap())
    }
}

impl FileHandle for FaultyHandle {
    fn length(&self) -> io::Result<u64> {
        self.files.ask(Kind::Read, &self.name(), |disk| Ok(disk.nodes[&self.node].bytes.len() as u64), |_, _| {})
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.files.0.lock();
        state.largest_read = state.largest_read.max(buffer.len());
        drop(state);
        let read = |disk: &mut Disk| {
            let bytes = &disk.nodes[&self.node].bytes;
            let rest = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        };
        self.files.ask(Kind::Read, &self.name(), read, |_, _| {})
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let write = |disk: &mut Disk| {
            let room = disk.room();
            let node = self.node(disk);
            let fits = bytes.len().min(node.bytes.len().saturating_sub(offset).saturating_add(room));
            node.write(&bytes[..fits], offset);
            if fits < bytes.len() { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
        };
        // Of a write that fails, any part may have been made: nothing of it, and all of it too.
        let fail = |disk: &mut Disk, random: &mut Random| {
            let made = [0, bytes.len(), random.below(bytes.len() + 1)][random.below(3)];
            self.node(disk).write(&bytes[..made], offset);
        };
        self.files.ask(Kind::Write, &self.name(), write, fail)
    }

    fn sync(&self) -> io::Result<()> {
        let sync = |disk: &mut Disk| {
            self.node(disk).sync();
            Ok(())
        };
        self.files.ask(Kind::Sync, &self.name(), sync, |disk, random| self.node(disk).fail_to_sync(random))
    }
}
