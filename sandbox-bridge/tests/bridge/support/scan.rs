//! Looks for values that must not be seen wherever a sandbox could show them: files, processes, texts.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A value, and the forms in which it may be.
pub struct Canary {
    pub name: &'static str,
    forms: Vec<String>,
}

impl Canary {
    /// The value itself, and what stays of it in base64 wherever it begins.
    pub fn new(name: &'static str, value: &str) -> Self {
        let mut forms = vec![value.to_owned()];
        for before in 0..3 {
            let text = STANDARD.encode([vec![b'x'; before], value.as_bytes().to_vec()].concat());
            // The first and the last group hold bits of neighbours.
            forms.push(text[4..text.len() - 4].to_owned());
        }
        assert!(forms.iter().all(|form| form.len() >= 12), "{name} is too short to be looked for");
        Self { name, forms }
    }
}

/// What was found: the value's name, and where.
pub type Findings = Vec<String>;

/// Looks through some bytes.
pub fn bytes(place: &str, bytes: &[u8], canaries: &[Canary], findings: &mut Findings) {
    // All forms are ASCII, which stays as it is.
    let text = String::from_utf8_lossy(bytes);
    for canary in canaries {
        if canary.forms.iter().any(|form| text.contains(form)) {
            findings.push(format!("{} in {place}", canary.name));
        }
    }
}

/// Looks through every file below a folder, its name too, and through git's compressed objects. Gives the count of files.
pub fn files(folder: &Path, canaries: &[Canary], findings: &mut Findings) -> usize {
    let mut looked = 0;
    if folder.ends_with(".git") {
        let all = ["cat-file", "--batch-all-objects", "--batch", "--unordered"];
        let output = Command::new("git").arg("--git-dir").arg(folder).args(all).output().expect("git runs");
        bytes(&format!("objects of {}", folder.display()), &output.stdout, canaries, findings);
    }
    // The sandbox works meanwhile: what is gone again was seen or will be.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let place = path.display().to_string();
        bytes(&format!("the name {place}"), path.as_os_str().as_bytes(), canaries, findings);
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            looked += files(&path, canaries, findings);
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&path).unwrap_or_default();
            bytes(&format!("the link {place}"), target.as_os_str().as_bytes(), canaries, findings);
        } else if let (true, Ok(content)) = (kind.is_file(), std::fs::read(&path)) {
            bytes(&place, &content, canaries, findings);
            looked += 1;
        }
    }
    looked
}

/// Looks through the environment and the arguments of every process of a sandbox. Gives the count of processes.
pub fn processes(sandbox_id: &str, canaries: &[Canary], findings: &mut Findings) -> usize {
    let mark = format!("OI_SANDBOX_ID={sandbox_id}");
    let mut looked = 0;
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        if entry.file_name().to_string_lossy().parse::<u32>().is_err() {
            continue;
        }
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let environment = read("environ");
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            let line = read("cmdline");
            let shown = String::from_utf8_lossy(&line).replace('\0', " ");
            bytes(&format!("the environment of {shown:.60}"), &environment, canaries, findings);
            bytes(&format!("the arguments of {shown:.60}"), &line, canaries, findings);
            looked += 1;
        }
    }
    looked
}
