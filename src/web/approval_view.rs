//! The page of tool calls that wait for a person, as a view.

use askama::Template;

use crate::app::approval_admin::ApprovalView;
use crate::base::time::UnixTime;
use crate::web::pages::{escape_hidden, visible_whole};

/// The page: a sign-in, or the calls that a user may decide about.
#[derive(Debug, Default, Template)]
#[template(path = "approvals.html")]
pub struct ApprovalsPage<'a> {
    /// The path prefix of the public URL, without a slash at its end; may be empty.
    pub base: &'a str,
    /// The URL that the forms are posted to.
    pub action: &'a str,
    /// The hidden field `form`.
    pub token: &'a str,
    /// The user who signed in.
    pub user: Option<&'a str>,
    /// The only call of the page, by its id.
    pub single: Option<&'a str>,
    /// The calls, by tool.
    pub groups: Vec<GroupView>,
    /// Whether a script looks for new calls: the browser has a session.
    pub is_live: bool,
    /// Whether each decision asks for the password.
    pub needs_password: bool,
    /// What went wrong.
    pub problem: Option<&'a str>,
    /// What was done.
    pub done: Option<&'a str>,
}

/// Calls of one tool.
#[derive(Debug)]
pub struct GroupView {
    /// Its number on the page.
    pub number: usize,
    /// The tool.
    pub tool: String,
    /// The service.
    pub service: String,
    /// The calls.
    pub calls: Vec<CallView>,
    /// Whether a call can be decided.
    pub is_undecided: bool,
}

/// One call.
#[derive(Debug)]
pub struct CallView {
    /// The id of the approval.
    pub id: String,
    /// The caller.
    pub caller: String,
    /// The state.
    pub state: &'static str,
    /// Who decided; empty if nobody did.
    pub decided_by: String,
    /// The reason why a person is asked.
    pub reason: String,
    /// When it ends.
    pub expires: String,
    /// Whether it can be decided.
    pub is_undecided: bool,
    /// Whether the lines are compared with those of the last approved call.
    pub is_compared: bool,
    /// The lines of the arguments.
    pub lines: Vec<LineView>,
}

/// A line of the arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct LineView {
    /// Its class in the stylesheet.
    pub class: &'static str,
    /// What precedes it.
    pub mark: &'static str,
    /// The line.
    pub text: String,
}

impl CallView {
    /// The view of a call, compared with the last approved call of the same tool.
    pub fn new(view: &ApprovalView, last: Option<&ApprovalView>, now: UnixTime) -> Self {
        let call = view.record.tool_call();
        let lines = view.argument_lines();
        Self {
            id: view.id.to_string(),
            caller: call.caller_name.clone(),
            state: view.state(now),
            decided_by: view.record.decision().map(|decision| decision.by.clone()).unwrap_or_default(),
            reason: call.reason.clone(),
            expires: call.expires.to_rfc3339(),
            is_undecided: view.is_undecided(now),
            is_compared: last.is_some(),
            lines: match last {
                Some(last) => compare(&last.argument_lines(), lines),
                None => lines.into_iter().map(|text| line("", "", text)).collect(),
            },
        }
    }
}

fn line(class: &'static str, mark: &'static str, text: String) -> LineView {
    LineView { class, mark, text }
}

/// The new lines, and those that are no longer there. Equal lines at both ends are common.
fn compare(old: &[String], new: Vec<String>) -> Vec<LineView> {
    let start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = (old.len() - start).min(new.len() - start);
    let end = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(old, new)| old == new)
        .count();
    let mut lines = Vec::new();
    let count = new.len();
    for (index, text) in new.into_iter().enumerate() {
        if index == start {
            let removed = old[start..old.len() - end].iter();
            lines.extend(removed.map(|text| line("removed", "- ", text.clone())));
        }
        let is_common = index < start || index >= count - end;
        lines.push(if is_common {
            line("", "  ", text)
        } else {
            line("added", "+ ", text)
        });
    }
    if start >= count {
        lines.extend(old[start..old.len() - end].iter().map(|text| line("removed", "- ", text.clone())));
    }
    lines
}

/// A line as text: hidden characters are spelled out, and spaces stay.
fn visible_lines(text: &str) -> String {
    let indent = text.len() - text.trim_start_matches(' ').len();
    format!("{}{}", &text[..indent], visible_whole(&text[indent..]))
}

/// Renders the page.
pub fn approvals(view: &ApprovalsPage<'_>) -> String {
    view.render().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_are_marked_and_hidden_characters_spelled_out() {
        let texts = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let compared = compare(&texts(&["{", "a: 1", "b: 2", "}"]), texts(&["{", "a: 7", "b: 2", "}"]));
        let shown: Vec<String> = compared.iter().map(|line| format!("{}{}", line.mark, line.text)).collect();
        assert_eq!(shown, ["  {", "- a: 1", "+ a: 7", "  b: 2", "  }"]);
        let removed = compare(&texts(&["{", "a: 1", "}"]), texts(&["{", "}"]));
        assert_eq!(removed.len(), 3);
        assert_eq!(visible_lines("  \u{202e}x\u{1b}"), "  [U+202E]x[U+001B]");
    }
}
