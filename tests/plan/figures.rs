//! Figures about the code, for `make figures`.

use std::collections::BTreeMap;

use crate::check::{Report, lines};
use crate::exceptions;
use crate::modules::{FILE_LINES, FUNCTION_LINES, MODULES, SOURCE_LINES};
use crate::source::{Code, Source};

/// Prints the figures. Lines are without tests; a function's are without its documentation.
pub(crate) fn print(code: &Code, report: &Report) {
    for module in MODULES.iter() {
        figure(&format!("lines of {}", module.name), lines(code, &format!("src/{}/", module.name)));
    }
    let vault = lines(code, SOURCE_LINES[0].0);
    figure("source lines without store/vault", lines(code, "src/") - vault);
    figure("source lines of store/vault", vault);
    let files: Vec<usize> = code.sources.iter().map(Source::lines).filter(|lines| *lines > 0).collect();
    percentiles("file lines", &files);
    figure("files over 400 lines", files.iter().filter(|lines| **lines > FILE_LINES).count());
    percentiles("function lines", &report.functions);
    let long = report.functions.iter().filter(|lines| **lines > FUNCTION_LINES);
    figure("functions over 60 lines", long.count());
    for rule in ["tuple-parameter", "cycle", "impl-folder", "deref"] {
        figure(rule, report.findings.iter().filter(|finding| finding.rule == rule).count());
    }
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
    let name = format!("{name}: p50, p90, max");
    println!("{name:<34} {:>6} {:>5} {:>5}", at(50), at(90), at(100));
}
