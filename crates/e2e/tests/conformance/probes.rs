//! /livez and /readyz, and what makes them fail.

use anyhow::Result;
use api::etcdserverpb::{AlarmRequest, AlarmType};
use e2e::{Member, Target, http};

/// The lines of an answer; their order is open.
fn lines(answer: &http::Response) -> Vec<&str> {
    let mut lines: Vec<_> = answer.body.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

async fn a_healthy_member_is_live_and_ready(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for path in ["/livez", "/readyz", "/livez/serializable_read", "/readyz/linearizable_read", "/readyz/non_learner"] {
        let answer = http::get(member.address(), path).await?;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    Ok(())
}

async fn verbose_names_the_checks(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let live = http::get(member.address(), "/livez?verbose").await?;
    assert_eq!(lines(&live), ["[+]serializable_read ok", "ok"]);
    let ready = http::get(member.address(), "/readyz?verbose").await?;
    let all =
        ["[+]data_corruption ok", "[+]linearizable_read ok", "[+]non_learner ok", "[+]serializable_read ok", "ok"];
    assert_eq!(lines(&ready), all);
    assert!(ready.body.ends_with("ok\n"));
    let some = http::get(member.address(), "/readyz?verbose&exclude=linearizable_read&exclude=nonsense").await?;
    assert_eq!(lines(&some), ["[+]data_corruption ok", "[+]non_learner ok", "[+]serializable_read ok", "ok"]);
    let one = http::get(member.address(), "/readyz/data_corruption?verbose").await?;
    assert_eq!(lines(&one), ["[+]data_corruption ok", "ok"]);
    let itself = http::get(member.address(), "/readyz/data_corruption?verb%6fse&exclude=data_corruption").await?;
    assert_eq!(lines(&itself), ["[+]data_corruption ok", "ok"]);
    Ok(())
}

async fn a_corrupt_cluster_is_live_but_not_ready(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.alarm(AlarmRequest { action: 1, member_id: 7, alarm: AlarmType::Corrupt.into() }).await?;
    assert_eq!(http::get(member.address(), "/livez").await?.status, 200);
    let ready = http::get(member.address(), "/readyz").await?;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.header("content-type"), Some("text/plain; charset=utf-8"));
    let expected = [
        "[+]linearizable_read ok",
        "[+]non_learner ok",
        "[+]serializable_read ok",
        "[-]data_corruption failed: alarm activated: CORRUPT",
    ];
    assert_eq!(lines(&ready), expected);
    assert!(ready.body.ends_with("\n\n"), "{:?}", ready.body);
    assert_eq!(http::get(member.address(), "/readyz/data_corruption").await?.status, 503);
    assert_eq!(http::get(member.address(), "/readyz/serializable_read").await?.status, 200);
    assert_eq!(http::get(member.address(), "/readyz?exclude=data_corruption").await?.status, 200);
    Ok(())
}

async fn a_full_member_is_live_and_ready(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.alarm(AlarmRequest { action: 1, member_id: 7, alarm: AlarmType::Nospace.into() }).await?;
    for path in ["/livez", "/readyz"] {
        assert_eq!(http::get(member.address(), path).await?.status, 200, "{path}");
    }
    Ok(())
}

async fn other_checks_are_not_found_and_other_methods_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for path in ["/livez/linearizable_read", "/livez/data_corruption", "/readyz/nonsense", "/livezz"] {
        let answer = http::get(member.address(), path).await?;
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"), "{path}");
    }
    for path in ["/livez", "/readyz"] {
        let answer = http::send(member.address(), "POST", path).await?;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{path}");
    }
    Ok(())
}

e2e::on_both_targets!(
    a_healthy_member_is_live_and_ready,
    verbose_names_the_checks,
    a_corrupt_cluster_is_live_but_not_ready,
    a_full_member_is_live_and_ready,
    other_checks_are_not_found_and_other_methods_refused,
);
