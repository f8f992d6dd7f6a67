//! What an agent might try against its machine. Each attack is made twice: in a sandbox without isolation, which shows
//! that it would work, and in one with bubblewrap.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use reqwest::{Method, StatusCode};
use sandbox_bridge::host::connect_into::{Inside, connect_into};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::host::{Host, SECRET, isolations, supervisor};
use crate::support::forge::Forge;
use crate::support::inmate::{self, Inmate};
use crate::support::sandbox::config;
use crate::support::session::Session;

/// A sandbox without isolation and one with it; nothing where bubblewrap does not work.
async fn both() -> Option<[(Host, Inmate); 2]> {
    if !isolations().contains(&"bwrap") {
        return None;
    }
    let (open, closed) = (inmate::host("none", &[]).await, inmate::host("bwrap", &[]).await);
    let (loose, kept) = (Inmate::start(&open).await, Inmate::start(&closed).await);
    Some([(open, loose), (closed, kept)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_other_sandboxes_and_of_the_host_cannot_be_reached() {
    let Some(both) = both().await else { return };
    for (isolated, (host, inmate)) in [false, true].into_iter().zip(&both) {
        let other = Inmate::start(host).await;
        other.sh("echo precious work > mine").await;
        let files = [
            host.sandbox_folder(&other.config.sandbox_id).join("workspace/mine"),
            host.sandbox_folder(&other.config.sandbox_id).join("record.json"),
        ];
        for file in files {
            assert!(file.exists(), "the target is there");
            let seen = inmate.sh(&format!("cat {}", file.display())).await;
            assert_eq!(seen.contains("No such file"), isolated, "{}: {seen}", file.display());
            // Through a link, and as another name of the same file.
            let linked =
                inmate.sh(&format!("ln -s {0} l; cat l; rm l; ln {0} h && echo linked; rm -f h", file.display())).await;
            assert_eq!(linked.contains("linked"), !isolated, "{linked}");
        }
        let written = inmate.sh(&format!("touch {}/planted && echo wrote", host.state().display())).await;
        assert_eq!(written == "wrote", !isolated, "{written}");
        let hard = inmate.sh("ln /usr/bin/env own-name && echo linked; rm -f own-name").await;
        assert!(!isolated || hard != "linked", "a file of the system gets no other name: {hard}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hosts_secret_and_processes_cannot_be_reached() {
    let Some(both) = both().await else { return };
    for (isolated, (host, inmate)) in [false, true].into_iter().zip(&both) {
        let look = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'";
        let seen = inmate.sh(look).await;
        assert_eq!(seen.contains(SECRET), !isolated, "the host's environment");
        // Memory: the mappings of a process are what a reader of it needs first.
        let maps = inmate.sh(&format!("grep -c sandbox-bridge /proc/{}/maps", host.pid())).await;
        assert_eq!(maps.parse::<u32>().is_ok(), !isolated, "{maps}");
        let mut victim = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("runs");
        inmate.sh(&format!("kill -9 {}", victim.id())).await;
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(victim.try_wait().expect("asked").is_none(), isolated, "a process of the host's was killed");
        drop(victim.kill());
        drop(victim.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_cannot_be_traced() {
    let Some(both) = both().await else { return };
    let number = if cfg!(target_arch = "x86_64") { 101 } else { 117 };
    for (isolated, (_host, inmate)) in [false, true].into_iter().zip(&both) {
        inmate.sh("true").await;
        let outside = supervisor(&inmate.config.sandbox_id).expect("runs");
        let pid = if isolated {
            inmate
                .sh("for p in /proc/[0-9]*; do if grep -qa supervise $p/cmdline; then basename $p; fi; done | tail -1")
                .await
        } else {
            outside.to_string()
        };
        let traced = inmate.sh(&format!("perl -e 'print syscall({number}, 16, {pid}, 0, 0) == 0 ? 1 : 0'")).await;
        let may = !isolated && rustix::process::geteuid().is_root();
        assert_eq!(traced, if may { "1" } else { "0" }, "isolated {isolated}, process {pid}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_of_the_hosts_loopback_cannot_be_reached_but_the_control_plane_can() {
    let Some(both) = both().await else { return };
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            use std::io::{Read as _, Write as _};
            let mut stream = stream;
            drop(stream.read(&mut [0; 1024]));
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\ninternal"));
        }
    });
    let own = UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()));
    let mut hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned(), "127.0.0.2".to_owned()];
    hosts.extend(own.ok().map(|address| address.ip().to_string()));
    for (isolated, (_host, inmate)) in [false, true].into_iter().zip(&both) {
        for name in &hosts {
            for way in [
                "",
                "--noproxy '*'",
                "--proxy http://127.0.0.1:3128 --noproxy ''",
                "--proxytunnel --proxy http://127.0.0.1:3128 --noproxy ''",
            ] {
                if !isolated && way.contains("3128") {
                    continue;
                }
                let got = inmate.sh(&format!("curl -s -m 5 {way} http://{name}:{port}/")).await;
                assert_eq!(got.contains("internal"), !isolated, "{name} {way}: {got}");
            }
        }
        let url = &inmate.config.control_plane_url;
        let status = inmate.sh(&format!("curl -s -m 5 -o /dev/null -w '%{{http_code}}' {url}/nowhere")).await;
        assert_eq!(status, "404", "the control plane answers");
    }
    let [_, (_host, kept)] = &both;
    for metadata in ["http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://10.0.0.1/"] {
        let status = kept.sh(&format!("curl -s -m 5 -o /dev/null -w '%{{http_code}}' '{metadata}'")).await;
        assert_eq!(status, "403", "{metadata} is refused by the proxy");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abstract_sockets_of_the_host_cannot_be_reached() {
    let Some(both) = both().await else { return };
    let name = format!("oi-escape-{}", sandbox_bridge::random::hex::<6>());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("bound");
    for (isolated, (_host, inmate)) in [false, true].into_iter().zip(&both) {
        // The address is exactly the name: what pads it would be part of it.
        let script = format!(
            "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); print connect(S, pack(\"S a*\", AF_UNIX, \"\\0{name}\")) ? 1 : 0'"
        );
        assert_eq!(inmate.sh(&script).await, if isolated { "0" } else { "1" });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_system_cannot_be_written_to() {
    let Some(both) = both().await else { return };
    let root = rustix::process::geteuid().is_root();
    for (isolated, (_host, inmate)) in [false, true].into_iter().zip(&both) {
        // The same value again, so that nothing changes where it works.
        let settings = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/swappiness"];
        for setting in settings {
            let wrote = inmate.sh(&format!("v=$(cat {setting}); (echo \"$v\" > {setting}) && echo wrote")).await;
            assert_eq!(wrote.contains("wrote"), root && !isolated, "{setting}: {wrote}");
        }
        if !isolated {
            continue;
        }
        for place in ["/", "/usr", "/bin", "/etc", "/dev", "/proc", "/opt/open-inspect", "/run", "/run/oi-net", "/home"]
        {
            let wrote = inmate.sh(&format!("touch {place}/planted && echo wrote")).await;
            assert!(!wrote.contains("wrote"), "{place}: {wrote}");
        }
        for place in ["/workspace", "/tmp", "/home/agent", "/dev/shm"] {
            let wrote = inmate.sh(&format!("touch {place}/own && echo wrote")).await;
            assert_eq!(wrote, "wrote", "{place}");
        }
        let program = inmate.sh("echo x > /opt/open-inspect/sandbox-bridge && echo wrote").await;
        assert!(!program.contains("wrote"), "{program}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_devices_no_other_users_rights_and_no_namespaces_can_be_made() {
    let Some(both) = both().await else { return };
    let root = rustix::process::geteuid().is_root();
    for (isolated, (_host, inmate)) in [false, true].into_iter().zip(&both) {
        let device = inmate.sh("mknod disk b 254 0 && echo made; rm -f disk").await;
        assert_eq!(device.contains("made"), root && !isolated, "{device}");
        let mounted = inmate.sh("mkdir -p m; mount -t tmpfs none m && echo mounted && umount m").await;
        assert_eq!(mounted.contains("mounted"), root && !isolated, "{mounted}");
        let traits = inmate.sh("grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status").await;
        if isolated {
            assert!(traits.contains("NoNewPrivs:\t1") && traits.contains("CapEff:\t0000000000000000"), "{traits}");
            let again = inmate.sh("unshare -U -r true && echo unshared").await;
            assert!(!again.contains("unshared"), "{again}");
        }
        // Of no terminal, so that nothing can be typed into the host's.
        let terminal = inmate.sh("cut -d' ' -f7 /proc/self/stat; (: < /dev/tty) && echo opened").await;
        assert!(terminal.starts_with('0') && !terminal.contains("opened"), "{terminal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_follows_no_link_when_it_keeps_or_deletes_a_sandboxs_files() {
    for isolation in isolations() {
        let outside = tempfile::tempdir().expect("a folder");
        std::fs::write(outside.path().join("key"), "the host's key").expect("written");
        let host = inmate::host(isolation, &[]).await;
        let inmate = Inmate::start(&host).await;
        let id = &inmate.config.sandbox_id;
        let target = outside.path().display();
        inmate
            .sh(&format!("ln -s {target} folder; ln -s {target}/key file; mkdir d; ln -s {target} d/in; mkfifo pipe"))
            .await;
        let (status, image) =
            host.call(Method::POST, &format!("/v1/sandboxes/{id}/snapshots"), Some(json!({"label": "l"}))).await;
        assert_eq!(status, StatusCode::CREATED, "{image}");
        let kept: PathBuf =
            host.state().join("snapshots").join(image["imageId"].as_str().expect("an id")).join("workspace");
        for name in ["folder", "file", "d/in"] {
            assert!(kept.join(name).exists(), "the link leads somewhere");
            assert!(std::fs::symlink_metadata(kept.join(name)).expect("there").is_symlink(), "{name} is a link still");
        }
        assert!(!kept.join("pipe").exists());
        host.call(Method::DELETE, &format!("/v1/sandboxes/{id}?fate=discarded"), None).await;
        assert!(!host.sandbox_folder(id).exists());
        let image = image["imageId"].as_str().expect("an id").to_owned();
        host.call(Method::DELETE, &format!("/v1/snapshots/{image}"), None).await;
        assert!(!kept.exists());
        assert_eq!(std::fs::read_to_string(outside.path().join("key")).expect("there"), "the host's key");
    }
}

#[tokio::test]
async fn no_name_leaves_the_hosts_folders() {
    let host = inmate::host("none", &[]).await;
    let precious = host.state().join("precious");
    std::fs::write(&precious, "x").expect("written");
    for name in ["..", "%2e%2e", "..%2Fprecious", "%2e%2e%2fprecious", ".gone-x", "%00"] {
        for (method, path, body) in [
            (Method::DELETE, format!("/v1/sandboxes/{name}?fate=discarded"), None),
            (Method::DELETE, format!("/v1/snapshots/{name}"), None),
            (Method::DELETE, format!("/v1/builds/{name}"), None),
            (Method::POST, format!("/v1/sandboxes/{name}/snapshots"), Some(json!({"label": "l"}))),
        ] {
            let (status, answer) = host.call(method.clone(), &path, body).await;
            assert!(matches!(status.as_u16(), 400 | 404 | 405), "{method} {path}: {status} {answer}");
        }
    }
    assert!(precious.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_of_its_own_network_checks_out_and_is_reached_at_its_ports() {
    if !isolations().contains(&"bwrap") {
        return;
    }
    let (session, forge) = (Session::start().await, Forge::start().await);
    let host = inmate::host("bwrap", &["--network", "restricted"]).await;
    let config = config(&session, Some(&forge), "http://127.0.0.1:9/v1");
    let inmate = Inmate::of(&host, session, config).await;
    let cloned = |frame: &serde_json::Value| frame["type"] == "git_sync" && frame["status"] == "completed";
    inmate.session.frame("the checkout", cloned).await;
    assert_eq!(inmate.sh("git -C api fetch origin 2>&1 && cat api/a.txt").await, "one\ntwo");
    inmate
        .begin(
            "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1:7070\"); \
             open F, \">up\"; close F; $c = $s->accept; $l = <$c>; print $c \"you said $l\"; close $c'",
        )
        .await;
    let folder = host.sandbox_folder(&inmate.config.sandbox_id);
    let up = folder.join("workspace/up");
    crate::support::eventually("its port", std::time::Duration::from_secs(10), || up.exists().then_some(())).await;
    let inside = Inside::Enclosed(folder.join("run"));
    assert!(connect_into(&inside, 7071).await.is_err(), "nothing listens there");
    let mut stream = connect_into(&inside, 7070).await.expect("connected");
    stream.write_all(b"hello\n").await.expect("written");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("read");
    assert_eq!(said, "you said hello\n");
    let shared = TcpListener::bind("127.0.0.1:7070");
    assert!(shared.is_ok(), "its port is none of the host's");
}

/// Carries connections from an address that is not the loopback to a server that is on it, and gives its own.
async fn elsewhere(server: String) -> Option<String> {
    // Nothing is sent: it only says by which address this machine would.
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let ip = own.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())?;
    let listener = tokio::net::TcpListener::bind((ip, 0)).await.ok()?;
    let address = listener.local_addr().ok()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut outer, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let mut inner = tokio::net::TcpStream::connect(server).await.expect("connected");
                drop(tokio::io::copy_bidirectional(&mut outer, &mut inner).await);
            });
        }
    });
    Some(address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_elsewhere_are_reached_through_the_proxy_by_everything_that_a_sandbox_runs() {
    if !isolations().contains(&"bwrap") {
        return;
    }
    let (session, forge) = (Session::start().await, Forge::start().await);
    let control_plane = elsewhere(session.url.trim_start_matches("http://").to_owned()).await;
    let Some(control_plane) = control_plane else { return };
    let host = inmate::host("bwrap", &["--network", "none"]).await;
    let mut config = config(&session, Some(&forge), "http://127.0.0.1:9/v1");
    config.control_plane_url = format!("http://{control_plane}");
    let inmate = Inmate::of(&host, session, config).await;
    // The bridge's socket, and the credential that the supervisor asks for when git needs one.
    inmate.session.connected(1).await;
    let cloned = |frame: &serde_json::Value| frame["type"] == "git_sync" && frame["status"] == "completed";
    inmate.session.frame("the checkout", cloned).await;
    let pushed = inmate
        .sh("cd api; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git push -q origin HEAD:more")
        .await;
    assert_eq!(pushed, "");
    assert!(forge.git("branch --list more").contains("more"));
    let path = format!("http://{control_plane}/sandbox/x/error");
    for way in ["", "--proxytunnel"] {
        let call = format!(
            "curl -s {way} -X POST -H 'authorization: Bearer {}' -H 'content-type: application/json' -d '{{\"error\":\"e\"}}' {path}",
            inmate.config.auth_token
        );
        assert_eq!(inmate.sh(&call).await, "{}", "{way}");
    }
    assert_eq!(inmate.session.taken().boot_errors.len(), 2);
    let refused = inmate.sh("curl -s -o /dev/null -w '%{http_code}' http://1.1.1.1/").await;
    assert_eq!(refused, "403", "nothing else is reached");
}
