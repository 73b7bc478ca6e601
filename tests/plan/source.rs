//! The source files, and what each path in them means.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::{fs, iter};

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, File, FnArg, ImplItem, Item, ItemUse, Meta, Type, UseTree, Visibility};

/// One file.
pub struct Source {
    /// From the repository's root: `src/flow/grant.rs`.
    pub path: String,
    /// `["flow", "grant"]`.
    pub module: Vec<String>,
    pub text: String,
    pub file: File,
    /// Lines of items that exist only in tests.
    tests: Vec<(usize, usize)>,
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut module: Vec<String> = path
            .trim_start_matches("src/")
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            module.pop();
        }
        let mut tests = Tests(Vec::new());
        tests.visit_file(&file);
        Self {
            path,
            module,
            text,
            file,
            tests: tests.0,
        }
    }

    pub fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|(first, last)| (*first..=*last).contains(&line))
    }

    /// The number of lines without tests.
    pub fn lines(&self) -> usize {
        (1..=self.text.lines().count()).filter(|line| !self.is_test(*line)).count()
    }
}

/// What one file declares and imports. Paths are absolute: they begin with `crate` or a crate's name.
#[derive(Default)]
struct Names {
    items: BTreeSet<String>,
    types: BTreeSet<String>,
    aliases: HashMap<String, Vec<String>>,
    exports: HashMap<String, Vec<String>>,
}

/// All files of `src`.
pub struct Code {
    pub sources: Vec<Source>,
    names: Vec<Names>,
    modules: HashMap<Vec<String>, usize>,
    /// The files that define a method, by folder and name.
    methods: BTreeMap<(Vec<String>, String), BTreeSet<usize>>,
}

impl Code {
    /// Parses files, given as path and text.
    pub fn new(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut sources: Vec<Source> = files.into_iter().map(|(path, text)| Source::new(path, text)).collect();
        let test_modules: Vec<Vec<String>> = sources.iter().flat_map(test_modules).collect();
        for source in &mut sources {
            if test_modules.iter().any(|module| source.module.starts_with(module)) {
                source.tests = vec![(1, usize::MAX)];
            }
        }
        let names = sources.iter().map(names).collect();
        let not_main = sources.iter().enumerate().filter(|(_, source)| source.path != "src/main.rs");
        let modules = not_main.map(|(at, source)| (source.module.clone(), at)).collect();
        let mut code = Self {
            sources,
            names,
            modules,
            methods: BTreeMap::new(),
        };
        for at in 0..code.sources.len() {
            code.add_methods(at);
        }
        code
    }

    /// The folder that a file belongs to, as a module path. `a/b.rs` belongs to `a/b` if that folder has files.
    pub fn folder(&self, at: usize) -> Vec<String> {
        let source = &self.sources[at];
        let module = &source.module;
        let is_folder = source.path.ends_with("/mod.rs")
            || self
                .modules
                .keys()
                .any(|other| other.len() > module.len() && other.starts_with(module));
        let end = if is_folder { module.len() } else { module.len().saturating_sub(1) };
        module[..end].to_vec()
    }

    fn add_methods(&mut self, at: usize) {
        let folder = self.folder(at);
        let is_parent = self.sources[at].module == folder;
        let mut found = Vec::new();
        for item in &self.sources[at].file.items {
            let Item::Impl(item) = item else { continue };
            for part in &item.items {
                if let ImplItem::Fn(method) = part
                    && item.trait_.is_none()
                    && matches!(method.sig.inputs.first(), Some(FnArg::Receiver(_)))
                    && (is_parent || !matches!(method.vis, Visibility::Inherited))
                    && !self.sources[at].is_test(method.span().start().line)
                {
                    found.push(method.sig.ident.to_string());
                }
            }
        }
        for name in found {
            self.methods.entry((folder.clone(), name)).or_default().insert(at);
        }
    }

    /// The only other file of the folder that defines a method of this name.
    pub fn method(&self, at: usize, name: &str) -> Option<usize> {
        let files = self.methods.get(&(self.folder(at), name.to_owned()))?;
        files.first().copied().filter(|file| files.len() == 1 && *file != at)
    }

    /// The absolute form of a path. `None`: a type parameter, a primitive type, or a name of the prelude.
    pub fn absolute(&self, at: usize, inline: &[String], rooted: bool, path: &[String]) -> Option<Vec<String>> {
        match self.names[at].aliases.get(&path[0]) {
            Some(target) if !rooted => Some(target.iter().chain(&path[1..]).cloned().collect()),
            _ => absolute(&self.sources[at].module, inline, &self.names[at].items, rooted, path),
        }
    }

    /// The file of an absolute path of ours, and the rest of the path inside it.
    pub fn owner<'p>(&self, path: &'p [String]) -> Option<(usize, &'p [String])> {
        (1..=path.len())
            .rev()
            .find_map(|end| Some((*self.modules.get(&path[1..end])?, &path[end..])))
    }

    /// Whether the path names something that the file only re-exports.
    pub fn is_export(&self, at: usize, rest: &[String]) -> bool {
        rest.first().is_some_and(|name| self.names[at].exports.contains_key(name))
    }

    /// The file that defines a type, given its absolute path; re-exports are followed.
    pub fn definition(&self, path: &[String]) -> Option<usize> {
        let mut path = path.to_vec();
        for _ in 0..4 {
            if path.first().is_none_or(|root| root != "crate") {
                return None;
            }
            let (at, rest) = self.owner(&path)?;
            let name = rest.first()?;
            if self.names[at].types.contains(name) {
                return Some(at);
            }
            path.clone_from(self.names[at].exports.get(name)?);
        }
        None
    }

    /// The file that defines the type of this name in the folder's parent file, or below it.
    pub fn definition_of(&self, at: usize, ty: &Type) -> Option<usize> {
        let Type::Path(path) = ty else { return None };
        let path: Vec<String> = path.path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.definition(&self.absolute(at, &[], false, &path)?)
    }
}

/// The modules that a file declares for tests only, outside it.
fn test_modules(source: &Source) -> Vec<Vec<String>> {
    let declared = source.file.items.iter().filter_map(|item| match item {
        Item::Mod(item) if item.content.is_none() && only_in_tests(&item.attrs) => Some(item.ident.to_string()),
        _ => None,
    });
    declared.map(|name| source.module.iter().cloned().chain([name]).collect()).collect()
}

fn absolute(module: &[String], inline: &[String], items: &BTreeSet<String>, rooted: bool, path: &[String]) -> Option<Vec<String>> {
    let ours = |module: &[String], rest: &[String]| -> Vec<String> {
        iter::once("crate".to_owned())
            .chain(module.iter().cloned())
            .chain(rest.iter().cloned())
            .collect()
    };
    let here = [module, inline].concat();
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" | "mcp_oauth_gateway" => Some(ours(&[], rest)),
        "self" if rest.first().is_some_and(|next| next == "super") => absolute(module, inline, items, rooted, rest),
        "self" => Some(ours(&here, rest)),
        "super" => {
            let up = path.iter().take_while(|part| *part == "super").count();
            Some(ours(&here[..here.len().saturating_sub(up)], &path[up..]))
        }
        "core" | "alloc" => Some(iter::once("std".to_owned()).chain(rest.iter().cloned()).collect()),
        name if items.contains(name) && !rooted => Some(ours(module, path)),
        name if is_crate(name) => Some(path.to_vec()),
        _ => None,
    }
}

fn is_crate(name: &str) -> bool {
    let primitive = ["bool", "char", "str", "usize", "isize", "f32", "f64"].contains(&name)
        || name.strip_prefix(['u', 'i']).is_some_and(|bits| bits.parse::<u8>().is_ok());
    name.starts_with(|c: char| c.is_ascii_lowercase()) && !primitive
}

/// One path of a `use`.
pub struct Leaf {
    pub path: Vec<String>,
    /// What the file calls it.
    pub alias: Option<String>,
    pub glob: bool,
    pub line: usize,
}

/// The paths of a `use`.
pub fn leaves(tree: &UseTree, before: &[String]) -> Vec<Leaf> {
    let below = |name: &syn::Ident| -> Vec<String> { before.iter().cloned().chain([name.to_string()]).collect() };
    let leaf = |name: &syn::Ident, alias: &syn::Ident| {
        let path = if name == "self" { before.to_vec() } else { below(name) };
        let alias = if alias == "self" {
            path.last().cloned()
        } else {
            Some(alias.to_string())
        };
        Leaf {
            path,
            alias,
            glob: false,
            line: name.span().start().line,
        }
    };
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &below(&path.ident)),
        UseTree::Name(name) => vec![leaf(&name.ident, &name.ident)],
        UseTree::Rename(rename) => vec![leaf(&rename.ident, &rename.rename)],
        UseTree::Glob(glob) => vec![Leaf {
            path: before.to_vec(),
            alias: None,
            glob: true,
            line: glob.span().start().line,
        }],
        UseTree::Group(group) => group.items.iter().flat_map(|tree| leaves(tree, before)).collect(),
    }
}

fn names(source: &Source) -> Names {
    let mut names = Names::default();
    for item in &source.file.items {
        let (name, is_type) = match item {
            Item::Const(i) => (Some(&i.ident), false),
            Item::Enum(i) => (Some(&i.ident), true),
            Item::Fn(i) => (Some(&i.sig.ident), false),
            Item::Macro(i) => (i.ident.as_ref(), false),
            Item::Mod(i) => (Some(&i.ident), false),
            Item::Static(i) => (Some(&i.ident), false),
            Item::Struct(i) => (Some(&i.ident), true),
            Item::Trait(i) => (Some(&i.ident), true),
            Item::Type(i) => (Some(&i.ident), true),
            _ => (None, false),
        };
        let name = name.map(ToString::to_string);
        names.types.extend(name.clone().filter(|_| is_type));
        names.items.extend(name);
    }
    let mut uses = Uses {
        source,
        names,
        inline: Vec::new(),
    };
    uses.visit_file(&source.file);
    uses.names
}

/// Collects the names that a file imports. Names of the code come before those of its tests.
struct Uses<'s> {
    source: &'s Source,
    names: Names,
    inline: Vec<String>,
}

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.inline.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.inline.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for leaf in leaves(&item.tree, &[]) {
            let rooted = item.leading_colon.is_some();
            let path = absolute(&self.source.module, &self.inline, &self.names.items, rooted, &leaf.path);
            let (Some(path), Some(alias)) = (path, leaf.alias) else { continue };
            if self.inline.is_empty() && !matches!(item.vis, Visibility::Inherited) {
                self.names.exports.insert(alias.clone(), path.clone());
            }
            self.names.aliases.entry(alias).or_insert(path);
        }
    }
}

struct Tests(Vec<(usize, usize)>);

impl Tests {
    fn add(&mut self, attributes: &[Attribute], span: proc_macro2::Span) -> bool {
        let found = only_in_tests(attributes);
        if found {
            self.0.push((span.start().line, span.end().line));
        }
        found
    }
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Const(i) => &i.attrs,
            Item::Enum(i) => &i.attrs,
            Item::Fn(i) => &i.attrs,
            Item::Impl(i) => &i.attrs,
            Item::Macro(i) => &i.attrs,
            Item::Mod(i) => &i.attrs,
            Item::Static(i) => &i.attrs,
            Item::Struct(i) => &i.attrs,
            Item::Type(i) => &i.attrs,
            Item::Use(i) => &i.attrs,
            _ => &[],
        };
        if !self.add(attributes, item.span()) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.attrs, item.span());
    }
}

/// `#[test]`, `#[cfg(test)]` or `#[cfg(all(test, ..))]`.
fn only_in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let text = list.tokens.to_string().replace(' ', "");
            text == "test" || text.starts_with("all(test,")
        }
        Meta::List(_) | Meta::NameValue(_) => false,
    })
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a directory, as path from the root and text.
pub fn rust_files(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root())
                    .unwrap_or(Path::new(""))
                    .to_string_lossy()
                    .replace('\\', "/");
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
