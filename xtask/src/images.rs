//! `cargo xtask images`: what a sandbox's image has, from one list, as each vendor wants it. The files are checked in.

mod registries;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::places::Places;
use crate::progress;

const FOLDER: &str = "sandbox-bridge/images";
const LIST: &str = "contents.toml";
const NOTE: &str = "Written by `cargo xtask images` from contents.toml. Not to be edited.";

/// Write the definitions of the sandboxes' image from `sandbox-bridge/images/contents.toml`.
#[derive(Args)]
pub struct Options {
    /// Write nothing; fail when a file differs.
    #[arg(long)]
    check: bool,
    /// Ask Debian, npm and PyPI whether all of the list is there, in the versions that it names.
    #[arg(long)]
    registries: bool,
    /// Install the npm part into a folder that is removed again. Takes minutes.
    #[arg(long)]
    install: bool,
    /// Read the Dockerfile with the parsers of Docker's own tools and of E2B.
    #[arg(long)]
    parse: bool,
}

/// The list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    base: String,
    node: String,
    runtime_version: String,
    environment: BTreeMap<String, String>,
    debian: Vec<Debian>,
    npm: Vec<Package>,
    pip: Vec<Package>,
}

/// Packages of Debian's, and what they are for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Debian {
    what: String,
    /// What their versions begin with.
    packages: BTreeMap<String, String>,
}

/// A package at an exact version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    version: String,
    /// Whether npm must run its scripts.
    #[serde(default)]
    scripts: bool,
}

impl Contents {
    fn read(places: &Places) -> Result<Self> {
        let path = places.root.join(FOLDER).join(LIST);
        let text = fs::read_to_string(&path).map_err(Failure::file("read", &path))?;
        toml::from_str(&text).map_err(|error| Failure::content(&path, error))
    }

    fn npm_names(&self) -> Vec<String> {
        self.npm.iter().map(|package| format!("{}@{}", package.name, package.version)).collect()
    }

    /// The flag that lets npm run scripts; one that is too old for it does so anyway.
    fn allowed_scripts(&self) -> String {
        let names: Vec<&str> = self.npm.iter().filter(|one| one.scripts).map(|one| one.name.as_str()).collect();
        format!("--allow-scripts={}", names.join(","))
    }

    fn pip_names(&self) -> Vec<String> {
        self.pip.iter().map(|package| format!("{}=={}", package.name, package.version)).collect()
    }

    /// The variables, with the version of the runtime.
    fn variables(&self) -> BTreeMap<&str, &str> {
        let ours = [("SANDBOX_VERSION", self.runtime_version.as_str())];
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(ours).collect()
    }

    /// What is run, in order, with what it is for. Each is a layer, those that change least first.
    fn steps(&self) -> Vec<(String, String)> {
        let install = |packages: &[&str]| {
            let packages: String = packages.iter().fold(String::new(), |text, name| text + " \\\n    " + name);
            format!(
                "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends{packages} \\\n \
                 && rm -rf /var/lib/apt/lists/*"
            )
        };
        let mut steps: Vec<(String, String)> = self
            .debian
            .iter()
            .map(|group| (group.what.clone(), install(&group.packages.keys().map(String::as_str).collect::<Vec<_>>())))
            .collect();
        let node = format!("nodejs={}.*", self.node);
        let source = format!(
            "curl -fsSL https://deb.nodesource.com/gpgkey/nodesource-repo.gpg.key \
             | gpg --dearmor -o /usr/share/keyrings/nodesource.gpg \\\n \
             && echo \"deb [signed-by=/usr/share/keyrings/nodesource.gpg] https://deb.nodesource.com/node_{}.x nodistro main\" \
             >/etc/apt/sources.list.d/nodesource.list \\\n && {}",
            self.node,
            install(&[&node])
        );
        // Behind the first, which has what it is fetched with.
        steps.insert(1.min(steps.len()), ("Node".to_owned(), source));
        let npm: String = self.npm_names().iter().fold(String::new(), |text, name| text + " \\\n    " + name);
        let flags = format!("--global --unsafe-perm --no-audit --no-fund {}", self.allowed_scripts());
        steps.push(("what is npm's".to_owned(), format!("npm install {flags}{npm} \\\n && npm cache clean --force")));
        let pip = self.pip_names().join(" ");
        steps.push(("what is PyPI's".to_owned(), format!("pip install --no-cache-dir {pip}")));
        steps.push(("where repositories are checked out".to_owned(), "mkdir -p /workspace".to_owned()));
        steps
    }
}

fn dockerfile(contents: &Contents) -> String {
    let mut text = format!(
        "# {NOTE}\n# The folder that it is built in has the Linux program `sandbox-bridge`: see docs/DEPLOY.md.\n\
         FROM {}\n",
        contents.base
    );
    for (name, value) in contents.variables() {
        let _ = writeln!(text, "ENV {name}={value}");
    }
    for (what, command) in contents.steps() {
        let _ = write!(text, "\n# {what}\nRUN {command}\n");
    }
    text += "\nCOPY sandbox-bridge /usr/local/bin/sandbox-bridge\nRUN chmod 0755 /usr/local/bin/sandbox-bridge\n\
             WORKDIR /workspace\nCMD [\"sandbox-bridge\", \"supervise\", \"--config-env\"]\n";
    text
}

/// A text of Python or JavaScript, which JSON's are.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

fn modal(contents: &Contents) -> String {
    let mut text = format!(
        "\"\"\"The image of sandboxes at Modal: `python image.py <sandbox-bridge>` builds it and prints its id, which is\n\
         OPEN_INSPECT_IMAGE when the app is deployed.\n\n{NOTE}\n\"\"\"\n\nfrom __future__ import annotations\n\n\
         import pathlib\nimport sys\n\nimport modal\n\nBASE = {}\nENVIRONMENT = {{\n",
        quoted(&contents.base)
    );
    for (name, value) in contents.variables() {
        let _ = writeln!(text, "    {}: {},", quoted(name), quoted(value));
    }
    text += "}\nSTEPS = [\n";
    for (what, command) in contents.steps() {
        let command = command.replace(" \\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "    # {what}\n    {},", quoted(&command));
    }
    text += "]\n\n\ndef sandbox_image(bridge: pathlib.Path) -> modal.Image:\n    \
             \"\"\"With this Linux program as `sandbox-bridge`.\"\"\"\n    \
             image = modal.Image.from_registry(BASE).env(ENVIRONMENT)\n    for step in STEPS:\n        \
             image = image.run_commands(step)\n    \
             image = image.add_local_file(bridge, \"/usr/local/bin/sandbox-bridge\", copy=True)\n    \
             return image.run_commands(\"chmod 0755 /usr/local/bin/sandbox-bridge\").workdir(\"/workspace\")\n\n\n\
             if __name__ == \"__main__\":\n    app = modal.App.lookup(\"open-inspect\", create_if_missing=True)\n    \
             with modal.enable_output():\n        built = sandbox_image(pathlib.Path(sys.argv[1])).build(app)\n    \
             print(built.object_id)\n";
    text
}

fn daytona() -> String {
    format!(
        "\"\"\"The snapshot of sandboxes at Daytona: `python snapshot.py <folder> <name>` makes it, where the folder has \
         `sandbox-bridge`\nand the name is DAYTONA_BASE_SNAPSHOT.\n\n{NOTE}\n\"\"\"\n\nfrom __future__ import annotations\n\n\
         import pathlib\nimport shutil\nimport sys\n\nfrom daytona import CreateSnapshotParams, Daytona, Image, Resources\n\n\
         DOCKERFILE = pathlib.Path(__file__).parent.parent / \"Dockerfile\"\n\n\n\
         def snapshot(folder: pathlib.Path, name: str) -> CreateSnapshotParams:\n    \
         \"\"\"What is asked for. The Dockerfile is read beside what it copies.\"\"\"\n    \
         dockerfile = shutil.copy(DOCKERFILE, folder / \"Dockerfile\")\n    return CreateSnapshotParams(\n        \
         name=name,\n        image=Image.from_dockerfile(dockerfile),\n        \
         resources=Resources(cpu=2, memory=4, disk=10),\n        \
         entrypoint=[\"sandbox-bridge\", \"supervise\", \"--config-env\"],\n    )\n\n\n\
         if __name__ == \"__main__\":\n    \
         Daytona().snapshot.create(snapshot(pathlib.Path(sys.argv[1]), sys.argv[2]), on_logs=print)\n"
    )
}

fn e2b() -> String {
    format!(
        "// The template of sandboxes at E2B: `node template.mjs <folder> <name>` builds it, where the folder has\n\
         // `sandbox-bridge` and the name is E2B_TEMPLATE_ID.\n//\n// {NOTE}\nimport {{ readFileSync }} from \"node:fs\";\n\
         import {{ fileURLToPath }} from \"node:url\";\nimport {{ Template, waitForTimeout }} from \"e2b\";\n\n\
         const dockerfile = readFileSync(new URL(\"../Dockerfile\", import.meta.url), \"utf8\");\n\n\
         // A machine that waits: the control plane starts the runtime in it.\n\
         export const template = (folder) =>\n  \
         Template({{ fileContextPath: folder }}).fromDockerfile(dockerfile).setStartCmd(\"sleep infinity\", waitForTimeout(1_000));\n\n\
         if (process.argv[1] === fileURLToPath(import.meta.url)) {{\n  const [folder, name] = process.argv.slice(2);\n  \
         await Template.build(template(folder), name, {{ cpuCount: 2, memoryMB: 4096 }});\n}}\n"
    )
}

/// The files by their paths below the folder.
fn files(contents: &Contents) -> [(&'static str, String); 4] {
    [
        ("Dockerfile", dockerfile(contents)),
        ("modal/image.py", modal(contents)),
        ("daytona/snapshot.py", daytona()),
        ("e2b/template.mjs", e2b()),
    ]
}

fn differing(folder: &Path, contents: &Contents) -> Vec<&'static str> {
    let differs = |(name, text): &(&'static str, String)| {
        fs::read_to_string(folder.join(name)).map_or(true, |there| there != *text)
    };
    files(contents).iter().filter(|file| differs(file)).map(|(name, _)| *name).collect()
}

/// Writes the files, or looks at them.
pub fn run(places: &Places, options: &Options) -> Result<()> {
    let (contents, folder) = (Contents::read(places)?, places.root.join(FOLDER));
    let differing = differing(&folder, &contents);
    if options.check && !differing.is_empty() {
        let names = differing.join(", ");
        return Err(Failure::content(&folder.join(LIST), format!("{names} differ: run `cargo xtask images`")));
    }
    for (name, text) in files(&contents).iter().filter(|(name, _)| differing.contains(name)) {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Failure::file("write", &path))?;
        progress::say(format_args!("Wrote {FOLDER}/{name}"));
    }
    if options.registries {
        registries::ask(&contents)?;
    }
    if options.parse {
        registries::parse(places, &folder)?;
    }
    if options.install {
        registries::install(places, &contents)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> (Places, Contents) {
        let places = Places::find().expect("the repository");
        let contents = Contents::read(&places).expect("the list");
        (places, contents)
    }

    #[test]
    fn the_checked_in_files_are_those_of_the_list() {
        let (places, contents) = contents();
        let differing = differing(&places.root.join(FOLDER), &contents);
        assert!(differing.is_empty(), "{differing:?} differ: run `cargo xtask images`");
    }

    #[test]
    fn the_agent_is_the_one_that_is_tested() {
        let (places, contents) = contents();
        let of = |name: &str| contents.npm.iter().find(|package| package.name == name).expect(name).version.clone();
        let tools = fs::read_to_string(places.root.join("tools/package.json")).expect("the tools");
        let tools: serde_json::Value = serde_json::from_str(&tools).expect("JSON");
        assert_eq!(tools["optionalDependencies"]["opencode-linux-x64"], of("opencode-ai"));
        assert_eq!(of("@opencode-ai/plugin"), of("opencode-ai"));
    }

    #[test]
    fn nothing_is_listed_twice_and_all_of_it_is_installed() {
        let (_, contents) = contents();
        let mut names: Vec<&str> =
            contents.debian.iter().flat_map(|group| group.packages.keys()).map(String::as_str).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        let (docker, modal) = (dockerfile(&contents), modal(&contents));
        let npm = contents.npm_names();
        for name in names.into_iter().chain(npm.iter().map(String::as_str)) {
            assert!(docker.contains(&format!("    {name}")), "{name} is not in the Dockerfile");
            assert!(modal.contains(&format!(" {name} ")), "{name} is not in Modal's image");
        }
        for needed in [
            "git",
            "gh",
            "build-essential",
            "ripgrep",
            "jq",
            "ffmpeg",
            "chromium",
            "xvfb",
            "fluxbox",
            "x11vnc",
            "novnc",
        ] {
            assert!(contents.debian.iter().any(|group| group.packages.contains_key(needed)), "{needed}");
        }
    }

    #[test]
    fn no_step_leaves_a_secret_or_a_package_list_behind() {
        let (_, contents) = contents();
        for (what, command) in contents.steps() {
            assert_eq!(command.contains("apt-get install"), command.contains("rm -rf /var/lib/apt/lists"), "{what}");
            assert!(!command.contains("TOKEN") && !command.contains("http://"), "{what}");
        }
    }
}
