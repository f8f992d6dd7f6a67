//! Keeps a bundle within its limits: the largest patches go first, then the last files.

use std::collections::BTreeSet;

use oi_protocol::diff::{DiffBundle, DiffFile, DiffRenderState, DiffRepository};
use oi_protocol::limits;

/// What all repositories of a bundle share. No more than the patches that fit are ever held.
#[derive(Default)]
pub struct Room {
    files: usize,
    bytes: usize,
    /// Length and id of each patch that is held.
    held: BTreeSet<(usize, String)>,
    /// Files whose patch had to go again.
    dropped: Vec<String>,
}

impl Room {
    /// Whether there is room for one more file; takes it.
    pub fn take_file(&mut self) -> bool {
        let fits = self.files < limits::DIFF_MAX_FILES;
        self.files += usize::from(fits);
        fits
    }

    /// Takes a patch in; the largest ones go when they are too much together.
    pub fn take_patch(&mut self, id: &str, bytes: usize) {
        self.bytes += bytes;
        self.held.insert((bytes, id.to_owned()));
        while self.bytes > limits::DIFF_PATCHES_MAX_BYTES
            && let Some((bytes, id)) = self.held.pop_last()
        {
            self.bytes -= bytes;
            self.dropped.push(id);
        }
    }

    /// Takes the patches out that had to go.
    pub fn empty_into(&self, repositories: &mut [DiffRepository]) {
        for repository in repositories {
            for file in repository.files_mut() {
                if self.dropped.contains(&file.id) {
                    without_patch(file);
                }
            }
            mark(repository);
        }
    }
}

fn without_patch(file: &mut DiffFile) {
    if file.patch.take().is_some() {
        file.render_state = DiffRenderState::TooLarge;
    }
}

/// Something was left out when a patch was, or a file.
fn mark(repository: &mut DiffRepository) {
    if let DiffRepository::Ready { truncated, omitted_file_count, files, .. } = repository {
        let left_out = files.iter().any(|file| file.render_state == DiffRenderState::TooLarge);
        *truncated = left_out || *omitted_file_count > 0;
    }
}

fn length(bundle: &DiffBundle) -> usize {
    // What is made of strings and numbers can always be written.
    serde_json::to_vec(bundle).map_or(usize::MAX, |bytes| bytes.len())
}

/// A bundle that is no longer than `max` bytes of JSON.
pub fn within(mut bundle: DiffBundle, max: usize) -> Result<DiffBundle, String> {
    while length(&bundle) > max {
        let files = bundle.repositories.iter_mut().flat_map(DiffRepository::files_mut);
        let largest = files.filter(|file| file.patch.is_some()).max_by_key(|file| file.patch.as_ref().map(String::len));
        if let Some(file) = largest {
            without_patch(file);
        } else if !drop_last_files(&mut bundle) {
            return Err("The changes are too many to be shown".to_owned());
        }
        bundle.repositories.iter_mut().for_each(mark);
    }
    Ok(bundle)
}

/// Leaves out the last tenth of the last repository that has files.
fn drop_last_files(bundle: &mut DiffBundle) -> bool {
    for repository in bundle.repositories.iter_mut().rev() {
        if let DiffRepository::Ready { files, omitted_file_count, .. } = repository
            && !files.is_empty()
        {
            let dropped = files.len().div_ceil(10);
            files.truncate(files.len() - dropped);
            *omitted_file_count += u32::try_from(dropped).unwrap_or(u32::MAX);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use oi_protocol::UnixMillis;
    use oi_protocol::diff::{DiffFileStatus, VERSION};

    fn file(id: &str, patch: usize) -> DiffFile {
        DiffFile {
            id: id.to_owned(),
            path: format!("src/{id}"),
            old_path: None,
            status: DiffFileStatus::Modified,
            additions: Some(1),
            deletions: Some(1),
            render_state: DiffRenderState::Renderable,
            patch: Some("x".repeat(patch)),
            old_mode: None,
            new_mode: None,
            old_submodule_sha: None,
            new_submodule_sha: None,
        }
    }

    fn bundle(files: Vec<DiffFile>) -> DiffBundle {
        let repository = DiffRepository::Ready {
            position: 0,
            repo_owner: "acme".to_owned(),
            repo_name: "app".to_owned(),
            base_sha: "a".repeat(40),
            head_sha: "b".repeat(40),
            truncated: false,
            omitted_file_count: 0,
            files,
        };
        DiffBundle {
            version: VERSION,
            trigger_message_id: None,
            captured_at: UnixMillis(1),
            repositories: vec![repository],
        }
    }

    fn states(bundle: &DiffBundle) -> Vec<(&str, bool)> {
        bundle.repositories[0].files().iter().map(|file| (file.id.as_str(), file.patch.is_some())).collect()
    }

    #[test]
    fn the_largest_patches_go_first_and_then_the_last_files() {
        let whole = bundle(vec![file("a", 400), file("b", 900), file("c", 300)]);
        assert_eq!(within(whole.clone(), 100_000), Ok(whole.clone()));
        let less = within(whole.clone(), length(&whole) - 1).expect("fits");
        assert_eq!(states(&less), [("a", true), ("b", false), ("c", true)]);
        assert!(matches!(less.repositories[0], DiffRepository::Ready { truncated: true, omitted_file_count: 0, .. }));
        let bare = length(&within(whole.clone(), 700).expect("fits"));
        let fewer = within(whole.clone(), bare - 1).expect("fits");
        assert_eq!(states(&fewer), [("a", false), ("b", false)], "no patch, and the last file is gone");
        assert!(matches!(fewer.repositories[0], DiffRepository::Ready { truncated: true, omitted_file_count: 1, .. }));
        assert_eq!(fewer.check(), Ok(()), "what is left can be sent");
        assert!(within(whole, 10).is_err());
    }

    #[test]
    fn no_more_patches_are_held_than_fit() {
        let mut room = Room::default();
        let half = limits::DIFF_PATCHES_MAX_BYTES / 2;
        for (id, bytes) in [("a", half), ("b", half), ("c", 10)] {
            room.take_patch(id, bytes);
        }
        assert!(room.bytes <= limits::DIFF_PATCHES_MAX_BYTES && room.dropped.len() == 1);
        let mut whole = bundle(vec![file("a", 1), file("b", 1), file("c", 1)]);
        room.empty_into(&mut whole.repositories);
        assert_eq!(states(&whole), [("a", true), ("b", false), ("c", true)]);
    }
}
