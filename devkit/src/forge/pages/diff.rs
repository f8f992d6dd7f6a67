//! Changed files with their hunks.

use maud::{Markup, html};

use crate::forge::git::ChangedFile;

/// Most files that are shown with their patch.
const MAX_SHOWN: usize = 200;

pub fn files(files: &[ChangedFile]) -> Markup {
    let additions: u64 = files.iter().map(|f| f.additions).sum();
    let deletions: u64 = files.iter().map(|f| f.deletions).sum();
    html! {
        h2 {
            (files.len()) @if files.len() == 1 { " file changed " } @else { " files changed " }
            span class="plus" { "+" (additions) } " " span class="minus" { "−" (deletions) }
        }
        @for file in files.iter().take(MAX_SHOWN) {
            details class="file" open {
                summary {
                    code {
                        @if let Some(previous) = &file.previous_path { (previous) " → " }
                        (file.path)
                    }
                    " " span class="by" { (file.status.as_str()) " " span class="plus" { "+" (file.additions) } " " span class="minus" { "−" (file.deletions) } }
                }
                @if let Some(patch) = &file.patch {
                    pre class="diff" {
                        @for line in patch.lines() {
                            span class=(class(line)) { (line) "\n" }
                        }
                    }
                } @else {
                    pre class="quiet" { "No text to show: the file is binary, empty, only renamed, or too large." }
                }
            }
        }
        @if files.len() > MAX_SHOWN { p class="quiet" { "The other files are not shown." } }
    }
}

fn class(line: &str) -> &'static str {
    match line.as_bytes().first() {
        Some(b'+') => "add",
        Some(b'-') => "del",
        Some(b'@') => "at",
        _ => "",
    }
}
