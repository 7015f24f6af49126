//! Rules of the house that a machine can hold: which crate may use what, that every crate takes the
//! workspace's lints and says what it never does, and that no file outgrows its reader.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use toml::Table;

/// Crate, the workspace's crates it may use, the frameworks it may use.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("domain", &[], &[]),
    ("proto", &[], &["tonic", "tonic-prost", "prost"]),
    ("storage", &["domain"], &["sled", "raft-engine"]),
    ("raft", &["domain", "proto", "storage"], &["openraft", "tonic"]),
    ("api", &["domain", "raft", "storage"], &["axum", "hyper", "utoipa", "utoipa-swagger-ui"]),
    ("node", &["domain", "proto", "storage", "raft", "api"], &["hyper", "reqwest", "clap"]),
    // For the bench alone, what the product is measured by: a server that does nothing (axum), the client of its requests in a loop
    // (reqwest), consensus about nothing (openraft), and another store, which speaks gRPC (tonic, prost).
    (
        "cluster-tests",
        &[],
        &["axum", "clap", "hyper", "openraft", "prost", "reqwest", "tonic", "tonic-prost"],
    ),
];

/// Lines of one file without its tests. The aim is 400; this is where it must be split.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn manifest(folder: &str) -> Table {
    let path = root().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn members() -> Vec<String> {
    let workspace = manifest("");
    let members = workspace["workspace"]["members"].as_array().expect("members is a list");
    members.iter().map(|member| member.as_str().expect("a member is a text").to_owned()).collect()
}

/// Names under `[dependencies]`, those of a target included; not those of tests and build scripts.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let names = |table: &Table| -> Vec<String> {
        table
            .get("dependencies")
            .and_then(|found| found.as_table())
            .map_or_else(Vec::new, |found| found.keys().cloned().collect())
    };
    let mut all: BTreeSet<_> = names(manifest).into_iter().collect();
    if let Some(targets) = manifest.get("target").and_then(|targets| targets.as_table()) {
        all.extend(targets.values().filter_map(|target| target.as_table()).flat_map(names));
    }
    all
}

/// What `found` has of `known` and is not `allowed`.
fn forbidden(found: &BTreeSet<String>, known: &BTreeSet<&str>, allowed: &[&str]) -> Vec<String> {
    found
        .iter()
        .filter(|name| known.contains(name.as_str()) && !allowed.contains(&name.as_str()))
        .cloned()
        .collect()
}

/// Every `.rs` file under a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("the folder stays as it is").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Lines outside `#[cfg(test)]` items. An item ends with the first line of its own indentation that
/// closes it, which rustfmt guarantees.
fn lines_without_tests(text: &str) -> usize {
    let mut count = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let body = line.trim_start();
        if body != "#[cfg(test)]" {
            count += 1;
            continue;
        }
        let indent = &line[..line.len() - body.len()];
        for line in lines.by_ref() {
            let Some(rest) = line.strip_prefix(indent) else { continue };
            if rest == "}" || (rest.ends_with(';') && !rest.starts_with(' ')) {
                break;
            }
        }
    }
    count
}

#[test]
fn the_table_lists_every_crate() {
    let listed: BTreeSet<_> = ARROWS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(listed, members().into_iter().collect());
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let crates: BTreeSet<_> = ARROWS.iter().map(|(name, ..)| *name).collect();
    let frameworks: BTreeSet<_> = ARROWS.iter().flat_map(|(_, _, frameworks)| *frameworks).copied().collect();
    for (name, allowed_crates, allowed_frameworks) in ARROWS {
        let found = dependencies(&manifest(name));
        assert_eq!(forbidden(&found, &crates, allowed_crates), [""; 0], "{name} may not use these crates");
        assert_eq!(
            forbidden(&found, &frameworks, allowed_frameworks),
            [""; 0],
            "{name} may not use these frameworks"
        );
    }
}

#[test]
fn a_forbidden_dependency_is_found() {
    let manifest: Table =
        "[dependencies]\nsled.workspace = true\nserde.workspace = true\n[target.'cfg(unix)'.dependencies]\naxum = '1'\n[dev-dependencies]\nhyper = '1'"
            .parse()
            .unwrap();
    let known = BTreeSet::from(["sled", "axum", "hyper"]);
    assert_eq!(forbidden(&dependencies(&manifest), &known, &["sled"]), ["axum"]);
}

#[test]
fn every_crate_takes_the_workspaces_lints_and_versions() {
    for name in members() {
        let manifest = manifest(&name);
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(lints.and_then(toml::Value::as_bool), Some(true), "{name}: [lints] workspace = true");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(section) = manifest.get(section).and_then(|section| section.as_table()) else {
                continue;
            };
            for (dependency, value) in section {
                let only_workspace = value
                    .as_table()
                    .is_some_and(|table| table.len() == 1 && table.get("workspace").is_some());
                assert!(only_workspace, "{name}: write {dependency}.workspace = true and nothing else");
            }
        }
    }
}

#[test]
fn every_crate_says_what_it_never_does() {
    for name in members() {
        let path = root().join(&name).join("src/lib.rs");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let opening: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(
            opening.iter().any(|line| line.contains("**Never**")),
            "{name}/src/lib.rs opens without a **Never** line"
        );
    }
}

#[test]
fn no_file_outgrows_its_reader() {
    let mut long = Vec::new();
    for name in members() {
        for path in sources(&root().join(&name).join("src")) {
            let is_test =
                path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
            let lines = lines_without_tests(&fs::read_to_string(&path).unwrap());
            if !is_test && lines > LINES_MAX {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert_eq!(long, [""; 0], "split at the second noun");
}

#[test]
fn tests_do_not_count_as_lines() {
    let text = "a\n#[cfg(test)]\nmod tests;\nb\nimpl X {\n    #[cfg(test)]\n    fn x() {\n        y;\n    }\n}\n#[cfg(test)]\nmod tests {\n    fn t() {\n    }\n}\nc\n";
    assert_eq!(lines_without_tests(text), 5);
}
