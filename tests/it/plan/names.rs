//! What a path means: a small resolver over all files at once, which follows `use`, renames and re-exports.

use std::collections::{HashMap, HashSet};

use syn::visit::{self, Visit};
use syn::{Attribute, Block, File, ImplItem, Item, ItemMod, ItemUse, Meta, UseTree};

/// A path from a root: `crate` (ours), `std` (also `core` and `alloc`), or a crate.
pub type Absolute = Vec<String>;

/// How deep a chain of renames is followed.
const DEEPEST: usize = 8;

/// One file.
pub struct Source {
    /// As `src/flow/grant.rs`.
    pub path: String,
    /// As `["flow", "grant"]`.
    pub module: Vec<String>,
    /// Its text.
    pub text: String,
    /// Its syntax.
    pub file: File,
}

/// All files, and what each module calls things.
pub struct House {
    /// The files.
    pub sources: Vec<Source>,
    modules: HashMap<Vec<String>, Names>,
    tests: HashSet<Vec<String>>,
}

#[derive(Default)]
struct Names {
    items: HashSet<String>,
    aliases: HashMap<String, Vec<(bool, Vec<String>)>>,
}

/// One leaf of a `use`.
pub struct Leaf {
    /// It began with `::`.
    pub rooted: bool,
    /// What it names.
    pub path: Vec<String>,
    /// What it is called from now on, if that can be said.
    pub alias: Option<String>,
    /// It ends with `*`.
    pub glob: bool,
    /// Where.
    pub line: usize,
}

/// `super` went past the room.
pub struct LeftRoom;

impl House {
    /// Of files: path and text.
    pub fn of(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let sources: Vec<Source> = files
            .into_iter()
            .map(|(path, text)| {
                let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
                let module = module_of(&path);
                Source { path, module, text, file }
            })
            .collect();
        let mut collector = Collector::default();
        for source in &sources {
            collector.module.clone_from(&source.module);
            collector.visit_file(&source.file);
        }
        Self {
            sources,
            modules: collector.modules,
            tests: collector.tests,
        }
    }

    /// Whether a module exists only in tests.
    pub fn is_test(&self, module: &[String]) -> bool {
        (0..=module.len()).any(|n| self.tests.contains(&module[..n]))
    }

    /// All that a path may mean, as written first, then with renames and re-exports followed. Empty: something local.
    pub fn meanings(&self, module: &[String], rooted: bool, path: &[String]) -> Result<Vec<Absolute>, LeftRoom> {
        let mut found = Vec::new();
        self.follow(module, rooted, path, &mut found, DEEPEST)?;
        Ok(found)
    }

    fn follow(&self, module: &[String], rooted: bool, path: &[String], found: &mut Vec<Absolute>, depth: usize) -> Result<(), LeftRoom> {
        let (Some((first, rest)), 1..) = (path.split_first(), depth) else {
            return Ok(());
        };
        if rooted {
            return self.note(outside(path), found, depth);
        }
        match first.as_str() {
            "crate" => self.note(path.to_vec(), found, depth),
            "self" if rest.first().is_some_and(|next| next == "super") => self.follow(module, false, rest, found, depth),
            "self" => self.note(ours(module, rest), found, depth),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                if up >= module.len() {
                    return Err(LeftRoom);
                }
                self.note(ours(&module[..module.len() - up], &path[up..]), found, depth)
            }
            _ => self.by_name(module, first, path, found, depth),
        }
    }

    fn by_name(&self, module: &[String], first: &str, path: &[String], found: &mut Vec<Absolute>, depth: usize) -> Result<(), LeftRoom> {
        let names = self.modules.get(module);
        let renamed = names.and_then(|names| names.aliases.get(first));
        let local = names.is_some_and(|names| names.items.contains(first));
        if local {
            self.note(ours(module, path), found, depth)?;
        }
        for (rooted, target) in renamed.into_iter().flatten() {
            let whole: Vec<String> = target.iter().chain(&path[1..]).cloned().collect();
            if target.first().is_some_and(|root| root == first) {
                // `use url;` renames nothing, and `pub(crate) use states;` shows what is here.
                if !local {
                    self.note(outside(&whole), found, depth)?;
                }
                continue;
            }
            self.follow(module, *rooted, &whole, found, depth - 1)?;
        }
        // A local `std` hides the real one from nobody here.
        let unknown = !local && renamed.is_none() && is_crate_name(first);
        if unknown || matches!(first, "std" | "core" | "alloc") {
            self.note(outside(path), found, depth)?;
        }
        Ok(())
    }

    /// Notes a path, and what it becomes where a module on its way renames its next part.
    fn note(&self, path: Absolute, found: &mut Vec<Absolute>, depth: usize) -> Result<(), LeftRoom> {
        if found.contains(&path) {
            return Ok(());
        }
        if path.first().is_some_and(|root| root == "crate") {
            for at in 1..path.len() {
                let Some(names) = self.modules.get(&path[1..at]) else { continue };
                for (rooted, target) in names.aliases.get(&path[at]).into_iter().flatten() {
                    let whole: Vec<String> = target.iter().chain(&path[at + 1..]).cloned().collect();
                    self.follow(&path[1..at], *rooted, &whole, found, depth - 1)?;
                }
            }
        }
        found.push(path);
        Ok(())
    }
}

fn ours(module: &[String], rest: &[String]) -> Absolute {
    std::iter::once("crate".to_owned())
        .chain(module.iter().cloned())
        .chain(rest.iter().cloned())
        .collect()
}

fn outside(path: &[String]) -> Absolute {
    let mut path = path.to_vec();
    match path[0].as_str() {
        "mcp_oauth_gateway" => "crate".clone_into(&mut path[0]),
        "core" | "alloc" => "std".clone_into(&mut path[0]),
        _ => {}
    }
    path
}

/// A lower-case name in front of `::` that is nothing of ours is a crate, unless it is a primitive type.
fn is_crate_name(name: &str) -> bool {
    const PRIMITIVE: &[&str] = &[
        "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32", "f64",
    ];
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && !PRIMITIVE.contains(&name)
}

fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// The leaves of a `use`.
pub fn leaves(item: &ItemUse) -> Vec<Leaf> {
    let mut out = Vec::new();
    grow(&item.tree, item.leading_colon.is_some(), &[], &mut out);
    out
}

fn grow(tree: &UseTree, rooted: bool, before: &[String], out: &mut Vec<Leaf>) {
    let with = |name: &syn::Ident| -> Vec<String> { before.iter().cloned().chain([plain(name)]).collect() };
    let mut leaf = |name: &syn::Ident, alias: &syn::Ident| {
        let path = if name == "self" && !before.is_empty() {
            before.to_vec()
        } else {
            with(name)
        };
        let alias = if alias == "self" {
            path.last().cloned()
        } else {
            Some(plain(alias))
        };
        out.push(Leaf {
            rooted,
            path,
            alias: alias.filter(|alias| alias != "_"),
            glob: false,
            line: name.span().start().line,
        });
    };
    match tree {
        UseTree::Path(path) => grow(&path.tree, rooted, &with(&path.ident), out),
        UseTree::Name(name) => leaf(&name.ident, &name.ident),
        UseTree::Rename(rename) => leaf(&rename.ident, &rename.rename),
        UseTree::Glob(glob) => out.push(Leaf {
            rooted,
            path: before.to_vec(),
            alias: None,
            glob: true,
            line: glob.star_token.spans[0].start().line,
        }),
        UseTree::Group(group) => group.items.iter().for_each(|tree| grow(tree, rooted, before, out)),
    }
}

/// A name without `r#`.
pub fn plain(name: &syn::Ident) -> String {
    let text = name.to_string();
    text.strip_prefix("r#").map_or(text.clone(), str::to_owned)
}

/// Whether it is there only in tests: `#[cfg(test)]`, `#[cfg(all(test, ..))]`, `#[test]`.
pub fn only_in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let text = list.tokens.to_string().replace(' ', "");
            text == "test" || text.starts_with("all(test,")
        }
        Meta::List(_) | Meta::NameValue(_) => false,
    })
}

/// The attributes of an item.
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::ExternCrate(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// The attributes of a part of an `impl`.
pub fn impl_attributes(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(i) => &i.attrs,
        ImplItem::Fn(i) => &i.attrs,
        ImplItem::Type(i) => &i.attrs,
        ImplItem::Macro(i) => &i.attrs,
        _ => &[],
    }
}

#[derive(Default)]
struct Collector {
    module: Vec<String>,
    modules: HashMap<Vec<String>, Names>,
    tests: HashSet<Vec<String>>,
    in_body: bool,
}

impl Collector {
    fn names(&mut self) -> &mut Names {
        self.modules.entry(self.module.clone()).or_default()
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast Item) {
        let name = match item {
            Item::Const(i) => Some(&i.ident),
            Item::Enum(i) => Some(&i.ident),
            Item::Fn(i) => Some(&i.sig.ident),
            Item::Mod(i) => Some(&i.ident),
            Item::Static(i) => Some(&i.ident),
            Item::Struct(i) => Some(&i.ident),
            Item::Trait(i) => Some(&i.ident),
            Item::Type(i) => Some(&i.ident),
            Item::Union(i) => Some(&i.ident),
            Item::Macro(i) => i.ident.as_ref(),
            _ => None,
        };
        if let Some(name) = name.filter(|_| !self.in_body) {
            let name = plain(name);
            self.names().items.insert(name);
        }
        visit::visit_item(self, item);
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let outer = std::mem::replace(&mut self.in_body, true);
        visit::visit_block(self, block);
        self.in_body = outer;
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(plain(&item.ident));
        if only_in_tests(&item.attrs) {
            self.tests.insert(self.module.clone());
        }
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for leaf in leaves(item) {
            if let Some(alias) = leaf.alias {
                self.names().aliases.entry(alias).or_default().push((leaf.rooted, leaf.path));
            }
        }
    }
}
