//! Figures about the code, for `make figures`.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, Lit, Meta, Visibility};

use crate::check::{Finding, Report};
use crate::modules::{FILE_LINES, MODULES, SOURCE_LINES};
use crate::source::{Code, Source};
use crate::{cycles, exceptions};

/// The most lines of a function, without its documentation.
const FUNCTION_LINES: usize = 60;
/// The most parameters of a function, `self` counted.
const PARAMETERS: usize = 5;

/// Words in `-ed` that are no participles.
const NOT_PARTICIPLES: &[&str] = &[
    "embed", "exceed", "feed", "need", "proceed", "red", "seed", "shed", "speed", "succeed",
];
const IRREGULAR: &[&str] = &[
    "begun",
    "bound",
    "brought",
    "built",
    "chosen",
    "done",
    "drawn",
    "forgotten",
    "found",
    "given",
    "gone",
    "heard",
    "held",
    "kept",
    "known",
    "left",
    "lost",
    "made",
    "meant",
    "paid",
    "said",
    "seen",
    "sent",
    "shown",
    "spent",
    "spoken",
    "taken",
    "thrown",
    "told",
    "understood",
    "worn",
    "written",
];

/// Prints the figures.
pub fn print(code: &Code, report: &Report, findings: &[Finding]) {
    let lines = |part: &str| -> usize {
        code.sources
            .iter()
            .filter(|source| source.path.starts_with(part))
            .map(Source::lines)
            .sum()
    };
    let count = |rule: &str| findings.iter().filter(|finding| finding.rule == rule).count();
    println!("lines without tests");
    for module in &MODULES {
        println!("  {:<34} {:>6}", module.name, lines(&format!("src/{}/", module.name)));
    }
    let vault = lines(SOURCE_LINES[0].0);
    figure("source lines without store/vault", lines("src/") - vault);
    figure("source lines of store/vault", vault);
    let files: Vec<usize> = code.sources.iter().map(Source::lines).filter(|lines| *lines > 0).collect();
    figure("files", files.len());
    percentiles("file lines", files.clone());
    figure("files over 400 lines", files.iter().filter(|lines| **lines > FILE_LINES).count());
    let functions = &report.functions;
    figure("functions", functions.len());
    percentiles("function lines", functions.iter().map(|function| function.lines).collect());
    figure(
        "functions over 60 lines",
        functions.iter().filter(|function| function.lines > FUNCTION_LINES).count(),
    );
    figure(
        "functions with over 5 parameters",
        functions.iter().filter(|function| function.parameters > PARAMETERS).count(),
    );
    figure("functions with a tuple parameter", count("tuple-parameter"));
    let groups = cycles::cycles(&report.edges);
    figure("cycles between files", groups.len());
    figure("files in cycles", groups.iter().map(std::collections::BTreeSet::len).sum());
    figure("impl outside its type's folder", count("impl-folder"));
    figure("Deref of own types", count("deref"));
    let mut public = Public {
        source: None,
        documented: 0,
        explained: 0,
        all: 0,
    };
    for source in &code.sources {
        public.source = Some(source);
        public.visit_file(&source.file);
    }
    figure("public items", public.all);
    println!("  {:<34} {:>6.1} %", "documented", share(public.documented, public.all));
    println!(
        "  {:<34} {:>6.1} %",
        "documented in more than 3 words",
        share(public.explained, public.all)
    );
    let participles = functions
        .iter()
        .filter(|function| !function.path.starts_with("src/flow/") && is_participle(&function.name));
    figure("participle names outside flow", participles.count());
    let mut by_rule: BTreeMap<String, usize> = BTreeMap::new();
    for (rule, _) in exceptions::read().into_keys() {
        *by_rule.entry(rule).or_default() += 1;
    }
    figure("exceptions", by_rule.values().sum());
    for (rule, count) in by_rule {
        println!("    {rule:<32} {count:>6}");
    }
}

fn figure(name: &str, value: usize) {
    println!("  {name:<34} {value:>6}");
}

fn percentiles(name: &str, mut values: Vec<usize>) {
    values.sort_unstable();
    let at = |percent: usize| {
        values
            .get((values.len() * percent / 100).min(values.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0)
    };
    println!(
        "  {:<34} {:>6}{:>6}{:>6}",
        format!("{name}: p50, p90, max"),
        at(50),
        at(90),
        at(100)
    );
}

#[expect(clippy::cast_precision_loss, reason = "thousands of items")]
fn share(part: usize, all: usize) -> f64 {
    part as f64 * 100.0 / all.max(1) as f64
}

/// A guess by the first word of a function's name.
fn is_participle(name: &str) -> bool {
    let first = name.split('_').next().unwrap_or(name);
    IRREGULAR.contains(&first) || (first.len() > 3 && first.ends_with("ed") && !NOT_PARTICIPLES.contains(&first))
}

/// Counts `pub` items, their fields and methods.
struct Public<'s> {
    source: Option<&'s Source>,
    documented: usize,
    explained: usize,
    all: usize,
}

impl Public<'_> {
    fn count(&mut self, visibility: &Visibility, attributes: &[Attribute]) {
        if !matches!(visibility, Visibility::Public(_)) {
            return;
        }
        let words: usize = attributes.iter().map(words).sum();
        self.all += 1;
        self.documented += usize::from(words > 0);
        self.explained += usize::from(words > 3);
    }
}

fn words(attribute: &Attribute) -> usize {
    match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => text.value().split_whitespace().count(),
                _ => 0,
            },
            _ => 0,
        },
        _ => 0,
    }
}

impl<'ast> Visit<'ast> for Public<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let start = syn::spanned::Spanned::span(item).start().line;
        if self.source.is_some_and(|source| source.is_test(start)) {
            return;
        }
        match item {
            Item::Const(i) => self.count(&i.vis, &i.attrs),
            Item::Enum(i) => {
                self.count(&i.vis, &i.attrs);
                i.variants.iter().for_each(|variant| self.count(&i.vis, &variant.attrs));
            }
            Item::Fn(i) => self.count(&i.vis, &i.attrs),
            Item::Static(i) => self.count(&i.vis, &i.attrs),
            Item::Struct(i) => self.count(&i.vis, &i.attrs),
            Item::Trait(i) => self.count(&i.vis, &i.attrs),
            Item::Type(i) => self.count(&i.vis, &i.attrs),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    /// A field of a struct or of an enum's variant; only that of a struct has a visibility.
    fn visit_field(&mut self, field: &'ast syn::Field) {
        if field.ident.is_some() {
            self.count(&field.vis, &field.attrs);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.count(&item.vis, &item.attrs);
    }
}
