//! Writes the TypeScript of the wire to the path given, or, with `--check PATH`, fails when that file differs.

use std::collections::BTreeMap;
use std::process::ExitCode;

use oi_protocol::{
    client_socket, diff, environments, error, event, forges, identity, image_builds, inbox, rest, search, secrets,
    session_state, settings, terminal,
};
use ts_rs::{Config, TS, TypeVisitor};

struct Collector<'a> {
    config: &'a Config,
    declarations: BTreeMap<String, String>,
}

impl TypeVisitor for Collector<'_> {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // What has no declaration of its own, a map for instance, has no name either.
        if T::output_path().is_none() {
            return;
        }
        let name = T::ident(self.config);
        if self.declarations.contains_key(&name) {
            return;
        }
        let docs = T::docs().unwrap_or_default();
        self.declarations.insert(name, format!("{docs}export {}\n", T::decl(self.config)));
        T::visit_dependencies(self);
    }
}

fn generate() -> String {
    let config = Config::default().with_large_int("number");
    let mut collector = Collector { config: &config, declarations: BTreeMap::new() };
    collector.visit::<client_socket::ClientMessage>();
    collector.visit::<client_socket::ServerMessage>();
    collector.visit::<client_socket::Snapshot>();
    collector.visit::<event::Event>();
    collector.visit::<error::ErrorBody>();
    collector.visit::<session_state::SpawnSource>();
    collector.visit::<rest::CreateSessionRequest>();
    collector.visit::<rest::CreateSessionResponse>();
    collector.visit::<rest::SandboxAccess>();
    collector.visit::<rest::PromptRequest>();
    collector.visit::<rest::PromptResponse>();
    collector.visit::<rest::WsTokenResponse>();
    collector.visit::<rest::AttachmentResponse>();
    collector.visit::<rest::SessionList>();
    collector.visit::<rest::ModelList>();
    collector.visit::<rest::AppConfig>();
    collector.visit::<rest::RepositoryList>();
    collector.visit::<forges::BranchList>();
    collector.visit::<diff::DiffState>();
    collector.visit::<identity::CreatePersonalToken>();
    collector.visit::<identity::CreatedPersonalToken>();
    collector.visit::<identity::PersonalTokenList>();
    collector.visit::<identity::PersonList>();
    collector.visit::<identity::ChangePerson>();
    collector.visit::<identity::AuditLog>();
    collector.visit::<inbox::Inbox>();
    collector.visit::<inbox::InboxCategory>();
    collector.visit::<inbox::ReadResult>();
    collector.visit::<settings::ModelPreferences>();
    collector.visit::<settings::ProviderAccount>();
    collector.visit::<settings::ProviderAccountDefault>();
    collector.visit::<settings::DeviceAuthorization>();
    collector.visit::<settings::McpServer>();
    collector.visit::<settings::Skill>();
    collector.visit::<settings::SkillProfile>();
    collector.visit::<settings::KeyboardShortcuts>();
    collector.visit::<environments::EnvironmentList>();
    collector.visit::<image_builds::ImageBuildList>();
    collector.visit::<image_builds::ImageBuildTriggered>();
    collector.visit::<image_builds::ImageBuildUnits>();
    collector.visit::<image_builds::ImageBuildRepositories>();
    collector.visit::<image_builds::ToggleImageBuilds>();
    collector.visit::<environments::EnvironmentAnswer>();
    collector.visit::<environments::RepositoryMetadataAnswer>();
    collector.visit::<secrets::SecretList>();
    collector.visit::<secrets::SecretsChanged>();
    collector.visit::<secrets::SecretRotation>();
    collector.visit::<search::SearchResults>();
    collector.visit::<terminal::TerminalMessage>();
    collector.visit::<terminal::TerminalEvent>();
    let declarations: Vec<String> = collector.declarations.into_values().collect();
    format!(
        "// Generated from the Rust types in `protocol` by `cargo xtask types`. Do not edit.\n\n{}",
        declarations.join("\n")
    )
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let fresh = generate();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--check", path] => match std::fs::read_to_string(path) {
            Ok(current) if current == fresh => Ok(()),
            Ok(_) => Err(format!("{path} differs from the Rust types: run `cargo xtask types`")),
            Err(error) => Err(format!("{path}: {error}")),
        },
        [path] => std::fs::write(path, fresh).map_err(|error| format!("{path}: {error}")),
        _ => Err("usage: generate_types [--check] PATH".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            std::io::Write::write_all(&mut std::io::stderr(), format!("{message}\n").as_bytes()).ok();
            ExitCode::FAILURE
        }
    }
}
