//! The pages that people look at.

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_pull_requests_page_shows_who_what_and_the_diff() {
    let forge = TestForge::start().await;
    let token = forge.user_token("grace").await;
    forge.open_pull(&token, "one", "Add some notes").await;
    for (path, texts) in [
        ("/", &["acme/sample-service", "acme/handbook"][..]),
        ("/acme", &["acme/sample-service"]),
        ("/acme/sample-service", &["src/greeting.js", "Add some notes", "A small service", "Linus Pauling", "private"]),
        ("/acme/sample-service/tree/one", &["notes.txt", "Add notes"]),
        ("/acme/sample-service/pulls", &["Add some notes"]),
        (
            "/acme/sample-service/pull/1",
            &[
                "Add some notes",
                "<p>Why.</p>",
                "grace",
                "Ada Lovelace",
                ">Open<",
                "notes.txt",
                "<span class=\"add\">+one",
            ],
        ),
    ] {
        let page = forge.page(path).await;
        assert_eq!(page.status, 200, "{path}");
        for text in texts {
            assert!(page.text.contains(text), "{path} lacks {text}: {}", page.text);
        }
    }
    let link = forge.page("/acme/sample-service/pull/1").await.text;
    let commit = link.split("/acme/sample-service/commit/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let page = forge.page(&format!("/acme/sample-service/commit/{commit}")).await;
    assert!(page.text.contains("1815+ada@users.noreply.github.com"));
    let file = forge.page(&format!("/acme/sample-service/blob/{commit}/src/greeting.js")).await;
    assert!(file.text.contains("const GREETING = &quot;Helo&quot;;"));
    for path in
        ["/acme/sample-service/pull/9", "/acme/nothing", "/nobody", "/acme/sample-service/tree/nothing", "/a/b/c/d"]
    {
        assert_eq!(forge.page(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn people_have_pictures() {
    let forge = TestForge::start().await;
    let picture = forge.page("/avatars/1815").await;
    assert_eq!(picture.status, 200);
    assert!(picture.text.starts_with("<svg") && picture.text.contains(">A<"), "{}", picture.text);
    assert_eq!(forge.page("/avatars/1").await.status, 404);
    assert!(forge.page("/avatars/x").await.status >= 400);
}

#[tokio::test]
async fn nothing_that_others_wrote_becomes_markup() {
    let forge = TestForge::start().await;
    let token = forge.installation_token(json!({})).await;
    let attack = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&";
    let checkout = forge.clone_sample(&token).await;
    std::fs::write(checkout.path.join("<b>x.txt"), format!("{attack}\n")).unwrap();
    std::fs::write(checkout.path.join("README.md"), format!("# T\n\n{attack}\n\n[x](javascript:alert(3))\n")).unwrap();
    checkout.git(&["add", "--all"]).await.ok();
    let named =
        checkout.git(&["commit", "-q", "--author", "&lt;i&gt;\"Eve\" <x\"onclick=y@example.com>", "-m", attack]).await;
    named.ok();
    checkout.git(&["push", "-q", "origin", "HEAD:refs/heads/<b>evil", "HEAD:refs/heads/main"]).await.ok();
    let other = checkout.commit("more.txt", "x\n", attack).await;
    checkout.git(&["push", "-q", "origin", "HEAD:refs/heads/<b>evil"]).await.ok();
    let proposal =
        json!({ "title": attack, "body": format!("{attack}\n\n[a](javascript:x)"), "head": "<b>evil", "base": "main" });
    forge.post("/repos/acme/sample-service/pulls", &token, proposal).await.expect(201);
    let repo = "/repos/acme/sample-service";
    forge.post(&format!("{repo}/issues/1/labels"), &token, json!({ "labels": ["<u>label"] })).await.expect(200);
    forge.post(&format!("{repo}/issues/1/comments"), &token, json!({ "body": attack })).await.expect(201);

    let blob = format!("/acme/sample-service/blob/{other}/%3Cb%3Ex.txt");
    let commit = format!("/acme/sample-service/commit/{other}");
    for path in [
        "/acme/sample-service",
        "/acme/sample-service/pull/1",
        "/acme/sample-service/pulls",
        "/acme/sample-service/tree/%3Cb%3Eevil",
        &blob,
        &commit,
        "/login/oauth/authorize?client_id=%3Cscript%3E&state=%22%3E%3Cscript%3E",
    ] {
        let page = forge.page(path).await;
        let text = page.text.to_lowercase();
        assert!(page.status < 500 && text.starts_with("<!doctype html>"), "{path}: {text}");
        for sign in ["<script", "<img", "<b>", "<u>", "<i>", "href=\"javascript", "x\"onclick"] {
            assert!(!text.contains(sign), "{path} holds {sign}: {text}");
        }
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
    }
    let shown = forge.page("/acme/sample-service/pull/1").await.text;
    assert!(shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "it is shown as text");
}
