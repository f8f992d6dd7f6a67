use super::*;

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const WHOLE: [(&str, &str); 4] = [
    ("SANDBOX_ID", "x"),
    ("CONTROL_PLANE_URL", "https://cp"),
    ("SANDBOX_AUTH_TOKEN", "t"),
    ("SESSION_CONFIG", r#"{"session_id":"s"}"#),
];

fn whole_and(more: &[(&str, &str)]) -> Result<CreateSandboxRequest, EnvContractError> {
    read(&variables(&[&WHOLE, more].concat()))
}

#[test]
fn the_contract_of_open_inspect_is_understood() {
    let config = read(&variables(&[
        ("SANDBOX_ID", "sandbox-1"),
        ("CONTROL_PLANE_URL", "https://cp.example"),
        ("SANDBOX_AUTH_TOKEN", "t"),
        ("SESSION_CONFIG", r#"{"session_id":"s","branch":"dev","provider":"openai","model":"gpt-5.5","extra":1}"#),
        ("REPO_OWNER", "acme"),
        ("REPO_NAME", "api"),
        ("OPENAI_API_KEY", "sk"),
        ("MY_SECRET", "v"),
    ]))
    .expect("a whole configuration");
    assert_eq!((config.session_id.as_str(), config.model.as_str()), ("s", "openai/gpt-5.5"));
    assert_eq!(config.repositories[0].clone_url, "https://github.com/acme/api.git");
    assert_eq!(config.repositories[0].branch, "dev");
    assert_eq!(config.env, variables(&[("MY_SECRET", "v")]));
    assert_eq!(config.model_providers.len(), 1);
    assert_eq!(config.boot, BootFrom::Fresh);
    assert!(config.skills_manifest_sha256.is_some(), "the session is asked");
}

#[test]
fn what_is_missing_is_named() {
    assert!(read(&variables(&WHOLE)).is_ok());
    for missing in 0..WHOLE.len() {
        let mut some = WHOLE.to_vec();
        let (name, _) = some.remove(missing);
        let error = read(&variables(&some)).expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
    let mut odd = WHOLE.to_vec();
    odd[3].1 = "[1]";
    assert!(read(&variables(&odd)).is_err());
}

#[test]
fn the_first_mode_that_is_said_counts() {
    let modes = [
        ("IMAGE_BUILD_MODE", "build"),
        ("RESTORED_FROM_SNAPSHOT", "snapshot_restore"),
        ("FROM_REPO_IMAGE", "repo_image"),
    ];
    // Every set of them: bits of a number.
    for set in 0..8_usize {
        let said: Vec<_> =
            modes.iter().enumerate().filter(|(n, _)| set & (1 << n) != 0).map(|(_, mode)| *mode).collect();
        let pairs: Vec<_> = said.iter().map(|(name, _)| (*name, "true")).collect();
        let expected = said.first().map_or("fresh", |(_, mode)| *mode);
        assert_eq!(whole_and(&pairs).expect("whole").boot.name(), expected, "{pairs:?}");
    }
    for (name, _) in modes {
        for value in ["", "1", "TRUE", "false"] {
            assert_eq!(whole_and(&[(name, value)]).expect("whole").boot, BootFrom::Fresh, "{name}={value}");
        }
    }
    let image = whole_and(&[("FROM_REPO_IMAGE", "true"), ("REPO_IMAGE_SHA", "abc")]).expect("whole").boot;
    assert_eq!(image, BootFrom::RepoImage { image_id: None, sha: Some("abc".to_owned()) });
}

#[test]
fn services_accounts_servers_and_models_are_told_and_are_nobodys_variables() {
    let session = r#"{"session_id":"s","working_branch_name":"open-inspect/x","repositories":[
        {"repo_owner":"acme","repo_name":"api","branch":"main"},{"repo_owner":"","repo_name":"skipped"},
        {"repo_owner":"acme","repo_name":"web","branch":null,"base_sha":"abc"}],"mcp_servers":[
        {"id":"1","name":"docs","type":"remote","url":"https://d","headers":{"A":"b"},"enabled":true,"repoScopes":null},
        {"id":"2","name":"off","type":"local","command":["x"],"enabled":false},
        {"id":"3","name":"","type":"local","command":["x"]},
        {"id":"4","name":"own","type":"local","command":["npx","own"],"env":{"K":"v"},"headers":null}]}"#;
    let providers = r#"[{"id":"own","name":"Own","npm":"x","baseUrl":"https://m","apiKey":"k","models":[]}]"#;
    let told = [
        ("SESSION_CONFIG", session),
        ("EXPECTED_TUNNEL_PORTS", "3000, x,8080,,70000"),
        ("CODE_SERVER_PASSWORD", "p1"),
        ("CODE_SERVER_PORT", "8443"),
        ("TERMINAL_ENABLED", "1"),
        ("VNC_PASSWORD", "p2"),
        ("NOVNC_PORT", "odd"),
        ("AGENT_SLACK_NOTIFY_ENABLED", "True"),
        ("OPENAI_OAUTH_MANAGED", "1"),
        ("XAI_OAUTH_MANAGED", ""),
        ("OI_MODEL_PROVIDERS", providers),
        ("ANTHROPIC_API_KEY", "a"),
        ("VCS_CLONE_TOKEN", "theirs"),
        ("MODAL_SANDBOX_ID", "m"),
        ("SETUP_TIMEOUT_SECONDS", "7"),
    ];
    let config = read(&variables(&[&WHOLE[..3], &told].concat())).expect("whole");
    assert_eq!(config.services.tunnel_ports, [3000, 8080]);
    assert_eq!((config.services.code_server_port, config.services.vnc_port), (Some(8443), None));
    assert_eq!(config.services.code_server_password.as_deref(), Some("p1"));
    assert_eq!(config.services.vnc_password.as_deref(), Some("p2"));
    assert!(config.services.terminal && config.slack_notify);
    assert_eq!(config.working_branch_name.as_deref(), Some("open-inspect/x"));
    assert_eq!(config.provider_accounts, ["openai"]);
    let names: Vec<&str> = config.mcp_servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["docs", "own"]);
    assert_eq!((config.mcp_servers[0].headers["A"].as_str(), config.mcp_servers[1].env["K"].as_str()), ("b", "v"));
    let ids: Vec<&str> = config.model_providers.iter().map(|provider| provider.id.as_str()).collect();
    assert_eq!(ids, ["anthropic", "own"]);
    let repositories: Vec<_> = config.repositories.iter().map(|r| (r.position, r.repo_name.as_str())).collect();
    assert_eq!(repositories, [(0, "api"), (1, "web")]);
    assert_eq!(config.repositories[1].branch, "main");
    // What scripts may want to change stays the users' own.
    assert_eq!(config.env, variables(&[("SETUP_TIMEOUT_SECONDS", "7")]));
    assert!(whole_and(&[("OI_MODEL_PROVIDERS", "{}")]).is_err());
}

#[test]
fn no_variable_of_the_contract_is_the_users() {
    let all: Vec<(&str, &str)> = CONTRACT.iter().map(|name| (*name, "x")).collect();
    let mut variables = variables(&all);
    variables.insert("OI_ANYTHING".to_owned(), "x".to_owned());
    assert!(users(&variables).is_empty());
}

#[test]
fn a_build_has_all_of_its_callbacks_or_none() {
    let build = |more: &[(&str, &str)]| {
        let mode = [("IMAGE_BUILD_MODE", "true"), ("VCS_CLONE_TOKEN", "c"), ("VCS_CLONE_USERNAME", "u")];
        match read(&variables(&[&mode, more].concat())).map(|config| config.boot) {
            Ok(BootFrom::Build(build)) => Ok(build),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    let bare = build(&[]).expect("without callbacks");
    assert_eq!((bare.callback_url.as_str(), bare.clone_token.as_deref()), ("", Some("c")));
    assert_eq!((bare.clone_username.as_deref(), bare.execution_timeout_seconds), (Some("u"), None));
    let whole = [
        ("OI_REPO_IMAGE_BUILD_ID", "b"),
        ("OI_REPO_IMAGE_CALLBACK_URL", "https://cp/ok"),
        ("OI_REPO_IMAGE_FAILURE_CALLBACK_URL", "https://cp/no"),
        ("OI_REPO_IMAGE_CALLBACK_TOKEN", "t"),
        ("OI_REPO_IMAGE_PROVIDER_SESSION_ID", "p"),
    ];
    let told = build(&whole).expect("whole");
    assert_eq!((told.build_id.as_str(), told.provider_session_id.as_str()), ("b", "p"));
    for missing in 0..whole.len() {
        let mut some = whole.to_vec();
        let (name, _) = some.remove(missing);
        assert!(build(&some).err().expect(name).to_string().contains(name));
        some.push((name, ""));
        assert!(build(&some).is_err(), "an empty {name}");
    }
    assert!(build(&[("OI_REPO_IMAGE_BUILD_ID", "")]).is_err(), "even an empty one asks for all");
    for bad in ["", "0", "-1", "1.5", "soon"] {
        assert!(build(&[("OI_IMAGE_BUILD_EXECUTION_TIMEOUT_SECONDS", bad)]).is_err(), "{bad}");
    }
    let limited = build(&[("OI_IMAGE_BUILD_EXECUTION_TIMEOUT_SECONDS", "60")]).expect("whole");
    assert_eq!(limited.execution_timeout_seconds, Some(60));
}
