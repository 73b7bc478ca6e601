//! Cycles between files.

use std::collections::BTreeSet;

use crate::check::Finding;
use crate::source::Code;

/// One finding per file in a cycle; the message has the files of the cycle that it uses.
pub(crate) fn check(code: &Code, edges: &BTreeSet<(usize, usize)>) -> Vec<Finding> {
    let reached: Vec<BTreeSet<usize>> = (0..code.sources.len()).map(|file| reachable(edges, file)).collect();
    let in_cycle = (0..code.sources.len()).filter(|file| reached[*file].contains(file));
    let finding = |file: usize| {
        let used = uses(edges, file).filter(|used| reached[*used].contains(&file));
        let used: Vec<&str> = used.map(|used| code.sources[used].path.as_str()).collect();
        Finding::new(
            "cycle",
            &code.sources[file].path,
            1,
            format!("in a cycle through {}", used.join(", ")),
        )
    };
    in_cycle.map(finding).collect()
}

fn reachable(edges: &BTreeSet<(usize, usize)>, start: usize) -> BTreeSet<usize> {
    let (mut reached, mut queue) = (BTreeSet::new(), vec![start]);
    while let Some(file) = queue.pop() {
        queue.extend(uses(edges, file).filter(|used| reached.insert(*used)));
    }
    reached
}

fn uses(edges: &BTreeSet<(usize, usize)>, file: usize) -> impl Iterator<Item = usize> {
    edges.range((file, 0)..=(file, usize::MAX)).map(|(_, used)| *used)
}
