//! The countable part of the style guide in CONTRIBUTING.md, checked against every comment, document and name of the house.

use crate::structure::{crates, files, read};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use syn::{Item, visit::Visit};

/// Comments that begin with a relative clause instead of a noun or a verb (rule 1). May only fall.
const RELATIVE_CLAUSES: usize = 0;
/// Words for an actor who has a name (rule 2). May only fall.
const UNNAMED_ACTORS: usize = 0;
/// Sentences of more than [`LONG_SENTENCE`] words (rule 4). May only fall.
const LONG_SENTENCES: usize = 0;
/// Function names of [`LONG_NAME`] letters or more (rule 12). May only fall.
const LONG_NAMES: usize = 0;

/// Words that a comment must not begin with.
const FIRST_WORDS: &[&str] = &["What", "Who", "Whoever", "Whom", "Whose", "How", "Where", "Whether"];
const ACTORS: &[&str] =
    &["nobody", "somebody", "someone", "whoever", "whatever", "everybody", "anybody", "he", "him", "his", "himself", "whom"];
/// Twenty words are the rule; a few more are let pass, because a code name counts as one word or as several.
const LONG_SENTENCE: usize = 24;
const LONG_NAME: usize = 60;
/// Names that many types may have, because they are used in their own file only.
const SHARED_NAMES: &[&str] = &["State", "Inner"];

/// A comment or a paragraph, with where it begins.
struct Text {
    place: String,
    words: String,
}

/// Paragraphs of consecutive lines for which `text_of` finds text.
fn paragraphs(file: &Path, text_of: impl Fn(&str) -> Option<&str>) -> Vec<Text> {
    let mut found: Vec<Text> = Vec::new();
    let (mut is_open, mut is_code) = (false, false);
    for (number, line) in read(file).lines().enumerate() {
        let text = text_of(line.trim()).map(str::trim);
        let is_fence = text.is_some_and(|text| text.starts_with("```"));
        is_code = (is_code != is_fence) && text.is_some();
        let Some(text) = text.filter(|text| !text.is_empty() && !is_fence && !is_code) else {
            is_open = false;
            continue;
        };
        let item = ["- ", "* "].iter().find_map(|mark| text.strip_prefix(mark));
        match found.last_mut().filter(|_| is_open && item.is_none()) {
            Some(open) => {
                open.words.push(' ');
                open.words.push_str(text);
            }
            None => found.push(Text { place: format!("{}:{}", file.display(), number + 1), words: item.unwrap_or(text).to_owned() }),
        }
        is_open = true;
    }
    found
}

fn comment_of(line: &str) -> Option<&str> {
    ["///", "//!", "//"].iter().find_map(|mark| line.strip_prefix(mark))
}

/// A table's rows and headings are no sentences.
fn prose_of(line: &str) -> Option<&str> {
    if line.starts_with(['#', '|']) { Some("") } else { Some(line) }
}

fn sources() -> Vec<PathBuf> {
    files(&crates(), "rs")
}

/// Documents written by hand. Decision records keep the words of their time.
fn documents() -> Vec<PathBuf> {
    const GENERATED: &[&str] = &["endpoints.md", "errors.md", "messages.md"];
    let root = crates().join("..");
    let by_hand = |name: &str| !GENERATED.contains(&name);
    let folder = |folder: PathBuf| {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let paths = entries.map(|entry| entry.expect("a readable folder").path());
        paths.filter(move |path| {
            path.extension().is_some_and(|ending| ending == "md") && by_hand(&path.file_name().unwrap_or_default().to_string_lossy())
        })
    };
    folder(root.clone()).chain(folder(root.join("docs"))).collect()
}

fn texts() -> Vec<Text> {
    let comments = sources().into_iter().flat_map(|file| paragraphs(&file, comment_of));
    let documents = documents().into_iter().flat_map(|file| paragraphs(&file, prose_of));
    let texts: Vec<Text> = comments.chain(documents).collect();
    assert!(texts.len() > 3_000, "only {} comments found", texts.len());
    texts
}

/// The text without quoted code, which has words of its own.
fn without_code(words: &str) -> String {
    words.split('`').enumerate().map(|(index, part)| if index % 2 == 0 { part } else { "X" }).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn sentences(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(open) = found.last_mut() {
            open.push_str(word);
            open.push(' ');
        }
        if word.ends_with(['.', '!', '?', ';', ':']) {
            found.push(String::new());
        }
    }
    found
}

/// Fails with the places when there are more than `limit`.
fn at_most(limit: usize, rule: &str, places: &[String]) {
    assert!(places.len() <= limit, "{} instead of {limit} {rule}:\n{}", places.len(), places.join("\n"));
}

#[test]
fn comments_begin_with_a_noun_or_a_verb() {
    let begins = |text: &Text| words(&text.words).next().is_some_and(|first| FIRST_WORDS.contains(&first));
    let places: Vec<String> = texts().into_iter().filter(begins).map(|text| format!("{}: {}", text.place, text.words)).collect();
    at_most(RELATIVE_CLAUSES, "comments begin with What, Who, How or Where", &places);
}

#[test]
fn comments_name_their_actors() {
    let unnamed = |text: &Text| -> Vec<String> {
        let plain = without_code(&text.words).to_lowercase();
        words(&plain).filter(|word| ACTORS.contains(word)).map(|word| format!("{}: {word}: {}", text.place, text.words)).collect()
    };
    let places: Vec<String> = texts().iter().flat_map(unnamed).collect();
    at_most(UNNAMED_ACTORS, "words for an actor without a name", &places);
}

#[test]
fn sentences_are_short() {
    let long = |text: &Text| -> Vec<String> {
        let sentences = sentences(&without_code(&text.words)).into_iter();
        sentences
            .filter(|sentence| sentence.split_whitespace().count() > LONG_SENTENCE)
            .map(|sentence| format!("{}: {sentence}", text.place))
            .collect()
    };
    let places: Vec<String> = texts().iter().flat_map(long).collect();
    at_most(LONG_SENTENCES, "long sentences", &places);
}

/// Names defined in one file.
#[derive(Default)]
struct Names {
    functions: Vec<String>,
    types: Vec<String>,
}

impl<'a> Visit<'a> for Names {
    fn visit_item(&mut self, item: &'a Item) {
        match item {
            Item::Struct(item) => self.types.push(item.ident.to_string()),
            Item::Enum(item) => self.types.push(item.ident.to_string()),
            Item::Trait(item) => self.types.push(item.ident.to_string()),
            Item::Type(item) => self.types.push(item.ident.to_string()),
            // Its names are those of the tests' own house.
            Item::Mod(item) if item.attrs.iter().any(|attribute| attribute.path().is_ident("cfg")) => return,
            _ => {}
        }
        syn::visit::visit_item(self, item);
    }

    fn visit_signature(&mut self, signature: &'a syn::Signature) {
        self.functions.push(signature.ident.to_string());
        syn::visit::visit_signature(self, signature);
    }
}

fn names_in(file: &Path) -> Names {
    let mut names = Names::default();
    names.visit_file(&syn::parse_file(&read(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
    names
}

#[test]
fn function_names_are_short() {
    let long = |file: PathBuf| {
        let names = names_in(&file).functions.into_iter().filter(|name| name.len() >= LONG_NAME);
        names.map(|name| format!("{}: {name}", file.display())).collect::<Vec<_>>()
    };
    let places: Vec<String> = sources().into_iter().flat_map(long).collect();
    at_most(LONG_NAMES, "function names are too long", &places);
}

#[test]
fn a_type_name_means_one_thing() {
    let mut homes: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    let is_product = |file: &PathBuf| {
        file.components().any(|part| part.as_os_str() == "src")
            && !file.components().any(|part| part.as_os_str() == "tests")
            && !file.to_string_lossy().ends_with("tests.rs")
    };
    for file in sources().into_iter().filter(is_product) {
        for name in names_in(&file).types {
            homes.entry(name).or_default().insert(file.clone());
        }
    }
    assert!(homes.len() > 500, "only {} types found", homes.len());
    let places: Vec<String> = homes
        .into_iter()
        .filter(|(name, files)| files.len() > 1 && !SHARED_NAMES.contains(&name.as_str()))
        .map(|(name, files)| format!("{name}: {}", files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")))
        .collect();
    at_most(0, "type names have several meanings", &places);
}
