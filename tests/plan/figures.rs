//! Figures about the code, for `make figures`.

use std::collections::BTreeMap;

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Field, ImplItemFn, Item, Lit, Meta, Visibility};

use crate::check::{Finding, Report, lines};
use crate::modules::{FILE_LINES, FUNCTION_LINES, MODULES, PARAMETERS, SOURCE_LINES};
use crate::source::{Code, Source, parts};
use crate::{cycles, exceptions};

/// First words in `-ed` that are no participles, and participles without `-ed`.
const NOT_PARTICIPLES: &str = "embed exceed feed need proceed red seed shed speed succeed";
const IRREGULAR: &str = "begun bound brought built chosen done drawn forgotten found given gone heard held kept known \
    left lost made meant paid said seen sent shown spent spoken taken told understood written";

/// Prints the figures. Lines are without tests; a function's are without its documentation.
pub(crate) fn print(code: &Code, report: &Report, findings: &[Finding]) {
    for module in MODULES.iter() {
        figure(&format!("lines of {}", module.name), lines(code, &format!("src/{}/", module.name)));
    }
    let vault = lines(code, SOURCE_LINES[0].0);
    figure("source lines without store/vault", lines(code, "src/") - vault);
    figure("source lines of store/vault", vault);
    let files: Vec<usize> = code.sources.iter().map(Source::lines).filter(|lines| *lines > 0).collect();
    percentiles("file lines", &files);
    figure("files over 400 lines", files.iter().filter(|lines| **lines > FILE_LINES).count());
    let functions: Vec<usize> = report.functions.iter().map(|function| function.lines).collect();
    percentiles("function lines", &functions);
    figure(
        "functions over 60 lines",
        functions.iter().filter(|lines| **lines > FUNCTION_LINES).count(),
    );
    let parameters = report.functions.iter().filter(|function| function.parameters > PARAMETERS);
    figure("functions with over 5 parameters", parameters.count());
    let count = |rule: &str| findings.iter().filter(|finding| finding.rule == rule).count();
    figure("functions with a tuple parameter", count("tuple-parameter"));
    figure("cycles between files", cycles::cycles(&report.edges).len());
    figure("files in cycles", count("cycle"));
    figure("impl outside its type's folder", count("impl-folder"));
    figure("Deref of own types", count("deref"));
    let mut words = Vec::new();
    for source in &code.sources {
        Documented { source, words: &mut words }.visit_file(&source.file);
    }
    figure("public items", words.len());
    let percent = |least: usize| words.iter().filter(|words| **words >= least).count() * 100 / words.len();
    figure("documented, in percent", percent(1));
    figure("documented in over 3 words", percent(4));
    let participles = report.functions.iter().filter(|function| !function.path.starts_with("src/flow/"));
    figure(
        "participle names outside flow",
        participles.filter(|function| is_participle(&function.name)).count(),
    );
    let mut by_rule: BTreeMap<String, usize> = BTreeMap::new();
    for (rule, _) in exceptions::read().into_keys() {
        *by_rule.entry(rule).or_default() += 1;
    }
    figure("exceptions", by_rule.values().sum());
    for (rule, count) in by_rule {
        figure(&format!("exceptions: {rule}"), count);
    }
}

fn figure(name: &str, value: usize) {
    println!("{name:<34} {value:>6}");
}

fn percentiles(name: &str, values: &[usize]) {
    let mut values = values.to_vec();
    values.sort_unstable();
    let at = |percent: usize| values[((values.len() - 1) * percent).div_ceil(100)];
    println!(
        "{:<34} {:>6} {:>5} {:>5}",
        format!("{name}: p50, p90, max"),
        at(50),
        at(90),
        at(100)
    );
}

/// A guess by the first word of a function's name.
fn is_participle(name: &str) -> bool {
    let first = name.split('_').next().unwrap_or(name);
    let is_in = |list: &str| list.split(' ').any(|word| word == first);
    is_in(IRREGULAR) || (first.ends_with("ed") && !is_in(NOT_PARTICIPLES))
}

/// The number of words in the documentation of each `pub` item, variant, field and method.
struct Documented<'s> {
    source: &'s Source,
    words: &'s mut Vec<usize>,
}

impl Documented<'_> {
    fn add(&mut self, visibility: &Visibility, attributes: &[Attribute]) {
        if matches!(visibility, Visibility::Public(_)) {
            self.words.push(attributes.iter().map(words).sum());
        }
    }
}

impl<'ast> Visit<'ast> for Documented<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if self.source.is_test(item.span()) {
            return;
        }
        if let (_, Some(visibility), attributes) = parts(item) {
            self.add(visibility, attributes);
        }
        if let Item::Enum(item) = item {
            item.variants.iter().for_each(|variant| self.add(&item.vis, &variant.attrs));
        }
        visit::visit_item(self, item);
    }

    fn visit_field(&mut self, field: &'ast Field) {
        if field.ident.is_some() {
            self.add(&field.vis, &field.attrs);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.add(&item.vis, &item.attrs);
    }
}

fn words(attribute: &Attribute) -> usize {
    let Meta::NameValue(pair) = &attribute.meta else { return 0 };
    match &pair.value {
        Expr::Lit(text) if pair.path.is_ident("doc") => match &text.lit {
            Lit::Str(text) => text.value().split_whitespace().count(),
            _ => 0,
        },
        _ => 0,
    }
}
