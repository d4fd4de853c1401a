//! Writes the directories that the target `disk` damages. Run it after a change of their format.

fn main() {
    syncline_fuzz::disk::fixture::write();
}
