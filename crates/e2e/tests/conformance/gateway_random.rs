//! Random JSON is understood by one program as by the other.

use std::cell::RefCell;

use e2e::{Member, Target, chosen, http, request, run_unlimited};
use fastrand::Rng;
use serde_json::Value;

const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "5.0",
    "1e2",
    "1.5",
    "-0",
    "0.1e1",
    "1e400",
    "99999999999",
    "9223372036854775807",
    "9223372036854775808",
    "\"5\"",
    "\"5.0\"",
    "\"-0\"",
    "\"1e2\"",
    "\" 1\"",
    "\"\\u0031\"",
    "\"\"",
    "\"Zm9v\"",
    "\"Zm8=\"",
    "\"Zm8\"",
    "\"-_8=\"",
    "\"YR==\"",
    "\"YQ==\\n\"",
    "\"Y Q==\"",
    "\"!\"",
    "\"NONE\"",
    "\"ASCEND\"",
    "\"EQUAL\"",
    "\"VERSION\"",
    "[]",
    "{}",
    "[1]",
    "{\"a\":1}",
];
/// Not the orders and targets of a sort: some numbers make etcd crash.
const RANGE: &[&str] =
    &["key", "range_end", "rangeEnd", "limit", "revision", "serializable", "keys_only", "countOnly", "nope", "Key"];
const COMPARE: &[&str] =
    &["result", "target", "key", "version", "create_revision", "createRevision", "value", "lease", "range_end", "nope"];
const OP: &[&str] = &["request_range", "requestRange", "request_put", "request_delete_range", "request_txn", "nope"];
const TXN: &[&str] = &["compare", "success", "failure", "nope"];

struct Generator(RefCell<Rng>);

impl Generator {
    fn below(&self, end: usize) -> usize {
        self.0.borrow_mut().usize(..end)
    }

    fn choose(&self, from: &[&str]) -> String {
        from[self.below(from.len())].to_owned()
    }

    fn value(&self) -> String {
        self.choose(VALUES)
    }

    fn object(&self, names: &[&str], fields_max: usize, value: impl Fn() -> String) -> String {
        let fields = (0..self.below(fields_max + 1)).map(|_| format!("\"{}\": {}", self.choose(names), value()));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
    }

    fn array(&self, value: impl Fn() -> String) -> String {
        format!("[{}]", (0..self.below(3)).map(|_| value()).collect::<Vec<_>>().join(","))
    }

    fn range(&self) -> String {
        self.object(RANGE, 4, || self.value())
    }

    fn op(&self) -> String {
        self.object(OP, 2, || if self.below(4) == 0 { self.value() } else { self.range() })
    }

    fn txn(&self) -> String {
        self.object(TXN, 3, || match self.below(5) {
            0 => self.value(),
            1 | 2 => self.array(|| self.op()),
            _ => self.array(|| self.object(COMPARE, 4, || self.value())),
        })
    }

    /// A path and a body, now and then one that is hardly JSON.
    fn request(&self) -> (&'static str, String) {
        let (path, mut body) = match self.below(2) {
            0 => ("/v3/kv/range", self.range()),
            _ => ("/v3/kv/txn", self.txn()),
        };
        if self.below(6) == 0 {
            let at = self.below(body.len());
            match self.below(3) {
                0 => body.truncate(at),
                1 => body.insert_str(at, &self.choose(&["{", "}", "[", "]", "\"", ",", ":", "x", "1", "\n", "\\"])),
                _ => {
                    body.remove(at);
                }
            }
        }
        (path, body)
    }
}

/// What was made of a request. The words about JSON that is wrong are each program's own.
fn understood(response: &http::Response) -> (u16, Value) {
    let mut body: Value = serde_json::from_str(&response.body).unwrap_or_else(|_| panic!("{response:?}"));
    forget(&mut body);
    if let Some(message) = body["message"].as_str()
        && response.status == 400
        && !message.starts_with("etcdserver: ")
    {
        body["message"] = Value::Null;
    }
    (response.status, body)
}

/// Leaves out what differs from cluster to cluster, and the older form of errors.
fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("header");
            fields.remove("error");
            fields.values_mut().for_each(forget);
        }
        Value::Array(values) => values.iter_mut().for_each(forget),
        _ => {}
    }
}

#[test]
fn random_requests_are_understood_alike() {
    run_unlimited(async {
        let (count, seed): (usize, u64) = (chosen("E2E_JSON_REQUESTS", 1_000)?, chosen("E2E_DIFF_SEED", 1)?);
        let generator = Generator(RefCell::new(Rng::with_seed(seed)));
        let [etcd, quorate] = [Member::start(Target::Etcd).await?, Member::start(Target::Quorate).await?];
        for member in [&etcd, &quorate] {
            member.put(request::put("foo", "bar")).await?;
        }
        let mut accepted = 0;
        for number in 0..count {
            let (path, body) = generator.request();
            let of_etcd = understood(&http::post(etcd.address(), path, &[], body.as_bytes()).await?);
            let of_quorate = understood(&http::post(quorate.address(), path, &[], body.as_bytes()).await?);
            assert_eq!(of_etcd, of_quorate, "seed {seed}, request {number}: {path} {body}");
            accepted += usize::from(of_etcd.0 == 200);
        }
        assert!(accepted > count / 20, "only {accepted} of {count} made sense");
        Ok(())
    });
}
