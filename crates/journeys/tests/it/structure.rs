//! Checks ARCHITECTURE against the code: dependencies between crates, owners of tables, and the files of operations.

use contracts::{SERVICES, SplitGroup, split_groups};
use kit::metrics_help::METRICS;
use onrush::{documents, mall};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Features of this version. Each is named by a test: `// B4` above it, or `fn b4_…`.
const FEATURES: &[&str] = &[
    "A1", "A2", "A3", "A4", "A5", "A8", "A10", "A11", "A13", "A14", "P1", "P2", "P5", "P9", "P10", "P13", "S1", "S2", "S3", "S4", "S6",
    "S9", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "C13", "C15", "C16", "C17", "C18", "C19", "C20", "C21", "C23",
    "C24", "C25", "B1", "B3", "B4", "B5", "K1", "K2", "K4", "O1", "O2", "O5", "O6", "O7", "O8", "O10", "D1", "G1", "G2", "G3", "G4", "G5",
    "G6", "Y1", "Y2", "Y4", "H1", "X1", "X2", "Z1", "Z2", "E2", "E3", "I3", "I6", "I7", "I8", "I9", "J2",
];

pub fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files in a folder and below, with this extension.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The machinery, in levels from bottom to top. A crate depends only on crates of lower levels.
const MACHINERY: &[&[&str]] =
    &[&["contracts"], &["runtime"], &["db", "kafka", "cache"], &["engine"], &["web"], &["auth"], &["peers"], &["kit"], &["testkit"]];

/// All crates of the workspace, as cargo describes them.
fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(crates().join(".."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo answers JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// Dependencies of a crate, without dev-dependencies.
fn built_with(package: &Value) -> impl Iterator<Item = &Value> {
    package["dependencies"].as_array().expect("dependencies").iter().filter(|dependency| dependency["kind"].is_null())
}

fn name(of: &Value) -> &str {
    of["name"].as_str().expect("a name")
}

/// Workspace dependencies of each crate, without dev-dependencies.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let packages = packages();
    let names: BTreeSet<&str> = packages.iter().map(name).collect();
    let ours = |package| built_with(package).map(name).filter(|name| names.contains(name)).map(str::to_owned).collect();
    packages.iter().map(|package| (name(package).to_owned(), ours(package))).collect()
}

#[test]
fn dependencies_point_one_way() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let mut found = dependencies();
    let mut below = set(&[]);
    for level in MACHINERY {
        for name in *level {
            let used = found.remove(*name).unwrap_or_else(|| panic!("there is no crate {name}"));
            assert!(used.is_subset(&below), "{name} may use only {below:?}, but uses {used:?}");
        }
        below.extend(set(level));
    }
    assert_eq!(found.remove("rush"), Some(set(&["contracts"])), "rush knows the server by its API only");
    for service in SERVICES {
        assert_eq!(found.remove(*service), Some(set(&["contracts", "kit"])), "{service} knows no other service, and only kit's door");
    }
    let mut all = set(SERVICES);
    all.extend(set(&["contracts", "kit", "rush"]));
    let onrush = found.remove("onrush").expect("the binary");
    assert!(onrush.is_subset(&all) && set(SERVICES).is_subset(&onrush), "{onrush:?}");
    let journeys = found.remove("journeys").expect("the tests of the whole");
    all.extend(set(&["onrush", "testkit"]));
    assert!(journeys.is_subset(&all), "{journeys:?}");
    assert_eq!(found, BTreeMap::new(), "a crate that the map does not show");
}

#[test]
fn only_the_test_harness_enables_crash_points() {
    let packages = packages();
    let enables =
        |dependency: &Value| dependency["features"].as_array().is_some_and(|list| list.iter().any(|feature| feature == "testing"));
    let enabling: Vec<&str> = packages.iter().filter(|package| built_with(package).any(enables)).map(name).collect();
    assert_eq!(enabling, ["testkit"]);
    let by_default: Vec<&str> = packages.iter().filter(|package| !package["features"]["default"].is_null()).map(name).collect();
    assert_eq!(by_default, Vec::<&str>::new(), "no crate has default features");
}

/// Table names such as `orders_lines` in a text.
fn tables_named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    words.filter(|word| word.split_once('_').is_some_and(|(prefix, rest)| SERVICES.contains(&prefix) && !rest.is_empty()))
}

/// All tables and indexes of the migrations, and the tables that the engine creates for each service.
fn tables() -> BTreeSet<String> {
    let mut tables = BTreeSet::new();
    for service in SERVICES {
        for file in files(&crates().join(service).join("migrations"), "sql") {
            let text = read(&file);
            for word in tables_named(&text).map(str::to_owned) {
                assert!(word.starts_with(&format!("{service}_")), "{} names {word}", file.display());
                tables.insert(word);
            }
        }
        for table in ["outbox", "positions", "deliveries", "dead_letters", "idempotency"] {
            tables.insert(format!("{service}_{table}"));
        }
    }
    tables
}

#[test]
fn services_name_their_own_tables_only() {
    let tables = tables();
    assert!(tables.len() > 40, "{tables:?}");
    let mut foreign = Vec::new();
    for service in SERVICES {
        for file in files(&crates().join(service).join("src"), "rs") {
            let text = read(&file);
            let others = tables_named(&text).filter(|word| !word.starts_with(&format!("{service}_")) && tables.contains(*word));
            foreign.extend(others.map(|word| format!("{} names {word}", file.display())));
        }
    }
    for file in MACHINERY.concat().iter().chain(&["rush"]).flat_map(|name| files(&crates().join(name).join("src"), "rs")) {
        let text = read(&file);
        foreign.extend(tables_named(&text).filter(|word| tables.contains(*word)).map(|word| format!("{} names {word}", file.display())));
    }
    assert!(foreign.is_empty(), "{}", foreign.join("\n"));
}

/// Names of the files that a `migrations!` table includes.
fn listed_migrations(table: &str) -> BTreeSet<String> {
    let entries = table.split(',').filter(|entry| !entry.trim().is_empty());
    let file_names = entries.enumerate().flat_map(|(index, entry)| {
        let (kind, name) = entry.trim().trim_end_matches('"').split_once('"').unwrap_or_else(|| panic!("{entry} has no name"));
        let endings: &[&str] = match kind.trim() {
            "" => &[".sql"],
            "postgres" => &[".postgres.sql"],
            "separate" => &[".sql", ".postgres.sql"],
            other => panic!("{other} is not a kind of migration"),
        };
        endings.iter().map(move |ending| format!("V{}__{name}{ending}", index + 1))
    });
    file_names.collect()
}

// The compiler refuses the reverse, an entry without its file.
#[test]
fn every_sql_file_is_in_the_migrations_table_of_its_crate() {
    let mut count = 0;
    for folder in fs::read_dir(crates()).expect("crates").map(|entry| entry.expect("a crate").path()) {
        let file_name = |path: PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let found: BTreeSet<String> = files(&folder.join("migrations"), "sql").into_iter().filter_map(file_name).collect();
        let door = read(&folder.join("src/lib.rs"));
        let table = door.split_once("migrations!(").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(table, _)| table);
        assert_eq!(found, listed_migrations(table), "{}: the folder and the table differ", folder.display());
        count += found.len();
    }
    assert!(count > 15, "only {count} migrations found");
}

#[test]
fn the_mall_has_the_services_of_contracts() {
    let names: BTreeSet<&str> = mall::SERVICES.iter().map(|service| service.name).collect();
    assert_eq!(names, SERVICES.iter().copied().collect());
}

#[test]
fn compose_runs_each_group_in_its_process() {
    let text = read(&crates().join("../compose.yaml"));
    let (mut process, mut found) = ("", Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("  ").and_then(|rest| rest.strip_suffix(':')).filter(|name| !name.starts_with(' ')) {
            process = name;
        } else if let Some(only) = line.trim().strip_prefix("ONRUSH_ONLY: ") {
            found.push((process.to_owned(), only.split(',').map(str::to_owned).collect::<Vec<_>>()));
        }
    }
    let groups = split_groups();
    let expected = groups.iter().map(|group| (group.name.to_owned(), group.services.iter().map(|name| (*name).to_owned()).collect()));
    assert_eq!(found, expected.collect::<Vec<_>>());
    let peers = text.split_once("ONRUSH_PEERS: \"").and_then(|(_, rest)| rest.split_once('"')).expect("the peers").0;
    let peers: BTreeSet<String> = peers.split(',').map(|peer| peer.replace(['\\', '\n', ' '], "")).collect();
    let peer_lists =
        |SplitGroup { name, services }: SplitGroup| services.into_iter().map(move |service| format!("{service}=http://{name}:8080"));
    assert_eq!(peers, groups.into_iter().flat_map(peer_lists).collect());
}

#[test]
fn every_operation_has_its_file_and_its_test() {
    let text = documents::text(documents::Document::Openapi).expect("the document can be made");
    let openapi: Value = serde_json::from_str(&text).expect("it is JSON");
    let paths = openapi["paths"].as_object().expect("paths").iter();
    let operations: Vec<(&String, &String, &Value)> = paths
        .flat_map(|(path, item)| item.as_object().expect("a path").iter().map(move |(method, it)| (path, method, &it["operationId"])))
        .collect();
    assert!(operations.len() > 40, "{} operations", operations.len());
    let mut missing = Vec::new();
    for (path, method, id) in operations {
        let id = id.as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
        let (service, verb) = id.split_once('.').unwrap_or_else(|| panic!("{id} is not service.verb"));
        let folder = crates().join(service);
        for file in [format!("src/api/{verb}.rs"), format!("tests/it/{verb}.rs")] {
            if !folder.join(&file).exists() {
                missing.push(format!("{id}: crates/{service}/{file}"));
            }
        }
        let code = fs::read_to_string(folder.join(format!("src/api/{verb}.rs"))).unwrap_or_default();
        if !code.contains(&format!("operation_id = \"{id}\"")) {
            missing.push(format!("{id} is not described in crates/{service}/src/api/{verb}.rs"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_feature_is_named_by_a_test() {
    let this = Path::new(file!()).file_name();
    let mut words: BTreeSet<String> = BTreeSet::new();
    for file in files(&crates(), "rs").into_iter().filter(|file| file.file_name() != this) {
        let text = read(&file);
        let in_tests = file.components().any(|part| part.as_os_str() == "tests") || file.to_string_lossy().ends_with("tests.rs");
        let Some(tests) = (if in_tests { Some(text.as_str()) } else { text.split_once("#[cfg(test)]").map(|(_, tests)| tests) }) else {
            continue;
        };
        // “I-O9” is an invariant of the audit and not the feature O9.
        let ends_word = |character: char| !(character.is_ascii_alphanumeric() || character == '-');
        words.extend(tests.split(ends_word).map(str::to_ascii_uppercase));
    }
    let unnamed: Vec<&&str> = FEATURES.iter().filter(|feature| !words.contains(**feature)).collect();
    assert!(unnamed.is_empty(), "no test names {unnamed:?}");
}

/// Operations that await before they submit a keyed command, with the reason.
const AWAIT_BEFORE_SUBMITTING: &[(&str, &str)] = &[("sign_up.rs", "hashes the password of the request, which a repeat has, too")];

// Finding 8: an operation that looks at other data first would refuse a repeat whose first request changed them.
#[test]
fn keyed_requests_are_replayed_before_lookups() {
    let mut found = 0;
    for file in files(&crates(), "rs").into_iter().filter(|file| file.to_string_lossy().contains("/src/api/")) {
        let text = read(&file);
        let Some((before, call)) = text.split_once("submit::run(") else { continue };
        let Some((_, handler)) = before.rsplit_once("pub async fn ") else { continue };
        let has_key = call.split(';').next().is_some_and(|arguments| !arguments.contains(" None, "));
        let is_allowed = AWAIT_BEFORE_SUBMITTING.iter().any(|(name, _)| file.ends_with(name));
        found += 1;
        assert!(!has_key || is_allowed || !handler.contains(".await"), "{}: use `submit::run_prepared`", file.display());
    }
    assert!(found > 10, "only {found} handlers found");
}

#[test]
fn no_crate_leaves_the_lints_of_the_workspace() {
    let workspace = read(&crates().join("../Cargo.toml"));
    assert!(workspace.contains("unsafe_code = \"forbid\""), "unsafe code is forbidden");
    let manifests: Vec<PathBuf> =
        fs::read_dir(crates()).expect("crates").map(|entry| entry.expect("a crate").path().join("Cargo.toml")).collect();
    assert!(manifests.len() > 10);
    for manifest in manifests {
        let text = read(&manifest);
        let lints = text.split_once("[lints]").map(|(_, rest)| rest.trim_start());
        assert!(lints.is_some_and(|rest| rest.starts_with("workspace = true")), "{} has lints of its own", manifest.display());
    }
}

/// Names of the metrics that a text records.
fn metrics_named(text: &str) -> impl Iterator<Item = &str> {
    let macros = ["counter!(", "gauge!(", "histogram!("];
    let recorded = macros.into_iter().flat_map(move |name| text.split(name).skip(1));
    recorded.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).filter(|name| name.starts_with("onrush_"))
}

// D4
#[test]
fn every_metric_has_a_help_text() {
    let described: BTreeSet<&str> = METRICS.iter().map(|(_, name, _)| *name).collect();
    assert_eq!(described.len(), METRICS.len(), "a metric is described twice");
    let mut found = BTreeSet::new();
    for file in files(&crates(), "rs").into_iter().filter(|file| file.components().any(|part| part.as_os_str() == "src")) {
        found.extend(metrics_named(&read(&file)).filter(|name| !name.starts_with("onrush_test_")).map(str::to_owned));
    }
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(described, found, "crates/runtime/src/metrics_help.rs differs from the metrics in the code");
}
