//! `docs/api.md` says of every method what the server does with it.

use std::collections::BTreeMap;

use grpc::NOT_YET;

const PAGE: &str = include_str!("../../../docs/api.md");

const PROTOS: [&str; 4] = [
    include_str!("../../api/proto/rpc.proto"),
    include_str!("../../api/proto/v3lockpb.proto"),
    include_str!("../../api/proto/v3electionpb.proto"),
    include_str!("../../api/proto/health.proto"),
];

/// Of every path whether it works. That the server serves every method it does not list as missing is tested with its
/// routes.
type Methods = BTreeMap<String, bool>;

fn served() -> Methods {
    let mut methods = Methods::new();
    for proto in PROTOS {
        let package = proto.lines().find_map(|line| line.strip_prefix("package ")).expect("a package");
        let mut service = "";
        for line in proto.lines() {
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.trim_end_matches([' ', '{']);
            }
            if let Some((name, _)) = line.trim().strip_prefix("rpc ").and_then(|rest| rest.split_once('(')) {
                let path = format!("/{}.{service}/{name}", package.trim_end_matches(';'));
                let works = NOT_YET.iter().all(|(missing, _)| *missing != path);
                methods.insert(path, works);
            }
        }
    }
    methods
}

/// The rows of the page: a heading names the service, a row has the method and `works` or `not yet`.
fn documented() -> Methods {
    let mut methods = Methods::new();
    let mut service = "";
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            service = heading;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &["", name, status @ ("works" | "not yet"), ..] = &cells[..] else { continue };
        let before = methods.insert(format!("/{service}/{}", name.trim_matches('`')), status == "works");
        assert_eq!(before, None, "{name} stands there twice");
    }
    methods
}

#[test]
fn every_method_is_documented_as_it_is_served() {
    assert_eq!(documented(), served());
}
