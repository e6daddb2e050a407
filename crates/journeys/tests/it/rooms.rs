//! The order of the modules ("rooms") in each crate: among the modules of one parent, imports lead one way only.

use crate::structure::{crates, files, read};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use syn::{
    Attribute, Item, UseTree,
    visit::{self, Visit},
};

type Module = Vec<String>;

/// The modules of a crate that are files, by their path. The crate's root has an empty one.
fn modules(source: &Path) -> BTreeMap<Module, PathBuf> {
    let path_of = |file: &PathBuf| -> Module {
        let relative = file.strip_prefix(source).expect("it is below the folder").with_extension("");
        let mut parts: Module = relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            parts.pop();
        }
        parts
    };
    let is_test = |module: &Module| module.iter().any(|part| part == "tests" || part.ends_with("_tests"));
    files(source, "rs").into_iter().map(|file| (path_of(&file), file)).filter(|(module, _)| !is_test(module)).collect()
}

/// Paths that a file names: in imports, and in code when they begin with `crate`, `super` or `self`.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl Paths {
    fn add_tree(&mut self, mut prefix: Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.add_tree(prefix, &path.tree);
            }
            UseTree::Name(name) => {
                prefix.push(name.ident.to_string());
                self.0.push(prefix);
            }
            UseTree::Rename(name) => {
                prefix.push(name.ident.to_string());
                self.0.push(prefix);
            }
            UseTree::Glob(_) => self.0.push(prefix),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(prefix.clone(), tree)),
        }
    }
}

fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|flag| flag == "test"))
}

impl<'a> Visit<'a> for Paths {
    fn visit_item(&mut self, item: &'a Item) {
        match item {
            Item::Mod(module) if is_test_only(&module.attrs) => return,
            Item::Use(import) if is_test_only(&import.attrs) => return,
            Item::Use(import) => self.add_tree(Vec::new(), &import.tree),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if ["crate", "super", "self"].contains(&names[0].as_str()) {
            self.0.push(names);
        }
        visit::visit_path(self, path);
    }
}

/// The module file that a path named in `from` leads to. `None`: it leads out of the crate.
fn resolve(from: &Module, path: &[String], modules: &BTreeMap<Module, PathBuf>) -> Option<Module> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    let mut target: Module = match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        "super" => [&from[..from.len().checked_sub(supers)?], &path[supers..]].concat(),
        "self" => [from, &path[1..]].concat(),
        child => {
            let target: Module = [from.as_slice(), path].concat();
            let _ = modules.get(&[from.as_slice(), &[child.to_owned()]].concat())?;
            target
        }
    };
    while !modules.contains_key(&target) {
        target.pop()?;
    }
    Some(target)
}

/// Arrows between modules of one parent, for every parent.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn graphs(source: &Path) -> BTreeMap<Module, Graph> {
    let modules = modules(source);
    let mut graphs: BTreeMap<Module, Graph> = BTreeMap::new();
    for (from, file) in &modules {
        let mut paths = Paths::default();
        paths.visit_file(&syn::parse_file(&read(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
        for to in paths.0.iter().filter_map(|path| resolve(from, path, &modules)) {
            let shared = from.iter().zip(&to).take_while(|(left, right)| left == right).count();
            // A module may use its parent and its children; that is no arrow between rooms.
            if let (Some(left), Some(right)) = (from.get(shared), to.get(shared)) {
                graphs.entry(from[..shared].to_vec()).or_default().entry(left.clone()).or_default().insert(right.clone());
            }
        }
    }
    graphs
}

/// The rooms that remain when those without an arrow to a remaining one are taken away, again and again: the circles, and the rooms that
/// use them.
fn circles(graph: &Graph) -> BTreeSet<String> {
    let mut left: BTreeSet<String> = graph.keys().cloned().collect();
    loop {
        let ends: Vec<String> = left.iter().filter(|room| graph[*room].iter().all(|to| !left.contains(to))).cloned().collect();
        if ends.is_empty() {
            return left;
        }
        left.retain(|room| !ends.contains(room));
    }
}

fn sources() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(crates()).expect("crates");
    entries.map(|entry| entry.expect("a crate").path().join("src")).filter(|source| source.is_dir()).collect()
}

#[test]
fn no_circle_among_the_modules_of_a_crate() {
    let mut found = Vec::new();
    let mut arrows = 0;
    for source in sources() {
        for (parent, graph) in graphs(&source) {
            arrows += graph.values().map(BTreeSet::len).sum::<usize>();
            let circle = circles(&graph);
            if !circle.is_empty() {
                found.push(format!("{} {}: {circle:?}", source.display(), parent.join("::")));
            }
        }
    }
    assert!(arrows > 300, "only {arrows} arrows found: the check does not see the imports");
    assert!(found.is_empty(), "modules that import each other:\n{}", found.join("\n"));
}

#[test]
fn a_circle_is_seen() {
    let graph = |arrows: &[(&str, &str)]| -> Graph {
        let mut graph = Graph::new();
        for (from, to) in arrows {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert!(circles(&graph(&[("api", "model"), ("api", "store"), ("store", "model")])).is_empty());
    assert_eq!(circles(&graph(&[("api", "store"), ("store", "model"), ("model", "store")])).len(), 3);
}
