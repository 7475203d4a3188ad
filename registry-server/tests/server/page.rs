//! The page at `/`, in a browser.

use std::sync::Arc;

use farcall_test_browser::Browser;
use farcall_test_support::wait::{PATIENCE, until_async};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Running, command, http};

/// Opens the registry's page, and waits until it receives updates.
async fn open(registry: &Running) -> Browser {
    let browser = Browser::start().await;
    browser.open(&registry.url).await;
    browser.shows("Live").await;
    browser
}

/// Returns the only instance of the service in the registry.
async fn only(registry: &Running, service: &str) -> Value {
    registry.instances(service).await.swap_remove(0)
}

#[tokio::test]
async fn instance_appears_changes_and_disappears_without_reloading() {
    let registry = Running::start(&[]);
    let browser = open(&registry).await;
    browser.shows("No instance is registered yet").await;
    browser.script("window.loadedOnce = true").await;

    let instance = json!({"addr": "tcp@127.0.0.1:7001", "zone": "zone-a", "version": "1.2.3", "metadata": {"rack": "r12"}});
    registry.put("Arith", "node-1", &instance).await;
    for part in ["Arith", "tcp@127.0.0.1:7001", "node-1", "zone-a", "1.2.3", "rack=r12", "up", "100"] {
        browser.shows(part).await;
    }
    // The page requests the age of the last heartbeat separately.
    browser.sees("/^\\d+ (s|min) ago$/.test(document.querySelector('td.seen').innerText.replace('Last heartbeat', '').trim())").await;

    let changed = json!({"addr": "tcp@127.0.0.1:7002", "zone": "zone-b"});
    registry.put("Arith", "node-1", &changed).await;
    browser.shows("tcp@127.0.0.1:7002").await;
    browser.sees("!document.body.innerText.includes('zone-a')").await;

    let path = "/v1/services/Arith/instances/node-1";
    assert_eq!(registry.ask(Method::DELETE, path).send().await.unwrap().status(), 204);
    browser.sees("!document.body.innerText.includes('node-1')").await;
    assert_eq!(browser.script("return window.loadedOnce").await, true);
    assert_eq!(browser.log().await, Vec::<String>::new());
}

#[tokio::test]
async fn one_click_drains_and_another_undrains() {
    let registry = Running::start(&[]);
    registry.register("tcp@127.0.0.1:7001", "Arith").await;
    let browser = open(&registry).await;
    browser.click(".act").await;
    until_async("the instance is draining", async || only(&registry, "Arith").await["state"] == "draining")
        .await;
    browser.sees("document.querySelector('.state').innerText === 'draining'").await;
    browser.sees("document.querySelector('.act').innerText === 'Undrain'").await;
    assert_eq!(registry.addresses("Arith").await, Vec::<String>::new());
    // The Enter key on the focused button has the same effect.
    browser.script("document.querySelector('.act').focus()").await;
    browser.keys(".act", "\u{e007}").await;
    until_async("the instance is up", async || only(&registry, "Arith").await["state"] == "up").await;
    browser.sees("document.querySelector('.act').innerText === 'Drain'").await;
}

#[tokio::test]
async fn weight_override_is_set_and_removed() {
    let registry = Running::start(&[]);
    registry.register("tcp@127.0.0.1:7001", "Arith").await;
    let browser = open(&registry).await;
    browser.click(".set").await;
    browser.keys(".editor input", "7\u{e007}").await;
    until_async("the weight is 7", async || only(&registry, "Arith").await["weight"] == 7).await;
    browser.sees("document.querySelector('.set.overridden').innerText.startsWith('7')").await;

    browser.click(".set").await;
    browser.keys(".editor input", "99999\u{e007}").await;
    browser.shows("A weight is a whole number from 0 to 65535").await;
    browser.click(".editor button").await;
    until_async("the registered weight is back", async || only(&registry, "Arith").await["weight"] == 100)
        .await;
    browser.sees("!document.querySelector('.set.overridden')").await;
}

#[tokio::test]
async fn text_of_instances_is_never_executed() {
    let registry = Running::start(&[]);
    let hostile = "<img src=x onerror=\"window.ran=1\"><script>window.ran=2</script>";
    let id = format!("{hostile}/../?#%2e 'x' \u{1f600}\u{202e}\u{200b}");
    // Characters that are not seen are escaped, and names that differ in them differ.
    let shown = format!("{hostile}/../?#%2e 'x' \u{1f600}\\u{{202e}}\\u{{200b}}");
    let instance = json!({"addr": "tcp@127.0.0.1:7001", "metadata": {hostile: hostile, "__proto__": "p", "constructor": "c"}});
    registry.put("Arith", &id, &instance).await;
    registry.put("__proto__", "constructor", &json!({"addr": "tcp@127.0.0.1:7002"})).await;
    let browser = open(&registry).await;
    browser
        .sees(&format!(
            "[...document.querySelectorAll('.id')].some((e) => e.textContent === {})",
            json!(shown)
        ))
        .await;
    browser.click(".more").await;
    browser
        .sees(&format!(
            "[...document.querySelectorAll('.pair')].some((e) => e.textContent === {})",
            json!(format!("{hostile}={hostile}"))
        ))
        .await;
    browser.shows("__proto__=p").await;
    browser.sees("[...document.querySelectorAll('.name')].some((e) => e.textContent === '__proto__')").await;
    assert_eq!(
        browser.script("return document.querySelectorAll('img, script').length").await,
        1,
        "the page has one script"
    );
    assert_eq!(browser.script("return window.ran ?? null").await, Value::Null);
    // The instance can be drained like any other.
    browser.click("[data-service=Arith] .act").await;
    until_async("the instance is draining", async || only(&registry, "Arith").await["state"] == "draining")
        .await;
    assert_eq!(browser.log().await, Vec::<String>::new());
}

#[tokio::test]
async fn content_policy_refuses_injected_scripts_and_html() {
    let registry = Running::start(&[]);
    let answer = registry.get("/").send().await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let browser = open(&registry).await;
    let injected = "const s = document.createElement('script'); \
                   try { s.textContent = 'window.ran = 1'; document.body.append(s); } catch (error) {} \
                   try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.ran=2>'); } catch (error) {} \
                   return [window.ran ?? null, document.querySelectorAll('img').length]";
    assert_eq!(browser.script(injected).await, json!([null, 0]));
}

#[tokio::test]
async fn token_is_requested_and_kept_for_the_session() {
    let mut command = command(&["--listen", "127.0.0.1:0"]);
    let registry = Running::spawn(
        command.env("REGISTRY_READ_TOKEN", "token-r-one").env("REGISTRY_WRITE_TOKEN", "token-w-one"),
    );
    let register = registry.ask(Method::POST, "/registry").header("x-farcall-server", "tcp@127.0.0.1:7001");
    assert_eq!(register.bearer_auth("token-w-one").send().await.unwrap().status(), 200);

    let browser = Browser::start().await;
    browser.open(&registry.url).await;
    let enter = async |token: &str| {
        browser.sees("document.getElementById('token-dialog').open").await;
        browser.keys("#token-input", &format!("{token}\u{e007}")).await;
    };
    enter("wrong").await;
    browser.shows("does not accept this token").await;
    enter("token-r-one").await;
    browser.shows("tcp@127.0.0.1:7001").await;
    browser.sees("!document.getElementById('token-dialog').open").await;

    browser.reload().await;
    browser.shows("tcp@127.0.0.1:7001").await;
    assert_eq!(browser.script("return document.getElementById('token-dialog').open").await, false);

    browser.click(".act").await;
    browser.shows("This change requires a token that may write").await;
    enter("token-w-one").await;
    browser.sees("document.querySelector('.state')?.innerText === 'draining'").await;
    browser.shows("Live").await;
    assert!(!browser.script("return location.href").await.as_str().unwrap().contains("one"));
}

#[tokio::test]
async fn page_fits_a_phone() {
    let registry = Running::start(&[]);
    let long = "x".repeat(128);
    let instance = json!({
        "addr": format!("tcp@{}.example:7001", "host".repeat(15)), "zone": long, "version": long,
        "metadata": {"a-key": "v".repeat(900), "k2": "v", "k3": "v"},
    });
    registry.put(&long, &"i".repeat(200), &instance).await;
    registry.register("tcp@127.0.0.1:7001", "Arith").await;
    let browser = Browser::start().await;
    for (width, mobile) in [(320, true), (390, true), (800, false), (1000, false), (1400, false)] {
        browser.screen(width, 800, mobile).await;
        browser.open(&registry.url).await;
        browser.shows("tcp@127.0.0.1:7001").await;
        browser.click(".more").await;
        // On a desktop, the vertical scroll bar takes some of the window's width.
        let root = browser
            .script("const r = document.documentElement; return [r.scrollWidth - r.clientWidth, innerWidth]")
            .await;
        assert_eq!(root, json!([0, width]), "the page scrolls horizontally");
        // All controls are inside the window.
        let outside = "return [...document.querySelectorAll('button, input')].filter((e) => e.offsetParent && \
                       (e.getBoundingClientRect().right > innerWidth || e.getBoundingClientRect().left < 0)).length";
        assert_eq!(browser.script(outside).await, 0);
    }
}

#[tokio::test]
async fn page_follows_the_dark_color_scheme() {
    let registry = Running::start(&[]);
    let browser = open(&registry).await;
    let light = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part > 200)";
    browser.scheme("light").await;
    browser.sees(light).await;
    browser.scheme("dark").await;
    browser.sees(&light.replace("> 200", "< 60")).await;
    browser.sees("getComputedStyle(document.body).color.match(/\\d+/g).every((part) => part > 200)").await;
}

#[tokio::test]
async fn page_shows_an_unreachable_registry_and_recovers() {
    let mut registry = Running::start_restartable(&[]);
    registry.register("tcp@127.0.0.1:7001", "Arith").await;
    let browser = open(&registry).await;
    browser.shows("tcp@127.0.0.1:7001").await;
    registry.signal(Signal::KILL);
    registry.wait_for_exit(PATIENCE);
    browser.shows("Reconnecting for").await;
    // The last known instances stay visible.
    browser.shows("tcp@127.0.0.1:7001").await;

    let registry = Running::start_again(&registry.url, &[]);
    registry.register("tcp@127.0.0.1:7002", "Text").await;
    browser.shows("Live").await;
    browser.shows("tcp@127.0.0.1:7002").await;
    browser.sees("!document.body.innerText.includes('tcp@127.0.0.1:7001')").await;
    // The registry has started without a snapshot.
    browser.shows("The registry is warming").await;
}

#[tokio::test]
async fn ten_thousand_instances_are_rendered_in_parts() {
    let registry = Arc::new(Running::start(&[]));
    let client = http();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16_u32 {
        let (registry, client) = (Arc::clone(&registry), client.clone());
        tasks.spawn(async move {
            for index in (task..10_000).step_by(16) {
                // One service has half of the instances.
                let service =
                    if index % 2 == 0 { "big".to_owned() } else { format!("service-{:03}", index % 499) };
                let address = format!("tcp@10.{}.{}.1:7001", index / 250, index % 250);
                let request =
                    client.post(format!("{}/registry", registry.url)).header("x-farcall-server", address);
                let answer = request.header("x-farcall-service", service).send().await.unwrap();
                assert_eq!(answer.status(), 200);
            }
        });
    }
    tasks.join_all().await;
    let browser = open(&registry).await;
    browser.shows("10,000").await;
    assert_eq!(
        browser.script("return document.querySelectorAll('tbody tr').length").await,
        0,
        "all services are collapsed"
    );

    browser.click("[data-service=big] .head").await;
    browser.sees("document.querySelectorAll('tbody tr').length === 100").await;
    browser.click("[data-service=big] .rest").await;
    browser.sees("document.querySelectorAll('tbody tr').length === 200").await;

    browser.keys("#search", "tcp@10.17.77.1:7001").await;
    browser.sees("document.querySelectorAll('tbody tr').length === 1").await;
    browser.shows("tcp@10.17.77.1:7001").await;
    browser.keys("#search", " nowhere").await;
    browser.shows("Nothing here matches the filter").await;
}
