//! The guard: walks a file and refuses what the plan does not allow.

use std::fmt;

use proc_macro2::{Delimiter, Spacing, Span, TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, Expr, ExprAsync, ExprAwait, ImplItem, ImplItemFn, Item, ItemExternCrate, ItemFn, ItemMod, ItemStatic, ItemUse, Lit,
    Macro, Meta, Path, Signature, StaticMutability, Stmt, TraitItemFn, TypeParamBound, TypeTraitObject, VisRestricted,
};

use super::names::{self, Absolute, House, Leaf, LeftRoom, Source, only_in_tests, plain};
use super::rooms::{DRAWN, FILE_LINES, FN_LINES, GLOBAL, LONGER, NOT_PURE, ONE_PLACE, PARAMETERS, ROOMS, Room};

/// What is shared and changes: never in a `static`.
const CELLS: &[&str] = &[
    "Mutex",
    "RwLock",
    "Cell",
    "RefCell",
    "UnsafeCell",
    "OnceCell",
    "LazyCell",
    "OnceLock",
    "LazyLock",
    "Once",
    "ArcSwap",
    "ArcSwapOption",
    "DashMap",
    "Cache",
    "Sender",
    "Notify",
    "Semaphore",
];

/// Attributes that name lints.
const LINTS: &[&str] = &["expect", "warn", "deny", "forbid", "allow"];

/// Macros that talk, or keep something, behind a room's back.
const NOT_PURE_MACROS: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// One thing that may not be.
#[derive(Debug)]
pub struct Refusal {
    file: String,
    line: usize,
    what: String,
    rule: String,
    instead: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            what,
            rule,
            instead,
        } = self;
        write!(f, "{file}:{line}: {what}\n    rule: {rule}\n    instead: {instead}")
    }
}

/// Everything that the plan refuses in a house.
pub fn check(house: &House) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for source in &house.sources {
        let mut guard = Guard::new(house, source);
        match (source.path.as_str(), guard.room) {
            ("src/lib.rs", _) => guard.codemap(),
            ("src/main.rs", _) | (_, Some(_)) => {}
            (_, None) => guard.refuse(
                1,
                "a file outside the rooms".to_owned(),
                "every file is in a room of the table".to_owned(),
                "put it into a room, or add a line to ROOMS in tests/it/plan/rooms.rs",
            ),
        }
        guard.visit_file(&source.file);
        guard.file_lines();
        refusals.append(&mut guard.refusals);
        refusals.extend(words(&source.path, &source.text));
    }
    refusals
}

struct Guard<'h> {
    house: &'h House,
    source: &'h Source,
    room: Option<&'static Room>,
    module: Vec<String>,
    test: bool,
    test_lines: usize,
    refusals: Vec<Refusal>,
}

impl<'h> Guard<'h> {
    fn new(house: &'h House, source: &'h Source) -> Self {
        let name = source.module.first().map_or("", String::as_str);
        Self {
            house,
            source,
            room: ROOMS.iter().find(|room| room.name == name),
            module: source.module.clone(),
            test: house.is_test(&source.module) || only_in_tests(&source.file.attrs),
            test_lines: 0,
            refusals: Vec::new(),
        }
    }

    fn refuse(&mut self, line: usize, what: String, rule: String, instead: &'static str) {
        let file = self.source.path.clone();
        let refusal = Refusal {
            file,
            line,
            what,
            rule,
            instead,
        };
        let again = |old: &Refusal| old.line == line && old.rule == refusal.rule && old.what == refusal.what;
        if !self.refusals.iter().any(again) {
            self.refusals.push(refusal);
        }
    }

    fn is_pure(&self) -> bool {
        !self.test && self.room.is_some_and(|room| room.pure)
    }

    fn refuse_impure(&mut self, span: Span, what: &str, instead: &'static str) {
        if self.is_pure() {
            let rule = format!("`{}` is pure: it never waits, never asks the time, never rolls a die", self.name());
            self.refuse(line(span), what.to_owned(), rule, instead);
        }
    }

    fn name(&self) -> &'static str {
        self.room.map_or("the root", |room| room.name)
    }

    fn codemap(&mut self) {
        for item in &self.source.file.items {
            if !matches!(item, Item::Mod(item) if item.content.is_none()) {
                self.refuse(
                    line(item.span()),
                    "something else than `pub mod`".to_owned(),
                    "lib.rs is the codemap: no code, no imports, no re-exports".to_owned(),
                    "move it into the room that owns it",
                );
            }
        }
    }

    /// Judges a path, however it is written.
    fn judge(&mut self, rooted: bool, path: &[String], at: usize) {
        match self.house.meanings(&self.module, rooted, path) {
            Err(LeftRoom) => self.refuse(
                at,
                format!("`{}` leaves the room", path.join("::")),
                format!("`super` stays within `{}`", self.name()),
                "name the other room from `crate::`, if the table allows it",
            ),
            Ok(meanings) => {
                for meaning in meanings {
                    self.judge_one(&meaning, at);
                }
            }
        }
    }

    fn judge_one(&mut self, path: &Absolute, at: usize) {
        let named = path.join("::");
        if path[0] == "crate" {
            self.judge_room(&path[1..], &named, at);
        } else if !self.test {
            self.judge_outside(path, &named, at);
        }
    }

    fn judge_room(&mut self, path: &[String], named: &str, at: usize) {
        let Some(room) = self.room else {
            if path.first().is_none_or(|room| room != "cli") {
                self.refuse(
                    at,
                    format!("names `{named}`"),
                    "main.rs is a call into `cli`".to_owned(),
                    "call `cli`",
                );
            }
            return;
        };
        let Some(other) = path.first().filter(|name| ROOMS.iter().any(|room| room.name == **name)) else {
            let rule = "a path of ours goes through a room of the table".to_owned();
            self.refuse(
                at,
                format!("names `{named}`"),
                rule,
                "name what you need in the room that owns it, one path per line",
            );
            return;
        };
        if other == room.name {
            return;
        }
        if !room.may_use.iter().any(|allowed| is_below(path, allowed)) {
            let rule = format!("`{}` may use {}", room.name, list(room.may_use));
            let instead = "move the code up to the room that may, or hand what is needed down as an argument";
            self.refuse(at, format!("names `{named}`"), rule, instead);
        }
        self.judge_pure(path, named, at);
    }

    fn judge_pure(&mut self, path: &[String], named: &str, at: usize) {
        let forbidden = NOT_PURE.iter().any(|part| is_below(path, part)) && !is_below(path, DRAWN);
        if self.is_pure() && forbidden {
            let rule = format!("`{}` is pure: it never asks the time and never rolls a die", self.name());
            let instead = "take the time, or what was drawn, as an argument; `gateway` hands it in";
            self.refuse(at, format!("names `{named}`"), rule, instead);
        }
    }

    fn judge_outside(&mut self, path: &[String], named: &str, at: usize) {
        let Some(room) = self.room else { return };
        self.judge_pure(path, named, at);
        let elsewhere = ONE_PLACE
            .iter()
            .find(|(part, file)| room.name == "base" && is_below(path, part) && self.source.path != *file);
        let allowed = room.outside.iter().copied().flatten().any(|allowed| is_below(path, allowed));
        if let Some((_, file)) = elsewhere {
            let rule = format!("only {file} may: the house has one clock and one die");
            self.refuse(at, format!("names `{named}`"), rule, "take the value as an argument");
        } else if !allowed {
            let crates = list(&room.outside.concat());
            let rule = format!("from outside `{}` may name only {crates}", room.name);
            let instead = if room.pure {
                "take the answer, the time or the fresh value as an argument; name std's parts one by one"
            } else {
                "use the room whose job it is; a new crate or std module is a line in ROOMS, with a reason"
            };
            self.refuse(at, format!("names `{named}`"), rule, instead);
        }
    }

    fn leaf(&mut self, leaf: &Leaf) {
        if leaf.glob && !self.test {
            let what = format!("`use {}::*`", leaf.path.join("::"));
            let rule = "no glob imports outside tests: they hide what is named".to_owned();
            self.refuse(leaf.line, what, rule, "import each name from its owner, one path per line");
        }
        self.judge(leaf.rooted, &leaf.path, leaf.line);
    }

    /// A path in the syntax tree. A single name is nothing of its own: its `use` was judged.
    fn path(&mut self, path: &Path) {
        if path.segments.len() > 1 || path.leading_colon.is_some() {
            let names: Vec<String> = path.segments.iter().map(|part| plain(&part.ident)).collect();
            self.judge(path.leading_colon.is_some(), &names, line(path.span()));
        }
    }

    /// Whether a trait, as named here, is ours.
    fn own(&self, path: &Path) -> Option<Absolute> {
        let names: Vec<String> = path.segments.iter().map(|part| plain(&part.ident)).collect();
        let meanings = self.house.meanings(&self.module, path.leading_colon.is_some(), &names).ok()?;
        meanings.into_iter().find(|path| path[0] == "crate")
    }

    fn tokens(&mut self, stream: TokenStream) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < trees.len() {
            at = self.token(&trees, at);
        }
    }

    /// Judges what begins at `at`, and says where the next begins.
    fn token(&mut self, trees: &[TokenTree], at: usize) -> usize {
        match &trees[at] {
            // Lints have names like paths.
            TokenTree::Group(group) if at > 0 && is_punct(trees, at - 1, '#') && names_lints(group.stream()) => {}
            TokenTree::Group(group) => self.tokens(group.stream()),
            // A lifetime.
            TokenTree::Punct(p) if p.as_char() == '\'' => return at + 2,
            TokenTree::Punct(p) if p.as_char() == '$' => return self.variable(trees, at),
            TokenTree::Punct(_) if colons(trees, at) => {
                let starts = matches!(trees.get(at + 2), Some(TokenTree::Ident(_)));
                let fresh = at == 0 || !matches!(&trees[at - 1], TokenTree::Ident(_)) && !is_punct(trees, at - 1, '>');
                return if starts && fresh {
                    self.token_path(trees, at + 2, true)
                } else {
                    at + 2
                };
            }
            TokenTree::Ident(name) => {
                self.keyword(trees, at, name);
                return self.token_path(trees, at, false);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        at + 1
    }

    /// `$crate::..`, or a variable of a macro, which must not begin or continue a path where purity counts.
    fn variable(&mut self, trees: &[TokenTree], at: usize) -> usize {
        match trees.get(at + 1) {
            Some(TokenTree::Ident(name)) if name == "crate" => self.token_path(trees, at + 1, false),
            Some(TokenTree::Ident(name)) => {
                if colons(trees, at + 2) || (at > 1 && colons(trees, at - 2)) {
                    let what = format!("`${name}` is part of a path");
                    self.refuse_impure(name.span(), &what, "write the path out, so that it can be read here");
                }
                at + 2
            }
            _ => at + 1,
        }
    }

    fn keyword(&mut self, trees: &[TokenTree], at: usize, name: &proc_macro2::Ident) {
        match name.to_string().as_str() {
            "async" | "await" => self.refuse_impure(name.span(), "waits inside a macro", "let `gateway` wait, and hand the answer in"),
            "static" => self.refuse_impure(name.span(), "a `static` inside a macro", "use a `const`, or an argument"),
            "crate" if at > 0 && matches!(&trees[at - 1], TokenTree::Ident(before) if before == "extern") => self.extern_crate(name.span()),
            "dyn" => {
                let Some(TokenTree::Ident(next)) = trees.get(at + 1) else { return };
                let path = vec![plain(next)];
                let meanings = self.house.meanings(&self.module, false, &path).unwrap_or_default();
                if plain(next) == "crate" || meanings.iter().any(|path| path[0] == "crate") {
                    self.trait_object(next.span(), &plain(next));
                }
            }
            _ => {}
        }
    }

    fn token_path(&mut self, trees: &[TokenTree], at: usize, rooted: bool) -> usize {
        let TokenTree::Ident(first) = &trees[at] else { return at + 1 };
        let imported = at > 0 && matches!(&trees[at - 1], TokenTree::Ident(before) if before == "use");
        let (mut path, mut next) = (vec![plain(first)], at + 1);
        while colons(trees, next) {
            match trees.get(next + 2) {
                Some(TokenTree::Ident(name)) => path.push(plain(name)),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.token_group(&path, rooted, group.stream());
                    return next + 3;
                }
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                    let leaf = Leaf {
                        rooted,
                        path,
                        alias: None,
                        glob: true,
                        line: line(star.span()),
                    };
                    self.leaf(&leaf);
                    return next + 3;
                }
                _ => break,
            }
            next += 3;
        }
        if path.len() > 1 || rooted || imported {
            self.judge(rooted, &path, line(first.span()));
        }
        next
    }

    /// `{a::b, c as d}` after a path, in a `use` inside a macro.
    fn token_group(&mut self, before: &[String], rooted: bool, stream: TokenStream) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        for part in trees.split(|tree| matches!(tree, TokenTree::Punct(p) if p.as_char() == ',')) {
            let mut path = before.to_vec();
            let mut at = 0;
            while let Some(tree) = part.get(at) {
                match tree {
                    TokenTree::Ident(name) if name == "as" => break,
                    TokenTree::Ident(name) if name == "self" => {}
                    TokenTree::Ident(name) => path.push(plain(name)),
                    TokenTree::Group(group) => self.token_group(&path, rooted, group.stream()),
                    TokenTree::Punct(star) if star.as_char() == '*' => {
                        let leaf = Leaf {
                            rooted,
                            path: path.clone(),
                            alias: None,
                            glob: true,
                            line: line(star.span()),
                        };
                        self.leaf(&leaf);
                    }
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
                at += 1;
            }
            if let Some(first) = part.first() {
                self.judge(rooted, &path, line(first.span()));
            }
        }
    }

    fn extern_crate(&mut self, span: Span) {
        let rule = "no `extern crate`: it gives a crate a name that nobody reads".to_owned();
        self.refuse(
            line(span),
            "`extern crate`".to_owned(),
            rule,
            "import what is needed from the crate by its path",
        );
    }

    fn trait_object(&mut self, span: Span, name: &str) {
        let rule = "no trait object of our own: closed sets are enums".to_owned();
        self.refuse(line(span), format!("`dyn {name}`"), rule, "write an enum, and match on it");
    }

    fn function(&mut self, signature: &Signature, body: Option<&Block>, whole: Span) {
        let at = line(signature.span());
        let parameters = signature.inputs.len();
        if parameters > PARAMETERS {
            let what = format!("`{}` takes {parameters} parameters", signature.ident);
            let rule = format!("at most {PARAMETERS}");
            self.refuse(at, what, rule, "give the facts a struct with a name");
        }
        let lines = whole.end().line + 1 - at;
        if lines > FN_LINES && !body.is_some_and(is_flat) {
            let what = format!("`{}` has {lines} lines", signature.ident);
            let rule = format!("at most {FN_LINES}, unless it is one match or one table");
            self.refuse(at, what, rule, "find the second thing that it does, and give it a name");
        }
    }

    fn file_lines(&mut self) {
        if self.test {
            return;
        }
        let lines = self.source.text.lines().count() - self.test_lines;
        let longer = LONGER.iter().find(|(path, _)| *path == self.source.path);
        let most = longer.map_or(FILE_LINES, |(_, most)| *most);
        if lines > most {
            let rule = format!("at most {most} without tests");
            self.refuse(
                1,
                format!("{lines} lines"),
                rule,
                "find the second subject in it, and give it a file",
            );
        }
    }

    /// Walks what is inside something that may be there only in tests.
    fn within(&mut self, attributes: &[Attribute], span: Span, walk: impl FnOnce(&mut Self)) {
        let outer = self.test;
        if !outer && only_in_tests(attributes) {
            self.test = true;
            self.test_lines += span.end().line + 1 - span.start().line;
        }
        walk(self);
        self.test = outer;
    }
}

impl<'ast> Visit<'ast> for Guard<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        self.within(names::attributes(item), item.span(), |guard| visit::visit_item(guard, item));
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        self.within(names::impl_attributes(item), item.span(), |guard| {
            visit::visit_impl_item(guard, item);
        });
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(plain(&item.ident));
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for leaf in names::leaves(item) {
            self.leaf(&leaf);
        }
        item.attrs.iter().for_each(|attribute| self.visit_attribute(attribute));
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        self.extern_crate(item.span());
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, Some(&item.block), item.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, Some(&item.block), item.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        self.within(&item.attrs, item.span(), |guard| {
            guard.function(&item.sig, item.default.as_ref(), item.span());
            visit::visit_trait_item_fn(guard, item);
        });
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        if let Some(word) = &signature.asyncness {
            self.refuse_impure(word.span, "`async fn`", "let `gateway` wait, and hand the answer in");
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, expr: &'ast ExprAsync) {
        self.refuse_impure(
            expr.async_token.span,
            "an `async` block",
            "let `gateway` wait, and hand the answer in",
        );
        visit::visit_expr_async(self, expr);
    }

    fn visit_expr_closure(&mut self, expr: &'ast syn::ExprClosure) {
        if let Some(word) = &expr.asyncness {
            self.refuse_impure(word.span, "an `async` closure", "let `gateway` wait, and hand the answer in");
        }
        visit::visit_expr_closure(self, expr);
    }

    fn visit_expr_await(&mut self, expr: &'ast ExprAwait) {
        self.refuse_impure(expr.await_token.span, "`.await`", "let `gateway` wait, and hand the answer in");
        visit::visit_expr_await(self, expr);
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        self.refuse_impure(item.static_token.span, "a `static`", "use a `const`, or an argument");
        let mut cells = Cells(None);
        cells.visit_type(&item.ty);
        let mutable = matches!(item.mutability, StaticMutability::Mut(_)).then(|| "mut".to_owned());
        let planned = GLOBAL.iter().any(|(path, name)| *path == self.source.path && item.ident == name);
        if let Some(cell) = mutable.or(cells.0).filter(|_| !self.test && !planned) {
            let what = format!("`static {}` with `{cell}` in it", item.ident);
            let instead = "let its owner hold it: `Gateway`, a lane, or the call";
            self.refuse(line(item.span()), what, "no global state".to_owned(), instead);
        }
        visit::visit_item_static(self, item);
    }

    fn visit_type_trait_object(&mut self, object: &'ast TypeTraitObject) {
        for bound in &object.bounds {
            if let TypeParamBound::Trait(bound) = bound
                && let Some(own) = self.own(&bound.path)
            {
                self.trait_object(bound.span(), &own.join("::"));
            }
        }
        visit::visit_type_trait_object(self, object);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.path(path);
        visit::visit_path(self, path);
    }

    /// `pub(crate)` and `pub(super)` name nothing.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let path = attribute.path();
        if path.is_ident("path") {
            let rule = "the tree of files is the tree of modules".to_owned();
            self.refuse(
                line(path.span()),
                "`#[path]`".to_owned(),
                rule,
                "put the file where its module says",
            );
        }
        self.visit_path(path);
        let lints = LINTS.iter().any(|word| path.is_ident(word));
        match &attribute.meta {
            Meta::List(_) if lints => {}
            Meta::List(list) => {
                self.tokens(list.tokens.clone());
                self.strings(list.tokens.clone());
            }
            Meta::NameValue(pair) if !path.is_ident("doc") => self.visit_expr(&pair.value),
            Meta::NameValue(_) | Meta::Path(_) => {}
        }
    }

    fn visit_macro(&mut self, mac: &'ast Macro) {
        let name = mac.path.segments.last().map(|part| plain(&part.ident)).unwrap_or_default();
        if NOT_PURE_MACROS.contains(&name.as_str()) {
            self.refuse_impure(
                mac.path.span(),
                &format!("`{name}!`"),
                "return what is to be said; `observe` says it",
            );
        }
        if !self.test && matches!(name.as_str(), "thread_local" | "include") {
            let instead = "let an owner hold it; put code into a module of its own";
            self.refuse(
                line(mac.path.span()),
                format!("`{name}!`"),
                "no global state, no code from elsewhere".to_owned(),
                instead,
            );
        }
        self.visit_path(&mac.path);
        self.tokens(mac.tokens.clone());
    }
}

impl Guard<'_> {
    /// Serde and others take paths as text.
    fn strings(&mut self, stream: TokenStream) {
        for tree in stream {
            match tree {
                TokenTree::Group(group) => self.strings(group.stream()),
                TokenTree::Literal(literal) => {
                    let span = literal.span();
                    if let Lit::Str(text) = Lit::new(literal)
                        && text.value().contains("::")
                        && let Ok(path) = syn::parse_str::<Path>(&text.value())
                    {
                        let names: Vec<String> = path.segments.iter().map(|part| plain(&part.ident)).collect();
                        self.judge(path.leading_colon.is_some(), &names, line(span));
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }
}

struct Cells(Option<String>);

impl Visit<'_> for Cells {
    fn visit_ident(&mut self, name: &proc_macro2::Ident) {
        let text = plain(name);
        if CELLS.contains(&text.as_str()) || text.starts_with("Atomic") {
            self.0 = Some(text);
        }
    }
}

/// Words that may stand nowhere, in tests neither: `unsafe`, `todo!`, `unimplemented!`, `#[ignore]`, `#[allow]`.
pub fn words(path: &str, text: &str) -> Vec<Refusal> {
    let stream: TokenStream = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut found = Vec::new();
    word(path, stream, false, &mut found);
    found
}

fn word(path: &str, stream: TokenStream, states: bool, found: &mut Vec<Refusal>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    for (at, tree) in trees.iter().enumerate() {
        let mut refuse = |what: String, instead| {
            let (file, line) = (path.to_owned(), line(tree.span()));
            let rule = format!("{what} stands nowhere, in tests neither");
            found.push(Refusal {
                file,
                line,
                what,
                rule,
                instead,
            });
        };
        match tree {
            TokenTree::Ident(name) => match name.to_string().as_str() {
                "unsafe" => refuse("`unsafe`".to_owned(), "write it safely"),
                word @ ("todo" | "unimplemented") if is_punct(&trees, at + 1, '!') => {
                    refuse(format!("`{word}!`"), "write it, or leave it out whole");
                }
                _ => {}
            },
            TokenTree::Group(group) => {
                let attribute = group.delimiter() == Delimiter::Bracket
                    && at > 0
                    && (is_punct(&trees, at - 1, '#') || (at > 1 && is_punct(&trees, at - 1, '!') && is_punct(&trees, at - 2, '#')));
                if attribute && says(group.stream(), "ignore") {
                    refuse("`#[ignore]`".to_owned(), "make it pass, or take it out with its promise");
                }
                // What several test binaries share is not all used by each: the stand-in may say so.
                if attribute && !states && !path.starts_with("standin/") && says(group.stream(), "allow") {
                    refuse(
                        "`#[allow]`".to_owned(),
                        "`#[expect(lint, reason = \"…\")]`, which ends with its cause",
                    );
                }
                let in_states = states || (at > 2 && is_ident(&trees, at - 1, "states") && is_ident(&trees, at - 3, "macro_rules"));
                word(path, group.stream(), in_states, found);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Whether an attribute is this word, also behind `cfg_attr`.
fn says(stream: TokenStream, word: &str) -> bool {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let behind = is_ident(&trees, 0, "cfg_attr");
    is_ident(&trees, 0, word)
        || behind
            && trees.iter().any(|tree| match tree {
                TokenTree::Group(group) => {
                    let parts: Vec<TokenTree> = group.stream().into_iter().collect();
                    (1..parts.len()).any(|at| is_punct(&parts, at - 1, ',') && is_ident(&parts, at, word))
                }
                _ => false,
            })
}

fn names_lints(stream: TokenStream) -> bool {
    let first = stream.into_iter().next();
    matches!(first, Some(TokenTree::Ident(name)) if LINTS.iter().any(|word| name == word))
}

/// One match, or one table.
fn is_flat(body: &Block) -> bool {
    let [Stmt::Expr(only, None)] = body.stmts.as_slice() else {
        return false;
    };
    match only {
        Expr::Match(_) | Expr::Array(_) => true,
        Expr::Reference(inner) => matches!(*inner.expr, Expr::Array(_)),
        _ => false,
    }
}

/// Whether a path is the one of the plan, or below it.
fn is_below(path: &[String], plan: &str) -> bool {
    plan.split("::")
        .enumerate()
        .all(|(at, part)| path.get(at).is_some_and(|name| name == part))
}

fn list(parts: &[&str]) -> String {
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

fn line(span: Span) -> usize {
    span.start().line
}

fn colons(trees: &[TokenTree], at: usize) -> bool {
    matches!(trees.get(at), Some(TokenTree::Punct(p)) if p.as_char() == ':' && p.spacing() == Spacing::Joint)
        && is_punct(trees, at + 1, ':')
}

fn is_punct(trees: &[TokenTree], at: usize, sign: char) -> bool {
    matches!(trees.get(at), Some(TokenTree::Punct(p)) if p.as_char() == sign)
}

fn is_ident(trees: &[TokenTree], at: usize, word: &str) -> bool {
    matches!(trees.get(at), Some(TokenTree::Ident(name)) if name == word)
}
