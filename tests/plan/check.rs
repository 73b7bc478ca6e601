//! The rules that look at one file: imports, purity, places of `impl`, parameters, global state.

use std::collections::BTreeSet;
use std::fmt;

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{
    Expr, FnArg, ImplItemFn, Item, ItemFn, ItemImpl, ItemStatic, ItemUse, Path, Signature, StaticMutability, Token, Type, Visibility,
};

use crate::modules::{APP, DRAWN, FILE_LINES, GLOBAL, Module, NOT_PURE, ONE_FILE, SOURCE_LINES, STEPS, is_below, module, step, type_name};
use crate::source::{Code, Source, leaves};

/// Types that hold shared state which changes.
const CELLS: &[&str] = &[
    "ArcSwap",
    "ArcSwapOption",
    "Cache",
    "Cell",
    "DashMap",
    "LazyCell",
    "LazyLock",
    "Mutex",
    "Notify",
    "Once",
    "OnceCell",
    "OnceLock",
    "RefCell",
    "RwLock",
    "Semaphore",
    "Sender",
];

/// One violation of a rule.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: &'static str,
    pub path: String,
    pub line: usize,
    pub message: String,
    /// The size, where the rule limits one.
    pub size: Option<usize>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.message)
    }
}

/// A function, as the figures count it.
pub struct Function {
    pub path: String,
    pub name: String,
    pub lines: usize,
    pub parameters: usize,
}

/// What a walk over all files found.
#[derive(Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    pub functions: Vec<Function>,
    /// From a file to a file that it uses.
    pub edges: BTreeSet<(usize, usize)>,
}

/// Checks all files, except for cycles and comments.
pub fn check(code: &Code) -> Report {
    let mut report = Report::default();
    for (at, source) in code.sources.iter().enumerate() {
        let name = source.module.first().map_or("", String::as_str);
        let mut walk = Walk {
            code,
            at,
            source,
            row: module(name),
            inline: Vec::new(),
            in_trait_impl: false,
            report,
        };
        walk.file();
        walk.visit_file(&source.file);
        report = walk.report;
    }
    let size = |part: &str| -> usize {
        code.sources
            .iter()
            .filter(|source| source.path.starts_with(part))
            .map(Source::lines)
            .sum()
    };
    for (at, (part, limit)) in SOURCE_LINES.iter().enumerate() {
        let parts_inside = SOURCE_LINES[..at].iter().filter(|(other, _)| other.starts_with(part));
        let lines = size(part) - parts_inside.map(|(other, _)| size(other)).sum::<usize>();
        if lines > *limit {
            let message = format!("{lines} lines without tests; the budget is {limit}");
            report.findings.push(Finding {
                rule: "source-lines",
                path: (*part).to_owned(),
                line: 1,
                message,
                size: Some(lines),
            });
        }
    }
    report
}

struct Walk<'c> {
    code: &'c Code,
    at: usize,
    source: &'c Source,
    row: Option<&'static Module>,
    inline: Vec<String>,
    in_trait_impl: bool,
    report: Report,
}

impl Walk<'_> {
    fn refuse(&mut self, rule: &'static str, line: usize, message: String) {
        let path = self.source.path.clone();
        self.report.findings.push(Finding {
            rule,
            path,
            line,
            message,
            size: None,
        });
    }

    fn is_test(&self, span: Span) -> bool {
        self.source.is_test(line(span))
    }

    fn refuse_impure(&mut self, span: Span, what: &str) {
        if self.row.is_some_and(|row| row.pure) && !self.is_test(span) {
            self.refuse(
                "purity",
                line(span),
                format!("{what} in a pure module: take the value as an argument"),
            );
        }
    }

    fn file(&mut self) {
        let path = self.source.path.as_str();
        if path == "src/lib.rs" {
            let other = self
                .source
                .file
                .items
                .iter()
                .find(|item| !matches!(item, Item::Mod(item) if item.content.is_none()));
            if let Some(other) = other {
                self.refuse(
                    "import",
                    line(other.span()),
                    "`lib.rs` declares modules and nothing else".to_owned(),
                );
            }
        } else if path != "src/main.rs" && self.row.is_none() {
            self.refuse(
                "import",
                1,
                "the file is in no module of the layer table (tests/plan/modules.rs)".to_owned(),
            );
        }
        let lines = self.source.lines();
        if lines > FILE_LINES {
            let message = format!("{lines} lines without tests; the limit is {FILE_LINES}");
            let (path, size) = (self.source.path.clone(), Some(lines));
            self.report.findings.push(Finding {
                rule: "file-lines",
                path,
                line: 1,
                message,
                size,
            });
        }
    }

    /// Judges a path that the file names.
    fn name(&mut self, rooted: bool, path: &[String], at: usize) {
        let Some(path) = self.code.absolute(self.at, &self.inline, rooted, path) else {
            return;
        };
        let named = path.join("::");
        if path[0] == "crate" {
            self.judge_import(&path, &named, at);
            if !self.source.is_test(at) {
                self.add_edge(&path, &named, at);
            }
        } else if !self.source.is_test(at) {
            self.judge_crate(&path, &named, at);
        }
    }

    fn judge_import(&mut self, path: &[String], named: &str, at: usize) {
        let other = path.get(1).map_or("", String::as_str);
        let Some(row) = self.row else {
            if self.source.path == "src/main.rs" && other != "cli" {
                self.refuse("import", at, format!("`main.rs` calls `cli` and not `{named}`"));
            }
            return;
        };
        if other == row.name {
            self.judge_step(path, named, at);
        } else if !row.imports.iter().any(|allowed| is_below(&path[1..], allowed)) {
            let message = format!("`{named}`: `{}` may import {}", row.name, row.imports.join(", "));
            self.refuse("import", at, message);
        }
        self.judge_purity(&path[1..], named, at);
    }

    /// The order of the components inside the module of the use cases.
    fn judge_step(&mut self, path: &[String], named: &str, at: usize) {
        let own = &self.source.module;
        if own[0] != APP || self.source.is_test(at) {
            return;
        }
        let is_file = |name: &&String| {
            self.code
                .owner(&["crate".to_owned(), APP.to_owned(), (*name).clone()])
                .is_some_and(|(_, rest)| rest.is_empty())
        };
        let component = |name: Option<&String>| name.map_or_else(|| "mod".to_owned(), Clone::clone);
        let (from, to) = (component(own.get(1)), component(path.get(2).filter(is_file)));
        let (lower, upper) = (step(&to), step(&from));
        if from != to && (lower, upper) != (0, 0) && lower >= upper {
            let message = format!("`{named}`: `{from}` (step {upper}) uses only earlier steps, and `{to}` is of step {lower}");
            self.refuse("component-order", at, message);
        }
    }

    fn judge_purity(&mut self, path: &[String], named: &str, at: usize) {
        let impure = NOT_PURE.iter().any(|part| is_below(path, part)) && !DRAWN.iter().any(|part| is_below(path, part));
        if impure && self.row.is_some_and(|row| row.pure) && !self.source.is_test(at) {
            self.refuse("purity", at, format!("`{named}` in a pure module: take the value as an argument"));
        }
    }

    fn judge_crate(&mut self, path: &[String], named: &str, at: usize) {
        let Some(row) = self.row else { return };
        self.judge_purity(path, named, at);
        let other_file = ONE_FILE
            .iter()
            .find(|(part, file)| row.name == "base" && is_below(path, part) && self.source.path != *file);
        if let Some((_, file)) = other_file {
            self.refuse("purity", at, format!("`{named}`: inside `base`, only {file} names it"));
        } else if !row.crates.iter().copied().flatten().any(|allowed| is_below(path, allowed)) {
            let message = format!("`{named}`: the row of `{}` in tests/plan/modules.rs does not list it", row.name);
            self.refuse("purity", at, message);
        }
    }

    fn add_edge(&mut self, path: &[String], named: &str, at: usize) {
        let Some((owner, rest)) = self.code.owner(path) else { return };
        if owner == self.at || self.source.module.is_empty() {
            return;
        }
        let target = &self.code.sources[owner];
        if target.module.is_empty() {
            return;
        }
        self.report.edges.insert((self.at, owner));
        if self.code.is_export(owner, rest) && self.source.module.starts_with(&target.module) {
            let message = format!("`{named}` is a re-export of this module: import it from the file that defines it");
            self.refuse("re-export", at, message);
        }
    }

    fn path(&mut self, path: &Path) {
        if path.segments.len() > 1 || path.leading_colon.is_some() {
            let names: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
            self.name(path.leading_colon.is_some(), &names, line(path.span()));
        }
    }

    fn function(&mut self, signature: &Signature, whole: Span) {
        if self.is_test(signature.span()) {
            return;
        }
        let at = line(signature.span());
        let is_tuple = |arg: &FnArg| match arg {
            FnArg::Typed(arg) => match &*arg.ty {
                Type::Tuple(ty) => !ty.elems.is_empty(),
                Type::Reference(ty) => matches!(&*ty.elem, Type::Tuple(_)),
                _ => false,
            },
            FnArg::Receiver(_) => false,
        };
        if !self.in_trait_impl && signature.inputs.iter().any(is_tuple) {
            self.refuse(
                "tuple-parameter",
                at,
                format!("`{}` takes a tuple: use named parameters or a struct", signature.ident),
            );
        }
        self.report.functions.push(Function {
            path: self.source.path.clone(),
            name: signature.ident.to_string(),
            lines: whole.end().line + 1 - at,
            parameters: signature.inputs.len(),
        });
    }

    /// `impl X` stands in the folder of `X`; the `impl` of a trait may also stand in the trait's folder.
    fn judge_impl(&mut self, item: &ItemImpl) {
        let Some(definition) = self.code.definition_of(self.at, &item.self_ty) else {
            return;
        };
        let names = |path: &Path| -> Vec<String> { path.segments.iter().map(|part| part.ident.to_string()).collect() };
        let of_trait = item.trait_.as_ref().map(|(_, path, _)| names(path));
        let name = self_name(item);
        if let Some(last) = of_trait.as_ref().and_then(|path| path.last())
            && ["Deref", "DerefMut"].contains(&last.as_str())
        {
            self.refuse(
                "deref",
                line(item.span()),
                format!("`{last}` for `{name}`: give it methods instead"),
            );
        }
        let trait_file = of_trait.and_then(|path| self.code.definition(&self.code.absolute(self.at, &[], false, &path)?));
        let folder = self.code.folder(self.at);
        if [Some(definition), trait_file]
            .into_iter()
            .flatten()
            .all(|file| self.code.folder(file) != folder)
        {
            let defined = &self.code.sources[definition].path;
            self.refuse(
                "impl-folder",
                line(item.span()),
                format!("`impl {name}` outside the folder of `{name}` ({defined})"),
            );
        }
    }

    /// A component has private fields, and the type of a field stands in a file without `impl` of the component.
    fn judge_component(&mut self, item: &syn::ItemStruct) {
        let component = self.source.module.get(1).filter(|_| self.source.module[0] == APP);
        if component.is_none_or(|component| step(component) == 0 || item.ident != type_name(component)) {
            return;
        }
        for field in &item.fields {
            if !matches!(field.vis, Visibility::Inherited) {
                let message = format!("the component `{}` has a field that is not private", item.ident);
                self.refuse("component-field", line(field.span()), message);
            }
            let mut types = Types(Vec::new());
            types.visit_type(&field.ty);
            for ty in types.0 {
                let Some(file) = self.code.definition_of(self.at, &ty) else {
                    continue;
                };
                let implements = |other: &Item| matches!(other, Item::Impl(other) if other.trait_.is_none() && self_name(other) == item.ident.to_string());
                if file != self.at
                    && self.code.folder(file) == self.code.folder(self.at)
                    && self.code.sources[file].file.items.iter().any(implements)
                {
                    let path = &self.code.sources[file].path;
                    let message = format!("{path} defines the type of a field of `{}`, and has an `impl` of it", item.ident);
                    self.refuse("component-field", line(field.span()), message);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.inline.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.inline.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let test = self.is_test(item.span());
        let public = !matches!(item.vis, Visibility::Inherited);
        for leaf in leaves(&item.tree, &[]) {
            if leaf.glob && !test {
                self.refuse("glob", leaf.line, format!("`use {}::*`: import each name", leaf.path.join("::")));
            }
            self.name(item.leading_colon.is_some(), &leaf.path, leaf.line);
            // `pub(crate) use name;` gives a macro of this file a path.
            if public && !test && leaf.path.len() > 1 {
                let path = self.code.absolute(self.at, &self.inline, item.leading_colon.is_some(), &leaf.path);
                let own = path.is_some_and(|path| path[0] == "crate" && path[1..].starts_with(&self.source.module));
                if !own || !self.source.path.ends_with("/mod.rs") {
                    let message = "only a module's `mod.rs` re-exports, and only what the module defines".to_owned();
                    self.refuse("re-export", leaf.line, message);
                }
            }
        }
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.judge_component(item);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !self.is_test(item.span()) {
            self.judge_impl(item);
        }
        self.in_trait_impl = item.trait_.is_some();
        visit::visit_item_impl(self, item);
        self.in_trait_impl = false;
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, item.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, item.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        if let Some(word) = &signature.asyncness {
            self.refuse_impure(word.span, "`async fn`");
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        match expr {
            Expr::Async(expr) => self.refuse_impure(expr.async_token.span, "`async`"),
            Expr::Await(expr) => self.refuse_impure(expr.await_token.span, "`.await`"),
            Expr::MethodCall(call) if !self.is_test(call.method.span()) => {
                let defined = self.code.method(self.at, &call.method.to_string());
                self.report.edges.extend(defined.map(|file| (self.at, file)));
            }
            _ => {}
        }
        visit::visit_expr(self, expr);
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        self.refuse_impure(item.static_token.span, "`static`");
        let mut cell = HasCell(matches!(item.mutability, StaticMutability::Mut(_)));
        cell.visit_type(&item.ty);
        let known = GLOBAL.iter().any(|(path, name)| *path == self.source.path && item.ident == name);
        if cell.0 && !known && !self.is_test(item.span()) {
            self.refuse(
                "global-state",
                line(item.span()),
                format!("`static {}` can change: give it an owner", item.ident),
            );
        }
        visit::visit_item_static(self, item);
    }

    fn visit_type_trait_object(&mut self, object: &'ast syn::TypeTraitObject) {
        for bound in &object.bounds {
            if let syn::TypeParamBound::Trait(bound) = bound {
                let path: Vec<String> = bound.path.segments.iter().map(|part| part.ident.to_string()).collect();
                let own = self
                    .code
                    .absolute(self.at, &self.inline, false, &path)
                    .is_some_and(|path| path[0] == "crate");
                if own {
                    self.refuse(
                        "trait-object",
                        line(bound.span()),
                        format!("`dyn {}`: use an enum", path.join("::")),
                    );
                }
            }
        }
        visit::visit_type_trait_object(self, object);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.path(path);
        visit::visit_path(self, path);
    }

    /// `pub(in path)` imports nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("derive")
            && let Ok(paths) = attribute.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated)
        {
            paths.iter().for_each(|path| self.path(path));
        }
    }

    /// Of a macro's arguments, those that are expressions.
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.path(&mac.path);
        if let Ok(arguments) = mac.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated) {
            for argument in arguments {
                Visit::visit_expr(&mut *self, &argument);
            }
        }
    }
}

/// The paths inside a type: `Arc<Mutex<A>>` has three.
struct Types(Vec<Type>);

impl<'ast> Visit<'ast> for Types {
    fn visit_type(&mut self, ty: &'ast Type) {
        self.0.push(ty.clone());
        visit::visit_type(self, ty);
    }
}

struct HasCell(bool);

impl Visit<'_> for HasCell {
    fn visit_ident(&mut self, name: &proc_macro2::Ident) {
        let name = name.to_string();
        self.0 |= CELLS.contains(&name.as_str()) || name.starts_with("Atomic");
    }
}

/// The last name of the type of an `impl`.
fn self_name(item: &ItemImpl) -> String {
    match &*item.self_ty {
        Type::Path(path) => path.path.segments.last().map_or_else(String::new, |part| part.ident.to_string()),
        _ => String::new(),
    }
}

fn line(span: Span) -> usize {
    span.start().line
}

/// Keeps the import of [`STEPS`] next to its use: every component is in one step.
#[test]
fn each_component_is_in_one_step() {
    let all: Vec<&&str> = STEPS.iter().copied().flatten().collect();
    let distinct: BTreeSet<&&str> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len());
}
