//! Writes anew the directories that the target `disk` damages: for when their format has changed.

fn main() {
    syncline_fuzz::disk::fixture::write();
}
