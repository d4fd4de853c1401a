//! Damaged files: flipped bits, truncations and lost sectors, in every file of a directory that was closed, and of
//! one whose process was killed. Opening must either fail and name a file and an offset, or restore exactly the right
//! state. Only if nothing proves its existence may the last record of a log that was not closed be missing. There is
//! never a wrong value, a panic, or an allocation larger than the files justify.

use super::faulty::Faulty;
use super::history::entries;
use super::workload::{Step, Workload};
use super::{Db, Random, open, seeds};
use crate::Store;
use crate::disk::identity::Identity;
use crate::disk::log::Log;
use crate::disk::names;
use crate::disk::{Durability, OpenError, maintenance, record, watermark};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a directory was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Killed,
}

/// A directory, and its expected content.
#[derive(Clone)]
pub(super) struct Data {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) workload: Arc<Workload>,
    /// The files after each step.
    pub(super) earlier: Vec<BTreeMap<String, Vec<u8>>>,
    /// The lowest head that is acceptable after damage.
    pub(super) least: u64,
    /// The same, if the end of the log is damaged in more than one record.
    pub(super) watermark: u64,
}

/// Writes a directory: to the checkpoint if there is one, a log of some segments, and spares.
pub(super) fn data(durability: Durability, seed: u64, checkpoint: bool, end: End) -> Data {
    let mut workload = Workload::new(Faulty::new(), durability, seed);
    workload.open(0..=0).unwrap();
    let mut earlier = Vec::new();
    for number in 0..28 {
        earlier.push(workload.files.files());
        workload.step(Step::Write).unwrap();
        // As it is done in the background.
        if log(&workload, |log| log.current.as_ref().is_some_and(|current| current.id != log.watermark)) {
            workload.step(Step::Watermark).unwrap();
        }
        if log(&workload, |log| log.spares.is_empty()) {
            workload.step(Step::Spare).unwrap();
        }
        if checkpoint && number == 20 {
            workload.step(Step::Checkpoint).unwrap();
        }
    }
    let files = match end {
        End::Closed => {
            workload.store = None;
            workload.files.files()
        }
        End::Killed => workload.files.kill().files(),
    };
    let least = match (end, durability) {
        (End::Closed, _) => workload.live.head,
        (End::Killed, Durability::Fsync) => before_the_last_record(&files),
        (End::Killed, Durability::Os) => workload.store.as_ref().unwrap().shared.commit_state.lock().synced.get(),
    };
    workload.store = None;
    let (left, names) = (Faulty::holding(files.clone()), files.keys().cloned().collect::<Vec<_>>());
    let seed = Identity::read(&left).unwrap().seed;
    let watermark = watermark::read(&left, seed, &names).unwrap().unwrap().get();
    Data { files, workload: Arc::new(workload), earlier, least, watermark }
}

/// Without the last record, nothing tells that it ever was.
fn before_the_last_record(files: &BTreeMap<String, Vec<u8>>) -> u64 {
    let identity = Identity::read(&Faulty::holding(files.clone())).unwrap();
    let logs = files.iter().filter(|(name, _)| names::segment_number(name).is_some());
    let records = logs.flat_map(|(_, bytes)| record::find_all(identity.seed, bytes, 0));
    records.map(|(_, header)| header.first.get() - 1).max().unwrap()
}

fn log<T>(workload: &Workload, ask: impl FnOnce(&Log<Faulty>) -> T) -> T {
    ask(&workload.store.as_ref().unwrap().shared.commit_state.lock().log)
}

impl Data {
    /// Opens a damaged directory. Returns whether that was refused.
    pub(super) fn judge(&self, files: &BTreeMap<String, Vec<u8>>) -> Result<bool, String> {
        let left = Faulty::holding(files.clone());
        let opened = open(&left, self.workload.durability);
        let most = files.values().map(Vec::len).max().unwrap_or_default().max(8192);
        if left.largest_read() > most {
            return Err(format!("{} bytes were taken to read at once", left.largest_read()));
        }
        let store = match opened {
            Ok(store) => store,
            Err(OpenError::Damaged { file, offset, .. }) => {
                let name = file.file_name().unwrap().to_str().unwrap();
                if files.get(name).is_some_and(|bytes| offset > bytes.len() as u64) {
                    return Err(format!("damage was found behind the end of {name}"));
                }
                if left.files() != *files {
                    return Err("something was changed though it was damaged".into());
                }
                return Ok(true);
            }
            Err(error) => return Err(format!("refused for something else: {error}")),
        };
        let head = store.head().get();
        if head < self.least {
            return Err(format!("the head is {head}, expected at least {}", self.least));
        }
        let forgotten = self.workload.progress.lock().forgotten;
        self.workload.history.at(head)?.agrees(&store, forgotten)?;
        Ok(false)
    }

    /// Damages every file at many places, in one way. Returns how often it did, and how often opening was
    /// refused.
    fn damage(
        &self,
        places: impl Fn(&str, &[u8]) -> Vec<usize>,
        damage: impl Fn(&mut Vec<u8>, usize),
    ) -> (usize, usize) {
        let (mut done, mut refused) = (0, 0);
        for (name, bytes) in &self.files {
            for place in places(name, bytes) {
                let mut damaged = bytes.clone();
                damage(&mut damaged, place);
                let mut files = self.files.clone();
                files.insert(name.clone(), damaged);
                let verdict = self.judge(&files).unwrap_or_else(|error| panic!("{name} at {place}: {error}"));
                done += 1;
                refused += usize::from(verdict);
            }
        }
        (done, refused)
    }
}

/// The directories that are damaged.
fn each_data(few: u64, test: impl Fn(u64, &Data)) {
    for seed in seeds(few) {
        test(seed, &data(Durability::Fsync, seed, true, End::Closed));
        test(seed, &data(Durability::Fsync, seed, true, End::Killed));
        test(seed, &data(Durability::Fsync, seed, false, End::Killed));
        test(seed, &data(Durability::Os, seed, true, End::Closed));
        test(seed, &data(Durability::Os, seed, true, End::Killed));
    }
}

#[test]
fn an_undamaged_directory_is_opened() {
    each_data(5, |_, data| assert_eq!(data.judge(&data.files), Ok(false)));
}

#[test]
fn a_flipped_bit_is_detected_or_harmless() {
    each_data(1, |seed, data| {
        let places = |name: &str, bytes: &[u8]| {
            // Every bit of what is short, a bit of each byte of a checkpoint, of the log of each third.
            let of_each = |step: usize| {
                let first = usize::try_from(seed).unwrap() % step;
                (first..bytes.len()).step_by(step).map(|byte| byte * 8 + Random::new(seed ^ byte as u64).below(8))
            };
            match name {
                name if names::segment_number(name).is_some() => of_each(3).collect(),
                name if names::checkpoint_revision(name).is_some() => of_each(1).collect(),
                _ => (0..bytes.len() * 8).collect(),
            }
        };
        let (flipped, refused) = data.damage(places, |bytes, bit| bytes[bit / 8] ^= 1 << (bit % 8));
        println!("{flipped} bits flipped, {refused} refused");
        assert!(refused > flipped / 10 && refused < flipped);
    });
}

#[test]
fn a_truncated_file_is_refused() {
    each_data(1, |_, data| {
        let places = |_: &str, bytes: &[u8]| (0..bytes.len()).step_by(37).chain([bytes.len() - 1]).collect();
        let (cut, refused) = data.damage(places, Vec::truncate);
        assert_eq!(cut, refused);
    });
}

#[test]
fn a_file_that_has_grown_is_refused() {
    each_data(1, |_, data| {
        let (grown, refused) =
            data.damage(|_, _| vec![1, 511, 512, 5000], |bytes, more| bytes.resize(bytes.len() + more, 0));
        assert_eq!(grown, refused);
    });
}

#[test]
fn a_lost_sector_is_detected_or_harmless() {
    each_data(3, |seed, data| {
        // Several records may be in it, after which nothing was written.
        let data = &Data { least: data.watermark, ..data.clone() };
        let places = |_: &str, bytes: &[u8]| (0..bytes.len()).step_by(512).collect();
        let end = |bytes: &[u8], place: usize| bytes.len().min(place + 512);
        data.damage(places, |bytes, place| {
            let end = end(bytes, place);
            bytes[place..end].fill(0);
        });
        data.damage(places, |bytes, place| {
            let end = end(bytes, place);
            let mut random = Random::new(seed);
            bytes[place..end].fill_with(|| random.next().to_le_bytes()[0]);
        });
        // A misdirected write.
        data.damage(places, |bytes, place| {
            let (end, from) = (end(bytes, place), Random::new(seed + place as u64).below(bytes.len() / 512 + 1) * 512);
            let moved = bytes[from.min(bytes.len())..].iter().copied().take(end - place).collect::<Vec<_>>();
            bytes[place..place + moved.len()].copy_from_slice(&moved);
        });
    });
}

#[test]
fn after_harmless_damage_the_store_continues() {
    let data = data(Durability::Fsync, 7, true, End::Killed);
    let mut harmless = 0;
    for (name, bytes) in &data.files {
        for place in (0..bytes.len()).step_by(97) {
            let mut files = data.files.clone();
            files.get_mut(name).unwrap()[place] ^= 0x10;
            if data.judge(&files) != Ok(false) {
                continue;
            }
            harmless += 1;
            let mut workload = Workload::over(Faulty::holding(files), &data.workload, place as u64);
            // The last record may be gone, and no crash has taken it.
            workload.progress.lock().told = None;
            workload.open(data.least..=u64::MAX).unwrap();
            for step in [Step::Write, Step::Write, Step::Checkpoint, Step::Kill, Step::Write, Step::Close, Step::Write]
            {
                workload.step(step).unwrap_or_else(|error| panic!("{name} at {place}, {step:?}: {error}"));
            }
        }
    }
    assert!(harmless > 10, "{harmless}");
}

/// A value may contain anything, even a whole log of the same store.
#[test]
fn a_value_that_looks_like_a_record_stays_a_value() {
    use syncline_core::{Operation, Transaction};
    use syncline_wire::Version;
    let files = Faulty::new();
    let store = open(&files, Durability::Fsync).unwrap();
    let (id, mut version) = (store.id(), 0);
    let mut put = |store: &Db, value: Vec<u8>| {
        version += 1;
        let operation = Operation::Put { key: "key".into(), value: value.into(), version: Version::new(version) };
        store.commit(vec![Transaction { origin: None, operations: [operation].into() }]);
        assert_eq!(store.head().get(), version);
    };
    // What a client can write, which knows only the id of the store.
    let seed = record::ChecksumSeed(crc32c::crc32c(&id.bytes()));
    let mut encoder = record::Encoder::default();
    encoder.clear();
    let synced = syncline_wire::Revision::new(1_000_000);
    let header =
        record::Header { length: 0, segment: 1000, first: synced, synced, time: 0, count: 0, previous: 0, checksum: 0 };
    let (forged, _) = encoder.finish(seed, header);
    // At every place that it may come to lie on, in values that are overwritten in part when the segment is used again.
    let value: Vec<u8> =
        (0..8).flat_map(|shift| [&vec![0; shift][..], forged, &vec![0; 12 - shift]].concat()).collect();
    for _ in 0..30 {
        put(&store, value.repeat(6));
        maintenance::take_checkpoint(&store.shared).unwrap();
    }
    // Each time that a segment is used again, it is only in part.
    (0..9).for_each(|_| put(&store, vec![0; 600]));
    let found = |(name, bytes): (String, Vec<u8>)| {
        names::segment_number(&name).is_some()
            && record::find_all(seed, &bytes, 0).any(|(_, header)| header.segment == 1000)
    };
    assert!(files.files().into_iter().any(found), "nothing of it is left to be found");
    let before = entries(&store, 1000);
    drop(store);
    let store = open(&files, Durability::Fsync).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(entries(&store, 1000), before);
}
