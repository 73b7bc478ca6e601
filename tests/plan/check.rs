//! The rules that look at one file: imports, purity, places of `impl`, parameters, global state.

use std::collections::BTreeSet;
use std::fmt;

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Expr, FnArg, Item, ItemImpl, ItemStatic, ItemStruct, ItemUse, Path, Signature, StaticMutability, Token, Type, Visibility};

use crate::modules::{DRAWN, FILE_LINES, FUNCTION_LINES, GLOBAL, Module, NOT_PURE, ONE_FILE, SOURCE_LINES};
use crate::modules::{is_below, is_type, module, step, type_name};
use crate::source::{Code, Source, leaves, names};

/// Types that hold shared state which changes.
const CELLS: &str = "ArcSwap ArcSwapOption Cache Cell DashMap LazyCell LazyLock Mutex Notify Once OnceCell \
    OnceLock RefCell RwLock Semaphore Sender";

/// Methods of `std` and common crates. A call of one says nothing unless it is a call on `self`.
const COMMON: &str = "all clear connect contains end expose find first get insert is_empty is_loopback keys \
    load name next open parts put read remove run send status take text value wait with write";

/// One violation of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub rule: &'static str,
    pub path: String,
    pub line: usize,
    pub message: String,
    /// The size, where the rule limits one.
    pub size: Option<usize>,
}

impl Finding {
    pub(crate) fn new(rule: &'static str, path: &str, line: usize, message: String) -> Self {
        let (path, size) = (path.to_owned(), None);
        Self {
            rule,
            path,
            line,
            message,
            size,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.message)
    }
}

/// What a walk over all files found.
#[derive(Default)]
pub(crate) struct Report {
    pub findings: Vec<Finding>,
    /// The lines of each function.
    pub functions: Vec<usize>,
    /// From a file to a file that it uses.
    pub edges: BTreeSet<(usize, usize)>,
}

/// Checks all files, except for cycles and comments.
pub(crate) fn check(code: &Code) -> Report {
    let mut report = Report::default();
    for (at, source) in code.sources.iter().enumerate() {
        let row = source.module.first().and_then(|name| module(name));
        let report = &mut report;
        report.limit("file-lines", &source.path, source.lines(), FILE_LINES);
        let mut walk = Walk {
            code,
            at,
            source,
            row,
            report,
        };
        walk.judge_file();
        walk.visit_file(&source.file);
    }
    for (at, (part, limit)) in SOURCE_LINES.iter().enumerate() {
        let inside: usize = SOURCE_LINES[..at].iter().map(|(other, _)| lines(code, other)).sum();
        report.limit("source-lines", part, lines(code, part) - inside, *limit);
    }
    report
}

impl Report {
    fn limit(&mut self, rule: &'static str, path: &str, size: usize, limit: usize) {
        if size > limit {
            let message = format!("{rule} without tests: {size}; the limit is {limit}");
            let mut finding = Finding::new(rule, path, 1, message);
            finding.size = Some(size);
            self.findings.push(finding);
        }
    }
}

/// The lines of a part of `src`, without tests.
pub(crate) fn lines(code: &Code, part: &str) -> usize {
    let files = code.sources.iter().filter(|source| source.path.starts_with(part));
    files.map(Source::lines).sum()
}

struct Walk<'c> {
    code: &'c Code,
    at: usize,
    source: &'c Source,
    row: Option<&'static Module>,
    report: &'c mut Report,
}

impl Walk<'_> {
    fn refuse(&mut self, rule: &'static str, span: Span, message: String) {
        let line = span.start().line;
        self.report.findings.push(Finding::new(rule, &self.source.path, line, message));
    }

    fn refuse_impure(&mut self, span: Span, what: &str) {
        if self.row.is_some_and(|row| row.pure) && !self.source.is_test(span) {
            self.refuse("purity", span, format!("`{what}` in a pure module: take the value as an argument"));
        }
    }

    fn judge_file(&mut self) {
        let other = self.source.file.items.iter().find(|item| !matches!(item, Item::Mod(_)));
        match (self.source.path.as_str(), self.row, other) {
            ("src/lib.rs", _, Some(other)) => self.refuse("import", other.span(), "`lib.rs` only declares modules".to_owned()),
            ("src/lib.rs" | "src/main.rs", ..) | (_, Some(_), _) => {}
            _ => self.refuse("import", Span::call_site(), "no row of the layer table has this module".to_owned()),
        }
    }

    /// Judges a path that the file names. Tests obey the layers, where they name `crate`.
    fn judge(&mut self, rooted: bool, path: &[String], span: Span) {
        let test = self.source.is_test(span);
        let Some(absolute) = self.source.absolute(rooted, path).filter(|_| !test || path[0] == "crate") else {
            return;
        };
        let (named, is_ours) = (absolute.join("::"), absolute[0] == "crate");
        let inside = &absolute[usize::from(is_ours)..];
        let is_in = |patterns: &[&str]| patterns.iter().any(|pattern| is_below(inside, pattern));
        if is_in(NOT_PURE) && !is_in(DRAWN) {
            self.refuse_impure(span, &named);
        }
        let own = self.row.map_or("cli", |row| row.name);
        if is_ours {
            let imports = self.row.map_or(&[][..], |row| &row.imports);
            let other = inside.first().map_or("", String::as_str);
            if other != own && !is_in(imports) {
                self.refuse("import", span, format!("`{named}`: `{own}` may import {}", imports.join(", ")));
            }
            if !test {
                self.judge_step(&absolute, &named, span);
                self.add_edge(&absolute, &named, span);
            }
        } else if let Some(row) = self.row {
            let is_elsewhere = |(part, file): &(&str, &str)| own == "base" && is_below(inside, part) && self.source.path != *file;
            if ONE_FILE.iter().any(is_elsewhere) || !is_in(&row.crates) {
                self.refuse("purity", span, format!("`{named}`: tests/plan/modules.rs does not allow it here"));
            }
        }
    }

    /// The order of the components inside the module of the use cases.
    fn judge_step(&mut self, path: &[String], named: &str, span: Span) {
        if [self.source.module.first(), path.get(1)] != [Some(&"app".to_owned()); 2] {
            return;
        }
        let is_file = |_: &&String| self.code.owner(&path[..3]).is_some_and(|(_, rest)| rest.is_empty());
        let from = self.source.module.get(1).map_or("mod", String::as_str);
        let to = path.get(2).filter(is_file).map_or("mod", String::as_str);
        let (upper, lower) = (step(from), step(to));
        if from != to && (lower, upper) != (0, 0) && lower >= upper {
            let message = format!("`{named}`: `{from}` is of step {upper}, and `{to}` of step {lower}");
            self.refuse("component-order", span, message);
        }
    }

    fn add_edge(&mut self, path: &[String], named: &str, span: Span) {
        let Some((owner, rest)) = self.code.owner(path) else { return };
        let target = &self.code.sources[owner].module;
        if owner == self.at || target.is_empty() || self.source.module.is_empty() {
            return;
        }
        self.report.edges.insert((self.at, owner));
        if self.code.is_export(owner, rest) && self.source.module.starts_with(target) {
            let message = format!("`{named}` is re-exported for others: import it from its file");
            self.refuse("re-export", span, message);
        }
    }

    /// Judges a path in the syntax. Of a name that a `use` declares, only the `use` is judged.
    fn judge_path(&mut self, path: &Path) {
        let (rooted, names) = (path.leading_colon.is_some(), names(path));
        let is_declared = is_type(&names[0]) && self.source.absolute(true, &names).is_none();
        if rooted || (names.len() > 1 && !is_declared) {
            self.judge(rooted, &names, path.span());
        }
    }

    fn judge_function(&mut self, signature: &Signature, whole: Span) {
        if self.source.is_test(signature.span()) {
            return;
        }
        if signature.inputs.iter().any(is_tuple) {
            let message = format!("`{}` takes a tuple: name its parts", signature.ident);
            self.refuse("tuple-parameter", signature.span(), message);
        }
        let lines = whole.end().line + 1 - signature.span().start().line;
        self.report.functions.push(lines);
        self.report.limit("function-lines", &self.source.path, lines, FUNCTION_LINES);
    }

    /// `impl X` stands in the folder of `X`; that of a trait may also stand in the trait's folder.
    fn judge_impl(&mut self, item: &ItemImpl) {
        let Type::Path(ty) = &*item.self_ty else { return };
        let Some(definition) = self.code.definition(self.at, &ty.path) else {
            return;
        };
        let name = item.self_ty.span().source_text().unwrap_or_default();
        let of_trait = item.trait_.as_ref().map(|(_, path, _)| path);
        if of_trait.is_some_and(|path| names(path).last().is_some_and(|last| last.starts_with("Deref"))) {
            self.refuse("deref", item.span(), format!("`Deref` for `{name}`: give it methods"));
        }
        let trait_file = of_trait.and_then(|path| self.code.definition(self.at, path));
        let is_here = |file: usize| self.code.folder(file) == self.code.folder(self.at);
        if !is_here(definition) && !trait_file.is_some_and(is_here) {
            let defined = &self.code.sources[definition].path;
            self.refuse("impl-folder", item.span(), format!("`impl {name}` outside its folder ({defined})"));
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let test = self.source.is_test(item.span());
        let rooted = item.leading_colon.is_some();
        for (path, alias) in leaves(&item.tree, &[]) {
            self.judge(rooted, &path, item.span());
            if alias.is_none() && !test {
                self.refuse("glob", item.span(), format!("`{}::*`: import each name", path.join("::")));
            }
            // `pub(crate) use name;` gives a macro of this file a path.
            if !test && path.len() > 1 && !matches!(item.vis, Visibility::Inherited) {
                let path = self.source.absolute(rooted, &path).unwrap_or_default();
                let own = path.get(1..).is_some_and(|path| path.starts_with(&self.source.module));
                if !own || !self.source.path.ends_with("/mod.rs") {
                    let message = "only `mod.rs` re-exports, and only what its module defines".to_owned();
                    self.refuse("re-export", item.span(), message);
                }
            }
        }
    }

    /// A component has private fields. That the type of a field stands apart is a matter of cycles.
    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        let component = |name: &String| self.source.module[0] == "app" && step(name) > 0 && item.ident == type_name(name);
        let is_open = |field: &syn::Field| !matches!(field.vis, Visibility::Inherited);
        if self.source.module.get(1).is_some_and(component) && item.fields.iter().any(is_open) {
            let message = format!("a field of `{}` is not private", item.ident);
            self.refuse("component-field", item.span(), message);
        }
        visit::visit_item_struct(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !self.source.is_test(item.span()) {
            self.judge_impl(item);
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.judge_function(&item.sig, item.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.judge_function(&item.sig, item.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        if let Some(word) = &signature.asyncness {
            self.refuse_impure(word.span, "async");
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        match expr {
            Expr::Async(expr) => self.refuse_impure(expr.async_token.span, "async"),
            Expr::Await(expr) => self.refuse_impure(expr.await_token.span, ".await"),
            Expr::MethodCall(call) if !self.source.is_test(call.method.span()) => {
                let name = call.method.to_string();
                let on_self = matches!(&*call.receiver, Expr::Path(path) if path.path.is_ident("self"));
                let file = self.code.method(self.at, &name).filter(|_| on_self || !is_in(COMMON, &name));
                self.report.edges.extend(file.map(|file| (self.at, file)));
            }
            _ => {}
        }
        visit::visit_expr(self, expr);
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        self.refuse_impure(item.static_token.span, "static");
        let ty = item.ty.span().source_text().unwrap_or_default();
        let mut words = ty.split(|c: char| !c.is_alphanumeric());
        let has_cell = words.any(|word| is_in(CELLS, word) || word.starts_with("Atomic"));
        let can_change = matches!(item.mutability, StaticMutability::Mut(_)) || has_cell;
        let is_known = GLOBAL.iter().any(|(path, name)| *path == self.source.path && item.ident == name);
        if can_change && !is_known && !self.source.is_test(item.span()) {
            let message = format!("`static {}` can change: give it an owner", item.ident);
            self.refuse("global-state", item.span(), message);
        }
        visit::visit_item_static(self, item);
    }

    fn visit_type_trait_object(&mut self, object: &'ast syn::TypeTraitObject) {
        for bound in &object.bounds {
            if let syn::TypeParamBound::Trait(bound) = bound
                && self.code.definition(self.at, &bound.path).is_some()
            {
                self.refuse("trait-object", bound.span(), "a trait object of our own: use an enum".to_owned());
            }
        }
        visit::visit_type_trait_object(self, object);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.judge_path(path);
        visit::visit_path(self, path);
    }

    /// `pub(in path)` imports nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    /// Of a macro's arguments, those that are expressions.
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.judge_path(&mac.path);
        let arguments = mac.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated);
        for argument in arguments.iter().flatten() {
            Visit::visit_expr(&mut *self, argument);
        }
    }
}

/// Whether a parameter is a tuple or a reference to one.
fn is_tuple(parameter: &FnArg) -> bool {
    let FnArg::Typed(parameter) = parameter else { return false };
    match &*parameter.ty {
        Type::Tuple(ty) => !ty.elems.is_empty(),
        Type::Reference(ty) => matches!(&*ty.elem, Type::Tuple(_)),
        _ => false,
    }
}

fn is_in(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|other| other == name)
}
