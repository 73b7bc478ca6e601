//! The source files, and what each path in them means.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, File, FnArg, Ident, ImplItem, Item, ItemUse, Meta, UseTree, Visibility};

/// One file.
pub(crate) struct Source {
    /// From the repository's root: `src/flow/grant.rs`.
    pub path: String,
    /// `["flow", "grant"]`.
    pub module: Vec<String>,
    pub text: String,
    pub file: File,
    /// Lines of items that exist only in tests.
    tests: BTreeSet<usize>,
    /// What the file declares.
    items: BTreeSet<String>,
    /// What the file calls other items, and their absolute paths.
    aliases: HashMap<String, Vec<String>>,
    exports: HashMap<String, Vec<String>>,
}

impl Source {
    fn new((path, text): (String, String)) -> Self {
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            module.pop();
        }
        let items = file.items.iter().filter_map(|item| Some(parts(item).0?.to_string())).collect();
        let (aliases, exports, mut scan) = (HashMap::new(), HashMap::new(), Scan::default());
        scan.visit_file(&file);
        let Scan { uses, tests } = scan;
        let mut source = Self {
            path,
            module,
            text,
            file,
            tests,
            items,
            aliases,
            exports,
        };
        for item in &uses {
            source.add_use(item);
        }
        source
    }

    /// Names of the code come before those of its tests, which stand below it.
    fn add_use(&mut self, item: &ItemUse) {
        let is_export = !matches!(item.vis, Visibility::Inherited);
        for (path, alias) in leaves(&item.tree, &[]) {
            let path = self.declared(item.leading_colon.is_some(), &path);
            let (Some(path), Some(alias)) = (path, alias) else { continue };
            if is_export {
                self.exports.insert(alias.clone(), path.clone());
            }
            self.aliases.entry(alias).or_insert(path);
        }
    }

    pub(crate) fn is_test(&self, span: Span) -> bool {
        self.tests.contains(&span.start().line)
    }

    /// The number of lines without tests.
    pub(crate) fn lines(&self) -> usize {
        self.text.lines().count() - self.tests.len()
    }

    /// The absolute form of a path, which begins with `crate` or the name of a crate. `None`: a
    /// type parameter, a primitive type, or a name of the prelude.
    pub(crate) fn absolute(&self, rooted: bool, path: &[String]) -> Option<Vec<String>> {
        match self.aliases.get(&path[0]) {
            Some(target) if !rooted => Some([target, &path[1..]].concat()),
            _ => self.declared(rooted, path),
        }
    }

    fn declared(&self, rooted: bool, path: &[String]) -> Option<Vec<String>> {
        let below = |root: &str, module: &[String], rest: &[String]| Some([&[root.to_owned()], module, rest].concat());
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" | "mcp_oauth_gateway" => below("crate", &[], rest),
            "self" => below("crate", &self.module, rest),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let end = self.module.len().saturating_sub(up);
                below("crate", &self.module[..end], &path[up..])
            }
            name if !rooted && self.items.contains(name) => below("crate", &self.module, path),
            name => is_crate(name).then(|| path.to_vec()),
        }
    }
}

/// A name in lower case that is no primitive type.
fn is_crate(name: &str) -> bool {
    let is_number = |rest: &str| rest.parse::<u8>().is_ok() || rest == "size";
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !["bool", "char", "str"].contains(&name)
        && !name.strip_prefix(['u', 'i', 'f']).is_some_and(is_number)
}

/// All files of `src`.
pub(crate) struct Code {
    pub sources: Vec<Source>,
    modules: HashMap<Vec<String>, usize>,
    /// The files that define a method, by folder and name.
    methods: BTreeMap<(Vec<String>, String), BTreeSet<usize>>,
}

impl Code {
    /// Parses files, given as path and text.
    pub(crate) fn new(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut sources: Vec<Source> = files.into_iter().map(Source::new).collect();
        let test_modules: Vec<Vec<String>> = sources.iter().flat_map(test_modules).collect();
        for source in &mut sources {
            if test_modules.iter().any(|module| source.module.starts_with(module)) {
                source.tests = (1..=source.text.lines().count()).collect();
            }
        }
        let not_main = sources.iter().enumerate().filter(|(_, source)| source.path != "src/main.rs");
        let modules = not_main.map(|(at, source)| (source.module.clone(), at)).collect();
        let mut code = Self {
            sources,
            modules,
            methods: BTreeMap::new(),
        };
        for at in 0..code.sources.len() {
            let folder = code.folder(at);
            for name in methods(&code.sources[at], code.sources[at].module == folder) {
                code.methods.entry((folder.clone(), name)).or_default().insert(at);
            }
        }
        code
    }

    /// The folder that a file belongs to, as a module path. `a/b.rs` belongs to `a/b` if that
    /// folder has files.
    pub(crate) fn folder(&self, at: usize) -> Vec<String> {
        let module = &self.sources[at].module;
        let is_parent = |other: &Vec<String>| other.len() > module.len() && other.starts_with(module);
        let is_folder = self.sources[at].path.ends_with("/mod.rs") || self.modules.keys().any(is_parent);
        module[..module.len().saturating_sub(usize::from(!is_folder))].to_vec()
    }

    /// The only other file of the folder that defines a method of this name.
    pub(crate) fn method(&self, at: usize, name: &str) -> Option<usize> {
        let files = self.methods.get(&(self.folder(at), name.to_owned()))?;
        files.first().copied().filter(|file| files.len() == 1 && *file != at)
    }

    /// The file of an absolute path of ours, and the rest of the path inside it.
    pub(crate) fn owner<'p>(&self, path: &'p [String]) -> Option<(usize, &'p [String])> {
        (1..=path.len())
            .rev()
            .find_map(|end| Some((*self.modules.get(&path[1..end])?, &path[end..])))
    }

    /// Whether the path names something that the file only re-exports.
    pub(crate) fn is_export(&self, at: usize, rest: &[String]) -> bool {
        rest.first().is_some_and(|name| self.sources[at].exports.contains_key(name))
    }

    /// The file that defines the type or trait that a file calls by this path.
    pub(crate) fn definition(&self, at: usize, path: &syn::Path) -> Option<usize> {
        let mut path = self.sources[at].absolute(false, &names(path))?;
        for _ in 0..4 {
            let (at, rest) = self.owner(&path).filter(|_| path[0] == "crate")?;
            let name = rest.first()?;
            match self.sources[at].exports.get(name) {
                Some(target) => path.clone_from(target),
                None => return self.sources[at].items.contains(name).then_some(at),
            }
        }
        None
    }
}

/// The modules that a file declares for tests only, outside it.
fn test_modules(source: &Source) -> Vec<Vec<String>> {
    let declared = source.file.items.iter().filter_map(|item| match item {
        Item::Mod(item) if item.content.is_none() && only_in_tests(&item.attrs) => {
            Some([&source.module[..], &[item.ident.to_string()]].concat())
        }
        _ => None,
    });
    declared.collect()
}

/// The methods of own types that other files of the folder can call. Private methods are visible in
/// the modules below their file only.
fn methods(source: &Source, is_parent: bool) -> Vec<String> {
    let mut found = Vec::new();
    for item in &source.file.items {
        let Item::Impl(item) = item else { continue };
        for part in item.items.iter().filter(|_| item.trait_.is_none() && !source.is_test(item.span())) {
            if let ImplItem::Fn(method) = part
                && matches!(method.sig.inputs.first(), Some(FnArg::Receiver(_)))
                && (is_parent || !matches!(method.vis, Visibility::Inherited))
            {
                found.push(method.sig.ident.to_string());
            }
        }
    }
    found
}

/// The names of a path.
pub(crate) fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|part| part.ident.to_string()).collect()
}

/// Name and attributes of an item.
fn parts(item: &Item) -> (Option<&Ident>, &[Attribute]) {
    match item {
        Item::Const(i) => (Some(&i.ident), &i.attrs),
        Item::Enum(i) => (Some(&i.ident), &i.attrs),
        Item::Fn(i) => (Some(&i.sig.ident), &i.attrs),
        Item::Impl(i) => (None, &i.attrs),
        Item::Macro(i) => (i.ident.as_ref(), &i.attrs),
        Item::Mod(i) => (Some(&i.ident), &i.attrs),
        Item::Static(i) => (Some(&i.ident), &i.attrs),
        Item::Struct(i) => (Some(&i.ident), &i.attrs),
        Item::Trait(i) => (Some(&i.ident), &i.attrs),
        Item::Type(i) => (Some(&i.ident), &i.attrs),
        Item::Use(i) => (None, &i.attrs),
        _ => (None, &[]),
    }
}

/// The paths of a `use`, and what the file calls each; `None` for all names of the path.
pub(crate) fn leaves(tree: &UseTree, before: &[String]) -> Vec<(Vec<String>, Option<String>)> {
    let leaf = |name: &Ident, alias: Option<&Ident>| {
        let own = Some(name.to_string()).filter(|name| name != "self");
        let path: Vec<String> = before.iter().cloned().chain(own).collect();
        let alias = alias.map(ToString::to_string).or_else(|| path.last().cloned());
        vec![(path, alias)]
    };
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &[before, &[path.ident.to_string()]].concat()),
        UseTree::Name(name) => leaf(&name.ident, None),
        UseTree::Rename(rename) => leaf(&rename.ident, Some(&rename.rename)),
        UseTree::Glob(_) => vec![(before.to_vec(), None)],
        UseTree::Group(group) => group.items.iter().flat_map(|tree| leaves(tree, before)).collect(),
    }
}

/// The `use` items of a file, and the lines of its items that exist only in tests.
#[derive(Default)]
struct Scan {
    uses: Vec<ItemUse>,
    tests: BTreeSet<usize>,
}

impl Scan {
    fn add(&mut self, attributes: &[Attribute], span: Span) {
        if only_in_tests(attributes) {
            self.tests.extend(span.start().line..=span.end().line);
        }
    }
}

impl<'ast> Visit<'ast> for Scan {
    fn visit_item(&mut self, item: &'ast Item) {
        self.add(parts(item).1, item.span());
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.attrs, item.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.uses.push(item.clone());
    }
}

/// `#[test]` or `#[cfg(test)]`.
fn only_in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        Meta::NameValue(_) => false,
    })
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a directory, as path from the root and text.
pub(crate) fn rust_files(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(directory)).unwrap() {
        let name = format!("{directory}/{}", entry.unwrap().file_name().to_string_lossy());
        if root().join(&name).is_dir() && !name.ends_with("/target") {
            found.extend(rust_files(&name));
        } else if Path::new(&name).extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(root().join(&name)).unwrap();
            found.push((name, text));
        }
    }
    found.sort();
    found
}
