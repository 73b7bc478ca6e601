//! Cycles between files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::check::Finding;
use crate::source::Code;

/// The groups of files that reach each other.
pub(crate) fn cycles(edges: &BTreeSet<(usize, usize)>) -> Vec<BTreeSet<usize>> {
    let files: BTreeSet<usize> = edges.iter().map(|(from, _)| *from).collect();
    let reach: BTreeMap<usize, BTreeSet<usize>> = files.iter().map(|file| (*file, reachable(edges, *file))).collect();
    let mut groups: BTreeSet<Vec<usize>> = BTreeSet::new();
    for (file, reached) in &reach {
        if reached.contains(file) {
            let mutual = |other: &&usize| reach.get(other).is_some_and(|back| back.contains(file));
            groups.insert(reached.iter().filter(mutual).copied().collect());
        }
    }
    groups.into_iter().map(|group| group.into_iter().collect()).collect()
}

fn reachable(edges: &BTreeSet<(usize, usize)>, start: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for (_, next) in edges.range((file, 0)..=(file, usize::MAX)) {
            if reached.insert(*next) {
                queue.push_back(*next);
            }
        }
    }
    reached
}

/// One finding per file in a cycle; the message has the files of the cycle that it uses.
pub(crate) fn check(code: &Code, edges: &BTreeSet<(usize, usize)>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for group in cycles(edges) {
        for file in &group {
            let used = edges.iter().filter(|(from, to)| from == file && group.contains(to));
            let used: Vec<&str> = used.map(|(_, to)| code.sources[*to].path.as_str()).collect();
            let message = format!("in a cycle of {} files, through {}", group.len(), used.join(", "));
            findings.push(Finding::new("cycle", &code.sources[*file].path, 1, message));
        }
    }
    findings
}
